"""A cache of its own for each test, and an archive of Debian's that is a directory."""

import io
import os
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

#: apt-get, apt-cache and dpkg-deb over a directory of tar files: NAME_VERSION.deb, in the suite NAME.
_PROGRAMS = """\
#!{python} -S
import os, re, shutil, sys, tarfile
from pathlib import Path
program, words = Path(sys.argv[0]).name, sys.argv[1:]
pool = Path({pool!r})
with open(pool.parent / "calls", "a") as calls:
    print(program, *words, file=calls)
if program == "dpkg-deb":
    with tarfile.open(words[1]) as packed:
        if words[0] == "-x":
            packed.extractall(words[2], filter="tar")
    print(Path(words[1]).stem.partition("_")[2])
    sys.exit()
if program == "patchelf":
    sys.exit()
assert words[:2] == ["-q", "-c"]
base = Path(words[2]).parent
words = words[3:]
trouble = os.environ.get("TROUBLE", "")
if words == ["update"]:
    if trouble != "no lists":
        (base / "lists" / "deb_Packages").touch()
    if trouble:
        print(f"W: Failed to fetch http://a.example/InRelease  {{trouble}}", file=sys.stderr)
elif words[0] == "search":
    names = {{path.name.partition("_")[0] for path in pool.iterdir()}}
    for name in names:
        if re.search(words[-1], name):
            print(name, "- a package")
else:
    name, version = re.fullmatch("(.*?)(?:=(.*)[*])?(?:/.*)?", words[1]).groups()
    found = [path for path in pool.glob(f"{{name}}_*") if path.name.startswith(f"{{name}}_{{version or ''}}")]
    if trouble == "cut off":
        sys.exit("E: Failed to fetch http://a.example/x.deb  Connection timed out")
    if not found:
        print("W: something else", file=sys.stderr)
        sys.exit(f"E: Unable to locate package {{name}}")
    shutil.copy(found[0], ".")
"""


@dataclass(frozen=True, slots=True)
class FakeArchive:
    """What the programs find, and what they were asked."""

    pool: Path

    def add(self, name: str, version: str, files: Mapping[str, bytes]) -> None:
        """Put a package in it."""
        with tarfile.open(self.pool / f"{name}_{version}.deb", "w") as packed:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                entry.mode = 0o755
                packed.addfile(entry, io.BytesIO(content))

    def calls(self) -> list[str]:
        """The command lines so far."""
        path = self.pool.parent / "calls"
        return path.read_text().splitlines() if path.exists() else []


def install(directory: Path, name: str, text: str) -> None:
    """Put a program into a directory."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    (directory / name).chmod(0o755)


@pytest.fixture(autouse=True)
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's kernels are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vmadiff" / "kernels"


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """An archive without packages, whose programs come before the machine's."""
    pool = tmp_path / "debian" / "pool"
    pool.mkdir(parents=True)
    programs = tmp_path / "bin"
    for name in ("apt-get", "apt-cache", "dpkg-deb", "patchelf"):
        install(programs, name, _PROGRAMS.format(python=sys.executable, pool=str(pool)))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(programs))
    keyring = tmp_path / "keyring"
    keyring.touch()
    monkeypatch.setattr("kernels.archive._KEYRING", keyring)
    return FakeArchive(pool)
