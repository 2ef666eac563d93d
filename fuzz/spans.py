"""Every call over a range of an arrangement of a few VMAs, in pages, without those that are like another.

What is left out, and why nothing is lost by it, is as of mremap (`fuzz.moves`): bystanders, and the place of a range
that has nothing in it or beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from abi.calls import Call, Madvise, Mlock, Mprotect, Munlock, Munmap
from abi.consts import (
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_NOHUGEPAGE,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_WIPEONFORK,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.moves import NOWHERE, Range, Shape, neighbours, reached, sources

#: The calls, by name, and what they may be asked for.
SPANNING: Final[dict[str, tuple[type[Call], tuple[tuple[int, ...], ...]]]] = {
    "munmap": (Munmap, ((),)),
    "mprotect": (
        Mprotect,
        ((PROT_NONE,), (PROT_READ,), (PROT_READ | PROT_WRITE,), (PROT_READ | PROT_EXEC,)),
    ),
    "madvise": (
        Madvise,
        tuple(
            (advice,)
            for advice in (
                *(MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DONTDUMP),
                *(MADV_WIPEONFORK, MADV_NOHUGEPAGE, MADV_POPULATE_READ, MADV_POPULATE_WRITE),
                *(MADV_GUARD_INSTALL, MADV_GUARD_REMOVE),
            )
        ),
    ),
    "mlock": (Mlock, ((),)),
    "munlock": (Munlock, ((),)),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A call of `SPANNING` by name: where its range begins, how long that is, and what else it is given."""

    call: str
    source: int
    length: int
    arguments: tuple[int, ...]

    def ranges(self) -> tuple[Range, ...]:
        """What it may change."""
        return ((self.source, self.source + self.length),)


def canonical(shape: Shape, span: Span) -> tuple[Shape, Span]:
    """The case that stands for this one."""
    source = span.source
    (whole,) = span.ranges()
    kept = neighbours(shape, span.ranges()) if reached(shape, whole) else ()
    first = kept[0][0] if kept else 0
    source = source - first if kept else NOWHERE
    moved = tuple((start - first, end - first) for start, end in kept)
    return moved, Span(span.call, source, span.length, span.arguments)


def spans(shape: Shape, pages: int, call: str) -> Iterator[Span]:
    """Every call by that name that stands for itself over `shape`; its range is within `pages` pages that hold the VMAs
    and the page on either side."""
    _, arguments = SPANNING[call]
    for (source, length), given in product(sources(shape, pages), arguments):
        span = Span(call, source, length, given)
        if canonical(shape, span) == (shape, span):
            yield span
