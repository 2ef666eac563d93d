"""Since which commit of a git tree a kernel does something: minimal kernels are built of commits, and booted.

Which commit is next is `git bisect`'s to say. What became of each is written down before git is told, so that a search
that was stopped, however, goes on where it was.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import cachedir
from abi.environment import Geometry
from abi.program import parse_all
from fuzz.behaviour import difference
from fuzz.bisect import BAD, GOOD, SKIPPED, has, why_not
from fuzz.sighting import Sighting
from fuzz.status import UnusableError, UsageError
from fuzz.storage import write_atomically
from kernels import KernelError, UnknownKernelError, remove
from kernels.build import BuildFailed
from kernels.commits import NEW, OLD, SKIP, Commit, Commits, Found, find

_STATE: Final = "state.json"

#: Builds a kernel of the tree, by that name.
Build = Callable[[Path, str], object]
#: Boots the kernel of that name and looks for the signature: "" for any, None for none.
Look = Callable[[str, str | None], Sighting]
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Question:
    """What is searched for: `text` are the programs; bad has `signature` ("": whichever it shows) and good has not, or,
    with `behaviour`, they do different things. One of them is older. builder: what kernels are built as ("x86",
    "uml")."""

    tree: Path
    good: str
    bad: str
    text: str
    builder: str
    signature: str = ""
    behaviour: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A commit that was tried. verdict: as in `fuzz.bisect.Tried`; seconds: build, boot and all."""

    commit: Commit
    verdict: str
    detail: str
    seconds: float

    def line(self) -> str:
        """In one line."""
        return f"{self.commit.id[:12]}  {self.verdict:<7}  {self.seconds:6.1f} s  {self.detail}  {self.commit.subject}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "commit": self.commit.id,
            "subject": self.commit.subject,
            "verdict": self.verdict,
            "detail": self.detail,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Culprits:
    """The end of a search. first: the first commit that is bad, or, of a bug that was fixed, good; several where one
    of them is it, and the others were skipped; signature: "" where behaviour was compared."""

    first: tuple[Commit, ...]
    fixed: bool
    signature: str
    tried: tuple[Judged, ...]

    def lines(self) -> list[str]:
        """The answer, in words."""
        what = "good" if self.fixed else "bad"
        about = self.signature or "what kernels do"
        if len(self.first) == 1:
            return [about, f"the first {what} commit is {self.first[0]}"]
        names = [f"  {each}" for each in self.first]
        return [about, f"one of these is the first {what} commit, the others were skipped:", *names]

    def to_json(self) -> dict[str, Any]:
        """Plain data. first_bad or first_good: a hash, null where several may be it or it is the other; last_good,
        last_bad: the nearest commit that was tried on the other side."""
        first = self.first[0].id if len(self.first) == 1 else None
        before = [each for each in self.tried if each.verdict == (BAD if self.fixed else GOOD)]
        last = before[-1].commit.id if before else None
        return {
            "signature": self.signature or None,
            "first_bad": None if self.fixed else first,
            "last_good": None if self.fixed else last,
            "first_good": first if self.fixed else None,
            "last_bad": last if self.fixed else None,
            "possible": [{"commit": each.id, "subject": each.subject} for each in self.first],
            "tried": [each.to_json() for each in self.tried],
            "lines": self.lines(),
        }


class CommitSearch:
    """A search, in a directory of its own, which no other process enters meanwhile.

    Raises:
        UsageError: there is no such tree or commit.
        UnusableError: git is missing, or there is no place for the directory.
    """

    def __init__(self, question: Question, build: Build, look: Look, say: Say) -> None:
        self._question = question
        self._build = build
        self._look = look
        self._say = say
        tree = question.tree.resolve()
        try:
            self._good, self._bad = find(tree, question.good), find(tree, question.bad)
            facts = [str(tree), self._good.id, self._bad.id, question.text, question.builder]
            facts += [question.signature, str(question.behaviour)]
            key = sha256("\0".join(facts).encode()).hexdigest()[:12]
            self._place = cachedir.writable_directory("bisect") / key
            self._place.mkdir(exist_ok=True)
            self._commits = Commits(tree, self._place)
        except UnknownKernelError as error:
            raise UsageError(str(error)) from None
        except (KernelError, cachedir.CacheError) as error:
            raise UnusableError(str(error)) from None
        if self._good == self._bad:
            raise UsageError(f"good and bad are the same commit, {self._good}")
        self._name = f"bisect-{key}"
        self._programs = parse_all(question.text, Geometry())
        self._seen: dict[str, Sighting] = {}

    def restart(self) -> None:
        """Forget what is known."""
        with cachedir.locked(self._place, self._wait):
            (self._place / _STATE).unlink(missing_ok=True)

    def run(self) -> Culprits:
        """Search to the end.

        Raises:
            UsageError: the two commits do not differ as they should.
            UnusableError: one of them cannot be asked, or kernels cannot be built here.
        """
        with cachedir.locked(self._place, self._wait):
            self._read()
            try:
                culprits = self._search()
            except UnknownKernelError as error:
                raise UsageError(str(error)) from None
            except KernelError as error:
                raise UnusableError(str(error)) from None
            self._commits.discard()
            with suppress(KernelError):
                remove(self._name)
            return culprits

    def _wait(self) -> None:
        self._say("another process searches for the same: waiting for it")

    def _search(self) -> Culprits:
        fixed = self._commits.is_ancestor(self._bad, self._good)
        signature, ends = self._look_at_ends()
        old, new = (self._bad, self._good) if fixed else (self._good, self._bad)
        words = {GOOD: NEW if fixed else OLD, BAD: OLD if fixed else NEW, SKIPPED: SKIP}
        tried = [*ends]
        known = [each for each in self._seen if each not in (old.id, new.id)]
        judged = {each: self._judge(find(self._question.tree, each), signature) for each in known}
        tried += judged.values()
        step = self._commits.search(
            old, new, [(each, words[judge.verdict]) for each, judge in judged.items()]
        )
        if known and not isinstance(step, Found):
            self._say(f"going on after {len(known)} commits; `--restart` begins anew")
        while not isinstance(step, Found):
            if left := self._commits.left():
                self._say(left)
            self._see(step, signature)
            judge = self._judge(step, signature)
            self._say(judge.line())
            tried.append(judge)
            step = self._commits.say(step, words[judge.verdict])
        return Culprits(step.first, fixed, signature, tuple(tried))

    def _look_at_ends(self) -> tuple[str, list[Judged]]:
        """The signature to look for, and that bad has it and good has not; or that they do different things."""
        signature = self._question.signature
        bad = self._see(self._bad, signature)
        if not signature and not self._question.behaviour and bad.signatures:
            signature = bad.signatures[0]
        good = self._see(self._good, signature)
        for commit, seen in ((self._bad, bad), (self._good, good)):
            if seen.unseen or not (signature or seen.behaviour):
                raise UnusableError(
                    f"{commit}: {seen.unseen or seen.undecided or 'it did not run to the end'}"
                )
        if signature:
            if not has(bad, signature):
                raise UsageError(
                    f"{self._bad} is to be bad, and does not show {signature}: {why_not(bad, signature) or 'it agrees'}"
                )
            if has(good, signature) is None:
                raise UnusableError(f"{self._good}: {why_not(good, signature)}")
            if has(good, signature):
                raise UsageError(f"{self._good} is to be good, and shows it too: {signature}")
        elif bad.behaviour == good.behaviour:
            raise UsageError(f"{self._good} and {self._bad} do the same")
        ends = [self._judge(commit, signature) for commit in (self._bad, self._good)]
        for judge in ends:
            self._say(judge.line())
        return signature, ends

    def _judge(self, commit: Commit, signature: str) -> Judged:
        seen = self._seen[commit.id]
        seconds = seen.seconds
        if signature:
            found = has(seen, signature)
            if found is None:
                return Judged(commit, SKIPPED, why_not(seen, signature), seconds)
            return Judged(
                commit, BAD if found else GOOD, signature if found else "has it not", seconds
            )
        if not seen.behaviour:
            why = seen.unseen or seen.undecided or "it did not run to the end"
            return Judged(commit, SKIPPED, why, seconds)
        how = difference(self._programs, seen.behaviour, self._seen[self._good.id].behaviour)
        return Judged(commit, BAD if how else GOOD, how or "does as the good one", seconds)

    def _see(self, commit: Commit, signature: str) -> Sighting:
        """Build and boot a commit, unless that was done; what was seen is kept."""
        if commit.id in self._seen:
            return self._seen[commit.id]
        self._say(f"building {commit}")
        begun = time.monotonic()
        self._commits.check_out(commit)
        try:
            self._build(self._commits.tree, self._name)
            wanted = None if self._question.behaviour else signature
            seen = self._look(self._name, wanted)
        except (BuildFailed, UnknownKernelError) as error:
            seen = Sighting(self._name, unseen=str(error))
        seen = replace(seen, seconds=round(time.monotonic() - begun, 1))
        self._seen[commit.id] = seen
        self._write()
        return seen

    def _write(self) -> None:
        data = {name: seen.to_json() for name, seen in self._seen.items()}
        write_atomically(self._place / _STATE, json.dumps(data).encode(), durable=True)

    def _read(self) -> None:
        """What was seen before; a file that cannot be understood is none."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            data = json.loads((self._place / _STATE).read_text())
            self._seen = {name: Sighting.from_json(seen) for name, seen in data.items()}
