"""Writes `docs/domain.md`: what is compared of each call over each kind of mapping, and how exactly.

The truth is here, as rules: everything is exact, but for what `RULES` says and why. A test runs the samples of
`fuzz.samples` on the model and holds the rules to what it does.

python -m fuzz.domain             write it
python -m fuzz.domain --check     fail if it is stale
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from fuzz.corpus import PACKAGED
from fuzz.kinds import BACKINGS, STATES, UNMAPPABLE, Sample
from fuzz.samples import CALL_SAMPLES

PATH: Final = PACKAGED.parent / "docs" / "domain.md"


class Verdict(Enum):
    """How exactly something is predicted."""

    EXACT = "exact"
    SET = "set"
    UNMODELLED = "unmodelled"


#: What is compared after a call, and where it is seen.
ASPECTS: Final = {
    "result": "the value returned, or the errno; of `touch` what happened to each page",
    "layout": "start, end, permissions, offset, object and name of every VMA (PROCMAP_QUERY, or maps); VmSize",
    "VmFlags": "the flags of every VMA (smaps)",
    "contents": "what reading each page gives after a program: its first word, SIGSEGV or SIGBUS",
    "residency": "which pages are present, of files or guards, and the first word of each (PAGEMAP_SCAN)",
    "counters": "VmLck, VmData, VmStk, VmExe + VmLib (status)",
    "events": "userfaultfd events in order, with their arguments; none where none is asked for",
}
EVERYTHING: Final = tuple(ASPECTS)


@dataclass(frozen=True, slots=True)
class Rule:
    """An exception: patterns (fnmatch) of kinds and calls, what of them, and how exact that is, and why."""

    kinds: tuple[str, ...]
    calls: tuple[str, ...]
    aspects: tuple[str, ...]
    verdict: Verdict
    reason: str

    @property
    def is_of_kind(self) -> bool:
        """It is about kinds, whatever the call."""
        return self.calls == ("*",)

    def covers(self, kind: str, call: str, aspect: str) -> bool:
        """It says something of this cell."""
        return (
            aspect in self.aspects
            and any(fnmatchcase(kind, each) for each in self.kinds)
            and any(fnmatchcase(call, each) for each in self.calls)
        )


#: All that is not exact. The first rule that covers a cell counts.
RULES: Final[tuple[Rule, ...]] = (
    Rule(
        ("SysV shared",),
        ("*",),
        EVERYTHING,
        Verdict.UNMODELLED,
        "the model has no such memory",
    ),
    Rule(
        ("sysfs *",),
        ("*",),
        ("contents", "residency"),
        Verdict.UNMODELLED,
        "the kernel's own data, which no environment can hold",
    ),
    Rule(
        ("file *", "ext4 *", "xfs *", "btrfs *", "ramfs *"),
        ("*",),
        ("residency",),
        Verdict.UNMODELLED,
        "which pages of a file are mapped depends on what the page cache holds (read-ahead, fault-around, reclaim);"
        " private copies are compared",
    ),
)

_FILES: Final = ("file", "tmpfs", "ext4", "xfs", "btrfs", "overlay", "ramfs")


def _of(samples: Sequence[Sample], *names: str) -> list[Sample]:
    """The samples whose kind begins with one of the names."""
    return [sample for sample in samples if sample.kind.split()[0] in names]


_MEMORY: Final = _of(BACKINGS, "anonymous", "droppable", "heap", "devzero", "memfd", "SysV")
_ON_DISK: Final = _of(BACKINGS, *_FILES)
_SPECIAL: Final = [
    each for each in (*BACKINGS, *UNMAPPABLE) if each not in _MEMORY and each not in _ON_DISK
]
_HALF: Final = len(STATES) // 2
#: Groups of kinds, each a table of its own.
GROUPS: Final[tuple[tuple[str, Sequence[Sample]], ...]] = (
    ("Memory", _MEMORY),
    ("Files", _ON_DISK),
    ("Huge pages, special files, devices", _SPECIAL),
    ("States of memory: protection and locks", STATES[:_HALF]),
    ("States of memory: registrations and advice", STATES[_HALF:]),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is said of one call over one kind: the rules that cover it; without any, all is exact."""

    kind: str
    call: str
    rules: tuple[tuple[str, Rule], ...]

    def verdict(self, aspect: str) -> Verdict:
        """How exact this aspect is."""
        return next((rule.verdict for name, rule in self.rules if name == aspect), Verdict.EXACT)


def cell(kind: str, call: str) -> Cell:
    """What `RULES` say of a call over a kind."""
    found = []
    for aspect in EVERYTHING:
        rule = next((rule for rule in RULES if rule.covers(kind, call, aspect)), None)
        if rule is not None:
            found.append((aspect, rule))
    return Cell(kind, call, tuple(found))


def calls() -> tuple[str, ...]:
    """The names of the rows: making the mapping, then what is done to it."""
    return ("mmap", *(sample.name for sample in CALL_SAMPLES))


def text() -> str:
    """The whole file."""
    return "\n".join([_INTRODUCTION, *_compared(), *_tables(), *_reasons()])


_INTRODUCTION: Final = """\
<!-- Generated by `python -m fuzz.domain` from its tables. Do not edit. -->

# Domain

What vmadiff compares, of which call over which kind of mapping, and how exactly. After every call model and kernel are
compared in all that is listed first; a cell of the tables says how exact that is:

- `exact`: one outcome;
- `set n`: one of a few outcomes; `unmodelled n`: not predicted and so not compared. The reason is number n below.

Of each group of kinds a first table says what is compared of every call over a kind, a second what holds of single
calls: `exact` is exact in all that the first one says is compared; where a part is not, the part is named.

A test runs a sample of each cell on the model, and on the kernel of the machine.
"""


def _compared() -> Iterator[str]:
    yield "## What is compared"
    yield ""
    yield from _table([["aspect", "is"], *([name, meaning] for name, meaning in ASPECTS.items())])
    yield ""
    yield (
        "With no model involved, the kernel's own views are compared with each other: PROCMAP_QUERY with maps and"
        " smaps, VmSize with the sum of the VMAs, VmLck with that of the locked ones."
    )
    yield ""


def _tables() -> Iterator[str]:
    numbers = _numbers()
    for title, samples in GROUPS:
        names = [sample.kind for sample in samples]
        yield f"## {title}"
        yield ""
        rows = [
            [aspect, *(_of_kind(name, aspect, numbers) for name in names)] for aspect in EVERYTHING
        ]
        yield from _table([["of every call", *names], *rows])
        yield ""
        rows = [[call, *(_shown(cell(name, call), numbers) for name in names)] for call in calls()]
        yield from _table([["call", *names], *rows])
        yield ""


def _shown(each: Cell, numbers: dict[Rule, int]) -> str:
    aspects: dict[Rule, list[str]] = {}
    for name, rule in each.rules:
        if not rule.is_of_kind or len(each.rules) == len(EVERYTHING):
            aspects.setdefault(rule, []).append(name)
    words = []
    if len(each.rules) < len(EVERYTHING):
        words.append(Verdict.EXACT.value)
    for rule, names in aspects.items():
        what = "" if len(names) == len(EVERYTHING) else f"{' and '.join(names)} "
        words.append(f"{what}{rule.verdict.value} {numbers[rule]}")
    return ", ".join(words)


def _of_kind(kind: str, aspect: str, numbers: dict[Rule, int]) -> str:
    """What is said of every call over a kind."""
    for rule, number in numbers.items():
        if rule.is_of_kind and rule.covers(kind, "", aspect):
            return f"{rule.verdict.value} {number}"
    return Verdict.EXACT.value


def _table(rows: list[list[str]]) -> Iterator[str]:
    """A table of Markdown, its columns as wide as they need to be; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        " | ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True))
        for row in rows
    ]
    yield f"| {lines[0]} |"
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    for line in lines[1:]:
        yield f"| {line} |"


def _numbers() -> dict[Rule, int]:
    return {rule: number for number, rule in enumerate(RULES, start=1)}


def _reasons() -> Iterator[str]:
    yield "## Reasons"
    yield ""
    for rule, number in _numbers().items():
        yield f"{number}. {rule.verdict.value}, {', '.join(rule.aspects)}: {rule.reason}."
    yield ""


def main(words: list[str]) -> int:
    """The command line; returns its exit status."""
    if words not in ([], ["--check"]):
        print("usage: python -m fuzz.domain [--check]", file=sys.stderr)
        return 2
    if words:
        stale = not PATH.exists() or PATH.read_text() != text()
        if stale:
            print(f"{PATH.name} is stale: run `python -m fuzz.domain`", file=sys.stderr)
        return int(stale)
    PATH.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
