"""Debian's archive, through an apt state of our own: the system's sources, lists and packages are never touched.

apt verifies what it fetches by the archive's signatures. No root is needed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Final

from kernels import cache
from kernels.cache import KernelError
from kernels.modules import load_order

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR: Final = os.environ.get("VMADIFF_DEBIAN_MIRROR", "http://deb.debian.org")
_SUITES: Final = (
    *((suite, "debian") for suite in ("bookworm", "bookworm-backports", "trixie")),
    *((suite, "debian") for suite in ("trixie-backports", "forky", "sid", "experimental")),
    *((suite, "debian-security") for suite in ("bookworm-security", "trixie-security")),
)
_SECONDS: Final = 1800
_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?(-rc\d+)?")
Say = Callable[[str], None]


class Gone(KernelError):
    """The archive does not have it, or no more."""


class Archive:
    """An apt state below a directory.

    Raises:
        KernelError: this machine has no apt.
    """

    def __init__(self, directory: Path, say: Say) -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            if which(program) is None:
                raise KernelError(f"{program} is not installed: prebuilt kernels come through apt")
        self._directory = directory
        self._say = say
        self._updated = False

    def fetch_kernel(self, name: str) -> cache.Kernel:
        """Get a prebuilt x86 kernel into the cache.

        Raises:
            Gone: the archive does not have it.
            KernelError: it cannot be fetched.
        """
        packages = self._packages_of(name)
        if not packages:
            raise Gone(f"kernel {name} is not in Debian's archive, or no longer")
        with TemporaryDirectory(dir=self._directory, prefix="fetch-") as scratch:
            root = Path(scratch)
            for package in packages:
                self.unpack(package, root)
            images = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
            if len(images) != 1:
                raise KernelError(f"{' and '.join(packages)}: no kernel image in it")
            trees = [*root.glob("lib/modules/*/kernel"), *root.glob("usr/lib/modules/*/kernel")]
            modules = load_order(trees[0].parent) if trees else []
            origin = f"Debian, {packages[0]}"
            if not trees:
                self._say(
                    f"the archive has the modules of {name} no longer: no xfs, btrfs ... on it"
                )
                origin += ", without its modules"
            release = packages[0].removeprefix("linux-image-").removeprefix("linux-binary-")
            with cache.adding(name, "x86", release, origin) as made:
                shutil.copyfile(images[0], made / cache.IMAGE)
                for place, (module, content) in enumerate(modules):
                    (made / cache.MODULES / f"{place:02}-{module}.ko").write_bytes(content)
        return cache.find(name)

    def unpack(self, package: str, into: Path) -> None:
        """Download a package and unpack it.

        Raises:
            Gone: the archive does not have it.
        """
        self._update()
        self._say(f"fetching {package}")
        with TemporaryDirectory(dir=self._directory, prefix="deb-") as scratch:
            done = self._run("apt-get", "download", package, cwd=scratch)
            files = list(Path(scratch).glob("*.deb"))
            if done.returncode or len(files) != 1:
                reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
                raise Gone(f"{package} cannot be had from Debian's archive: {reason}")
            unpacked = subprocess.run(
                ["dpkg-deb", "-x", str(files[0]), str(into)], capture_output=True, text=True
            )
            if unpacked.returncode:
                raise KernelError(f"{package}: {unpacked.stderr.strip()}")

    def names(self, pattern: str) -> list[str]:
        """The packages whose name matches, sorted."""
        self._update()
        done = self._run("apt-cache", "search", "--names-only", pattern)
        return sorted(line.split()[0] for line in done.stdout.splitlines())

    def _packages_of(self, name: str) -> list[str]:
        """The packages that make up a kernel: image and modules, in one or in two."""
        if not _VERSION.fullmatch(name):
            raise KernelError(
                f"{name!r} is no kernel version; `vmadiff kernels list` shows what is known"
            )
        version = re.escape(name)
        if name.count(".") == 1:
            # Named by an ABI number: the newest.
            found = self.names(rf"^linux-image-{version}\.0-[0-9]+-cloud-amd64$")
            return sorted(found, key=_numbers)[-1:]
        for debian in ("deb13", "deb14", "deb12"):
            tail = rf"{version}\+{debian}-cloud-amd64$"
            binary, modules, image = (
                self.names(f"^linux-{kind}-{tail}") for kind in ("binary", "modules", "image")
            )
            if binary:
                return [*binary, *modules]
            if image:
                return image
        return []

    def _update(self) -> None:
        if self._updated:
            return
        lists = self._directory / "lists"
        for path in (lists / "partial", self._directory / "cache" / "archives" / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        sources = [
            f"deb [signed-by={_KEYRING}] {_MIRROR}/{section} {suite} main\n"
            for suite, section in _SUITES
        ]
        (self._directory / "sources.list").write_text("".join(sources))
        self._say("reading Debian's package lists")
        done = self._run("apt-get", "update")
        if done.returncode or not any(lists.glob("*Packages*")):
            reason = (done.stderr.strip().splitlines() or ["no lists came"])[-1]
            raise KernelError(f"Debian's archive cannot be read: {reason}")
        self._updated = True

    def _run(
        self, program: str, *words: str, cwd: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        base = self._directory
        options = {
            "Dir::State::Lists": base / "lists",
            "Dir::State::status": base / "status",
            "Dir::Cache": base / "cache",
            "Dir::Etc::SourceList": base / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "",
        }
        return subprocess.run(
            [program, "-q", *(f"-o{key}={value}" for key, value in options.items()), *words],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )


def open_archive(say: Say) -> Archive:
    """The archive, with its state beside the kernels."""
    directory = cache.directory() / ".apt"
    directory.mkdir(exist_ok=True)
    return Archive(directory, say)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))
