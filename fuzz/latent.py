"""Recipes for what no layout shows at once: who is faulted, what page tables hold, how near a limit is.

Each makes such a state, or takes the one that is there, and then asks for something whose outcome depends on it.
Like all recipes they work on any space, and know nothing of what a call should return.
"""

from typing import Final

from abi.calls import Madvise, Mmap, Mprotect, Mremap, Munmap, Touch, UffdRegister, UffdUnregister
from abi.consts import (
    ACCESS_READ,
    ACCESS_WRITE,
    MADV_COLD,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
    WORD,
)
from fuzz.aim import Aim, Steps, Vma

_RW: Final = PROT_READ | PROT_WRITE
_ANON: Final = MAP_PRIVATE | MAP_ANONYMOUS
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
#: VM_* of a VMA -> the flag of a mapping that has it too (include/linux/mm.h).
_VM_FLAGS: Final = ((0x100, MAP_GROWSDOWN), (0x2000, MAP_LOCKED), (0x20_0000, MAP_NORESERVE))
_VM_ACCESS: Final = 7
#: More is not moved or registered to see what it holds.
_MUCH: Final = 512 * PAGE
#: Pages between a stack and its neighbour: within its guard gap of 256, at its edge, behind it; and between it and an
#: access below it.
_STACK_GAPS: Final = (1, 2, 3, 5, 254, 255, 256, 257, 258)
_STACK_STEPS: Final = (1, 1, 1, 2, 3, 8, 2040, 2048)
_AFTER_GUARD: Final = (
    MADV_DONTNEED,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_REMOVE,
    MADV_POPULATE_WRITE,
    MADV_GUARD_REMOVE,
    MADV_GUARD_REMOVE,
)
_POPULATING: Final = (MAP_LOCKED, MAP_LOCKED, MAP_POPULATE, MAP_POPULATE | MAP_NONBLOCK, 0)
_RWX: Final = _RW | PROT_EXEC
_OTHER_PROTS: Final = (PROT_READ, PROT_READ, PROT_NONE, _RWX)
#: Which of three neighbours are faulted.
_FAULTED: Final = ((0,), (1,), (1,), (2,), (0, 2), (0, 2))
#: Which of three neighbours there are, in the order in which they are mapped; the middle one always.
_MIDDLES: Final = ((0, 1), (1, 0), (1, 2), (2, 1), (0, 1, 2), (1, 0, 2), (2, 0, 1))
_MISSING: Final = UFFDIO_REGISTER_MODE_MISSING
_MINOR: Final = UFFDIO_REGISTER_MODE_MINOR
_RECLAIMING: Final = (
    MADV_PAGEOUT,
    MADV_PAGEOUT,
    MADV_COLD,
    MADV_DONTNEED,
    MADV_REMOVE,
    MADV_DONTNEED_LOCKED,
)
_WP: Final = UFFDIO_REGISTER_MODE_WP
_MODES: Final = (_MISSING, _MISSING, _WP, _MISSING | _WP, _MISSING | _WP)


def tell_faulted(aim: Aim) -> Steps:
    """A VMA moves to a free place and gets a like neighbour there: anonymous memory merges only if it was unfaulted."""
    yield from _tell_faulted(aim, aim.vma())


def _tell_faulted(aim: Aim, vma: Vma | None) -> Steps:
    start = vma.start if vma else aim.page()
    length = min(vma.end - start, _MUCH) if vma else PAGE
    prot, flags = _like(vma)
    at = aim.away(length)
    yield Mremap(start, length, length, _MOVE, at)
    yield Mmap(at + length if aim.chance(0.7) else at - PAGE, PAGE, prot, flags, -1, 0)


def _like(vma: Vma | None) -> tuple[int, int]:
    """Protection and flags of anonymous memory that is like `vma`."""
    flags = _ANON | MAP_FIXED
    if vma is None:
        return _RW, flags
    for vm_flag, flag in _VM_FLAGS:
        if vma.flags & vm_flag:
            flags |= flag
    return vma.flags & _VM_ACCESS, flags


def tell_present(aim: Aim) -> Steps:
    """A VMA is registered with a userfaultfd and accessed: what is there already raises no fault."""
    vma = aim.vma()
    start = vma.start if vma else aim.page()
    length = min(vma.end - start, _MUCH) if vma else PAGE
    if aim.has_uffd():
        mode = _MISSING if aim.chance(0.75) else _MINOR
        yield UffdRegister(aim.uffd(), start, length, mode)
    yield Touch(start, 1 + aim.below(min(8, length // PAGE)), aim.access())


def populate(aim: Aim) -> Steps:
    """Memory that is faulted in, or not, when it is mapped, grown or advised; a userfaultfd then tells."""
    at, length = aim.low_page(), aim.small()
    kind = _ANON if aim.chance(0.7) else MAP_SHARED | MAP_ANONYMOUS
    prot = aim.pick((_RW, _RW, PROT_READ, PROT_WRITE, PROT_NONE))
    yield Mmap(at, length, prot, kind | MAP_FIXED | aim.pick(_POPULATING), -1, 0)
    draw = aim.random()
    if draw < 0.4:
        more = aim.small()
        yield Mremap(at, length, length + more, aim.pick((0, MREMAP_MAYMOVE)), 0)
        length += more
    elif draw < 0.7:
        advice = aim.pick((MADV_POPULATE_READ, MADV_POPULATE_WRITE))
        yield Madvise(at, length + aim.below(2) * PAGE, advice)
    if aim.has_uffd():
        yield UffdRegister(aim.uffd(), at, length, _MISSING)
    pages = min(8, length // PAGE)
    yield Touch(at + length - pages * PAGE, pages, aim.access())


def reclaim(aim: Aim) -> Steps:
    """Shared memory, some of it read and some written, loses pages to an advice; a userfaultfd then tells which."""
    at, length = aim.low_page(), aim.small()
    shared = aim.chance(0.8)
    if aim.chance(0.5):
        kind = MAP_SHARED | MAP_ANONYMOUS if shared else MAP_PRIVATE | MAP_ANONYMOUS
        fd = -1
    else:
        kind, fd = (MAP_SHARED if shared else MAP_PRIVATE), aim.file()
    yield Mmap(at, length, _RW, kind | MAP_FIXED, fd, 0)
    pages = min(8, length // PAGE)
    yield Touch(at, pages, ACCESS_READ if aim.chance(0.6) else ACCESS_WRITE)
    if aim.chance(0.5):
        yield Touch(at + aim.below(pages) * PAGE, 1 + aim.below(pages), aim.access())
    yield Madvise(at, length, aim.pick(_RECLAIMING))
    if aim.has_uffd():
        yield UffdRegister(aim.uffd(), at, length, aim.pick((_MINOR, _MINOR, _MISSING)))
    yield Touch(at, pages, aim.access())


def move_faulted_back(aim: Aim) -> Steps:
    """A VMA, mostly faulted, moves away, gets other neighbours at its old place and returns."""
    vma = aim.writable()
    start = vma.start if vma else aim.page()
    length = min(vma.end - start, _MUCH) if vma else PAGE
    prot, flags = _like(vma)
    if aim.chance(0.6):
        yield Touch(start, 1, ACCESS_WRITE)
    at = aim.away(length)
    yield Mremap(start, length, length, _MOVE, at)
    for neighbour in (start - PAGE, start + length):
        if aim.chance(0.5):
            yield Mmap(neighbour, PAGE, prot, flags, -1, 0)
            if aim.chance(0.2):
                yield Touch(neighbour, 1, ACCESS_WRITE)
    yield Mremap(at, length, length, _MOVE, start)
    yield from _tell_faulted(aim, _at(aim, start))


def keep_part(aim: Aim) -> Steps:
    """MREMAP_DONTUNMAP of a VMA, mostly a faulted one, or a part of it; then the source is asked."""
    vma = aim.writable()
    start = vma.start if vma else aim.page()
    length = min(vma.end - start, _MUCH) if vma else PAGE
    if aim.chance(0.7):
        yield Touch(start, 1, ACCESS_WRITE)
    if aim.chance(0.6):
        length = min(length, aim.small())
    if aim.chance(0.3):
        # Its pages are found by its old place from then on.
        there = aim.target(start, length)
        yield Mremap(start, length, length, _MOVE, there)
        start = there
    flags = _MOVE if aim.chance(0.7) else MREMAP_MAYMOVE
    yield Mremap(start, length, length, flags | MREMAP_DONTUNMAP, aim.away(length))
    if aim.chance(0.5):
        yield from _tell_faulted(aim, _at(aim, start))
    else:
        prot, like = _like(_at(aim, start))
        beside = start + length if aim.chance(0.7) else start - PAGE
        yield Mmap(beside & WORD, PAGE, prot, like, -1, 0)


def bridge(aim: Aim) -> Steps:
    """Two like mappings, faulted or not, and then what fills the gap between them: mapped, moved or grown there."""
    flags, fd = aim.kind()
    flags |= MAP_FIXED
    at, low, gap, high = aim.low_page(), aim.small(), aim.small(), aim.small()
    offset = aim.offset(at, fd) if fd >= 0 else 0
    into, above = at + low, at + low + gap
    yield Mmap(at, low, _RW, flags, fd, offset)
    yield Mmap(above, high, _RW, flags, fd, offset + (low + gap) * (fd >= 0))
    if aim.chance(0.6):
        yield Touch(at, 1, ACCESS_WRITE)
    if aim.chance(0.6):
        yield Touch(above, 1, ACCESS_WRITE)
    draw = aim.random()
    if draw < 0.5:
        yield Mmap(into, gap, _RW, flags, fd, offset + low * (fd >= 0))
    elif draw < 0.7:
        yield Mremap(at, low, low + gap, aim.pick((0, MREMAP_MAYMOVE)), 0)
    else:
        away = aim.away(gap)
        yield Mmap(away, gap, _RW, flags, fd, offset + low * (fd >= 0))
        if aim.chance(0.4):
            yield Touch(away, 1, ACCESS_WRITE)
        yield Mremap(away, gap, gap, _MOVE, into)
    yield from _tell_faulted(aim, _at(aim, aim.pick((at, into, above))))


def middle(aim: Aim) -> Steps:
    """Two or three neighbours, mostly one of them faulted; one has another protection until it, or an end of it, is
    made alike."""
    flags, fd = (_ANON, -1) if aim.chance(0.6) else aim.kind()
    start = aim.low_page()
    offset = aim.offset(start, fd) if fd >= 0 else 0
    lengths = aim.small(), aim.small(), aim.small()
    faulted = aim.pick(_FAULTED)
    for i in aim.pick(_MIDDLES):
        distance = sum(lengths[:i])
        prot = _RW if i != 1 else _RWX if faulted == (1,) else aim.pick(_OTHER_PROTS)
        at, there = start + distance, offset + distance * (fd >= 0)
        yield Mmap(at, lengths[i], prot, flags | MAP_FIXED, fd, there)
        if i in faulted or aim.chance(0.1):
            yield Touch(at, 1, ACCESS_WRITE)
    at = start + lengths[0]
    draw = aim.random()
    if draw < 0.6:
        yield Mprotect(at, lengths[1], _RW)
    else:
        at += lengths[1] - PAGE if draw < 0.8 else 0
        yield Mprotect(at, PAGE, _RW)
    yield from _tell_faulted(aim, _at(aim, at))


def lend(aim: Aim) -> Steps:
    """A faulted mapping moves next to one that is faulted there, and back; then the gap between them is filled."""
    flags, fd = aim.kind()
    flags |= MAP_FIXED
    at, low, high = aim.low_page(), aim.small(), aim.small()
    gap = high + aim.below(2) * PAGE
    offset = aim.offset(at, fd) if fd >= 0 else 0
    into, above = at + low, at + low + gap
    yield Mmap(at, low, _RW, flags, fd, offset)
    yield Mmap(above, high, _RW, flags, fd, offset + (low + gap) * (fd >= 0))
    yield Touch(above, 1, ACCESS_WRITE)
    yield Mremap(above, high, high, _MOVE, into)
    yield Touch(at, 1, ACCESS_WRITE)
    yield Mremap(into, high, high, _MOVE, above)
    yield Mmap(into, gap, _RW, flags, fd, offset + low * (fd >= 0))


def guard(aim: Aim) -> Steps:
    """Guard regions in a VMA, what may happen to them, and an access to see."""
    vma = aim.writable()
    start = aim.inside(vma) if vma else aim.page()
    length = min(vma.end - start, aim.small()) if vma else PAGE
    if aim.chance(0.5):
        yield Touch(start, length // PAGE, aim.access())
    yield Madvise(start, length, MADV_GUARD_INSTALL if aim.chance(0.8) else MADV_GUARD_REMOVE)
    draw = aim.random()
    if draw < 0.5:
        yield Madvise(start, length if aim.chance(0.6) else PAGE, aim.pick(_AFTER_GUARD))
    elif draw < 0.65:
        at = aim.away(length)
        yield Mremap(start, length, length, _MOVE, at)
        start = at if aim.chance(0.6) else start
    elif draw < 0.8:
        if aim.chance(0.5):
            yield Munmap(start, length)
        prot, flags = _like(vma)
        yield Mmap(start, length, prot, flags, -1, 0)
    if aim.has_uffd() and aim.chance(0.45):
        yield UffdRegister(aim.uffd(), start, length, _MISSING)
    yield Touch(start, min(8, length // PAGE + aim.below(2)), aim.access())


def grow_stack(aim: Aim) -> Steps:
    """A mapping that grows down, with a neighbour below it or none: accesses below it, protections, hints."""
    at = aim.low_page() + aim.pick((0, 256, 258)) * PAGE
    length = aim.small()
    yield Mmap(at, length, aim.prot(), _ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0)
    steps = aim.pick(_STACK_STEPS), aim.pick(_STACK_STEPS)
    if aim.chance(0.6):
        flags, fd = aim.kind()
        gap = aim.pick(_STACK_GAPS)
        if gap > 250 and aim.chance(0.7):
            # So much is left below the page that it grows to.
            gap += steps[0]
        yield Mmap(at - (gap + 1) * PAGE, PAGE, aim.prot(), flags | MAP_FIXED, fd, 0)
    for step in steps:
        draw = aim.random()
        down = at - step * PAGE
        if draw < 0.55:
            yield Touch(down, 1, aim.access())
        elif draw < 0.7:
            inner = at + aim.below(length // PAGE) * PAGE
            yield Mprotect(inner, PAGE, aim.prot() | PROT_GROWSDOWN)
        elif draw < 0.8:
            yield Mmap(at - aim.pick(_STACK_GAPS) * PAGE, PAGE, _RW, _ANON, -1, 0)
        else:
            yield from _tell_faulted(aim, _at(aim, at))


def register_twice(aim: Aim) -> Steps:
    """Memory that is registered in parts, with other modes and by another userfaultfd."""
    at, low, high = aim.low_page(), aim.small(), aim.small()
    shared = aim.chance(0.3)
    flags, fd = (MAP_SHARED | MAP_ANONYMOUS, -1) if shared else aim.kind()
    whole = low + high
    yield Mmap(at, whole, _RW, flags | MAP_FIXED, fd, aim.offset(at, fd))
    if aim.chance(0.5 if shared else 0.3):
        yield Touch(at, 1 + aim.below(3), aim.access())
        if aim.chance(0.5):
            yield Madvise(at, whole, MADV_DONTNEED)
    parts = ((at, low), (at + low, high), (at, whole))
    mode = _MINOR if aim.chance(0.4 if shared else 0.1) else aim.pick(_MODES)
    yield UffdRegister(aim.uffd(), *parts[0], mode)
    for _ in range(aim.pick((1, 1, 2, 3))):
        start, length = aim.pick(parts) if aim.chance(0.4) else parts[1]
        draw = aim.random()
        if draw < 0.15:
            yield UffdUnregister(aim.uffd(), start, length)
        elif draw < 0.35:
            yield Touch(start, 1 + aim.below(3), aim.access())
        else:
            mode = mode if aim.chance(0.5) else aim.pick(_MODES)
            yield UffdRegister(aim.uffd(), start, length, mode)


def reach_address_limit(aim: Aim) -> Steps:
    """All but a few pages of RLIMIT_AS are mapped, without access; then more is asked for."""
    slack = aim.pick((0, 0, 1, 2, 3, 5)) * PAGE
    if aim.chance(0.7):
        yield Mmap(aim.low_page(), aim.small(), _RW, _ANON | MAP_FIXED, -1, 0)
    yield Mmap(0, max(PAGE, aim.room() - slack), PROT_NONE, _ANON | MAP_NORESERVE, -1, 0)
    for _ in range(aim.pick((1, 1, 2, 3))):
        draw = aim.random()
        vma = aim.vma()
        start = vma.start if vma else aim.page()
        length = min(vma.end - start, 8 * PAGE) if vma else PAGE
        more = max(0, slack + aim.pick((-1, 0, 0, 1, 1)) * PAGE)
        if draw < 0.3:
            flags = _ANON if aim.chance(0.2) else _ANON | MAP_FIXED
            last = vma.end - PAGE if vma else start
            at = aim.pick((start - PAGE, start, start + PAGE, last, last))
            yield Mmap(at, more + aim.below(3) * PAGE, aim.prot(), flags, -1, 0)
        elif draw < 0.6:
            target = aim.target(start, length)
            yield Mremap(start, length, length, _MOVE | MREMAP_DONTUNMAP, target)
        elif draw < 0.85:
            end = vma.end if vma else start + length
            flags = aim.pick((0, MREMAP_MAYMOVE, _MOVE))
            target = aim.target(start, length + more) if flags == _MOVE else 0
            yield Mremap(end - PAGE, PAGE, PAGE + more, flags, target)
        else:
            yield Munmap(start, PAGE)


def reach_lock_limit(aim: Aim) -> Steps:
    """All but a few pages of RLIMIT_MEMLOCK are locked, without access; then more is to be locked."""
    at = aim.away(_MUCH)
    flags = _ANON | MAP_FIXED | MAP_LOCKED
    slack = aim.pick((0, 0, 1, 2, 3)) * PAGE
    length = max(PAGE, aim.room(locked=True) - slack)
    yield Mmap(at, length, PROT_NONE, flags, -1, 0)
    for _ in range(aim.pick((1, 2, 2, 3))):
        draw = aim.random()
        more = max(PAGE, slack + aim.pick((-1, 0, 0, 1, 1)) * PAGE)
        if draw < 0.25:
            yield Munmap(at + aim.below(2) * PAGE, aim.small())
        elif draw < 0.4:
            yield Mmap(at + aim.below(2) * PAGE, aim.small(), PROT_NONE, flags & ~MAP_LOCKED, -1, 0)
        elif draw < 0.7:
            yield Mmap(aim.low_page(), more, PROT_NONE, flags, -1, 0)
        elif draw < 0.85:
            yield Mremap(at + length - PAGE, PAGE, PAGE + more, MREMAP_MAYMOVE, 0)
        else:
            dontunmap = MREMAP_DONTUNMAP if aim.chance(0.5) else 0
            yield Mremap(at, 2 * PAGE, 2 * PAGE, _MOVE | dontunmap, aim.low_page())


def place_part(aim: Aim) -> Steps:
    """A part of a large mapping is copied, or grown, to where the kernel likes."""
    flags, fd = aim.kind()
    at = aim.away(_MUCH)
    skip, length = aim.below(4) * PAGE, aim.pick((512, 513, 1023, 1024)) * PAGE
    yield Mmap(at, skip + length, aim.prot(), flags | MAP_FIXED, fd, aim.offset(at, fd))
    at += skip
    if aim.chance(0.5):
        hint = 0 if aim.chance(0.7) else aim.mapped()
        yield Mremap(at, length, length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, hint)
    else:
        yield Mremap(at, length - PAGE, length + aim.below(3) * PAGE, MREMAP_MAYMOVE, 0)


def _at(aim: Aim, addr: int) -> Vma | None:
    """The program's VMA at `addr`, if there is one."""
    return next((vma for vma in aim.vmas if vma.start <= addr < vma.end), None)


#: As likely as they are frequent.
BUILDING: Final = (
    *(bridge,) * 2,
    *(middle,) * 2,
    lend,
    grow_stack,
    place_part,
    populate,
    reclaim,
    *(register_twice,) * 2,
)
ASKING: Final = (
    *(tell_faulted,) * 3,
    tell_present,
    *(move_faulted_back,) * 2,
    keep_part,
    guard,
    guard,
    reach_address_limit,
    reach_lock_limit,
)
