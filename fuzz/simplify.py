"""Programs that are simpler than a program: fewer calls, shorter and lower ranges, fewer flags, plainer mappings.

Proposes, and knows neither kernel nor model: whether a proposal shows what the program shows is for others to find out.
A proposal keeps a place for each call of its program, None where it has none, so that several can be put together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, Final

from abi.calls import SIGNATURES, Call, Kind, Mmap, Mremap, Program
from abi.consts import (
    FD_NAMES,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_TYPE,
    MREMAP_FIXED,
    PAGE,
    PROT_READ,
    PROT_WRITE,
    WORD,
)
from abi.environment import Geometry

#: A call's place: what is there instead, or nothing.
Slots = tuple[Call | None, ...]
#: Address field, and the field of the range's length, with the bytes that one of its units is.
_Range = tuple[str, str, int]

_NO_FD: Final = -1
_PLAINEST: Final = MAP_PRIVATE | MAP_ANONYMOUS
_RW: Final = PROT_READ | PROT_WRITE
_MEMFD: Final = FD_NAMES["memfd"]
#: How much simpler each is than the next: numbers are compared only with each other.
_MANY_PAGES: Final = 512
_ODD: Final = 600
_FAR: Final = 10_000
_MEMBER: Final = 20
_OBJECT: Final = 2_000
#: Kinds whose words are sets of bits, and those whose bits are best there.
_SETS: Final = frozenset(
    (
        Kind.MAP_FLAGS,
        Kind.MREMAP_FLAGS,
        Kind.UFFD_MODE,
        Kind.LOCK_FLAGS,
        Kind.MCL_FLAGS,
        Kind.SYNC_FLAGS,
        Kind.UFFD_WP_MODE,
        Kind.POLICY,
        Kind.BIND_FLAGS,
        Kind.SHM_FLAGS,
    )
)
_SIZES: Final = frozenset((Kind.LENGTH, Kind.OFFSET))


def cost(program: Program, geometry: Geometry) -> tuple[int, int]:
    """How far it is from simple: the number of calls, then what their arguments add up to. Less is simpler."""
    words = (
        _cost(getattr(call, name), kind, geometry)
        for call in program
        for name, kind in SIGNATURES[type(call)]
    )
    return len(program), sum(words)


def _cost(value: int, kind: Kind, geometry: Geometry) -> int:
    if kind is Kind.ADDRESS:
        return _cost_of_address(value, geometry)
    if kind in _SIZES:
        return _cost_of_size(value)
    if kind is Kind.PROT:
        return 0 if value == _RW else _MEMBER * (1 + (value & ~7).bit_count())
    if kind is Kind.MAP_FLAGS:
        rest = (value & ~MAP_TYPE & ~MAP_ANONYMOUS & ~MAP_FIXED).bit_count()
        shared = value & MAP_TYPE != MAP_PRIVATE
        return _MEMBER * (rest + shared + (not value & MAP_ANONYMOUS))
    if kind is Kind.FD:
        return 0 if value == _NO_FD else _MEMBER if value == _MEMFD else _OBJECT
    if kind in _SETS:
        return _MEMBER * value.bit_count()
    if kind is Kind.PAGES or kind is Kind.ACCESS:
        return min(value, _MANY_PAGES)
    if kind is Kind.NUMBER:
        return value.bit_length()
    return 0


def _cost_of_address(value: int, geometry: Geometry) -> int:
    pages, odd = divmod(value - geometry.window, PAGE)
    within = 0 <= pages < geometry.window_pages
    return (pages if within else _FAR) + (_ODD if odd else 0)


def _cost_of_size(value: int) -> int:
    pages, odd = divmod(value, PAGE)
    big = pages if pages <= _MANY_PAGES else _MANY_PAGES + pages.bit_length()
    return big + (_ODD if odd else 0)


def shorter(program: Program) -> Iterator[Slots]:
    """The program without some of its calls: halves first, then ever shorter spans, single calls last."""
    size = max(1, len(program) // 2)
    while True:
        for at in range(0, len(program), size):
            rest = (*program[:at], *[None] * len(program[at : at + size]), *program[at + size :])
            if any(call is not None for call in rest):
                yield rest
        if size == 1:
            return
        size //= 2


def simpler(program: Program, geometry: Geometry) -> Iterator[Slots]:
    """The program with simpler arguments, what changes most of them first. All cost less than it."""
    limit = cost(program, geometry)
    for proposal in _proposals(program, geometry):
        if cost(tuple(call for call in proposal if call is not None), geometry) < limit:
            yield proposal


def _proposals(program: Program, geometry: Geometry) -> Iterator[Slots]:
    yield from _plainer(program)
    yield from _lower(program, geometry)
    yield from _of_other_lengths(program)
    yield from _from_the_start(program)
    for index, call in enumerate(program):
        for other in _simpler_calls(call):
            yield (*program[:index], other, *program[index + 1 :])


def _plainer(program: Program) -> Iterator[Slots]:
    """All mappings of an object become anonymous, or those of a memfd."""
    for fd in dict.fromkeys(c.fd for c in program if isinstance(c, Mmap) and c.fd != _NO_FD):
        for become in (_anonymous, _of_a_memfd):
            yield tuple(
                become(call) if isinstance(call, Mmap) and call.fd == fd else call
                for call in program
            )


def _anonymous(call: Mmap) -> Mmap:
    kind = call.flags & ~MAP_TYPE | _PLAINEST
    return replace(call, flags=kind, fd=_NO_FD, offset=0)


def _of_a_memfd(call: Mmap) -> Mmap:
    return replace(call, fd=_MEMFD)


def _from_the_start(program: Program) -> Iterator[Slots]:
    """An object is mapped from its beginning on."""
    for fd in dict.fromkeys(c.fd for c in program if isinstance(c, Mmap) and c.offset):
        first = min(c.offset for c in program if isinstance(c, Mmap) and c.fd == fd)
        if first:
            yield tuple(
                replace(call, offset=call.offset - first)
                if isinstance(call, Mmap) and call.fd == fd
                else call
                for call in program
            )


def _lower(program: Program, geometry: Geometry) -> Iterator[Slots]:
    """The window's addresses move together: the lowest to its start, then each gap and range becomes shorter."""
    points = sorted(
        {
            edge
            for call in program
            for start, end in _spans(call)
            for edge in (start & -PAGE, -(-end // PAGE) * PAGE)
            if geometry.window <= edge <= geometry.window + geometry.window_pages * PAGE
        }
    )
    if not points:
        return
    yield _moved(program, lambda at: at - (points[0] - geometry.window), points[0], points[-1])
    for low, high in pairwise(points):
        room = high - low
        for left in dict.fromkeys((PAGE, room // 2 & -PAGE, room - PAGE)):
            if 0 < left < room:

                def near(at: int, high: int = high, by: int = room - left) -> int:
                    return at - by if at >= high else at

                yield _moved(program, near, points[0], points[-1])


def _moved(program: Program, to: Callable[[int], int], low: int, high: int) -> Slots:
    """Every range whose edges are from `low` to `high` with them moved by `to`, which knows whole pages."""

    def edge(at: int, up: bool) -> int:
        page = -(-at // PAGE) * PAGE if up else at & -PAGE
        return to(page) + at - page if low <= page <= high else at

    return tuple(_with_edges(call, edge) for call in program)


def _with_edges(call: Call, edge: Callable[[int, bool], int]) -> Call:
    changes: dict[str, int] = {}
    for address, length, unit in _ranges(call):
        start, size = getattr(call, address), getattr(call, length) * unit
        if start + size > WORD:
            continue
        begin = edge(start, False)
        changes[address] = begin
        new = edge(start + size, True) - begin
        if unit == PAGE:
            new = -(-new // PAGE)
        if new > 0:
            changes[length] = new
    if isinstance(call, Mremap) and call.old_len == call.new_len and "old_len" in changes:
        changes["new_len"] = changes["old_len"]
    for name, kind in SIGNATURES[type(call)]:
        if kind is Kind.ADDRESS and name not in changes:
            changes[name] = edge(getattr(call, name), False)
    return _changed(call, changes)


def _of_other_lengths(program: Program) -> Iterator[Slots]:
    """A length, wherever it stands, is another: whole pages, one page, half of it, a page less."""
    lengths = dict.fromkeys(
        getattr(call, name)
        for call in program
        for name, kind in SIGNATURES[type(call)]
        if kind is Kind.LENGTH
    )
    for length in lengths:
        for other in _other_sizes(length):
            yield tuple(_with_length(call, length, other) for call in program)


def _with_length(call: Call, was: int, becomes: int) -> Call:
    names = [
        name
        for name, kind in SIGNATURES[type(call)]
        if kind is Kind.LENGTH and getattr(call, name) == was
    ]
    return _changed(call, dict.fromkeys(names, becomes))


def _other_sizes(size: int) -> Iterator[int]:
    pages = -(-size // PAGE)
    for other in dict.fromkeys((PAGE, pages // 2 * PAGE, (pages - 1) * PAGE, pages * PAGE)):
        if other > 0 and other != size:
            yield other


def _simpler_calls(call: Call) -> Iterator[Call]:
    """The call with one argument simpler."""
    if isinstance(call, Mmap):
        if call.fd != _NO_FD or not call.flags & MAP_ANONYMOUS:
            yield _anonymous(call)
        if call.flags & MAP_TYPE == MAP_SHARED:
            yield replace(call, flags=call.flags & ~MAP_TYPE | MAP_PRIVATE)
    for name, kind in SIGNATURES[type(call)]:
        value = getattr(call, name)
        for other in _simpler_words(value, kind):
            yield _changed(call, {name: other})


def _simpler_words(value: int, kind: Kind) -> Iterator[int]:
    if kind is Kind.ADDRESS:
        if value % PAGE:
            yield value & -PAGE
    elif kind is Kind.LENGTH:
        yield from _other_sizes(value)
    elif kind is Kind.OFFSET:
        yield from (0, value & -PAGE)
    elif kind is Kind.PROT:
        yield from (_RW, PROT_READ)
    elif kind in _SETS:
        keep = MAP_TYPE if kind is Kind.MAP_FLAGS else 0
        rest = value & ~keep
        while rest:
            bit = rest & -rest
            rest &= ~bit
            yield value & ~bit
    elif kind is Kind.PAGES and value > 1:
        yield from (1, value // 2, value - 1)
    elif kind is Kind.FD:
        yield _MEMFD
    elif kind is Kind.ACCESS or kind is Kind.NUMBER:
        yield from (0, 1)


def _spans(call: Call) -> Iterator[tuple[int, int]]:
    """The ranges of a call (bytes)."""
    for address, length, unit in _ranges(call):
        start, size = getattr(call, address), getattr(call, length) * unit
        if start + size <= WORD:
            yield start, start + size


def _ranges(call: Call) -> Sequence[_Range]:
    if isinstance(call, Mremap):
        target = (("new_addr", "new_len", 1),) if call.flags & MREMAP_FIXED else ()
        return (("addr", "old_len", 1), *target)
    signature = SIGNATURES[type(call)]
    return [
        (name, after, PAGE if size is Kind.PAGES else 1)
        for (name, kind), (after, size) in pairwise(signature)
        if kind is Kind.ADDRESS and size in (Kind.LENGTH, Kind.PAGES)
    ]


def _changed(call: Call, changes: dict[str, int]) -> Call:
    """The call with these words, if they are words."""
    if any(not 0 <= value <= WORD for name, value in changes.items() if name != "fd"):
        return call
    if all(getattr(call, name) == value for name, value in changes.items()):
        return call
    values: dict[str, Any] = {f.name: getattr(call, f.name) for f in fields(call)}
    return type(call)(**{**values, **changes})
