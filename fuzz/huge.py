"""Recipes for huge pages, mostly of hugetlb: at their boundaries in the window, with small pages around them, and what
is done to both at once. Like all recipes they know nothing of what a call should return.
"""

from typing import Final

from abi.calls import (
    Call,
    Madvise,
    Mincore,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Prctl,
    Touch,
    UffdRegister,
)
from abi.consts import (
    ACCESS_WRITE,
    MADV_DODUMP,
    MADV_DONTDUMP,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_HUGEPAGE,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_HUGE_1GB,
    MAP_HUGE_2MB,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PMD_SIZE,
    PR_SET_THP_DISABLE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.aim import Aim, Steps

_RW: Final = PROT_READ | PROT_WRITE
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
_ANON: Final = MAP_PRIVATE | MAP_ANONYMOUS
_HUGE: Final = MAP_ANONYMOUS | MAP_HUGETLB
#: Pages beside a boundary of huge pages.
_BESIDE: Final = (0, 0, 0, 0, 0, -1, 1, -2, 2, 256)
_SIZES: Final = (0, 0, 0, 0, 0, MAP_HUGE_2MB, MAP_HUGE_2MB, MAP_HUGE_1GB, 20 << 26, 63 << 26)
_EXTRA: Final = (0, 0, 0, 0, 0, 0, MAP_POPULATE, MAP_LOCKED, MAP_NORESERVE)
_HUGE_PROTS: Final = (_RW, _RW, _RW, _RW, PROT_READ, PROT_READ, PROT_NONE, PROT_WRITE)
_LENGTHS: Final = (1, 1, 2, 511, 512, 512, 512, 512, 513, 1024)
_OFFSETS: Final = (0, 0, 0, 512, 512, 1024, 1536, 2048, 1)
_HUGE_ADVICE: Final = (
    MADV_DONTNEED,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_REMOVE,
    MADV_REMOVE,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_DONTDUMP,
    MADV_DODUMP,
)


def lay_huge(aim: Aim) -> Steps:
    """Huge pages, some of them written to, between small mappings that touch them; mostly something follows at once."""
    at = aim.huge_page()
    order = aim.pick((("huge",), ("huge", "small"), ("small", "huge"), ("small", "huge", "small")))
    if aim.chance(0.2):
        order = (*order, "huge")
    start = at
    for kind in order:
        if kind == "huge":
            at += -at % PMD_SIZE
            call = map_huge(aim, at)
            yield call
            if aim.chance(0.6):
                yield Touch(at + aim.below(3) * PAGE, 1 + aim.below(2), aim.access())
            at += call.length + -call.length % PMD_SIZE
        else:
            length = aim.small()
            if at == start:
                at = start = start - length
            flags, fd = aim.kind()
            yield Mmap(at, length, aim.prot(), flags | MAP_FIXED, fd, aim.offset(at, fd))
            at += length
    for _ in range(aim.pick((0, 1, 1, 2, 3))):
        yield use_huge(aim, start, at - start)


def ask_huge(aim: Aim) -> Steps:
    """One or two calls on huge pages that are there, or a mapping of some."""
    vmas = [vma for vma in aim.vmas if aim.is_huge(vma)]
    if not vmas:
        yield map_huge(aim, aim.huge_page())
        return
    for _ in range(aim.pick((1, 2))):
        vma = aim.pick(vmas)
        yield use_huge(aim, vma.start, vma.end - vma.start)


def map_huge(aim: Aim, at: int) -> Mmap:
    """A mapping in huge pages at `at`, anonymous or of the object."""
    flags = aim.pick((MAP_PRIVATE, MAP_SHARED))
    flags |= aim.pick(_EXTRA)
    draw = aim.random()
    if draw < 0.8:
        flags |= MAP_FIXED
    elif draw < 0.9:
        flags |= MAP_FIXED_NOREPLACE
    elif draw < 0.95:
        at += aim.pick(_BESIDE) * PAGE
    else:
        at = 0
    length, prot = aim.pick(_LENGTHS) * PAGE, aim.pick(_HUGE_PROTS)
    if aim.chance(0.5):
        offset = aim.pick(_OFFSETS) * PAGE
        return Mmap(at, length, prot, flags, aim.hugetlb(), offset)
    offset = 0 if aim.chance(0.9) else aim.pick(_OFFSETS) * PAGE
    return Mmap(at, length, prot, flags | _HUGE | aim.pick(_SIZES), -1, offset)


def use_huge(aim: Aim, start: int, length: int) -> Call:
    """A call on [start, start + length), which has huge pages in it, or on a part."""
    draw = aim.random()
    if draw < 0.4:
        return _move(aim, start, length)
    at = start + aim.below(length // PAGE + 1) * PAGE
    if aim.chance(0.7):
        at += -at % PMD_SIZE
    at += aim.pick(_BESIDE) * PAGE
    size = aim.pick(_LENGTHS) * PAGE
    if draw < 0.62:
        return Touch(at, 1 + aim.below(3), aim.access())
    if draw < 0.77:
        return Madvise(at, size, aim.pick(_HUGE_ADVICE))
    if draw < 0.84:
        return Munmap(at, size)
    if draw < 0.90:
        return Mprotect(at, size, aim.pick(_HUGE_PROTS))
    if draw < 0.94 and aim.has_uffd():
        return UffdRegister(aim.uffd(), at, size, aim.uffd_mode())
    size = aim.pick((size, size, 0))
    return Mremap(at, size, aim.pick(_LENGTHS) * PAGE, aim.pick((0, MREMAP_MAYMOVE)), 0)


def _move(aim: Aim, start: int, length: int) -> Mremap:
    """A fixed move of the whole range, or of what an end inside a huge page leaves of it, mostly such that huge pages
    stay at their boundaries."""
    if aim.chance(0.3):
        length = max(PAGE, length + aim.pick((-1, 1, -511, -512, -513)) * PAGE)
    target = aim.huge_page() + aim.pick((0, 0, 0, 16)) * PMD_SIZE + start % PMD_SIZE
    if aim.chance(0.15):
        target += aim.pick(_BESIDE) * PAGE
    flags = _MOVE | (MREMAP_DONTUNMAP if aim.chance(0.06) else 0)
    return Mremap(start, length, length, flags, target)


def copy_huge(aim: Aim) -> Steps:
    """The object, shared and written to, then private: what a write there copies, and a hole then takes."""
    at, fd = aim.huge_page(), aim.hugetlb()
    yield Mmap(at, PMD_SIZE, _RW, MAP_SHARED | MAP_FIXED, fd, 0)
    yield Touch(at + aim.below(4) * PAGE, 1, ACCESS_WRITE)
    there = at + aim.pick((1, 2)) * PMD_SIZE
    yield Mmap(there, PMD_SIZE, _RW, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, 0)
    yield Touch(there + aim.below(8) * PAGE, 1, ACCESS_WRITE)
    if aim.chance(0.4):
        yield Madvise(at + aim.below(2) * PAGE, aim.pick(_LENGTHS) * PAGE, MADV_REMOVE)


def lay_thp(aim: Aim) -> Steps:
    """Memory that may have transparent huge pages, which the program puts on first, written to and cut or moved."""
    yield Prctl(PR_SET_THP_DISABLE, 0, 0)
    at = aim.huge_page() + aim.pick((0, 0, 0, 8, -8)) * PAGE
    length = aim.pick((512, 512, 520, 1024, 1032)) * PAGE
    yield Mmap(at, length, _RW, _ANON | MAP_FIXED, -1, 0)
    if aim.chance(0.75):
        yield Madvise(at, length, MADV_HUGEPAGE)
    yield Touch(at + aim.below(length // PAGE) * PAGE, 1, ACCESS_WRITE)
    if aim.chance(0.3):
        yield Mincore(at, length)
    else:
        yield use_huge(aim, at, length)


def move_tables(aim: Aim) -> Steps:
    """Small pages across a boundary of page tables, with others in the same table, move to the same place of another,
    so that the table could move as a whole; then all are accessed."""
    source, target = aim.huge_page(), aim.huge_page()
    before, behind = 1 + aim.below(4), aim.below(4)
    offset = PMD_SIZE - before * PAGE if aim.chance(0.8) else aim.below(3) * PAGE
    at, to, length = source + offset, target + offset, (before + behind) * PAGE
    others = [base + aim.below(8) * PAGE for base in (source, target) if aim.chance(0.5)]
    for other in others:
        yield Mmap(other, PAGE, _RW, _ANON | MAP_FIXED, -1, 0)
        yield Touch(other, 1, ACCESS_WRITE)
    yield Mmap(at, length, _RW, _ANON | MAP_FIXED, -1, 0)
    yield Touch(at, length // PAGE, ACCESS_WRITE)
    yield Mremap(at, length, length, _MOVE, to if aim.chance(0.8) else to + PAGE)
    yield Touch(to, length // PAGE, aim.access())
    for other in others:
        yield Touch(other, 1, aim.access())


#: As likely as they are frequent, among the openings and the sequels.
LAYING: Final = (lay_huge, copy_huge, lay_thp, move_tables)
USING: Final = (ask_huge,)
