"""What can be observed of a program, and its packed form.

A trace is the same bytes on both sides: for every step a header (STEP); unless the layout is as it was before the
call, the records (RECORD) of the whole address space in address order; and the sections that the header names, in the
order of their bits. Comparing two runs is comparing bytes; only what differs is decoded.

Every step has its result and the layout, the last one also VmSize, VmData + VmStk and the page table entries with the
contents of what is present (PAGES); a fork has what its child sees (CHILD), and events follow the call that caused
them. A program that is observed in full has all of that, VmFlags and counters after each step, and in the last what
reading every page gives (CONTENTS), present or not.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from errno import errorcode
from typing import Final

from abi.calls import Call, Mincore, Touch
from abi.consts import PAGE

#: Raw result (a signed word: -errno for an error), number of records or UNCHANGED, SECTION_* and INCONSISTENT_* bits,
#: VmSize and VmData + VmStk (pages; 0 where they are not observed).
STEP: Final = struct.Struct("<qIIQQ")
UNCHANGED: Final = 0xFFFFFFFF
#: start, end, offset (bytes), object ident, PERM_* bits, name class.
RECORD: Final = struct.Struct("<QQQIHH")

#: VmFlags of every VMA, a word of CODES bits each, in address order; 0 for the filler, and in a program that has
#: filled (smaps has all its mappings) after the last step only.
SECTION_FLAGS: Final = 1
#: COUNTERS.
SECTION_COUNTERS: Final = 2
#: Page table entries: a count, then an ENTRY for each page that has one: PAGE_* bits, and its first word.
SECTION_PAGES: Final = 4
#: userfaultfd events: a count, then an EVENT each, in the order in which they came.
SECTION_EVENTS: Final = 8
#: A fork's child: a count and its records, where there is SECTION_FLAGS its VmFlags, its COUNTERS, then its contents as
#: in SECTION_CONTENTS.
SECTION_CHILD: Final = 16
#: What reading gives: a count, then an ENTRY for each page that cannot be read (TOUCH_*) or does not read as zero.
SECTION_CONTENTS: Final = 32
#: The kernel contradicts itself, with no model involved: VmSize is not the sum of the VMAs; VmLck not that of the
#: locked ones; smaps not what PROCMAP_QUERY or maps said. The model never sets them.
INCONSISTENT_SIZE: Final = 1 << 16
INCONSISTENT_LOCKED: Final = 1 << 17
INCONSISTENT_VIEWS: Final = 1 << 18
#: An allocation of the call was made to fail (abi.calls.Fail).
FAILED: Final = 1 << 24
INCONSISTENT_TEXTS: Final = {
    INCONSISTENT_SIZE: "VmSize is not the sum of the VMAs",
    INCONSISTENT_LOCKED: "VmLck is not the sum of the locked VMAs",
    INCONSISTENT_VIEWS: "smaps and PROCMAP_QUERY (or maps) show different layouts",
}

INCONSISTENT: Final = INCONSISTENT_SIZE | INCONSISTENT_LOCKED | INCONSISTENT_VIEWS

#: VmLck, VmData, VmStk, VmExe + VmLib (pages).
COUNTERS: Final = struct.Struct("<QQQQ")
COUNTER_NAMES: Final = ("VmLck", "VmData", "VmStk", "VmExe + VmLib")
#: Number of a page; what is known of it in the low 8 bits, its first word above them.
ENTRY: Final = struct.Struct("<QQ")
#: Kind of the event (UFFD_EVENT_*), descriptor, and up to three arguments of it.
EVENT: Final = struct.Struct("<IIQQQ")
COUNT: Final = struct.Struct("<Q")

#: The low bits of an entry of SECTION_PAGES: present; of a file or shared memory; a guard; write-protected by a
#: userfaultfd; swapped out.
PAGE_PRESENT: Final = 1
PAGE_FILE: Final = 2
PAGE_GUARD: Final = 4
PAGE_WP: Final = 8
PAGE_SWAPPED: Final = 16
PAGE_NAMES: Final = {
    PAGE_PRESENT: "present",
    PAGE_FILE: "file",
    PAGE_GUARD: "guard",
    PAGE_WP: "write-protected",
    PAGE_SWAPPED: "swapped",
}

#: VmFlags codes (fs/proc/task_mmu.c: show_smap_vma_flags()) by their bit in SECTION_FLAGS; `??` is any other.
CODES: Final = (
    "rd", "wr", "ex", "sh", "mr", "mw", "me", "ms", "gd", "pf", "lo", "io", "sr", "rr", "dc", "de",
    "lf", "ac", "nr", "ht", "sf", "wf", "dd", "sd", "mm", "hg", "nh", "mg", "um", "uw", "ui", "ur",
    "sl", "dp", "gu", "ss", "bt", "ar", "??",
)  # fmt: skip

#: Most pages whose residency the outcome of mincore has.
MINCORE_PAGES: Final = 62
#: Most pages whose contents are read after a program, in address order.
CONTENT_PAGES: Final = 512


def written_tag(call: int, page: int) -> int:
    """The word that a writing touch leaves in a page: the index of its call, and the page number (56 bits)."""
    return (call & 0x7FFF) + 1 << 36 | page & (1 << 36) - 1


def file_tag(ident: int, index: int) -> int:
    """The word with which page `index` of a file begins before any program (56 bits), if it has data there."""
    return 0xF << 52 | ident << 32 | index & 0xFFFFFFFF


PERM_READ: Final = 1
PERM_WRITE: Final = 2
PERM_EXEC: Final = 4
PERM_SHARED: Final = 8

#: Object idents: 0 anonymous; 1..63 fixed by the executor; from 64 on, objects that the program itself creates
#: (shared anonymous memory), numbered in the order in which they first appear in a layout.
FIRST_NEW_IDENT: Final = 64

NAME_NONE: Final = 0
NAME_FILE: Final = 1
NAME_HEAP: Final = 2
NAME_STACK: Final = 3
NAME_VDSO: Final = 4
NAME_VVAR: Final = 5
NAME_ANON: Final = 6
NAME_OTHER: Final = 7
#: All mappings of one `fill` (abi.calls.Fill) as one, while they are as it made them: a record for each would not fit.
NAME_FILLER: Final = 8
NAME_CLASSES: Final = (
    "",
    "file",
    "[heap]",
    "[stack]",
    "[vdso]",
    "[vvar]",
    "[anon:]",
    "other",
    "filler",
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One VMA as user space sees it (addresses and offset in bytes)."""

    start: int
    end: int
    offset: int
    ident: int
    perms: int
    name: int

    def pack(self) -> bytes:
        return RECORD.pack(self.start, self.end, self.offset, self.ident, self.perms, self.name)

    def permissions(self) -> str:
        """As in /proc/PID/maps: `rw-p`."""
        letters = "".join(
            letter if self.perms & bit else "-"
            for letter, bit in (("r", PERM_READ), ("w", PERM_WRITE), ("x", PERM_EXEC))
        )
        return letters + ("s" if self.perms & PERM_SHARED else "p")


Layout = tuple[Mapping, ...]


@dataclass(frozen=True, slots=True)
class Child:
    """What a fork's child sees: its layout, its VmFlags where they were observed, its counters, and the pages that do
    not read as zero: number, entry."""

    layout: Layout
    flags: tuple[int, ...] | None
    counters: tuple[int, ...]
    contents: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One call's result and what is seen after it. `value` is the raw return value: -errno for an error.

    size, data: VmSize, VmData + VmStk (pages). The rest is None where it was not observed: flags (a word of CODES bits
    a VMA), counters (COUNTER_NAMES), pages and contents (page number, entry), child; events (fields of EVENT).
    """

    value: int
    layout: Layout
    size: int = 0
    data: int = 0
    inconsistent: int = 0
    flags: tuple[int, ...] | None = None
    counters: tuple[int, ...] | None = None
    pages: tuple[tuple[int, int], ...] | None = None
    contents: tuple[tuple[int, int], ...] | None = None
    events: tuple[tuple[int, ...], ...] = ()
    child: Child | None = None
    failed: bool = False


Trace = tuple[Step, ...]


def unpack_layout(packed: bytes) -> Layout:
    """The layout whose records are `packed`, in order."""
    return tuple(Mapping(*fields) for fields in RECORD.iter_unpack(packed))


def unpack(packed: bytes, initial: Layout) -> Trace:
    """The trace that `packed` holds; `initial` is the layout before the first call.

    A trace cut short (its executor died) gives the whole steps before the cut.
    """
    return tuple(_steps(packed, initial))


class _Cut(Exception):
    """The packed trace ends within a step."""


class _Reader:
    __slots__ = ("at", "packed")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self.at = 0

    def take(self, size: int) -> bytes:
        piece = self.packed[self.at : self.at + size]
        if len(piece) < size:
            raise _Cut
        self.at += size
        return piece

    def rows(self, form: struct.Struct) -> tuple[tuple[int, ...], ...]:
        (count,) = COUNT.unpack(self.take(COUNT.size))
        return tuple(form.iter_unpack(self.take(count * form.size)))

    def entries(self) -> tuple[tuple[int, int], ...]:
        return tuple((page, entry) for page, entry in self.rows(ENTRY))

    def words(self, count: int) -> tuple[int, ...]:
        return tuple(word for (word,) in COUNT.iter_unpack(self.take(count * COUNT.size)))

    def layout(self, count: int) -> Layout:
        return unpack_layout(self.take(count * RECORD.size))


def _steps(packed: bytes, layout: Layout) -> Iterator[Step]:
    reader = _Reader(packed)
    try:
        while reader.at < len(packed):
            step = _step(reader, layout)
            layout = step.layout
            yield step
    except _Cut:
        return


def _step(reader: _Reader, layout: Layout) -> Step:
    value, count, sections, size, data = STEP.unpack(reader.take(STEP.size))
    if count != UNCHANGED:
        layout = reader.layout(count)
    flags = counters = pages = contents = child = None
    events: tuple[tuple[int, ...], ...] = ()
    if sections & SECTION_FLAGS:
        flags = reader.words(len(layout))
    if sections & SECTION_COUNTERS:
        counters = COUNTERS.unpack(reader.take(COUNTERS.size))
    if sections & SECTION_PAGES:
        pages = reader.entries()
    if sections & SECTION_EVENTS:
        events = reader.rows(EVENT)
    if sections & SECTION_CHILD:
        (records,) = COUNT.unpack(reader.take(COUNT.size))
        child = Child(
            reader.layout(records),
            reader.words(records) if sections & SECTION_FLAGS else None,
            COUNTERS.unpack(reader.take(COUNTERS.size)),
            reader.entries(),
        )
    if sections & SECTION_CONTENTS:
        contents = reader.entries()
    inconsistent = sections & INCONSISTENT
    return Step(
        value,
        layout,
        size,
        data,
        inconsistent,
        flags,
        counters,
        pages,
        contents,
        events,
        child,
        bool(sections & FAILED),
    )


def describe(call: Call, value: int) -> str:
    """A raw result as strace would print it: an address, a number, `-1 ENOMEM`; of touch and mincore, the pages."""
    if isinstance(call, Touch):
        pages = min(call.pages, 32)
        names = ("ok", "SEGV", "BUS", "endless")
        return " ".join(names[value >> 2 * i & 3] for i in range(pages)) or "nothing"
    if -4096 < value < 0:
        return f"-1 {errorcode.get(-value, str(-value))}"
    if isinstance(call, Mincore):
        pages = min(-(-call.length // PAGE), MINCORE_PAGES)
        return f"[{''.join(str(value >> i & 1) for i in range(pages))}]"
    return hex(value & (1 << 64) - 1) if value >= PAGE or value < 0 else str(value)
