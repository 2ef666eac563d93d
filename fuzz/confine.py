"""Recipes and draws for what confines a process: locks, seals, the heap, soft limits, the mapping limit.

Like all recipes they work on any space, and know nothing of what a call should return. Seals cost the executor its
address space, locking everything a walk over its own, filling a quarter of a second: hence they are rare.
"""

from collections.abc import Callable
from typing import Any, Final

from abi.calls import (
    Brk,
    Call,
    Fill,
    Kind,
    Madvise,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mprotect,
    Mremap,
    Mseal,
    Munlock,
    Munlockall,
    Munmap,
    Setrlimit,
    Touch,
)
from abi.consts import (
    ACCESS_WRITE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PAGE_SHIFT,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    RLIMIT_STACK,
    WORD,
)
from fuzz.aim import Aim, Steps

_RW: Final = PROT_READ | PROT_WRITE
_ANON: Final = MAP_PRIVATE | MAP_ANONYMOUS
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
#: Where the filler goes: far from all else.
FILLER: Final = 0x3000_0000_0000
_VM_WRITE: Final = 2
_VM_SHARED_OR_STACK: Final = 0x108
_DISCARDING: Final = (
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_DONTFORK,
    MADV_WIPEONFORK,
    MADV_GUARD_INSTALL,
)
#: Advice that is set and taken back.
_PAIRS: Final = (
    (MADV_MERGEABLE, MADV_UNMERGEABLE),
    (MADV_HUGEPAGE, MADV_NOHUGEPAGE),
    (MADV_DONTDUMP, MADV_DODUMP),
    (MADV_DONTFORK, MADV_DOFORK),
    (MADV_WIPEONFORK, MADV_KEEPONFORK),
    (MADV_SEQUENTIAL, MADV_NORMAL),
)
#: Bytes by which the break misses a page.
_ODD: Final = (0, 0, 0, 1, 0x10, PAGE - 1)
_NEAR: Final = (-1, 0, 0, 0, 1, 1, 2)
_SPARE: Final = (0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9)
_MCL: Final = (
    MCL_CURRENT,
    MCL_CURRENT | MCL_ONFAULT,
    MCL_FUTURE,
    MCL_FUTURE,
    MCL_FUTURE | MCL_ONFAULT,
    MCL_CURRENT | MCL_FUTURE,
    MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT,
)


# Calls, one draw each.


def lock(aim: Aim) -> Call:
    """mlock or mlock2 of a span."""
    addr, length = _range(aim)
    if aim.chance(0.6):
        return Mlock(addr, length)
    return Mlock2(addr, length, MLOCK_ONFAULT if aim.chance(0.85) else 0)


def unlock(aim: Aim) -> Call:
    """munlock of a span."""
    return Munlock(*_range(aim))


def lock_all(aim: Aim) -> Call:
    """mlockall, or the reverse."""
    return Mlockall(aim.pick(_MCL)) if aim.chance(0.5) else Munlockall()


def seal(aim: Aim) -> Call:
    """mseal of a span."""
    return Mseal(*_range(aim), 0)


def move_break(aim: Aim) -> Call:
    """brk near where it is, near its start, or near a mapping above."""
    start, now = _heap(aim)
    draw = aim.random()
    if draw < 0.5:
        return Brk(now + aim.below(9) * PAGE - 4 * PAGE + aim.pick(_ODD) & WORD)
    if draw < 0.9:
        return Brk(start + aim.below(12) * PAGE + aim.pick(_ODD))
    return Brk(aim.spoil(now, Kind.ADDRESS))


def limit(aim: Aim) -> Call:
    """setrlimit near what is used."""
    resource = aim.pick((RLIMIT_AS, RLIMIT_DATA, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK))
    pages = _used(aim, resource) + aim.below(12) - 1
    return Setrlimit(resource, max(0, pages * PAGE + aim.pick((0, 0, 0, 1, -1))))


def fill(aim: Aim) -> Call:
    """All mappings but a few."""
    return Fill(FILLER, aim.pick(_SPARE))


# Recipes.


def lock_part(aim: Aim) -> Steps:
    """A part of what is mapped is locked; then something that locked memory does otherwise."""
    addr, length = _range(aim)
    yield Mlock(addr, length) if aim.chance(0.6) else Mlock2(addr, length, MLOCK_ONFAULT)
    draw = aim.random()
    if draw < 0.3:
        start, size = aim.span()
        flags = _MOVE | (MREMAP_DONTUNMAP if aim.chance(0.2) else 0)
        yield Mremap(start, size, size, flags, aim.target(start, size))
    elif draw < 0.5:
        yield Madvise(addr, length, aim.advice())
    elif draw < 0.65:
        yield Mremap(addr, length, length + aim.pages(), MREMAP_MAYMOVE, 0)
    elif draw < 0.8:
        yield Mprotect(addr, length, aim.prot())
    yield unlock(aim) if aim.chance(0.6) else lock(aim)


def lock_unpopulated(aim: Aim) -> Steps:
    """Memory of which some pages cannot be faulted in is locked."""
    at, length = aim.low_page(), aim.small() + PAGE
    draw = aim.random()
    if draw < 0.4:
        yield Mmap(at, length, _RW, _ANON | MAP_FIXED, -1, 0)
        hole = at + aim.below(length // PAGE) * PAGE
        if draw < 0.2:
            yield Mprotect(hole, PAGE, PROT_NONE)
        else:
            yield Madvise(hole, PAGE, MADV_GUARD_INSTALL)
    elif draw < 0.8:
        kind = MAP_SHARED if aim.chance(0.5) else MAP_PRIVATE
        yield Mmap(at, length, _RW, kind | MAP_FIXED, aim.file(), (62 + aim.below(2)) * PAGE)
    else:
        yield Mmap(at, length, _RW, MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    yield Mlock(at, length) if aim.chance(0.8) else Mlock2(at, length, MLOCK_ONFAULT)
    yield Touch(at, length // PAGE, aim.access())


def lock_later(aim: Aim) -> Steps:
    """MCL_FUTURE, then mappings of several kinds."""
    yield Mlockall(aim.pick(_MCL))
    for _ in range(aim.pick((1, 2, 3))):
        flags, fd = aim.kind()
        if aim.chance(0.2):
            flags |= MAP_GROWSDOWN
        addr = aim.low_page()
        yield Mmap(addr, aim.small(), aim.prot(), flags | MAP_FIXED, fd, aim.offset(addr, fd))
    if aim.chance(0.4):
        yield move_break(aim)
    if aim.chance(0.4):
        yield lock_all(aim)


def lock_rest(aim: Aim) -> Steps:
    """A part of what is mapped is locked, then all of it, mostly in the same way, or none: what was cut merges."""
    onfault = aim.chance(0.3)
    if aim.chance(0.5):
        addr, pages = aim.low_page(), aim.pick((3, 4, 6))
        yield Mmap(addr, pages * PAGE, _RW, _ANON | MAP_FIXED, -1, 0)
        parts = [(addr, (1 + aim.below(pages - 2)) * PAGE)]
    else:
        parts = [_part(aim) if aim.chance(0.7) else _range(aim) for _ in range(aim.pick((1, 2)))]
    for addr, length in parts:
        yield Mlock2(addr, length, MLOCK_ONFAULT) if onfault else Mlock(addr, length)
    if aim.chance(0.5):
        # What merges has a neighbour that does not.
        yield Mprotect(addr + length + (1 + aim.below(2)) * PAGE, PAGE, aim.prot())
    alike = MCL_CURRENT | (MCL_ONFAULT if onfault else 0)
    draw = aim.random()
    if draw < 0.7:
        yield Mlockall(alike if draw < 0.45 else aim.pick(_MCL))
    else:
        yield Munlockall()
    if aim.chance(0.3):
        yield lock_all(aim)


def lock_again(aim: Aim) -> Steps:
    """A range that is partly locked, with a limit that lets no more than the rest be locked."""
    start, length = aim.span(2 if aim.chance(0.4) else 1)
    yield Mlock2(start + aim.below(2) * PAGE, max(PAGE, length // 2 & -PAGE), MLOCK_ONFAULT)
    pages = _used(aim, RLIMIT_MEMLOCK) + aim.below(length // PAGE + 2)
    yield Setrlimit(RLIMIT_MEMLOCK, pages * PAGE)
    yield Mlock2(start, length, MLOCK_ONFAULT) if aim.chance(0.5) else Mlock(start, length)


def seal_part(aim: Aim) -> Steps:
    """A part is sealed; then what a seal forbids is tried on it or over it."""
    addr, length = aim.span()
    if aim.chance(0.4):
        addr, length = addr + aim.below(2) * PAGE, PAGE
    yield Mseal(addr, length, 0)
    if aim.chance(0.3):
        more = aim.pick((0, 1, 1, 2)) * PAGE
        yield Mseal(addr - more & WORD, length + more + aim.below(3) * PAGE, 0)
    for _ in range(aim.pick((1, 2, 2, 3))):
        draw = aim.random()
        start, size = aim.span(2 if aim.chance(0.4) else 1)
        if draw < 0.15:
            yield Munmap(start, size)
        elif draw < 0.3:
            yield Mmap(start, size, aim.prot(), _ANON | MAP_FIXED, -1, 0)
        elif draw < 0.6:
            yield Mremap(start, size, size, _MOVE, aim.target(start, size))
        elif draw < 0.7:
            yield Mprotect(start, size, aim.prot())
        elif draw < 0.85:
            yield Madvise(addr, length, aim.pick(_DISCARDING))
        else:
            yield Mseal(start, size, 0)


def outlast(aim: Aim) -> Steps:
    """A VMA is marked, other marks are set and taken away; then what the first one forbids or does is tried."""
    vma = aim.vma()
    addr = vma.start if vma else aim.page()
    length = min(vma.end - addr, 16 * PAGE) if vma else PAGE
    there, back = aim.pick(_PAIRS)
    sealed = aim.chance(0.6)
    first: Call = Mseal(addr, length, 0) if sealed else Mlock2(addr, length, MLOCK_ONFAULT)
    if aim.chance(0.5):
        yield Madvise(addr, length, there)
        yield first
    else:
        yield first
        yield Madvise(addr, length, there)
    yield Madvise(addr, length if aim.chance(0.7) else PAGE, back)
    draw = aim.random()
    if draw < 0.3:
        yield Mprotect(addr, length, aim.prot())
    elif draw < 0.6:
        yield Munmap(addr, PAGE if aim.chance(0.5) else length)
    elif draw < 0.8:
        yield Mremap(addr, length, length, _MOVE, aim.away(length))
    else:
        yield Madvise(addr, length, aim.pick(_DISCARDING))


def use_heap(aim: Aim) -> Steps:
    """The heap grows, something is done to a part of it, and the break moves again."""
    start, _ = _heap(aim)
    pages = 1 + aim.below(6)
    yield Brk(start + pages * PAGE + aim.pick(_ODD))
    for _ in range(aim.pick((0, 1, 1, 2))):
        addr = start + aim.below(pages + 3) * PAGE
        draw = aim.random()
        if draw < 0.2:
            yield Touch(addr, 1, ACCESS_WRITE)
        elif draw < 0.4:
            yield Munmap(addr, aim.small() if aim.chance(0.5) else (pages + 1) * PAGE)
        elif draw < 0.55:
            yield Mprotect(addr, PAGE, aim.pick((PROT_READ, _RW)))
        elif draw < 0.65:
            yield Madvise(addr, PAGE, aim.pick((MADV_RANDOM, MADV_DONTFORK)))
        elif draw < 0.9:
            stack = MAP_GROWSDOWN if aim.chance(0.2) else 0
            addr += aim.pick((0, 0, 0, 257)) * PAGE
            yield Mmap(addr, PAGE, aim.pick((_RW, PROT_NONE)), _ANON | MAP_FIXED | stack, -1, 0)
        else:
            yield Mremap(addr, PAGE, PAGE, _MOVE, aim.low_page())
    yield move_break(aim)
    if aim.chance(0.5):
        yield move_break(aim)


def reach_limit(aim: Aim) -> Steps:
    """A soft limit is set next to what is used; then more is asked for in several ways."""
    resource = aim.pick((RLIMIT_DATA, RLIMIT_DATA, RLIMIT_AS, RLIMIT_STACK))
    at = aim.low_page()
    stack = MAP_GROWSDOWN if resource == RLIMIT_STACK else 0
    yield Mmap(at + 8 * PAGE, aim.small() + PAGE, _RW, _ANON | MAP_FIXED | stack, -1, 0)
    room = aim.below(5)
    used = aim.pick((2, 3, 4, 5)) if resource == RLIMIT_STACK else _used(aim, resource) + room
    yield Setrlimit(resource, 0 if aim.chance(0.1) else used * PAGE)
    for _ in range(aim.pick((1, 2, 3))):
        more = max(1, room + aim.pick(_NEAR)) * PAGE
        draw = aim.random()
        if stack and draw < 0.6:
            yield Touch(at + (8 - aim.below(5)) * PAGE, 1, ACCESS_WRITE)
        elif draw < 0.3:
            yield Mmap(at + aim.below(8) * PAGE, more, aim.prot(), _ANON | MAP_FIXED, -1, 0)
        elif draw < 0.5:
            yield Mremap(at + 8 * PAGE, PAGE, PAGE + more, MREMAP_MAYMOVE, 0)
        elif draw < 0.65:
            yield Mremap(at + 8 * PAGE, PAGE, PAGE, _MOVE | MREMAP_DONTUNMAP, at)
        elif draw < 0.85:
            yield Mprotect(at + 8 * PAGE, more, aim.pick((PROT_READ, _RW)))
        else:
            yield Brk(_heap(aim)[0] + more)


def reach_map_limit(aim: Aim) -> Steps:
    """Few mappings are left: then calls that need some, above all moves of several VMAs into one."""
    at, target = aim.low_page(), aim.away(32 * PAGE)
    count = aim.pick((1, 2, 3, 4))
    for i in range(count):
        yield Mmap(at + 3 * i * PAGE, 2 * PAGE, aim.prot(), _ANON | MAP_FIXED, -1, 0)
    yield Mmap(target, 32 * PAGE, _RW, _ANON | MAP_FIXED, -1, 0)
    yield fill(aim)
    for _ in range(aim.pick((2, 3, 4))):
        draw = aim.random()
        start, size = at + aim.below(2) * PAGE, 3 * count * PAGE - aim.below(3) * PAGE
        flags = _MOVE | (MREMAP_DONTUNMAP if aim.chance(0.15) else 0)
        inside = target + (1 + aim.below(8)) * PAGE
        if draw < 0.4:
            yield Mremap(start, size, size, flags, inside)
        elif draw < 0.5:
            yield Mremap(inside, PAGE, aim.pages(), MREMAP_MAYMOVE, 0)
        elif draw < 0.6:
            yield Munmap(inside, PAGE)
        elif draw < 0.7:
            yield Mprotect(inside, aim.pages(), PROT_READ)
        elif draw < 0.8:
            yield Mmap(inside, PAGE, PROT_READ, _ANON | MAP_FIXED, -1, 0)
        elif draw < 0.85:
            yield Mmap(at - 2 * PAGE, PAGE, PROT_READ, _ANON | MAP_FIXED, -1, 0)
        elif draw < 0.92:
            yield Madvise(inside, PAGE, MADV_RANDOM)
        else:
            yield Mlock2(inside, PAGE, MLOCK_ONFAULT)


def _range(aim: Aim) -> tuple[int, int]:
    if aim.random() < 0.6:
        return aim.span()
    addr = aim.mapped()
    return addr, aim.extent(addr)


def _part(aim: Aim) -> tuple[int, int]:
    """The pages of a VMA up to one of them, or from one on; mostly of a VMA that has several."""
    vma = aim.vma()
    for _ in range(3):
        if vma and vma.end - vma.start > PAGE:
            break
        vma = aim.vma()
    if vma is None:
        return _range(aim)
    cut = aim.inside(vma)
    if cut == vma.start or aim.chance(0.3):
        return cut, vma.end - cut
    return vma.start, cut - vma.start


def _heap(aim: Aim) -> tuple[int, int]:
    """The first byte of the heap and the break, as far as the space tells."""
    space: Any = aim.run.space
    brk = getattr(space, "brk", None)
    return (brk.start_brk, brk.brk) if brk else (aim.page(), aim.page())


def _used(aim: Aim, resource: int) -> int:
    """Pages that count towards a limit, as far as the space tells."""
    space: Any = aim.run.space
    if resource == RLIMIT_AS:
        return int(getattr(space, "total_vm", 0))
    if resource == RLIMIT_MEMLOCK:
        return int(getattr(space, "locked_vm", 0))
    if resource == RLIMIT_STACK:
        return 4
    counted = (v for v in space.vmas if v.flags & (_VM_WRITE | _VM_SHARED_OR_STACK) == _VM_WRITE)
    return int(sum(vma.end - vma.start for vma in counted)) >> PAGE_SHIFT


#: As likely as they are frequent; each among the draws and recipes of `fuzz.generate`.
DRAWS: Final[tuple[Callable[[Aim], Call], ...]] = (lock, lock, unlock, move_break, limit)
RARE_DRAWS: Final[tuple[Callable[[Aim], Call], ...]] = (seal, lock_all, fill)
RECIPES: Final = (lock_part, lock_part, lock_unpopulated, use_heap, use_heap, reach_limit)
RARE_RECIPES: Final = (
    seal_part,
    seal_part,
    outlast,
    lock_later,
    lock_rest,
    lock_again,
    reach_map_limit,
)


def confine(aim: Aim) -> Steps:
    """One of the recipes, a rare one rarely."""
    yield from aim.note(aim.pick(RARE_RECIPES if aim.chance(0.15) else RECIPES))(aim)


def confining(aim: Aim) -> Call:
    """One of the calls, a rare one rarely."""
    return aim.note(aim.pick(RARE_DRAWS if aim.chance(0.12) else DRAWS))(aim)
