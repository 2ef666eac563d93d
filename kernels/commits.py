"""A git tree's commits, searched by `git bisect` in a clone of our own that borrows the objects: the tree is only read.

What was said of commits is kept by the caller, and said again when the search goes on: nothing depends on what a
killed git left behind.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Final

from kernels.cache import KernelError, UnknownKernelError

#: Git packs what was added on processors that the build needs, long after it was called.
_NO_UPKEEP: Final = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")
#: The words of `git bisect`: a search for what a fix ended has others, for "good" may not be the newer side.
OLD: Final = "before"
NEW: Final = "since"
SKIP: Final = "skip"
_TREE: Final = "tree"
_UNFINISHED: Final = ".new-tree"
_FOUND: Final = re.compile(rf"^# first {NEW} commit: \[(\w+)\]", re.MULTILINE)
_ONLY_SKIPPED: Final = "# only skipped commits left to test"
_POSSIBLE: Final = re.compile(rf"^# possible first {NEW} commit: \[(\w+)\]", re.MULTILINE)
_LEFT: Final = re.compile(r"^Bisecting: (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its full hash, and the first line of its message."""

    id: str
    subject: str

    def __str__(self) -> str:
        return f'{self.id[:12]} ("{self.subject}")'


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search: the first commit since which it is otherwise, or, where commits were skipped, several of
    which one is the first."""

    first: tuple[Commit, ...]


def find(tree: Path, revision: str) -> Commit:
    """The commit that is called so in a git tree.

    Raises:
        UnknownKernelError: there is no such tree or commit.
        KernelError: git is missing.
    """
    if which("git") is None:
        raise KernelError("to search commits, install git")
    if not tree.is_dir():
        raise UnknownKernelError(f"{tree}: no such directory")
    try:
        return describe(tree, f"{revision}^{{commit}}")
    except KernelError:
        if (ran := git(tree, "rev-parse", "--git-dir")).returncode:
            raise UnknownKernelError(_complaint(tree, ran)) from None
        raise UnknownKernelError(f"{tree}: no commit {revision}") from None


class Commits:
    """The clone of a git tree, in `place`, which the caller keeps others out of; made when it is first needed.

    Methods raise KernelError where git fails for another reason than is named.
    """

    def __init__(self, tree: Path, place: Path) -> None:
        self._origin = tree
        self._place = place
        self._say = ""
        #: Where a commit is checked out.
        self.tree = place / _TREE

    def is_ancestor(self, old: Commit, new: Commit) -> bool:
        """Whether `new` contains `old`."""
        ran = git(self._origin, "merge-base", "--is-ancestor", old.id, new.id)
        return ran.returncode == 0

    def check_out(self, commit: Commit) -> None:
        """Bring the files of a commit into `self.tree`."""
        self._clone()
        _git(self.tree, "checkout", "--quiet", "--force", "--detach", commit.id)

    def search(self, old: Commit, new: Commit, said: Iterable[tuple[str, str]]) -> Commit | Found:
        """Begin anew between the two, and say of each commit (by its hash) what was said of it: OLD, NEW or SKIP. What
        is to be tried next, or the end.

        Raises:
            UnknownKernelError: the two cannot be searched between; the message is git's.
        """
        self._clone()
        git(self.tree, "bisect", "reset")
        words = ("--no-checkout", f"--term-old={OLD}", f"--term-new={NEW}")
        try:
            self._say = _git(self.tree, "bisect", "start", *words, new.id, old.id)
            for commit, word in said:
                if isinstance(step := self._step(), Found):
                    return step
                self._say = self._told(word, commit)
        except KernelError as error:
            raise UnknownKernelError(str(error)) from None
        return self._step()

    def say(self, commit: Commit, word: str) -> Commit | Found:
        """Say OLD, NEW or SKIP of a commit. What is to be tried next, or the end.

        Raises:
            UnknownKernelError: what was said cannot be; the message is git's.
        """
        try:
            self._say = self._told(word, commit.id)
        except KernelError as error:
            raise UnknownKernelError(str(error)) from None
        return self._step()

    def left(self) -> str:
        """How much is left, in git's words; "" where it said nothing."""
        found = _LEFT.search(self._say)
        return found.group(1) if found else ""

    def discard(self) -> None:
        """Remove the clone."""
        shutil.rmtree(self.tree, ignore_errors=True)

    def _told(self, word: str, commit: str) -> str:
        # It fails where only skipped commits are left, which its log says.
        ran = git(self.tree, "bisect", word, commit)
        if ran.returncode and _ONLY_SKIPPED not in self._log():
            raise KernelError(_complaint(self._origin, ran))
        return ran.stdout

    def _log(self) -> str:
        return _git(self.tree, "bisect", "log")

    def _step(self) -> Commit | Found:
        log = self._log()
        found = _FOUND.findall(log) or (_POSSIBLE.findall(log) if _ONLY_SKIPPED in log else [])
        if found:
            return Found(tuple(describe(self.tree, each) for each in found))
        return describe(self.tree, "BISECT_HEAD")

    def _clone(self) -> None:
        if self.tree.is_dir():
            # Of a git that was killed; no other works here.
            (self.tree / ".git" / "index.lock").unlink(missing_ok=True)
            return
        scratch = self._place / _UNFINISHED
        shutil.rmtree(scratch, ignore_errors=True)
        origin = str(self._origin.resolve())
        _git(self._place, "clone", "--quiet", "--shared", "--no-checkout", origin, str(scratch))
        scratch.rename(self.tree)


def describe(tree: Path, name: str) -> Commit:
    """A commit of a tree.

    Raises:
        KernelError: there is none of that name.
    """
    said = _git(tree, "show", "--no-patch", "--format=%H %s", "--end-of-options", name, "--")
    identity, _, subject = said.strip().partition(" ")
    return Commit(identity, subject)


def git(
    tree: Path, *words: str, more: Mapping[str, str] | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """git(1) in a tree, with `more` in its environment.

    Raises:
        KernelError: it fails, and `check` is set.
    """
    # What a surrounding git left must not take part.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    ran = subprocess.run(
        ["git", *_NO_UPKEEP, "-C", str(tree), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**environment, "LC_ALL": "C", **(more or {})},
    )
    if check and ran.returncode:
        raise KernelError(_complaint(tree, ran))
    return ran


def _git(tree: Path, *words: str) -> str:
    """What git says.

    Raises:
        KernelError: it fails.
    """
    return git(tree, *words, check=True).stdout


def _complaint(tree: Path, ran: subprocess.CompletedProcess[str]) -> str:
    lines = (ran.stderr.strip() or ran.stdout.strip() or "git failed").splitlines()
    text = " ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in lines[:2])
    return f"{tree}: {text}"
