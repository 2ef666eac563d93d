"""Recipes for those who watch memory: what userfaultfds write-protect and are told of, and what a fork's child sees.

Like all recipes they work on any space, and know nothing of what a call should return.
"""

from typing import Final

from abi.calls import (
    Fork,
    Kind,
    Madvise,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Touch,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
)
from abi.consts import (
    FD_NAMES,
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_KEEPONFORK,
    MADV_PAGEOUT,
    MADV_REMOVE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_READ,
    PROT_WRITE,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_WRITEPROTECT_MODE_WP,
)
from fuzz.aim import Aim, Steps

_RW: Final = PROT_READ | PROT_WRITE
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
_ANON: Final = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
_SHARED: Final = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
_MISSING: Final = UFFDIO_REGISTER_MODE_MISSING
_WP: Final = UFFDIO_REGISTER_MODE_WP
_MINOR: Final = UFFDIO_REGISTER_MODE_MINOR
_VM_UFFD_WP: Final = 0x1000
#: No more is write-protected at once (bytes).
_MUCH: Final = 1024 * PAGE
_REPORTING: Final = FD_NAMES["uffd2"]
_MODES: Final = (_MISSING, _MISSING, _WP, _MISSING | _WP, _MINOR)
_DROPPING: Final = (MADV_DONTNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_PAGEOUT)
_INHERITING: Final = (
    *(MADV_DONTFORK, MADV_WIPEONFORK) * 3,
    MADV_DOFORK,
    MADV_KEEPONFORK,
    MADV_GUARD_INSTALL,
)


def writeprotect(aim: Aim) -> UffdWriteprotect:
    """UFFDIO_WRITEPROTECT of memory that is registered for it, if there is some, else of any."""
    registered = [vma for vma in aim.vmas if vma.flags & _VM_UFFD_WP]
    mode = aim.usual(Kind.UFFD_WP_MODE)
    if not registered or aim.chance(0.1):
        return UffdWriteprotect(aim.uffd(), *aim.span(), mode)
    vma = aim.pick(registered)
    start = vma.start if aim.chance(0.5) else aim.inside(vma)
    length = min(vma.end - start, _MUCH if aim.chance(0.4) else aim.small())
    return UffdWriteprotect(aim.uffd(), start, length, mode)


def fork(aim: Aim) -> Fork:
    """fork."""
    return Fork()


def protect_pages(aim: Aim) -> Steps:
    """Pages are write-protected, present or not; then they are dropped, moved, registered otherwise, written to."""
    at, length = aim.low_page(), aim.small() + PAGE
    flags, fd, offset = aim.pick((_ANON, _ANON, _SHARED)), -1, 0
    if aim.chance(0.3):
        fd = aim.file()
        flags, offset = aim.pick((MAP_SHARED, MAP_PRIVATE)) | MAP_FIXED, aim.offset(at, fd)
    yield Mmap(at, length, _RW, flags, fd, offset)
    uffd, pages = aim.uffd(), min(8, length // PAGE)
    mode = _WP if aim.chance(0.8) else _WP | aim.pick((_MISSING, _MINOR))
    early = aim.chance(0.5)
    if early:
        yield UffdRegister(uffd, at, length, mode)
    if aim.chance(0.7):
        yield Touch(at + aim.below(2) * PAGE, 1 + aim.below(pages), aim.access())
    if not early:
        yield UffdRegister(uffd, at, length, mode)
    if aim.chance(0.15):
        yield Madvise(at, PAGE, MADV_GUARD_INSTALL)
    other = aim.uffd() if aim.chance(0.25) else uffd
    yield UffdWriteprotect(other, at, length, UFFDIO_WRITEPROTECT_MODE_WP)
    for _ in range(aim.pick((1, 1, 2, 3))):
        draw = aim.random()
        start = at + aim.below(length // PAGE) * PAGE
        if draw < 0.2:
            yield Madvise(at, length, aim.pick(_DROPPING))
        elif draw < 0.4:
            target = aim.away(length)
            kept = MREMAP_DONTUNMAP if aim.chance(0.3) else 0
            yield Mremap(at, length, length, _MOVE | kept, target)
            at = target
        elif draw < 0.5:
            yield UffdRegister(uffd, at, length, aim.pick((_WP, _MISSING, _WP | _MISSING)))
        elif draw < 0.6:
            yield UffdUnregister(uffd, start, at + length - start)
        elif draw < 0.7:
            yield Mprotect(at, length, aim.pick((PROT_READ, _RW)))
        elif draw < 0.8:
            yield UffdWriteprotect(uffd, start, PAGE, aim.pick((0, UFFDIO_WRITEPROTECT_MODE_WP)))
        elif draw < 0.85:
            yield Fork()
        else:
            yield Touch(start, 1, aim.access())
    yield Touch(at, pages, aim.access())


def report(aim: Aim) -> Steps:
    """Memory registered with the userfaultfd that reports, alone or among others, is taken away, dropped or moved."""
    start = at = aim.low_page()
    parts: list[tuple[int, int]] = []
    for _ in range(aim.pick((1, 1, 2, 3))):
        length = aim.small()
        prot = _RW if aim.chance(0.8) else PROT_READ
        yield Mmap(at, length, prot, aim.pick((_ANON, _ANON, _SHARED)), -1, 0)
        parts.append((at, length))
        at += length + (PAGE if aim.chance(0.2) else 0)
    for part in parts:
        if aim.chance(0.6):
            yield UffdRegister(_REPORTING, *part, aim.pick(_MODES))
    whole = at - start
    for _ in range(aim.pick((1, 2, 2, 3))):
        first, length = aim.pick(parts) if aim.chance(0.6) else (start, whole)
        draw = aim.random()
        if draw < 0.2:
            yield Madvise(first, length, aim.pick(_DROPPING))
        elif draw < 0.35:
            yield Munmap(first + aim.below(2) * PAGE, length)
        elif draw < 0.45:
            yield Mmap(first, length, _RW, _ANON | aim.pick((0, 0, MAP_LOCKED)), -1, 0)
        elif draw < 0.6:
            yield Mremap(first, length, aim.small(), aim.pick((MREMAP_MAYMOVE, _MOVE)), aim.away(0))
        elif draw < 0.7:
            source = aim.vma()
            if source is not None:
                size = min(source.end - source.start, length)
                yield Mremap(source.start, size, size, _MOVE, first)
        else:
            kept = MREMAP_DONTUNMAP if aim.chance(0.3) else 0
            yield Mremap(first, length, length, _MOVE | kept, aim.target(first, length))


def inherit(aim: Aim) -> Steps:
    """Advice on forks, then a fork, then what tells whether its parent is as it was."""
    vma = aim.vma()
    start = vma.start if vma else aim.page()
    length = min(vma.end - start, aim.small()) if vma else PAGE
    for _ in range(aim.pick((0, 1, 1, 2))):
        yield Madvise(start, length, aim.pick(_INHERITING))
    if aim.chance(0.3):
        yield UffdRegister(aim.uffd(), start, length, aim.pick(_MODES))
    if aim.chance(0.5):
        yield Touch(start, 1, aim.access())
    yield Fork()
    draw = aim.random()
    if draw < 0.3:
        yield Touch(start, 1 + aim.below(2), aim.access())
    elif draw < 0.6:
        at = aim.away(length)
        yield Mremap(start, length, length, _MOVE, at)
        yield Mmap(at + length, PAGE, _RW, _ANON, -1, 0)
    elif draw < 0.8:
        yield Mprotect(*aim.span(), aim.prot())


#: As likely as they are frequent.
BUILDING: Final = (protect_pages, report)
FOLLOWING: Final = (protect_pages, report, inherit)
CALLS: Final = (writeprotect, fork)
