"""The model and the generator as machine code: the same files, compiled by mypyc once and kept.

What is imported is chosen here; what is computed is not: a worker without it is only slower. Planted mistakes and
coverage guidance change the model's source on the way (`fuzz.sources`), so they run what is written.
"""

import hashlib
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Final

import cachedir

#: Where the packages are.
ROOT: Final = Path(__file__).resolve().parent.parent
#: What is compiled: all modules of these packages, and those of the fuzzer that make programs.
PACKAGES: Final = ("abi", "model")
GENERATOR: Final = (
    "aim",
    "confine",
    "encode",
    "filing",
    "generate",
    "huge",
    "kinds",
    "latent",
    "mutate",
    "process",
    "produce",
    "regions",
    "restraint",
    "special",
    "statistics",
    "steer",
    "watch",
)
#: The generated header's text is made by one that nothing else needs.
_LEFT_OUT: Final = ("abi/header.py",)
#: How the module begins that all the others are in.
_SHARED: Final = "__mypyc"
_DONE: Final = "done"
_BUILD_SECONDS: Final = 1800


class CompileError(Exception):
    """It cannot be compiled here; the message is one line that says why, and what to do."""


def sources() -> list[str]:
    """The files that are compiled, relative to ROOT."""
    files = [
        f"{package}/{path.name}"
        for package in PACKAGES
        for path in sorted((ROOT / package).glob("*.py"))
        if path.name != "__init__.py"
    ]
    files += [f"fuzz/{name}.py" for name in GENERATOR]
    return [file for file in files if file not in _LEFT_OUT]


def place() -> Path:
    """The directory in which the compiled modules are, or will be.

    Raises:
        CompileError: the compiler of Python is not installed, or there is no place to keep files in.
    """
    try:
        compiler = version("mypy")
    except PackageNotFoundError:
        raise CompileError("mypy is not installed: pip install mypy setuptools") from None
    digest = hashlib.sha256(
        repr((sys.version, platform.machine(), compiler, os.environ.get("CC"))).encode()
    )
    for file in (*sources(), "fuzz/compiling.py"):
        digest.update(file.encode() + b"\0" + (ROOT / file).read_bytes())
    try:
        return cachedir.writable_directory("build") / f"model-{digest.hexdigest()[:16]}"
    except cachedir.CacheError as error:
        raise CompileError(str(error)) from None


def is_built() -> bool:
    """Whether it was compiled before."""
    try:
        return (place() / _DONE).exists()
    except CompileError:
        return False


def build() -> Path:
    """The directory of the compiled modules, which are compiled now unless they were before: a minute, then.

    Raises:
        CompileError: this machine cannot.
    """
    made = place()
    if (made / _DONE).exists():
        return made
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise CompileError(f"{header} is missing: install the package `python3-dev`")
    with (
        cachedir.locked(made.parent),
        tempfile.TemporaryDirectory(dir=made.parent) as name,
    ):
        if (made / _DONE).exists():
            return made  # by another process meanwhile
        scratch = Path(name)
        out = scratch / "lib"
        _run([sys.executable, "-P", "-m", "fuzz.compiling", str(out), name, *sources()], scratch)
        (out / _DONE).touch()
        out.rename(made)
    return made


def _run(command: list[str], scratch: Path) -> None:
    log = scratch / "log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        with log.open("wb") as out:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=out, stderr=out, timeout=_BUILD_SECONDS
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"the model cannot be compiled ({error})") from None
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or [
            f"status {done.returncode}"
        ]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise CompileError(f"the model cannot be compiled ({reason.strip()[:200]})")


class _Finder(MetaPathFinder):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        if not package and not module.endswith(_SHARED):
            return None
        return PathFinder.find_spec(fullname, [str(self._directory / package)])


def use(directory: Path) -> None:
    """From now on import what is compiled in `directory`, which `build` gave."""
    imported = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    assert not imported, f"imported too early: {imported}"
    sys.meta_path.insert(0, _Finder(directory))
