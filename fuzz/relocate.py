"""Where the addresses of a traced process go in ours: the same order, the same neighbours, the same alignment.

Addresses are moved in three areas: what lies where the kernel places unhinted mappings goes to below `T`, the heap
to `B`, all else (the program's image, what it placed itself, the stack) to `W`. Within an area every distance stays
what it was, but those too long for an address space of 256 MiB, which lose a multiple of 2 MiB: so every address keeps
its place within 2 MiB, which decides about huge pages and page tables. Ranges of the same length stay so.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from abi.consts import PAGE, PMD_SIZE
from abi.environment import Geometry
from fuzz.regions import up

#: What the kernel places itself lies above (bytes); x86_64 with 47 bits: TASK_SIZE less stack and randomisation.
PLACED: Final = 0x7000_0000_0000
#: Addresses that no process has: kept as they are (bytes).
_LOWEST: Final = 0x10000
_HIGHEST: Final = 1 << 47
#: Longest distance that is kept between what is mapped, and how far the stack is above the mappings at least (bytes).
_LONGEST_HOLE: Final = 8 << 20
FAR: Final = 64 << 20

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Area:
    """Traced addresses in order, and where each is in our space (bytes)."""

    traced: tuple[int, ...]
    ours: tuple[int, ...]

    def place(self, address: int) -> int:
        """Of the last point that is not above it, as far behind."""
        at = max(0, bisect_right(self.traced, address) - 1)
        return self.ours[at] + address - self.traced[at]

    def __contains__(self, address: int) -> bool:
        """It is not before the first point nor far behind the last."""
        return self.traced != () and self.traced[0] <= address <= self.traced[-1] + FAR


@dataclass(frozen=True, slots=True)
class Relocation:
    """A map of addresses. `heap` is where the heap may be in the traced process (bytes)."""

    low: _Area
    placed: _Area
    heap: _Area
    heap_range: Range
    ceiling: int

    def address(self, address: int) -> int:
        """Our address for a traced one."""
        start = address & -PAGE
        area = self._area(start)
        return address if area is None else area.place(start) + address - start

    def length(self, address: int, length: int) -> int:
        """How many bytes the `length` bytes at `address` are in our space."""
        if not length or address + length > _HIGHEST:
            return length
        start, end = address & -PAGE, up(address + length)
        area = self._area(start)
        if area is None or area is not self._area(end - PAGE):
            return length
        return area.place(end) - area.place(start) - (end - start - length)

    def _area(self, address: int) -> _Area | None:
        if not _LOWEST <= address < _HIGHEST:
            return None
        if self.heap_range[0] <= address < self.heap_range[1]:
            area = self.heap
        else:
            area = self.placed if PLACED <= address < self.ceiling else self.low
        return area if address in area else None


def relocation(
    geometry: Geometry,
    mapped: Sequence[Range],
    others: Iterable[Range],
    heap: Range,
    longest: int | None,
) -> Relocation:
    """The map for all that a program names.

    mapped: ranges that are mapped at some time; others: ranges that calls name; heap: where the heap is; longest: the
    longest distance in what is mapped that is kept, None for any (bytes).
    """
    ranges = [r for r in (*mapped, *others) if _LOWEST <= r[0] < r[1] <= _HIGHEST]
    ceiling = _ceiling(ranges)
    union = _union(mapped)
    points: dict[str, set[int]] = {"low": set(), "placed": set(), "heap": set()}
    for start, end in ranges:
        for point, page in ((start, start), (end, end - PAGE)):
            if heap[0] <= page < heap[1]:
                points["heap"].add(point)
            else:
                points["placed" if PLACED <= page < ceiling else "low"].add(point)
    if heap[0] < heap[1]:
        points["heap"].add(heap[0])
    low = sorted(points["low"])
    placed = sorted(points["placed"])
    first = geometry.window + (low[0] - geometry.window) % PMD_SIZE if low else 0
    top = geometry.top - (geometry.top - placed[-1]) % PMD_SIZE if placed else 0
    distances = _distances(placed, union, longest)
    return Relocation(
        _lay_out(low, first, _distances(low, union, longest)),
        _lay_out(placed, top - sum(distances), distances),
        _lay_out(
            sorted(points["heap"]),
            geometry.heap,
            _distances(sorted(points["heap"]), union, longest),
        ),
        heap,
        ceiling,
    )


def _ceiling(ranges: Sequence[Range]) -> int:
    """The end of what the kernel placed: the stack is far above."""
    placed = sorted(r for r in ranges if r[0] >= PLACED)
    end = placed[0][1] if placed else _HIGHEST
    for start, until in placed:
        if start > end + FAR and start >= _HIGHEST - (1 << 40):
            return end
        end = max(end, until)
    return max(end, PLACED)


def _union(ranges: Iterable[Range]) -> list[Range]:
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _distances(points: Sequence[int], mapped: Sequence[Range], longest: int | None) -> list[int]:
    starts = [start for start, _ in mapped]
    found = []
    for low, high in pairwise(points):
        at = bisect_right(starts, low) - 1
        inside = at >= 0 and low < mapped[at][1]
        found.append(shorten(high - low, longest if inside else _LONGEST_HOLE))
    return found


def shorten(distance: int, longest: int | None) -> int:
    """At most `longest`, but for the rest within 2 MiB, which stays."""
    if longest is None or distance <= longest:
        return distance
    return longest + distance % PMD_SIZE


def _lay_out(points: Sequence[int], start: int, distances: Sequence[int]) -> _Area:
    ours = []
    at = start
    for index in range(len(points)):
        ours.append(at)
        at += distances[index] if index < len(distances) else 0
    return _Area(tuple(points), tuple(ours))
