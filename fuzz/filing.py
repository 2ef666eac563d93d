"""Recipes for files: their holes and ends, what ftruncate cuts off, msync, remap_file_pages, memory of the kernel.

Like all recipes they work on any space, and know nothing of what a call should return.
"""

from typing import Final

from abi.calls import Ftruncate, Kind, Madvise, Mmap, Mprotect, Mremap, Msync, RemapFilePages, Touch
from abi.consts import (
    ACCESS_WRITE,
    MADV_DONTNEED,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MAP_FIXED,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.aim import Aim, Steps

_RW: Final = PROT_READ | PROT_WRITE
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
#: Pages of a file near which a mapping begins: its start, the end of its data, its end.
_PLACES: Final = (0, 0, 1, 14, 15, 16, 44, 46, 47, 48, 60, 62, 63, 64)
#: Sizes that a file gets (pages), and by how many bytes they are not whole pages.
_SIZES: Final = (0, 1, 2, 3, 5, 15, 16, 17, 46, 47, 48, 49, 62, 63, 64, 64, 65, 100)
_ODD: Final = (0, 0, 0, 0, 0, 1, 8, 0x800, PAGE - 1)
_TYPES: Final = (MAP_SHARED, MAP_PRIVATE)
_FILLING: Final = (0, 0, 0, MAP_POPULATE, MAP_LOCKED, MAP_POPULATE | MAP_NONBLOCK)
_CHANGES: Final = (
    MADV_REMOVE,
    MADV_REMOVE,
    MADV_DONTNEED,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
)


def truncate(aim: Aim) -> Ftruncate:
    """A file, seldom another object, gets a size."""
    return Ftruncate(aim.file(), aim.pick(_SIZES) * PAGE + aim.pick(_ODD))


def sync(aim: Aim) -> Msync:
    """msync of a span."""
    return Msync(*aim.span(), aim.usual(Kind.SYNC_FLAGS))


def rearrange(aim: Aim) -> RemapFilePages:
    """remap_file_pages of a span, or a part of a VMA."""
    start, length = aim.span()
    flags = MAP_NONBLOCK if aim.chance(0.15) else 0
    return RemapFilePages(start, length, 0, aim.pick(_PLACES), flags)


def cut_file(aim: Aim) -> Steps:
    """A file mapped once or twice, read and written, is cut off and perhaps grows again."""
    at, length, fd, place = aim.low_page(), aim.small() + PAGE, aim.file(), aim.pick(_PLACES)
    yield Mmap(at, length, _RW, aim.pick(_TYPES) | MAP_FIXED, fd, place * PAGE)
    pages = min(8, length // PAGE)
    yield Touch(at, pages, aim.access())
    if aim.chance(0.4):
        twin = aim.away(length)
        yield Mmap(twin, length, _RW, aim.pick(_TYPES) | MAP_FIXED, fd, place * PAGE)
        yield Touch(twin, pages, aim.access())
    yield Ftruncate(fd, (place + aim.below(pages + 1)) * PAGE + aim.pick(_ODD))
    yield Touch(at, pages, aim.access())
    if aim.chance(0.5):
        yield Ftruncate(fd, aim.pick(_SIZES) * PAGE)
        yield Touch(at, pages, aim.access())


def see_file(aim: Aim) -> Steps:
    """A file's data, hole and end are mapped, changed by an advice, moved and accessed."""
    at, length, place = aim.low_page(), aim.small() + PAGE, aim.pick(_PLACES)
    kind = aim.pick(_TYPES) | MAP_FIXED | aim.pick(_FILLING)
    yield Mmap(at, length, aim.pick((_RW, _RW, PROT_READ)), kind, aim.file(), place * PAGE)
    pages = min(8, length // PAGE)
    if aim.chance(0.6):
        yield Touch(at, pages, aim.access())
    draw = aim.random()
    if draw < 0.5:
        yield Madvise(at, length if aim.chance(0.5) else PAGE, aim.pick(_CHANGES))
    elif draw < 0.8:
        to = aim.away(length)
        yield Mremap(at, length, length + aim.below(2) * PAGE, _MOVE, to)
        at = to
    yield Touch(at, pages, aim.access())


def remap_pages(aim: Aim) -> Steps:
    """A shared mapping, perhaps locked, advised or of several parts, shows other pages of its file."""
    at, length, fd = aim.low_page(), aim.small() + PAGE, aim.file()
    kind = MAP_SHARED | MAP_FIXED | (MAP_LOCKED if aim.chance(0.15) else 0)
    yield Mmap(at, length, _RW, kind, fd, aim.offset(at, fd))
    draw = aim.random()
    if draw < 0.2:
        yield Madvise(at, PAGE if aim.chance(0.5) else length, MADV_RANDOM)
    elif draw < 0.4:
        yield Mprotect(at, PAGE, PROT_READ)
    elif draw < 0.6:
        yield RemapFilePages(at, PAGE, 0, aim.pick(_PLACES), 0)
    if aim.chance(0.4):
        yield Touch(at, 2, ACCESS_WRITE)
    start = at if aim.chance(0.5) else at + PAGE
    end = at + length + (PAGE if aim.chance(0.1) else 0)
    size = end - start if aim.chance(0.6) else PAGE
    place = aim.pick(_PLACES) if aim.chance(0.6) else (start - at) // PAGE
    yield RemapFilePages(start, size, 0, place, MAP_NONBLOCK if aim.chance(0.15) else 0)
    if aim.chance(0.5):
        yield Touch(at, 2, aim.access())


def sync_span(aim: Aim) -> Steps:
    """msync over mappings and holes, some of them locked."""
    if aim.chance(0.5):
        at = aim.vacant()
        kind = aim.pick(_TYPES) | MAP_FIXED | aim.pick((0, 0, MAP_LOCKED))
        yield Mmap(at, aim.small(), _RW, kind, aim.file(), 0)
    yield sync(aim)


def map_kernel(aim: Aim) -> Steps:
    """Memory of the kernel, or a file of it that cannot be mapped, over or next to what is there; then it moves."""
    at, length = aim.vacant(), aim.small()
    kind = MAP_PRIVATE | MAP_FIXED | aim.pick(_FILLING)
    yield Mmap(
        at, length, aim.pick((PROT_READ, PROT_READ, PROT_READ, PROT_NONE)), kind, aim.kernel(), 0
    )
    draw = aim.random()
    if draw < 0.2:
        yield Mprotect(at, length, aim.prot())
    elif draw < 0.4:
        yield Madvise(at, length, aim.advice())
    elif draw < 0.7:
        start, size = aim.span()
        yield Mremap(start, size, size, _MOVE, aim.target(start, size))
    else:
        yield Mremap(at, length, length + aim.below(2) * PAGE, aim.mremap_flags(), aim.away(length))


#: As likely as they are frequent.
MAPPING: Final = (cut_file, see_file, remap_pages)
FOLLOWING: Final = (cut_file, see_file, remap_pages, sync_span, map_kernel)
CALLS: Final = (truncate, sync, rearrange)
