"""What was found out about a series: as ten lines for a reviewer, as a page, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuzz.display import duration
from fuzz.patch.changed import Changed
from fuzz.patch.cover import ABSENT, EXECUTED, MISSED, Covered
from fuzz.patch.judge import (
    BEHAVIOUR,
    BREAKS,
    CRASH,
    FIXES,
    INCONSISTENT,
    MENDS,
    OLD,
    UNSTATED,
    Judged,
)
from fuzz.status import DIVERGES, INCOMPLETE, OK

#: Verdicts on a series, as data has them.
CLEAN: Final = "clean"
CHANGES: Final = "changes behaviour"
CRASHES: Final = "crashes"
UNKNOWN: Final = "unknown"

#: Lines of the text.
MOST: Final = 10
_SHOWN: Final = 4
_WIDTH: Final = 118


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a comparison. what: tree and series, in a line; kernels: base and patched, by the names that targets
    have; profile: the base's model; rows: all that was found; changed, covered: the changed lines, None and nothing
    where images were given; removed: lines that only the base has; seconds: of fuzzing, in all; kasan: those of them
    on a kernel with KASAN; sequences, calls: that both kernels ran; kasan_sequences: on that one; problems: why not all
    could be done; state: the directory with all of it.
    """

    what: str
    kernels: tuple[str, str]
    profile: str
    rows: tuple[Judged, ...]
    changed: Changed | None
    covered: tuple[Covered, ...]
    removed: tuple[Covered, ...]
    seconds: float
    sequences: int
    calls: int
    kasan: float
    kasan_sequences: int
    problems: tuple[str, ...]
    state: Path
    seed: int

    def of(self, *kinds: str) -> list[Judged]:
        """The findings of these classes."""
        return [row for row in self.rows if row.kind in kinds]

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.of(CRASH, INCONSISTENT):
            return CRASHES
        if self.of(BEHAVIOUR):
            return CHANGES
        nothing = self.absent and not total((*self.covered, *self.removed))
        return UNKNOWN if self.problems or nothing or not self.sequences else CLEAN

    @property
    def absent(self) -> str:
        """The changed files of which the kernels have nothing, in a line; "" if there is none."""
        rows = (*self.covered, *self.removed)
        files = dict.fromkeys(row.line[0] for row in rows if row.state == ABSENT)
        return f"the kernels are built without {', '.join(files)}" if files else ""

    @property
    def status(self) -> int:
        """The exit status."""
        return {CLEAN: OK, UNKNOWN: INCOMPLETE}.get(self.verdict, DIVERGES)

    def sentence(self) -> str:
        """The verdict for a reviewer."""
        changes, crashes = self.of(BEHAVIOUR), self.of(CRASH, INCONSISTENT)
        parts = []
        if crashes:
            parts.append(f"crashes or contradicts itself in {_ways(crashes)}")
        for verdict in (BREAKS, UNSTATED, FIXES, MENDS):
            if those := [row for row in changes if row.verdict == verdict]:
                parts.append(f"{verdict} in {_ways(those)}")
        if parts:
            return "the series " + ", ".join(parts)
        if self.verdict == UNKNOWN:
            why = next(filter(None, (*self.problems, self.absent)), "no program ran")
            return _cut(f"nothing can be said: {why}")
        text = f"nothing that user space can see is changed, as far as {self.sequences:,} programs show"
        for rows, what in ((self.covered, "changed"), (self.removed, "removed")):
            if missed := total(rows) - executed(rows):
                text += f"; {missed} {what} line{'s were' if missed > 1 else ' was'} never executed"
        return f"{text}; {self.absent}" if self.absent else text

    def lines(self) -> list[str]:
        """For a reviewer, MOST lines."""
        head = [_cut(self.what), *self._patch_line(), self._search_line()]
        tail = [f"verdict: {self.sentence()}"]
        changes = [*self.of(CRASH, INCONSISTENT), *self.of(BEHAVIOUR)]
        old = self.of(OLD)
        if old:
            tail.insert(0, f"pre-existing: {len(old)}, on the base too; see report.html")
        missed = [row for row in (*self.covered, *self.removed) if row.state == MISSED]
        if missed:
            shown = ", ".join(
                f"{row}{' (removed)' * (row in self.removed)}" for row in missed[:_SHOWN]
            )
            more = f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
            tail.insert(0, _cut(f"never executed: {shown}{more}: {missed[0].why}"))
        if self.problems:
            tail.insert(0, _cut(f"not done: {'; '.join(self.problems)}"))
        room = MOST - len(head) - len(tail) - 1
        body = []
        for row in changes[: room if len(changes) <= room else room - 1]:
            calls = f"{row.calls} call{'s' * (row.calls != 1)}"
            body.append(_cut(f"  {row.kind}, {row.verdict}: {row.title} ({calls})"))
        if len(changes) > len(body):
            body.append(f"  and {len(changes) - len(body)} more; see report.html")
        count = f"{len(self.of(BEHAVIOUR))} behaviour changes, {len(self.of(CRASH, INCONSISTENT))} crashes"
        return [*head, f"found: {count}", *body, *tail]

    def _patch_line(self) -> list[str]:
        if self.changed is None:
            return []
        files, functions = len(self.changed.files), len(self.changed.functions)
        return [
            f"changes {len(self.changed.lines)} lines in {functions} functions of {files} files;"
            f" {executed(self.covered)} of {total(self.covered)} that have code were executed"
            f"{self._removed()}"
        ]

    def _removed(self) -> str:
        if not total(self.removed):
            return ""
        return f", of those removed {executed(self.removed)} of {total(self.removed)} on the base"

    def _search_line(self) -> str:
        text = f"{duration(self.seconds)} of fuzzing, {self.sequences:,} programs ({self.calls:,} calls) on both,"
        text += f" held to the model of {self.profile}"
        if self.kasan_sequences:
            text += f"; {self.kasan_sequences:,} more with KASAN"
        return text

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "what": self.what,
            "base_kernel": self.kernels[0],
            "patched_kernel": self.kernels[1],
            "profile": self.profile,
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "behaviour_changes": [row.to_json() for row in self.of(BEHAVIOUR)],
            "crashes": [row.to_json() for row in self.of(CRASH, INCONSISTENT)],
            "preexisting": [row.to_json() for row in self.of(OLD)],
            "undecided": [row.to_json() for row in self.rows if row.kind not in _CLASSES],
            "changed_lines_executed": executed(self.covered),
            "changed_lines_total": total(self.covered),
            "changed_lines": [row.to_json() for row in self.covered],
            "removed_lines_executed": executed(self.removed),
            "removed_lines_total": total(self.removed),
            "removed_lines": [row.to_json() for row in self.removed],
            "seconds": round(self.seconds, 1),
            "kasan_seconds": round(self.kasan, 1),
            "sequences": self.sequences,
            "calls": self.calls,
            "kasan_sequences": self.kasan_sequences,
            "problems": list(self.problems),
            "seed": self.seed,
            "state": str(self.state),
        }


_CLASSES: Final = (BEHAVIOUR, CRASH, INCONSISTENT, OLD)


def executed(rows: Sequence[Covered]) -> int:
    """How many of these lines were."""
    return sum(row.state == EXECUTED for row in rows)


def total(rows: Sequence[Covered]) -> int:
    """How many of them could be: those that have code."""
    return sum(row.state in (EXECUTED, MISSED) for row in rows)


def _ways(rows: Sequence[Judged]) -> str:
    return f"{len(rows)} way{'s' * (len(rows) != 1)}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 4] + " ..."
