"""Since which commit: git decides what is next, and a search that was stopped goes on. Kernels are stand-ins here; one
slow test builds and boots them."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pytest

from fuzz import commit_search
from fuzz.commit_search import CommitSearch, Culprits, Question
from fuzz.sighting import Sighting
from fuzz.status import UnusableError, UsageError
from fuzz.storage import write_atomically
from kernels import KernelError
from kernels.build import BuildFailed

BUG = "mremap[MAYMOVE,same] result: model address, kernel EFAULT"
OTHER = "munmap result: model 0, kernel EINVAL"
TEXT = "munmap(W+0, 1p)\n"
_IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
_IDENTITY |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in _IDENTITY.items()}


def _imported(number: int, letter: str) -> str:
    """A commit, as `git fast-import` reads it."""
    message = f"mm: change {number}\n\nAs it should be.\n"
    return (
        f"commit refs/heads/main\ncommitter a <a@example.org> {number} +0000\n"
        f"data {len(message)}\n{message}"
        f"M 644 inline mm/kind\ndata {len(letter)}\n{letter}\n"
        f"M 644 inline mm/number\ndata {len(str(number))}\n{number}\n"
    )


def git(tree: Path, *words: str, given: str = "") -> str:
    where = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **_IDENTITY}
    done = subprocess.run(
        ["git", "-C", str(tree), *words],
        input=given,
        capture_output=True,
        text=True,
        env=os.environ | where,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def snapshot(tree: Path) -> list[tuple[str, float, bytes]]:
    """All that is below a directory."""
    return sorted(
        (str(path), path.stat().st_mtime, path.read_bytes() if path.is_file() else b"")
        for path in tree.rglob("*")
    )


@dataclass
class Lab:
    """A tree whose commits do what the letters say: g, b, o as kernels in test_bisect, n: does not build, d: does not
    boot; what was built of it; and when to be stopped."""

    tree: Path
    commits: list[str]
    built: list[str] = field(default_factory=list)
    wanted: list[str | None] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    stop_at: int = -1
    trouble: Callable[[], None] = lambda: None
    latest: str = ""

    def build(self, tree: Path, name: str) -> None:
        self.trouble()
        if len(self.built) == self.stop_at:
            self.stop_at = -1
            raise KeyboardInterrupt
        assert tree != self.tree
        self.latest = (tree / "mm" / "kind").read_text()
        self.built.append((tree / "mm" / "number").read_text())
        if self.latest == "n":
            raise BuildFailed(name, ["mm/vma.c:7: error: expected ';'"], tree / "build.log")

    def look(self, name: str, wanted: str | None) -> Sighting:
        self.wanted.append(wanted)
        if self.latest == "d":
            return Sighting(name, unseen="it does not boot")
        signatures = {"b": (BUG,), "o": (OTHER,)}.get(self.latest, ())
        return Sighting(name, "7.3", signatures, ({"result": self.latest},))

    def search(
        self, good: int, bad: int, *, signature: str = "", behaviour: bool = False
    ) -> CommitSearch:
        question = Question(
            self.tree, self.commits[good], self.commits[bad], TEXT, "x86", signature, behaviour
        )
        return CommitSearch(question, self.build, self.look, self.said.append)

    def numbers(self, found: Culprits) -> list[int]:
        return [self.commits.index(commit.id) for commit in found.first]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Lab]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(letters: str) -> Lab:
        tree = tmp_path / "linux"
        (tree / "mm").mkdir(parents=True)
        git(tree, "init", "--quiet", "--initial-branch=main")
        git(tree, "fast-import", "--quiet", given="".join(map(_imported, count(), letters)))
        git(tree, "checkout", "--quiet", "main")
        return Lab(tree, git(tree, "rev-list", "--reverse", "main").split())

    return make


@pytest.mark.parametrize(
    ("letters", "good", "bad", "first"),
    [
        ("gggggbbb", 0, 7, [5]),
        ("bbbbbggg", 7, 0, [5]),
        ("gb", 0, 1, [1]),
        ("gggnnbbb", 0, 7, [3, 4, 5]),
        ("ggodbbbb", 0, 7, [2, 3, 4]),
        ("ggnggbbb", 0, 7, [5]),
        ("bbbnnggg", 7, 0, [3, 4, 5]),
    ],
)
def test_the_first_commit(
    lab: Callable[[str], Lab], letters: str, good: int, bad: int, first: list[int]
) -> None:
    made = lab(letters)
    found = made.search(good, bad).run()
    assert sorted(made.numbers(found)) == first
    assert len(made.built) == len(set(made.built)) <= len(letters)
    assert found.signature == BUG
    data = json.loads(json.dumps(found.to_json()))
    side, last = ("first_good", "last_bad") if good > bad else ("first_bad", "last_good")
    assert data[side] == (made.commits[first[0]] if len(first) == 1 else None)
    assert data[last] == made.commits[first[0] - 1]
    text = "\n".join(found.lines())
    assert all(f'("mm: change {number}")' in text for number in first)


def test_the_tree_is_only_read(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    made = lab("ggbbb")
    (made.tree / "mm" / "kind").write_text("being edited")
    before = snapshot(made.tree)
    made.search(0, 4).run()
    assert snapshot(made.tree) == before
    assert not list((tmp_path / "cache" / "vmadiff" / "bisect").glob("*/tree"))


@pytest.mark.parametrize("stop_at", [0, 2, 3])
def test_what_was_stopped_goes_on(lab: Callable[[str], Lab], stop_at: int) -> None:
    made = lab("ggggngggbbbbbbbb")
    made.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        made.search(0, 15).run()
    # As a git that was killed leaves it.
    for lock in made.tree.parent.glob("cache/vmadiff/bisect/*/tree/.git"):
        (lock / "index.lock").touch()
        (lock / "BISECT_LOG").write_text("git bisect st")
    found = made.search(0, 15).run()
    assert made.numbers(found) == [8]
    assert len(made.built) == len(set(made.built))
    # The answer is kept; --restart forgets it.
    built = len(made.built)
    assert made.search(0, 15).run().first == found.first
    assert len(made.built) == built
    again = made.search(0, 15)
    again.restart()
    assert again.run().first == found.first
    assert len(made.built) > built


@pytest.mark.parametrize(("moment", "after"), [("building", 3), ("written down", 1)])
def test_what_was_killed_goes_on(
    lab: Callable[[str], Lab], monkeypatch: pytest.MonkeyPatch, moment: str, after: int
) -> None:
    """In the middle of a build, or when git was not told yet what is known of a commit."""
    made = lab("ggggngggbbbbbbbb")
    before = made.tree.parent / "built"

    def die() -> None:
        before.write_text("\n".join(made.built))
        os.kill(os.getpid(), signal.SIGKILL)

    def search() -> None:
        def build_until(tree: Path, name: str) -> None:
            if moment == "building" and len(made.built) == after:
                die()
            made.build(tree, name)

        def write_until(path: Path, data: bytes, *, durable: bool) -> None:
            write_atomically(path, data, durable=durable)
            if moment == "written down" and len(made.built) == after:
                die()

        monkeypatch.setattr(commit_search, "write_atomically", write_until)
        question = Question(made.tree, made.commits[0], made.commits[15], TEXT, "x86")
        CommitSearch(question, build_until, made.look, made.said.append).run()

    child = get_context("fork").Process(target=search)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert made.built == []
    assert made.numbers(made.search(0, 15).run()) == [8]
    once = before.read_text().splitlines()
    assert len(once) == after
    assert not {*once} & {*made.built}


def test_a_damaged_state_is_none(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    made = lab("ggbb")
    made.search(0, 3).run()
    (state,) = (tmp_path / "cache" / "vmadiff" / "bisect").glob("*/state.json")
    for text in ("[]", '{"a": {"kernel": "x"}}'):
        state.write_text(text)
        assert made.numbers(made.search(0, 3).run()) == [2]


def test_behaviour(lab: Callable[[str], Lab]) -> None:
    made = lab("xxxyyy")
    found = made.search(0, 5, behaviour=True).run()
    assert made.numbers(found) == [3]
    assert found.signature == ""
    assert set(made.wanted) == {None}
    assert found.tried[0].detail == "call 1 (munmap) result: y, was x"
    # Nothing diverges: it is behaviour that is compared.
    assert made.numbers(made.search(0, 5).run()) == [3]


def test_on_branches_a_merge_base_is_tried(lab: Callable[[str], Lab]) -> None:
    made = lab("ggb")
    git(made.tree, "checkout", "--quiet", "-b", "side", made.commits[0])
    (made.tree / "mm" / "other").touch()
    git(made.tree, "add", ".")
    git(made.tree, "commit", "--quiet", "-m", "side")
    made.commits.append(git(made.tree, "rev-parse", "HEAD"))
    assert made.numbers(made.search(3, 2).run()) == [2]


@pytest.mark.parametrize(
    ("letters", "signature", "error", "text"),
    [
        ("gggg", "", UsageError, "do the same"),
        ("bggb", "", UsageError, "is to be good, and shows it too"),
        ("gggo", BUG, UsageError, "is to be bad, and does not show"),
        ("gggn", "", UnusableError, "expected ';'"),
        ("dggb", "", UnusableError, "it does not boot"),
        ("oggb", "", UnusableError, "diverges otherwise"),
    ],
)
def test_ends_that_are_not_what_they_should_be(
    lab: Callable[[str], Lab], letters: str, signature: str, error: type[Exception], text: str
) -> None:
    made = lab(letters)
    with pytest.raises(error, match=text) as caught:
        made.search(0, 3, signature=signature).run()
    assert "\n" not in str(caught.value)


def test_what_cannot_be_searched(lab: Callable[[str], Lab], tmp_path: Path) -> None:
    made = lab("gb")
    with pytest.raises(UsageError, match="same commit"):
        made.search(1, 1)
    made.commits.append("nothing")
    with pytest.raises(UsageError, match="no commit nothing"):
        made.search(0, 2)
    made.tree = tmp_path
    with pytest.raises(UsageError, match="not a git repository"):
        made.search(0, 1)

    def refuse() -> None:
        raise KernelError("to build kernels, install make")

    made = Lab(tmp_path / "linux", made.commits, trouble=refuse)
    with pytest.raises(UnusableError, match="install make"):
        made.search(0, 1).run()
