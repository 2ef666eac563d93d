"""Where addresses are in a picture: near mappings to scale, long ones shortened, long holes cut out."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Final

from abi.consts import PAGE
from abi.trace import Layout

#: Mappings and holes of up to so many pages are to scale.
_LONG: Final = 8
_WIDE_HOLE: Final = 3
#: Width of a page (of the picture's units), between which it is chosen so that all is about _WIDTH wide.
_NARROW: Final = 10.0
_BROAD: Final = 40.0
_WIDTH: Final = 780.0


@dataclass(frozen=True, slots=True)
class Column:
    """From one edge to the next: addresses, places, whether anything is ever mapped there, whether it is shortened."""

    start: int
    end: int
    left: float
    right: float
    mapped: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """Columns side by side, in the order of their addresses."""

    columns: tuple[Column, ...]

    @property
    def width(self) -> float:
        """Of all columns."""
        return self.columns[-1].right if self.columns else _WIDTH

    def place(self, address: int) -> float:
        """Where an address is; the nearest end for one outside."""
        if not self.columns:
            return 0.0
        found = bisect_right(self.columns, address, key=lambda column: column.start) - 1
        column = self.columns[max(found, 0)]
        part = (address - column.start) / (column.end - column.start)
        return column.left + (column.right - column.left) * min(max(part, 0.0), 1.0)


def scale(layouts: Iterable[Layout]) -> Scale:
    """A scale on which all of `layouts` can be drawn."""
    spans = {(m.start, m.end) for layout in layouts for m in layout}
    edges = sorted({edge for span in spans for edge in span})
    starts = {start: max(end for begin, end in spans if begin == start) for start, _ in spans}
    gaps, reach = [], 0
    for start, end in pairwise(edges):
        reach = max(reach, starts.get(start, 0))
        gaps.append((start, end, reach >= end))
    units = [_units(start, end, mapped) for start, end, mapped in gaps]
    page = min(max(_WIDTH / (sum(units) or 1.0), _NARROW), _BROAD)
    columns, at = [], 0.0
    for (start, end, mapped), width in zip(gaps, units, strict=True):
        cut = (end - start) // PAGE > (_LONG if mapped else _WIDE_HOLE)
        columns.append(Column(start, end, at, at + width * page, mapped, cut))
        at += width * page
    return Scale(tuple(columns))


def _units(start: int, end: int, mapped: bool) -> float:
    """The width of a column in pages of the picture."""
    pages = max(1.0, (end - start) / PAGE)
    if not mapped:
        return min(pages, float(_WIDE_HOLE))
    return pages if pages <= _LONG else _LONG + log2(pages / _LONG)


def spread(wanted: Sequence[tuple[float, float]], rows: int) -> list[int]:
    """For labels at places, of widths: the row of each, the first of `rows` that has room; -1 for no room in any."""
    free = [float("-inf")] * rows
    chosen = []
    for at, width in wanted:
        row = next((row for row in range(rows) if free[row] <= at), -1)
        if row >= 0:
            free[row] = at + width
        chosen.append(row)
    return chosen
