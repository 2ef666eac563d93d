"""The kernels at hand: a directory each, written whole or not at all, with what was kept of a package or a build.

A kernel's `kernel.json` has the checksum of its image, which is compared whenever the kernel is looked up.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cachedir

IMAGE: Final = "image"
MODULES: Final = "modules"
CONFIG: Final = "config"
#: What is kept beside the kernels: apt's state, sources, and what builds go on from.
APT: Final = ".apt"
SOURCES: Final = ".trees"
BUILDS: Final = ".builds"
_FACTS: Final = "kernel.json"
_ELF: Final = b"\x7fELF"
_VMLINUX: Final = "vmlinux"
_UNFINISHED: Final = ".new-"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")


class KernelError(Exception):
    """A kernel cannot be had; the message is one line that says why and what to do."""


class UnknownKernelError(KernelError):
    """What was asked for cannot be meant: no such name, no such tree."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in the cache.

    name: what users call it; arch: "x86" or "uml"; image: a bzImage, an ELF vmlinux or a UML binary; modules: files to
    be inserted in this order; release: as uname -r has it; origin: where it came from, in a few words; features: what
    it was built with, such as "kasan"; config: its configuration, where it is known.
    """

    name: str
    arch: str
    image: Path
    modules: tuple[Path, ...]
    release: str
    origin: str
    features: tuple[str, ...] = ()
    config: Path | None = None

    @property
    def vmlinux(self) -> Path | None:
        """The ELF file that addresses can be looked up in."""
        return vmlinux_of(self.image)

    def load_modules(self) -> list[tuple[str, bytes]]:
        """Names and contents of the modules, in order."""
        return [(path.stem.partition("-")[2], path.read_bytes()) for path in self.modules]

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `kernels list --json`."""
        return {
            "name": self.name,
            "arch": self.arch,
            "image": str(self.image),
            "modules": [path.stem.partition("-")[2] for path in self.modules],
            "release": self.release,
            "origin": self.origin,
            "features": list(self.features),
            "config": str(self.config) if self.config else None,
            "vmlinux": str(self.vmlinux) if self.vmlinux else None,
        }


def vmlinux_of(image: Path) -> Path | None:
    """The ELF file in which addresses of a kernel can be looked up: its image, a vmlinux beside that, or at the top of
    the tree where a bzImage was built."""
    built = image.resolve().parts[-4:-1]
    beside = [image.with_name(_VMLINUX)]
    if len(built) == 3 and (built[0], built[2]) == ("arch", "boot"):
        beside.append(image.resolve().parents[3] / _VMLINUX)
    return next((each for each in (image, *beside) if _is_elf(each)), None)


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ELF)) == _ELF
    except OSError:
        return False


def directory(beside: str = "") -> Path:
    """Where kernels are kept, or what is kept beside them; made if need be.

    Raises:
        KernelError: there is no place for it.
    """
    try:
        path = cachedir.writable_directory("kernels") / beside
        path.mkdir(exist_ok=True)
        return path
    except cachedir.CacheError as error:
        raise KernelError(str(error)) from None


def names() -> list[str]:
    """The names that are taken, by kernels whole or damaged, sorted."""
    return sorted(path.name for path in directory().iterdir() if _NAME.fullmatch(path.name))


def installed() -> list[Kernel]:
    """The kernels of the cache, by name. One that is damaged is left out, which `find` complains about."""
    found = []
    for name in names():
        try:
            found.append(find(name))
        except KernelError:
            continue
    return found


def find(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        UnknownKernelError: it is not there.
        KernelError: it is damaged.
    """
    path = directory() / name
    if not _NAME.fullmatch(name) or not path.is_dir():
        raise UnknownKernelError(
            f"no kernel {name} at hand; `vmadiff kernels fetch {name}` gets it, `vmadiff kernels list` shows all"
        )
    try:
        facts = json.loads((path / _FACTS).read_text())
        image = path / IMAGE
        if checksum(image) != facts["sha256"]:
            raise ValueError("its image has changed")
        return Kernel(
            name,
            facts["arch"],
            image,
            tuple(sorted((path / MODULES).glob("*.ko"))),
            facts["release"],
            facts["origin"],
            tuple(facts["features"]),
            path / CONFIG if (path / CONFIG).is_file() else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KernelError(
            f"kernel {name} is damaged ({error}); `vmadiff kernels remove {name}`, then get it again"
        ) from None


def remove(name: str) -> None:
    """Forget a kernel, and what its build left for the next.

    Raises:
        UnknownKernelError: there is none of that name.
    """
    path = directory() / name
    if not _NAME.fullmatch(name) or not path.is_dir():
        raise UnknownKernelError(f"no kernel {name} at hand")
    with cachedir.locked(directory()):
        _discard(path)
    shutil.rmtree(directory(BUILDS) / name, ignore_errors=True)


@contextmanager
def adding(
    name: str, arch: str, release: str, origin: str, features: Sequence[str] = ()
) -> Iterator[Path]:
    """A directory to put the image and the modules of a new kernel in; it becomes the kernel `name` at the end.

    Raises:
        UnknownKernelError: no kernel can be called so.
    """
    check_name(name)
    with adding_directory(directory(), name) as scratch:
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


def check_name(name: str) -> None:
    """Raises:
    UnknownKernelError: no kernel can be called so.
    """
    if not _NAME.fullmatch(name):
        raise UnknownKernelError(
            f"{name!r}: names of kernels are of letters, digits, dots, dashes and plus signs"
        )


@contextmanager
def adding_directory(parent: Path, name: str) -> Iterator[Path]:
    """A directory to fill, which then takes the place of `parent/name`. What was killed before is cleared away."""
    with cachedir.locked(parent):
        for path in parent.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path)
        scratch = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=parent))
        try:
            yield scratch
            scratch.chmod(0o755)
            if (parent / name).exists():
                _discard(parent / name)
            scratch.rename(parent / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _discard(path: Path) -> None:
    """Remove a directory; none sees half of it."""
    doomed = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=path.parent))
    path.rename(doomed / path.name)
    shutil.rmtree(doomed)
