"""The kernels at hand: a directory each, written whole or not at all, with what was kept of a package or a build.

A kernel's `kernel.json` has the checksum of its image, which is compared whenever the kernel is looked up.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

IMAGE: Final = "image"
MODULES: Final = "modules"
_FACTS: Final = "kernel.json"


class KernelError(Exception):
    """A kernel cannot be had; the message is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in the cache.

    name: what users call it; arch: "x86" or "uml"; image: a bzImage, an ELF vmlinux or a UML binary; modules: files to
    be inserted in this order; release: as uname -r has it; origin: where it came from, in a few words; features: what
    it was built with, such as "kasan".
    """

    name: str
    arch: str
    image: Path
    modules: tuple[Path, ...]
    release: str
    origin: str
    features: tuple[str, ...] = ()

    def load_modules(self) -> list[tuple[str, bytes]]:
        """Names and contents of the modules, in order."""
        return [(path.stem.partition("-")[2], path.read_bytes()) for path in self.modules]

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `kernels list --json`."""
        return {
            "name": self.name,
            "arch": self.arch,
            "image": str(self.image),
            "release": self.release,
            "origin": self.origin,
            "features": list(self.features),
        }


def directory() -> Path:
    """Where kernels are kept; made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/tmp"), ".cache")
    path = Path(base, "vmadiff", "kernels")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(f"{path}: {error.strerror}; set XDG_CACHE_HOME") from None
    return path


def installed() -> list[Kernel]:
    """The kernels of the cache, by name. One that is damaged is left out, which `find` complains about."""
    found = []
    for path in sorted(directory().iterdir()):
        if (path / _FACTS).is_file():
            try:
                found.append(find(path.name))
            except KernelError:
                continue
    return found


def find(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        KernelError: it is not there, or damaged.
    """
    path = directory() / name
    try:
        facts = json.loads((path / _FACTS).read_text())
    except (OSError, ValueError):
        raise KernelError(
            f"no kernel {name} at hand; `vmadiff kernels fetch {name}` gets it, `vmadiff kernels list` shows all"
        ) from None
    image = path / IMAGE
    if not image.is_file() or checksum(image) != facts["sha256"]:
        raise KernelError(
            f"kernel {name} is damaged; `vmadiff kernels remove {name}`, then get it again"
        )
    return Kernel(
        name,
        facts["arch"],
        image,
        tuple(sorted((path / MODULES).glob("*.ko"))),
        facts["release"],
        facts["origin"],
        tuple(facts["features"]),
    )


def remove(name: str) -> None:
    """Forget a kernel.

    Raises:
        KernelError: there is none of that name.
    """
    path = directory() / name
    if not path.is_dir() or Path(name).name != name:
        raise KernelError(f"no kernel {name} at hand")
    shutil.rmtree(path)


@contextmanager
def adding(
    name: str, arch: str, release: str, origin: str, features: Sequence[str] = ()
) -> Iterator[Path]:
    """A directory to put the image and the modules of a new kernel in; it becomes the kernel `name` at the end."""
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=directory()))
    try:
        (scratch / MODULES).mkdir()
        yield scratch
        facts = {
            "arch": arch,
            "release": release,
            "origin": origin,
            "features": list(features),
            "sha256": checksum(scratch / IMAGE),
        }
        (scratch / _FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        target = directory() / name
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
