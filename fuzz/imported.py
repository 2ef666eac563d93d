"""Programs from the address spaces of a trace.

A long trace is cut into programs; each begins with what it needs of the state at that point, made anew. Addresses
are moved (`fuzz.relocate`), the same for a whole program. A mapping that the traced kernel placed stays unhinted if
ours will place it next to the same neighbours; else it gets that place as a hint, which the kernel takes if nothing is
there (where it might not, with MAP_FIXED_NOREPLACE), and a move gets it as MREMAP_FIXED.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from abi.calls import (
    Brk,
    Call,
    Madvise,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mremap,
    Program,
    Shmat,
)
from abi.consts import (
    FD_NAMES,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PMD_SIZE,
)
from abi.environment import Geometry
from fuzz.encode import MAX_CALLS
from fuzz.regions import NEEDS_MAPPED, Region, Regions, changed, extent, made_before, up, wall
from fuzz.relocate import FAR, PLACED, Range, Relocation, relocation
from fuzz.traced import Space, Step

#: Most that a program may have mapped, and have mapped with pages (bytes): RLIMIT_AS is 256 MiB, and its trace has to
#: fit the shared memory.
_MOST: Final = 160 << 20
_MOST_PAGES: Final = 12 << 20
#: What is tried until that holds: the longest distance in what is mapped that is kept (bytes).
_LONGEST: Final = (None, 32 << 20, 8 << 20, 4 << 20, 2 << 20)
#: Most walls, and how many calls are kept free for them, the break and the settings.
_WALLS: Final = 6
_RESERVED: Final = _WALLS + 2
#: A failed call's range is looked at up to this length (bytes); a longer one is why it failed.
_LONG: Final = 64 << 20
#: What is counted.
ASSUMED: Final = "mappings assumed: made before the trace or by execve"
LEFT_OUT: Final = "mappings left out of programs that would be too long"
CUT: Final = "lengths cut to fit the executor's address space"
TOO_LARGE: Final = "programs that are larger still"
UNHINTED: Final = "unhinted mappings and moves that stay so"
PINNED: Final = "unhinted mappings and moves that get their place as a hint or fixed"

_FIXED: Final = MAP_FIXED | MAP_FIXED_NOREPLACE
_FILE: Final = FD_NAMES["file_ro"]
_FILES: Final = (FD_NAMES["file"], _FILE)


@dataclass(frozen=True, slots=True)
class Imported:
    """A program, and where it comes from.

    values: what each call should return, as the traced one did, None for an error or what is not told.
    """

    program: Program
    values: tuple[int | None, ...]
    pid: int
    of: str
    #: How many of its calls were traced; the others make what they need.
    traced: int


@dataclass(slots=True)
class _Part:
    """Calls that become one program, and the mappings before them that they need."""

    state: Regions
    steps: list[Step] = field(default_factory=list)
    needed: dict[int, Region] = field(default_factory=dict)
    cost: int = 0
    #: How many of the calls the trace has; before the last one are what it assumes.
    traced: int = 0

    def needs(self, ranges: Sequence[Range]) -> list[Region]:
        """What more has to be mapped before calls about these ranges: what is in them, and their neighbours."""
        found: dict[int, Region] = {}
        for start, end in ranges:
            for region in self.state.overlapping(start - PAGE, end + PAGE):
                if region.start not in self.needed:
                    found[region.start] = region
        return list(found.values())

    def add(self, step: Step, needs: Sequence[Region]) -> None:
        """Take in a call."""
        self.steps.append(step)
        for region in needs:
            self.needed[region.start] = region
            self.cost += len(region.setup())

    def has_room(self, steps: int, needs: Sequence[Region], most: int) -> bool:
        """It can take that many calls more, which need these regions."""
        cost = self.cost + sum(len(region.setup()) for region in needs)
        return cost + len(self.steps) + steps + _RESERVED + len(self.state.settings) <= most


def convert(
    space: Space, geometry: Geometry, figures: Counter[str], most: int = MAX_CALLS
) -> Iterator[Imported]:
    """The programs of an address space, each of at most `most` calls; `figures` counts what was done to them."""
    now = space.start.copy()
    part = _Part(now.copy())
    for step in space.steps:
        steps = [*_made_before(step, now), step]
        figures[ASSUMED] += len(steps) - 1
        ranges = [r for each in steps for r in _ranges(each, now)]
        needs = part.needs(ranges)
        if part.steps and not part.has_room(len(steps), needs, most):
            yield _build(part, space, geometry, figures)
            part = _Part(now.copy())
            needs = part.needs(ranges)
        while needs and not part.steps and not part.has_room(len(steps), needs, most):
            needs.pop()
            figures[LEFT_OUT] += 1
        part.traced += 1
        for each in steps:
            part.add(each, needs)
            needs = []
            if each.value is not None:
                now.apply(each.call, each.value, each.size)
    if part.steps:
        yield _build(part, space, geometry, figures)


def _made_before(step: Step, now: Regions) -> list[Step]:
    """Mappings that must have been there for the call to succeed."""
    call = step.call
    if step.value is None or not isinstance(call, NEEDS_MAPPED):
        return []
    length = call.old_len if isinstance(call, Mremap) else call.length
    start, end = call.addr & -PAGE, up(call.addr + length)
    if not PAGE <= start < end <= 1 << 47:
        return []
    anonymous = isinstance(call, (Mremap, Mlock, Mlock2))
    made = [
        made_before(low, high, -1 if anonymous else _FILE) for low, high in now.holes(start, end)
    ]
    return [Step(each, each.addr) for each in made]


def _ranges(step: Step, now: Regions) -> list[Range]:
    """What the call is about."""
    call, value = step.call, step.value
    if isinstance(call, Brk):
        start = now.start_brk or value or 0
        before, after = now.brk or start, max(start, value or start)
        return [(min(before, after) & -PAGE, up(max(before, after, start + PAGE)))]
    found = extent(call, value, step.size)
    if value is None:
        return [(low, high if high - low <= _LONG else low + PAGE) for low, high in found]
    return found


class _Builder:
    """One program under way: a map of addresses, and what is mapped in our space."""

    def __init__(self, geometry: Geometry, moved: Relocation) -> None:
        self.geometry = geometry
        self.moved = moved
        self.ours = Regions()
        self.calls: list[Call] = []
        self.values: list[int | None] = []
        #: What is mapped, at most and without walls (bytes).
        self.largest = 0
        self.walls = 0
        self.figures: Counter[str] = Counter()

    def emit(
        self, call: Call, value: int | None, size: int = PAGE, *, is_wall: bool = False
    ) -> None:
        """Add a call in our addresses, which will return `value`."""
        self.calls.append(call)
        self.values.append(value)
        before = self.ours.size()
        if value is not None:
            self.ours.apply(call, value, size)
            if is_wall:
                self.walls += self.ours.size() - before
            self.largest = max(self.largest, self.ours.size() - self.walls)

    def translate(self, call: Call) -> Call:
        """The call with all its addresses and lengths moved, otherwise as it was."""
        move = self.moved
        if isinstance(call, Mremap):
            old_len = move.length(call.addr, call.old_len)
            return replace(
                call,
                addr=move.address(call.addr),
                old_len=old_len,
                new_len=old_len if call.new_len == call.old_len else call.new_len,
                new_addr=move.address(call.new_addr)
                if call.flags & MREMAP_FIXED
                else call.new_addr,
            )
        addr: int | None = getattr(call, "addr", None)
        if addr is None:
            return call
        length = move.length(addr, getattr(call, "length", 0))
        return changed(call, addr=move.address(addr), length=length)

    def step(self, step: Step) -> None:
        """Add a traced call."""
        call, value = step.call, step.value
        said = self.translate(call)
        result = value
        if value is not None and isinstance(call, (Mmap, Mremap, Shmat, Brk)):
            result = self.moved.address(value)
        if isinstance(call, Mmap) and isinstance(said, Mmap):
            if value is not None and result is not None:
                said = replace(said, length=self.moved.length(value, call.length))
                said = self._placed(call, said, value, result)
            elif said.length != call.length:
                said = replace(said, length=call.length)
        elif isinstance(call, Mremap) and isinstance(said, Mremap):
            if value is not None and result is not None:
                said = replace(said, new_len=self.moved.length(value, call.new_len))
                said = self._remapped(call, said, value, result)
        elif isinstance(said, Shmat) and result not in (None, self._free_place(up(step.size))):
            said = replace(said, addr=said.addr or result)
        if _lengths(said) != _lengths(call):
            self.figures[CUT] += 1
        self.emit(said, result, step.size)

    def _placed(self, call: Mmap, said: Mmap, value: int, result: int) -> Mmap:
        if call.flags & _FIXED or call.addr == value:
            return replace(said, addr=result)
        if self._stays_unhinted(call, said, result):
            self.figures[UNHINTED] += 1
            return said
        self.figures[PINNED] += 1
        # A hint for what may have huge pages is taken only where there is room to align as well.
        flags = said.flags | MAP_FIXED_NOREPLACE if _is_aligned(said) else said.flags
        return replace(said, addr=result, flags=flags)

    def _stays_unhinted(self, call: Mmap, said: Mmap, result: int) -> bool:
        size = up(said.length)
        if call.addr and not self.ours.overlapping(said.addr, said.addr + size):
            return False
        if not _is_aligned(said):
            return result == self._free_place(size)
        place = self._free_place(size + PMD_SIZE)
        offset = 0 if said.flags & MAP_ANONYMOUS else said.offset
        return result == place + ((offset - place) % PMD_SIZE or PMD_SIZE)

    def _remapped(self, call: Mremap, said: Mremap, value: int, result: int) -> Mremap:
        if call.flags & MREMAP_FIXED or value == call.addr:
            return said
        end = said.addr + up(said.new_len)
        stays = not self.ours.overlapping(said.addr + up(said.old_len), end) and not call.flags & 4
        grows = up(said.new_len) > up(said.old_len)
        if not (grows and stays) and self._free_place(up(said.new_len)) == result:
            self.figures[UNHINTED] += 1
            return said
        self.figures[PINNED] += 1
        return replace(said, flags=said.flags | MREMAP_MAYMOVE | MREMAP_FIXED, new_addr=result)

    def _free_place(self, size: int) -> int:
        """The highest gap below the top that fits (mm/mmap.c: generic_get_unmapped_area_topdown())."""
        high = self.geometry.top
        for region in reversed(self.ours.regions):
            if region.start >= high:
                continue
            if high - region.end >= size:
                break
            high = region.start
        return high - size


def _is_aligned(call: Mmap) -> bool:
    """It is placed with room to align it to 2 MiB (mm/huge_memory.c: thp_get_unmapped_area_vmflags())."""
    size = up(call.length)
    if call.flags & MAP_ANONYMOUS:
        return call.flags & MAP_SHARED == 0 and size >= PMD_SIZE and size % PMD_SIZE == 0
    return call.fd in _FILES and size >= PMD_SIZE


def _lengths(call: Call) -> tuple[int, ...]:
    names = ("length", "old_len", "new_len")
    return tuple(getattr(call, name) for name in names if hasattr(call, name))


def _build(part: _Part, space: Space, geometry: Geometry, figures: Counter[str]) -> Imported:
    needed = [part.needed[start] for start in sorted(part.needed)]
    for longest in _LONGEST:
        builder = _try(part, needed, geometry, longest)
        most = _MOST_PAGES if any(_has_pages(call) for call in builder.calls) else _MOST
        if builder.largest <= most:
            break
    else:
        figures[TOO_LARGE] += 1
    figures.update(builder.figures)
    calls, values = tuple(builder.calls), tuple(builder.values)
    return Imported(calls, values, space.pid, space.program, part.traced)


def _has_pages(call: Call) -> bool:
    if isinstance(call, Mmap):
        return call.flags & (MAP_POPULATE | MAP_LOCKED) != 0
    if isinstance(call, Madvise):
        return call.advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE)
    return isinstance(call, (Mlock, Mlockall))


def _try(
    part: _Part, needed: Sequence[Region], geometry: Geometry, longest: int | None
) -> _Builder:
    state = part.state
    now = state.copy()
    mapped = [(region.start, region.end) for region in needed]
    named: list[Range] = []
    moves: list[tuple[Range, Range]] = []
    unhinted: list[Range] = []
    start_brk, breaks = state.start_brk, [state.brk]
    for step in part.steps:
        call, value = step.call, step.value
        named += _ranges(step, now)
        if isinstance(call, Brk):
            start_brk = start_brk or (value or 0)
            breaks.append(value or 0)
        if value is None:
            continue
        if isinstance(call, (Mmap, Mremap, Shmat)):
            length = step.size if isinstance(call, Shmat) else _lengths(call)[-1]
            there = value, value + up(length)
            mapped.append(there)
            if isinstance(call, Mremap):
                moves.append(((call.addr, call.addr + up(call.old_len)), there))
                mapped.append(moves[-1][0])
                free = value != call.addr and not call.flags & MREMAP_FIXED
            else:
                free = value != call.addr and not getattr(call, "flags", 0) & _FIXED
            if free:
                unhinted.append(there)
        now.apply(call, value, step.size)
    heap = (start_brk & -PAGE, up(max(breaks)) + PAGE) if start_brk else (0, 0)
    uses_heap = any(isinstance(r.how, Brk) for r in needed) or len(breaks) > 1
    if uses_heap:
        mapped.append((heap[0], max(heap[0] + PAGE, heap[1] - PAGE)))
    walls = _walls(needed, named, unhinted)
    named += _mirrored(moves, [*mapped, *named])
    moved = relocation(geometry, mapped, [*named, *walls], heap if uses_heap else (0, 0), longest)
    builder = _Builder(geometry, moved)
    _set_up(builder, part, needed, walls, unhinted, uses_heap)
    for step in part.steps:
        builder.step(step)
    return builder


def _set_up(
    builder: _Builder,
    part: _Part,
    needed: Sequence[Region],
    walls: Sequence[Range],
    unhinted: Sequence[Range],
    uses_heap: bool,
) -> None:
    """The calls that make the state from which the traced ones go on."""
    state, move = part.state, builder.moved
    if unhinted:
        above = max((r.end for r in needed if r.end <= move.ceiling), default=0)
        above = max([above, *(end for _, end in walls)]) or unhinted[0][1]
        top = move.address(max(above, unhinted[0][1]) - PAGE) + PAGE
        if builder.geometry.top - (16 << 20) < top < builder.geometry.top:
            builder.emit(wall(top, builder.geometry.top), top, is_wall=True)
    for start, end in walls:
        there = move.address(start)
        size = move.length(start, end - start)
        builder.emit(wall(there, there + size), there, is_wall=True)
    if uses_heap and state.brk > state.start_brk:
        there = move.address(state.brk - 1) + 1
        builder.ours.start_brk = builder.ours.brk = builder.geometry.heap
        builder.emit(Brk(there), there)
    for region in needed:
        for call in region.setup():
            said = builder.translate(call)
            value = said.addr if isinstance(said, (Mmap, Shmat)) else 0
            builder.emit(said, value, region.end - region.start)
    for call in state.settings.values():
        builder.emit(call, None)


def _walls(
    needed: Sequence[Region], named: Sequence[Range], unhinted: Sequence[Range]
) -> list[Range]:
    """What kept the kernel from placing something higher up, and no call is about; none if it would be too many.

    The kernel takes the highest place that is free: whatever it passed over was not, known or not.
    """
    unhinted = [each for each in unhinted if each[0] >= PLACED]
    if not unhinted:
        return []
    at = min(start for start, _ in unhinted)
    top = max(end for _, end in unhinted) + FAR
    smallest = min(end - start for start, end in unhinted)
    found: list[Range] = []
    for start, end in sorted([*((region.start, region.end) for region in needed), *named]):
        if start >= top:
            break
        if start - at >= smallest:
            found.append((at, start))
        at = max(at, end)
    return found if len(found) <= _WALLS else []


def _mirrored(moves: Sequence[tuple[Range, Range]], ranges: Sequence[Range]) -> list[Range]:
    """Points so that what moves is cut alike at both ends: of each point in one range its fellow in the other."""
    points = {point for each in ranges for point in each}
    found: list[Range] = []
    for _ in range(len(moves)):
        more = set()
        for (old, old_end), (new, new_end) in moves:
            distance = new - old
            more |= {p + distance for p in points if old < p <= old_end and p + distance <= new_end}
            more |= {p - distance for p in points if new < p <= new_end and p - distance <= old_end}
        more -= points
        if not more:
            break
        points |= more
        found += [(point - PAGE, point) for point in more]
    return found
