"""A tree of our own beside a user's, in which a patch series is applied to a base: the user's tree is only read.

Of a git tree the objects are borrowed. A directory that is none, or one of Debian's source packages, is recorded as it
is in a repository of ours; to look whether it has changed since takes seconds. Files that a commit does not change keep
their times, so that a build goes on from the last one.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Final

import cachedir
from kernels.archive import Say
from kernels.cache import KernelError, UnknownKernelError
from kernels.commits import Commit, Commits, describe, find, git
from kernels.fetch import fetch_source

_SNAPSHOT: Final = "snapshot.git"
#: Commits of ours are the same for the same files.
_WHO: Final = {
    "GIT_AUTHOR_NAME": "vmadiff",
    "GIT_AUTHOR_EMAIL": "vmadiff@localhost",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "vmadiff",
    "GIT_COMMITTER_EMAIL": "vmadiff@localhost",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}
_HEAD: Final = "HEAD"


class SeriesError(UnknownKernelError):
    """A patch does not apply; `lines` are git's."""

    def __init__(self, path: Path, base: Commit, lines: Sequence[str]) -> None:
        super().__init__(
            f"{path} does not apply to {base}: {lines[0] if lines else 'no reason given'}"
        )
        self.lines = tuple(lines)


class Workshop:
    """The tree, a directory or the name of a source package, and our own beside it. One process at a time (`locked`).

    Raises:
        UnknownKernelError: there is no such tree.
        KernelError: git is missing, the package cannot be had, or there is no place to work in.
    """

    def __init__(self, source: str, say: Say) -> None:
        if Path(source).is_dir():
            origin, name = Path(source).resolve(), source
        else:
            origin, name = fetch_source(source, say)
        self.key = sha256(str(origin).encode()).hexdigest()[:12]
        try:
            self.place = cachedir.writable_directory("patches") / self.key
            self.place.mkdir(exist_ok=True)
        except cachedir.CacheError as error:
            raise KernelError(str(error)) from None
        #: The tree as people know it.
        self.name = name
        self._say = say
        with self.locked():
            self._origin = origin if _is_git(origin) else self._record(origin)
        self._commits = Commits(self._origin, self.place)

    @property
    def tree(self) -> Path:
        """Our own."""
        return self._commits.tree

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out."""
        return cachedir.locked(
            self.place, lambda: self._say("another process works on this tree: waiting for it")
        )

    def commit(self, revision: str = _HEAD) -> Commit:
        """The commit that is called so.

        Raises:
            UnknownKernelError: there is none.
        """
        return find(self._origin, revision)

    def check_out(self, commit: Commit) -> None:
        """Bring the files of a commit into our tree."""
        self._commits.check_out(commit)

    def apply(self, base: Commit, series: Sequence[Path]) -> Commit:
        """The commit that the files of a series, mails or plain diffs, make of the base, which is checked out for that.

        Raises:
            SeriesError: one does not apply.
            UnknownKernelError: one cannot be read.
        """
        self.check_out(base)
        for path in series:
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError as error:
                raise UnknownKernelError(f"{path}: {error.strerror}") from None
            said = git(self.tree, "apply", "--index", "--whitespace=nowarn", str(path.resolve()))
            if said.returncode:
                lines = [line.removeprefix("error: ") for line in said.stderr.splitlines()]
                git(self.tree, "reset", "--quiet", "--hard", base.id)
                raise SeriesError(path, base, lines)
        words = (
            "commit",
            "--quiet",
            "--no-verify",
            "--allow-empty",
            "-m",
            f"{len(series)} patches",
        )
        git(self.tree, *words, more=_WHO, check=True)
        return describe(self.tree, _HEAD)

    def diff(self, base: Commit, patched: Commit) -> str:
        """What the series changes, as a unified diff without context."""
        words = ("diff", "--no-color", "--no-ext-diff", "--no-renames", "-U0")
        return git(self.tree, *words, base.id, patched.id, check=True).stdout

    def file(self, commit: Commit, path: str) -> str:
        """A file of a commit; "" if it has none of that name."""
        said = git(self.tree, "show", f"{commit.id}:{path}")
        return "" if said.returncode else said.stdout

    def _record(self, origin: Path) -> Path:
        """A repository of the directory as it is now."""
        if not (origin / "Makefile").is_file():
            raise UnknownKernelError(f"{origin}: not the source tree of a kernel")
        place = self.place / _SNAPSHOT
        if not (place / _HEAD).is_file():
            self._say(f"recording {self.name}, which is no git tree")
            git(self.place, "init", "--quiet", "--bare", str(place), check=True)
        words = (f"--git-dir={place}", f"--work-tree={origin}", "-c", "core.bare=false")
        git(place, *words, "add", "--all", "--force", ".", check=True)
        if git(place, *words, "diff", "--cached", "--quiet", _HEAD, "--").returncode:
            said = (*words, "commit", "--quiet", "--no-verify", "-m", self.name)
            git(place, *said, more=_WHO, check=True)
        return place


def _is_git(path: Path) -> bool:
    return (
        git(path, "rev-parse", "--git-dir").returncode == 0
        and not git(path, "rev-parse", "--show-prefix").stdout.strip()
    )
