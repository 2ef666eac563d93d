"""Profiles of kernels that were probed before, in the cache. A guest's witnesses take it seconds.

A profile is kept by all that it follows from: the kernel's image, the environment that its executor reported, and
vmadiff's own sources and witnesses. None of them is ever asked how old it is.
"""

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import cachedir
from cachedir import CacheError
from fuzz.probe import examine
from fuzz.site import Executor
from fuzz.storage import write_atomically
from model.profile import BY_NAME, Profile

_ROOT: Final = Path(__file__).resolve().parent.parent
#: What an answer of the probe follows from, the kernel apart.
_SOURCES: Final = (
    "abi/*.py",
    "model/*.py",
    "corpus/witnesses/*.prog",
    "fuzz/probe.py",
    "fuzz/compare.py",
)
_NATIVE: Final = "kernel_bridge/native/*"
#: Fields of an environment that say nothing of the kernel, or are another at each boot.
_VOLATILE: Final = ("missing", "memory_pages")


def profile_of(executor: Executor, image: str) -> Profile:
    """The profile of the kernel behind `executor`, kept or probed. image: the checksum of its image; "": there is none
    to be had, so that it is probed.

    Raises:
        OSError, ProgramError: as `fuzz.probe.examine`.
    """
    if not image:
        return examine(executor).profile
    environment = executor.environment.to_json()
    for field in _VOLATILE:
        environment.pop(field)
    facts = json.dumps([image, _sources(), environment], sort_keys=True)
    try:
        path = cachedir.writable_directory("profiles") / hashlib.sha256(facts.encode()).hexdigest()
    except CacheError:
        return examine(executor).profile
    if (kept := _read(path)) is not None:
        return kept
    profile = examine(executor).profile
    data = {
        "name": profile.name,
        "changes": sorted(change.name for change in profile.changes),
        "verified": profile.verified,
    }
    # It is faster with it, not better.
    with suppress(OSError):
        write_atomically(path, json.dumps(data).encode())
    return profile


def _read(path: Path) -> Profile | None:
    try:
        data = json.loads(path.read_text())
        changes = frozenset(BY_NAME[name] for name in data["changes"])
        return Profile(data["name"], changes, verified=data["verified"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@cache
def _sources() -> str:
    """A checksum of what the probe's answers follow from."""
    digest = hashlib.sha256()
    for pattern in (*_SOURCES, _NATIVE):
        for path in sorted(_ROOT.glob(pattern)):
            digest.update(f"{path.relative_to(_ROOT)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
