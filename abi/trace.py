"""What can be observed of a program, and its packed form.

A trace is the same bytes on both sides: for every step a header (STEP) and, unless the layout is as it was
before the call, the records (RECORD) of the whole address space in address order. Comparing two runs is
comparing bytes; only what differs is decoded.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from errno import errorcode
from typing import Final

from abi.calls import Call, Touch
from abi.consts import PAGE

#: Raw result (a signed word: -errno for an error), number of records or UNCHANGED, padding 0.
STEP: Final = struct.Struct("<qII")
UNCHANGED: Final = 0xFFFFFFFF
#: start, end, offset (bytes), object ident, PERM_* bits, name class.
RECORD: Final = struct.Struct("<QQQIHH")

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
NAME_CLASSES: Final = ("", "file", "[heap]", "[stack]", "[vdso]", "[vvar]", "[anon:]", "other")


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
class Step:
    """One call's result and the layout after it. `value` is the raw return value: -errno for an error."""

    value: int
    layout: Layout


Trace = tuple[Step, ...]


def unpack_layout(packed: bytes) -> Layout:
    """The layout whose records are `packed`, in order."""
    return tuple(Mapping(*fields) for fields in RECORD.iter_unpack(packed))


def unpack(packed: bytes, initial: Layout) -> Trace:
    """The trace that `packed` holds; `initial` is the layout before the first call.

    A trace cut short (its executor died) gives the whole steps before the cut.
    """
    return tuple(_steps(packed, initial))


def _steps(packed: bytes, layout: Layout) -> Iterator[Step]:
    at = 0
    while at + STEP.size <= len(packed):
        value, count, _ = STEP.unpack_from(packed, at)
        at += STEP.size
        if count != UNCHANGED:
            size = count * RECORD.size
            if at + size > len(packed):
                return
            layout = unpack_layout(packed[at : at + size])
            at += size
        yield Step(value, layout)


def describe(call: Call, value: int) -> str:
    """A raw result as strace would print it: an address, a number, `-1 ENOMEM`, or a touch's pages."""
    if isinstance(call, Touch):
        pages = min(call.pages, 32)
        names = ("ok", "SEGV", "BUS", "?")
        return " ".join(names[value >> 2 * i & 3] for i in range(pages)) or "nothing"
    if -4096 < value < 0:
        return f"-1 {errorcode.get(-value, str(-value))}"
    return hex(value & (1 << 64) - 1) if value >= PAGE or value < 0 else str(value)
