"""Debian's archive, through an apt state of our own: the system's sources, lists and packages are never touched.

apt verifies what it fetches by the archive's signatures. No root is needed.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Final

import cachedir
from kernels import cache
from kernels.cache import KernelError

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: Names the mirror, below which are debian/ and debian-security/.
_MIRROR_VARIABLE: Final = "VMADIFF_DEBIAN_MIRROR"
_MIRROR: Final = "http://deb.debian.org"
_SUITES: Final = (
    *((suite, "debian") for suite in ("bookworm", "bookworm-backports", "trixie")),
    *((suite, "debian") for suite in ("trixie-backports", "forky", "sid", "experimental")),
    *((suite, "debian-security") for suite in ("bookworm-security", "trixie-security")),
)
#: The system's settings hold (a proxy), but for hooks, which would see to the system's state.
_SETTINGS: Final = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State::Lists "{base}/lists";
Dir::State::status "{base}/status";
Dir::Cache "{base}/cache";
Dir::Etc::SourceList "{base}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"""
_SECONDS: Final = 1800
#: How the names of directories begin that are of no use after a fetch.
SCRATCH: Final = "fetch-"
#: How apt says that a package, a version of it or its file is not there.
_ABSENT: Final = ("Unable to locate", "was not found", "no packages found", "404 ")
Say = Callable[[str], None]


class GoneError(KernelError):
    """The archive does not have it, or no longer."""


class Archive:
    """An apt state below a directory. Its lists are read when they are first needed.

    Raises:
        KernelError: this machine has no apt.
    """

    def __init__(self, directory: Path, say: Say) -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            if which(program) is None:
                raise KernelError(
                    f"{program} is not installed: prebuilt kernels and sources come through apt, from Debian's archive"
                )
        if not _KEYRING.is_file():
            raise KernelError(f"{_KEYRING} is missing: install the package debian-archive-keyring")
        self._directory = directory
        self.say = say
        self._updated = False
        #: Why some of the lists could not be read.
        self._unread = ""

    def fetch(self, package: str, into: Path) -> str:
        """Download a package (as apt-get has it: NAME, NAME=VERSION, NAME/SUITE), unpack it; its version.

        Raises:
            GoneError: the archive does not have it.
            KernelError: it cannot be had now.
        """
        self._update()
        self.say(f"fetching {package}")
        with TemporaryDirectory(dir=self._directory, prefix=SCRATCH) as scratch:
            done = self._run("apt-get", "download", package, cwd=scratch)
            files = list(Path(scratch).glob("*.deb"))
            if done.returncode or len(files) != 1:
                reason = _reason(done)
                if any(sign in reason for sign in _ABSENT):
                    raise self.gone(package)
                raise KernelError(f"{package} cannot be fetched: {reason}")
            unpacked = self._run("dpkg-deb", "-x", str(files[0]), str(into))
            version = self._run("dpkg-deb", "-f", str(files[0]), "Version")
            for each in (unpacked, version):
                if each.returncode:
                    raise KernelError(f"{package} cannot be unpacked: {_reason(each)}")
            return version.stdout.strip()

    def names(self, pattern: str) -> list[str]:
        """The packages whose name matches a regular expression, sorted."""
        self._update()
        done = self._run("apt-cache", "search", "--names-only", pattern)
        if done.returncode:
            raise KernelError(f"Debian's lists cannot be searched: {_reason(done)}")
        return sorted(line.split()[0] for line in done.stdout.splitlines())

    def gone(self, what: str) -> KernelError:
        """The error that says that the archive does not have it, if that is known."""
        if self._unread:
            return KernelError(
                f"{what} is not in those lists of Debian's archive that could be read ({self._unread})"
            )
        return GoneError(f"{what} is not in Debian's archive, or no longer")

    def _update(self) -> None:
        if self._updated:
            return
        base = self._directory
        mirror = os.environ.get(_MIRROR_VARIABLE) or _MIRROR
        for path in (base / "lists" / "partial", base / "cache" / "archives" / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        (base / "status").touch()
        sources = (
            f"deb [arch=amd64 signed-by={_KEYRING}] {mirror}/{section} {suite} main\n"
            for suite, section in _SUITES
        )
        (base / "sources.list").write_text("".join(sources))
        (base / "apt.conf").write_text(_SETTINGS.format(base=base))
        self.say("reading Debian's package lists")
        done = self._run("apt-get", "update")
        # apt does not count a server that cannot be reached as an error: older lists would do.
        if done.returncode or "Failed to fetch" in done.stderr:
            self._unread = _reason(done)
        if not any((base / "lists").glob("*Packages*")):
            raise KernelError(f"Debian's archive cannot be read: {self._unread or 'no lists came'}")
        self._updated = True

    def _run(
        self, program: str, *words: str, cwd: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        settings = [] if program == "dpkg-deb" else ["-q", "-c", str(self._directory / "apt.conf")]
        try:
            return subprocess.run(
                [program, *settings, *words],
                capture_output=True,
                text=True,
                errors="replace",
                cwd=cwd,
                timeout=_SECONDS,
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise KernelError(f"{program} {words[0]}: no end in {_SECONDS} s") from None


@contextmanager
def open_archive(say: Say) -> Iterator[Archive]:
    """The archive, with its state beside the kernels, for one process at a time."""
    directory = cache.directory(cache.APT)
    with cachedir.locked(directory, lambda: say("another process fetches: waiting for it")):
        for left in directory.glob(f"{SCRATCH}*"):
            shutil.rmtree(left)
        yield Archive(directory, say)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """What went wrong, in one line: the first error, or else the first warning."""
    lines = done.stderr.strip().splitlines()
    for sign in ("E: ", "W: ", ""):
        for line in lines:
            if line.startswith(sign):
                return line.removeprefix(sign)
    return f"exit status {done.returncode}"
