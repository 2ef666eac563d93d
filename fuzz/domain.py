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

from abi.calls import CALLS, NAMES
from fuzz.corpus import PACKAGED
from fuzz.kinds import BACKINGS, STATES, UNMAPPABLE, Sample
from fuzz.refusals import limits
from fuzz.samples import CALL_SAMPLES
from model.profile import BY_NAME, PROFILES

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
    "residency": "which pages are present, of files or guards, and the first word of each (pagemap)",
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
        ("sysfs *", "iouring", "perf *", "bpf *", "bpf_ring *", "packet *", "xdp *", "tcp *"),
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

#: Where a comparison ends: the reason that is shown and counted -> why the model says no more.
ENDS: Final = {
    "what is kept in secret memory behind 2**63 bytes": "its pages are none of the file's, stay with it, and are not"
    " put back before the next program",
    "how long bytes behind the end of a file last": "what is written behind the end, in the last page, is zeroed when"
    " the page is written back, whenever that is",
    "which pages of its own the executor has used": "it is about memory that the executor goes on using while it"
    " observes",
    "the executor's own memory is write-protected": "it is about memory that the executor goes on using while it"
    " observes",
    "which pages of the executor's own are present": "it is about memory that the executor goes on using while it"
    " observes",
    "a fork without the executor's own memory": "the child could not report what it sees",
    "a call that never ends": "the kernel begins anew for ever; the executor would be lost",
    "huge pages of 1 GiB": "the pool has to be made while the machine boots",
    "huge pages that others may use too": "the pool is the whole machine's, and vmadiff may not enlarge it",
    "more huge pages than a program may count on": "the pool is the whole machine's; vmadiff takes a share of it",
    "moving a private hugetlb mapping with a reservation, which may leak": "kernels up to 7.3.4 lose huge pages of the"
    " whole machine until it is booted again; it is never run, and exact with MAP_NORESERVE",
    "the user's other processes share the allowance for perf buffers": "it is counted per user, over all processes",
    "MADV_HWPOISON or MADV_SOFT_OFFLINE with CAP_SYS_ADMIN": "it takes memory away from the machine; it is never run",
    "MADV_PAGEOUT of memory that is swapped out": "what is swapped out depends on the whole machine's memory",
    "MADV_COLLAPSE where huge pages are enabled": "whether there is a free huge page depends on the whole machine",
    "the huge page of zeros": "a read takes it where a program has enabled huge pages; what splits it shows",
    "transparent huge pages where there may be page tables": "when the kernel frees a page table is not observed",
    "transparent huge pages of a special mapping": "files, droppable memory and userfaultfds have rules of their own",
    "what khugepaged may fill": "it fills places with some pages in them whenever it comes by",
    "MADV_PAGEOUT of what may be a transparent huge page": "which pages are freed together follows from what was split",
    "populating pages that fault for ever": "the executor would be lost; kernels before 7.3",
    "which page tables there are": "when the kernel frees one is not observed, and mincore(2) of hugetlb memory tells",
    "whether a page of a file system can be moved": "that is the file system's, and depends on what it writes back",
    "on which of several nodes a page is": "the kernel places pages by what is free on each node",
    "mbind() with MPOL_MF_* of huge pages": "where the pool's pages are is not known",
    "which pages of a file are mapped after MADV_PAGEOUT": "reclaim passes over pages that others use",
    "which pages of a file are mapped around those that were used": "a fault maps what is cached as one piece",
    "MADV_PAGEOUT of shared pages that were left locked": "how often a page is locked is counted only roughly",
    "where in memory the kernel has a ring": "a private mapping of an XDP ring has its page frame as its"
    " offset; kernels before 6.4",
    "vm.overcommit_memory is 2: the commit limit belongs to the whole machine": "others promise memory at any time;"
    " such a machine is refused",
    "advice on buffers that the kernel may try to split for ever": "kernels built without transparent huge pages, 6.12"
    " for one, never come back from MADV_PAGEOUT of an io_uring",
    "addresses at which the kernel that User-Mode-Linux runs on has memory": "what lies there belongs to how it runs"
    " processes; a write can end them",
    "pages that User-Mode-Linux leaves behind": "where one call frees a page table and makes another, what the first"
    " mapped can still be read and written, from 6.11 on: other memory by then",
    "reads of pages for writing only that may be taken for unused": "User-Mode-Linux has no bit in which the processor"
    " notes use; such a read then fails until a write",
    "which pages of a file for writing only are mapped": "User-Mode-Linux lets what is mapped be read; what"
    " read-ahead maps of a file is not known",
    "a call that changes mappings of the filler": "65 thousand mappings are kept as one",
    "prctl option ...": "no other option is sent",
    "setrlimit of resource ...": "no other resource is sent",
}
#: What would be undefined, and what makes it definite here.
PINNED: Final = (
    (
        "when a page given up by MADV_FREE, or of MAP_DROPPABLE memory, goes",
        "it stays until MADV_PAGEOUT takes it: reclaim needs a machine short of memory, whose programs then do not"
        " come back the same in each fresh executor",
    ),
    (
        "when KSM merges pages",
        "merging changes no contents, flags or counters; private pages are compared by their words",
    ),
    (
        "when khugepaged makes huge pages, and whether a fault does",
        "the executor turns huge pages off for itself (PR_SET_THP_DISABLE); where a program turns them on, a write"
        " takes one where no page table has been, and what khugepaged may fill is unmodelled",
    ),
    (
        "whether MADV_PAGEOUT finds a page in another processor's queue",
        "the executor stays on one processor",
    ),
    (
        "where mappings go",
        "no address space randomisation, and two VMAs of the executor's own at fixed places",
    ),
)

#: What is compared less on kernels without a change: its name, the cells, how exact they are there, and why.
WITHOUT: Final = (
    (
        "mseal",
        "any call at the executor's own memory",
        "not run",
        "nothing else keeps a program from it; what mseal(2) would refuse, the bridge refuses",
    ),
    (
        "xdp_mixedmap",
        "any call over `xdp private`",
        "unmodelled",
        "the page offset of the mapping is the page frame of the ring, which is the machine's business",
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
    parts = [
        _INTRODUCTION,
        *_compared(),
        *_tables(),
        *_reasons(),
        *_pinned(),
        *_without(),
        *_ends(),
    ]
    return "\n".join(parts)


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


def _pinned() -> Iterator[str]:
    yield "## What is pinned"
    yield ""
    yield "These would be sets of outcomes, were it not for how programs are run."
    yield ""
    yield from _table([["undefined", "made definite by"], *([what, how] for what, how in PINNED)])
    yield ""


def _without() -> Iterator[str]:
    yield "## Kernels that lack a change"
    yield ""
    yield (
        "The tables hold for every kernel of [changes.md](changes.md), but for these cells of kernels without a change;"
        " the releases are as published."
    )
    yield ""
    rows = [
        [f"[{name}](changes.md#{name})", ", ".join(_lacking(name)), cells, verdict, why]
        for name, cells, verdict, why in WITHOUT
    ]
    yield from _table([["change", "lacking in", "cells", "are", "because"], *rows])
    yield ""


def _lacking(name: str) -> list[str]:
    """The releases without a change."""
    return [p.name for p in PROFILES.values() if BY_NAME[name] not in p.changes]


def _ends() -> Iterator[str]:
    yield "## Where a comparison ends"
    yield ""
    yield (
        "A program that gets there is `unmodelled`: it is compared up to that call, counted by reason, and never a"
        " divergence."
    )
    yield ""
    rows = []
    for reason, why in ENDS.items():
        by = [NAMES[cls] for cls in CALLS if reason in limits(cls)]
        names = ", ".join(by) if len(by) <= _MOST_NAMES else f"{len(by)} calls"
        rows.append([reason, names or "none", why])
    yield from _table([["reason", "in", "why"], *rows])
    yield ""


#: More calls than this are counted, not named.
_MOST_NAMES: Final = 4


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
