"""Recipes for mappings of special kinds: rings, buffers, secret memory, SysV segments. Each is drawn in a shape in
which it can be mapped more often than not; then it is moved alone, first, in the middle or last of several.

Like all recipes they work on any space, and know nothing of what a call should return.
"""

from dataclasses import dataclass
from typing import Final

from abi.calls import Kind, Madvise, Mmap, Mprotect, Mremap, Munmap, Shmat, Shmdt, Touch
from abi.consts import (
    ACCESS_WRITE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTNEED,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    SHM_EXEC,
    SHM_RDONLY,
    SHM_REMAP,
)
from fuzz.aim import Aim, Steps

_RW: Final = PROT_READ | PROT_WRITE
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
_ANON: Final = MAP_PRIVATE | MAP_ANONYMOUS


@dataclass(frozen=True, slots=True)
class Shape:
    """How a kind can be mapped: pages, protections, types, offsets (pages); as likely as they are frequent. placed: it
    takes an address."""

    pages: tuple[int, ...]
    prots: tuple[int, ...] = (_RW, _RW, _RW, PROT_READ, PROT_NONE)
    types: tuple[int, ...] = (MAP_SHARED,)
    offsets: tuple[int, ...] = (0,)
    placed: bool = True


_ANY_TYPE: Final = (*(MAP_SHARED,) * 4, MAP_PRIVATE)
#: By object name.
SHAPES: Final = {
    "secretmem": Shape((1, 2, 2, 3, 4), offsets=(0, 0, 0, 1, 2, 61)),
    "iouring": Shape(
        (1, 2, 2, 2, 3), types=_ANY_TYPE, offsets=(0, 0x8000, 0x10000, 0x18000), placed=False
    ),
    "perf": Shape((1, 2, 3, 3, 3, 5, 9, 4), offsets=(*(0,) * 9, 1)),
    "bpf": Shape((1, 2, 3, 4), offsets=(0, 0, 1, 2, 4, 5)),
    "bpf_ring": Shape((1, 1, 1, 2, 3, 4), (_RW, PROT_READ, PROT_READ), offsets=(0, 0, 0, 1, 2, 7)),
    "packet": Shape((4, 4, 4, 4, 4, 3), types=_ANY_TYPE),
    "xdp": Shape((1, 1, 2, 2, 3), types=_ANY_TYPE),
    "tcp": Shape((1, 2, 3), (PROT_READ, PROT_READ, PROT_READ, PROT_NONE, _RW), _ANY_TYPE),
    "unix": Shape((1, 2)),
}
#: Those that are not one of several in a move.
_UNMOVED: Final = ("bpf", "bpf_ring")
_EXTRA: Final = (0, 0, 0, 0, 0, 0, 0, 0, MAP_LOCKED, MAP_POPULATE)
_ADVICE: Final = (
    MADV_DONTNEED,
    MADV_DONTNEED,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_RANDOM,
    MADV_DOFORK,
    MADV_DODUMP,
)
_ATTACHES: Final = (*(SHM_REMAP,) * 6, SHM_REMAP | SHM_RDONLY, SHM_REMAP | SHM_EXEC, 0)


def map_special(aim: Aim, at: int, names: tuple[str, ...] = ()) -> Mmap | None:
    """A mapping of a special kind at `at`, or where the kernel puts it; None if there is none of these objects."""
    present = [name for name in names or SHAPES if aim.descriptor(name) >= 0]
    if not present:
        return None
    name = aim.pick(present)
    shape = SHAPES[name]
    flags = aim.pick(shape.types) | aim.pick(_EXTRA) | (MAP_FIXED if shape.placed else 0)
    addr = at if shape.placed or aim.chance(0.1) else 0
    offset = aim.pick(shape.offsets) * PAGE
    length = aim.pick(shape.pages) * PAGE
    return Mmap(addr, length, aim.pick(shape.prots), flags, aim.descriptor(name), offset)


def map_plain(aim: Aim, at: int) -> Mmap:
    """A few pages of memory."""
    return Mmap(at, aim.small(), _RW, _ANON | MAP_FIXED, -1, 0)


def unmoved(aim: Aim, at: int) -> Mmap | Shmat | None:
    """What has to move alone: a bpf map or a segment; None if there is neither."""
    if aim.segments() and aim.chance(0.6):
        return attach(aim, at)
    return map_special(aim, at, _UNMOVED)


def attach(aim: Aim, at: int) -> Shmat:
    """A segment attached at `at`."""
    return Shmat(aim.below(2), at, aim.pick(_ATTACHES))


def detach(aim: Aim) -> Shmdt:
    """The start of a VMA detached, seldom another page of it."""
    return Shmdt(aim.mapped())


def attach_anywhere(aim: Aim) -> Shmat:
    """A segment attached somewhere, with usual flags."""
    addr = 0 if aim.chance(0.2) else aim.vacant()
    return Shmat(aim.below(3), addr, aim.usual(Kind.SHM_FLAGS))


def lay_special(aim: Aim) -> Steps:
    """A special mapping between others, and a move over all of it, one of it alone, or more of it."""
    start = at = aim.low_page()
    count = aim.pick((1, 2, 2, 3, 3, 4))
    place = aim.below(count)
    for i in range(count):
        call = map_special(aim, at) if i == place else None
        call = call or map_plain(aim, at)
        value = yield call
        if not call.flags & MAP_FIXED and value > 0:
            yield from use(aim, value, call.length)
            return
        if i == place and aim.chance(0.5):
            yield Touch(at, min(4, call.length // PAGE), aim.access())
        at += call.length + (PAGE if aim.chance(0.2) else 0)
    value = yield Mremap(start, at - start, at - start, _MOVE, aim.target(start, at - start))
    if aim.chance(0.5):
        yield from use(aim, value if value > 0 else start, at - start)


def grow_special(aim: Aim) -> Steps:
    """A special mapping by itself is grown, where it is or elsewhere: some may not be, some merge with nothing."""
    call = map_special(aim, aim.low_page())
    if call is None:
        yield map_plain(aim, aim.low_page())
        return
    value = yield call
    if value > 0:
        part = PAGE if aim.chance(0.3) else call.length
        flags = aim.pick((0, 0, MREMAP_MAYMOVE))
        yield Mremap(value + call.length - part, part, part + aim.small(), flags, 0)


def use(aim: Aim, start: int, length: int) -> Steps:
    """What is done to a special mapping: cut, advised, protected, grown in its place, moved, touched."""
    for _ in range(aim.pick((1, 2, 2, 3))):
        pages = 1 + aim.below(length // PAGE)
        part = start + aim.below(length // PAGE - pages + 1) * PAGE
        size = length if aim.chance(0.5) else pages * PAGE
        begin = start if size == length else part
        draw = aim.random()
        if draw < 0.25:
            yield Madvise(begin, size, aim.pick(_ADVICE))
        elif draw < 0.4:
            yield Touch(begin, min(4, size // PAGE), aim.access())
        elif draw < 0.5:
            yield Mprotect(begin, size, aim.pick((_RW, PROT_READ, PROT_NONE)))
        elif draw < 0.6:
            yield Munmap(begin, size)
        elif draw < 0.7:
            more = size + aim.below(2) * PAGE
            yield Mremap(begin, aim.pick((size, size, 0)), more, MREMAP_MAYMOVE, 0)
        elif draw < 0.8:
            flags = aim.pick((0, MREMAP_MAYMOVE))
            yield Mremap(start + length - size, size, size + (1 + aim.below(2)) * PAGE, flags, 0)
        else:
            flags = _MOVE | (MREMAP_DONTUNMAP if aim.chance(0.2) else 0)
            yield Mremap(begin, size, size, flags, aim.target(begin, size))


def split_segment(aim: Aim) -> Steps:
    """A segment attached, cut to pieces, a piece perhaps moved or made alike again, and detached."""
    at = aim.low_page()
    value = yield attach(aim, at)
    if value < 0:
        return
    if aim.chance(0.6):
        yield Touch(at + aim.below(16) * PAGE, 1 + aim.below(4), ACCESS_WRITE)
    for _ in range(aim.pick((1, 1, 2, 3))):
        part, size = at + aim.below(16) * PAGE, (1 + aim.below(6)) * PAGE
        draw = aim.random()
        if draw < 0.35:
            yield Mprotect(part, size, aim.pick((PROT_READ, PROT_READ, _RW)))
        elif draw < 0.55:
            yield Munmap(part, size)
        elif draw < 0.75:
            yield Mremap(part, size, size, _MOVE, aim.target(part, size))
        elif draw < 0.85:
            yield Madvise(part, size, aim.pick(_ADVICE))
        else:
            yield Shmat(aim.below(2), part, SHM_REMAP)
    if aim.chance(0.3):
        yield Mprotect(at, 16 * PAGE, aim.pick((PROT_READ, _RW)))
    yield Shmdt(at + (aim.below(16) * PAGE if aim.chance(0.2) else 0))


def mix_attaches(aim: Aim) -> Steps:
    """A piece of one attach moved to where it would be in another attach of a segment, which is then detached."""
    at, number = aim.low_page(), aim.below(2)
    other = aim.away(16 * PAGE)
    yield Shmat(number, at, SHM_REMAP)
    yield Shmat(number if aim.chance(0.8) else 1 - number, other, SHM_REMAP)
    piece, size = aim.below(14) * PAGE, (1 + aim.below(2)) * PAGE
    yield Mremap(other + piece, size, size, _MOVE, at + piece)
    yield Shmdt(aim.pick((at, at, other)))


def map_twice(aim: Aim) -> Steps:
    """Two mappings of one special object; the first is perhaps written to, or unmapped before the second."""
    first = map_special(aim, aim.low_page())
    if first is None:
        yield map_plain(aim, aim.low_page())
        return
    name = next(name for name in SHAPES if aim.descriptor(name) == first.fd)
    value = yield first
    if aim.chance(0.3):
        yield Touch(max(value, 0), min(4, first.length // PAGE), ACCESS_WRITE)
    if aim.chance(0.2):
        yield Munmap(max(value, 0), first.length)
    second = map_special(aim, aim.away(first.length), (name,))
    if second:
        value = yield second
        yield Touch(max(value, 0), min(4, second.length // PAGE), aim.access())


def alias(aim: Aim) -> Steps:
    """One object seen twice."""
    yield from aim.pick((mix_attaches, map_twice))(aim)


LAYING: Final = (lay_special, lay_special, grow_special, split_segment, alias)
DRAWS: Final = (attach_anywhere, detach)
