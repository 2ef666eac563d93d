"""Every mremap over every arrangement of a few VMAs, in pages, without those that are like another.

Of a small window, that is all there is: VMAs with gaps, source ranges, targets, flags, lengths. `canonical` says
which case stands for which; what stands for itself is enumerated (`fuzz.bound`). Why nothing is lost by it:

- What is refused for its arguments alone looks at nothing: it is tried once, with nothing mapped
  (mm/mremap.c: check_mremap_params()).
- A target that the flags give no meaning is not read.
- The kernel looks at the VMAs in its ranges and at those beside them, with which they may merge (mm/vma.c: vmg->prev,
  vmg->next). What is neither is a bystander: the case is that of fewer VMAs.
- A free target with nothing beside it is as good as any other, and so is a source where nothing is mapped. They are put
  far away, where page tables are aligned alike.
- Nothing depends on where in its page table all of it is: the first VMA is at the start of the window.

Positions count in pages from there; a range is (start, end).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final

from abi.consts import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE

Range = tuple[int, int]
#: The VMAs of a layout, in order.
Shape = tuple[Range, ...]

#: A free target, one inside a page, and a source where nothing is: as far away as whole page tables.
FREE: Final = 512
ASKEW: Final = 1024
NOWHERE: Final = 1536

_AIMS: Final = MREMAP_FIXED | MREMAP_DONTUNMAP


@dataclass(frozen=True, slots=True)
class Move:
    """An mremap: its flags, where its source begins, both lengths, and its target (0 where it has none)."""

    flags: int
    source: int
    old: int
    new: int
    target: int = 0

    @property
    def is_aimed(self) -> bool:
        """The flags give the target a meaning."""
        return self.flags & _AIMS != 0

    @property
    def is_refused(self) -> bool:
        """The arguments alone are wrong."""
        return (
            not self.new
            or (self.is_aimed and not self.flags & MREMAP_MAYMOVE)
            or (self.flags & MREMAP_DONTUNMAP != 0 and self.old != self.new)
        )

    @property
    def overlaps(self) -> bool:
        """The target begins or ends in the source, as the kernel sees it (mm/mremap.c: check_mremap_params())."""
        return (
            self.is_aimed
            and self.source + self.old > self.target
            and self.target + self.new > self.source
        )

    def ranges(self) -> tuple[Range, ...]:
        """What it may change: the source with what it grows by, and the target."""
        source = (self.source, self.source + max(self.old, self.new))
        return (source, (self.target, self.target + self.new)) if self.is_aimed else (source,)


Case = tuple[Shape, Move]


def canonical(shape: Shape, move: Move) -> Case:
    """The case that stands for this one."""
    flags, source, old, new, target = move.flags, move.source, move.old, move.new, move.target
    if move.is_refused:
        return (), Move(flags, NOWHERE, old, new, FREE if move.is_aimed else 0)
    if not move.is_aimed:
        target = 0
    elif target != ASKEW and not move.overlaps and not reached(shape, (target, target + new)):
        target = FREE
    if not move.overlaps and not reached(shape, (source, source + max(old, new))):
        source = NOWHERE
    move = Move(flags, source, old, new, target)
    kept = neighbours(shape, move.ranges())
    first = kept[0][0] if kept else source
    if source != NOWHERE:
        source -= first
    if move.is_aimed and target not in (FREE, ASKEW):
        target -= first
    return tuple((start - first, end - first) for start, end in kept), Move(
        flags, source, old, new, target
    )


def reached(shape: Shape, span: Range) -> bool:
    """A VMA is in the range or beside it."""
    return any(start <= span[1] and span[0] <= end for start, end in shape)


def neighbours(shape: Shape, ranges: Sequence[Range]) -> Shape:
    """The VMAs in the ranges, and those beside these or beside the ranges."""
    spans = [*ranges, *(vma for vma in shape if any(_meet(vma, span) for span in ranges))]
    return tuple(vma for vma in shape if any(reached((vma,), span) for span in spans))


def _meet(one: Range, other: Range) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def shapes(vmas: int, pages: int) -> Iterator[Shape]:
    """Every arrangement of up to `vmas` VMAs in up to `pages` pages, the first of them at 0."""
    yield ()
    for end in range(1, pages + 1):
        for rest in _arrangements(vmas - 1, end, pages):
            yield ((0, end), *rest)


def _arrangements(vmas: int, begin: int, pages: int) -> Iterator[Shape]:
    """Up to `vmas` VMAs in the pages from `begin` to `pages`."""
    yield ()
    if vmas:
        for start, end in combinations(range(begin, pages + 1), 2):
            for rest in _arrangements(vmas - 1, end, pages):
                yield ((start, end), *rest)


def moves(shape: Shape, pages: int, flags: Sequence[int], resize: int) -> Iterator[Move]:
    """Every mremap that stands for itself over `shape`: its source within `pages` pages that hold the VMAs and the page
    on either side, its lengths differing by at most `resize` pages, its target anywhere."""
    last = shape[-1][1] if shape else 0
    for flag, (source, old) in product(flags, sources(shape, pages)):
        for new in range(max(old - resize, 0), old + resize + 1):
            for target in _targets(flag, last, source, old, new):
                move = Move(flag, source, old, new, target)
                if canonical(shape, move) == (shape, move):
                    yield move


def sources(shape: Shape, pages: int) -> Iterator[Range]:
    """Where a range may begin and how long it may be, so that it and the VMAs are in a window of `pages` pages, or it
    reaches one page out of that; and where nothing is mapped."""
    lengths = range(pages + 3)
    if not shape:
        yield from ((0, length) for length in lengths)
    else:
        spare = pages - shape[-1][1]
        for source, length in product(range(-1 - spare, pages + 2), lengths):
            if max(0, -1 - source) <= min(spare, pages + 1 - source - length):
                yield source, length
    yield from ((NOWHERE, length) for length in lengths)


def _targets(flags: int, last: int, source: int, old: int, new: int) -> Iterable[int]:
    """The targets there are for a move with these arguments, near the VMAs, which end at `last`, or the source."""
    if not flags & _AIMS:
        return (0,)
    low, high = (0, last) if source == NOWHERE else (min(0, source), max(last, source + old))
    return (*range(low - new, high + 1), FREE, ASKEW)
