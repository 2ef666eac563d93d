"""Where a mapping goes, without randomisation: from the top down (x86-64, arch/x86/kernel/sys_x86_64.c), or from the
bottom up as where an architecture has no say (User-Mode-Linux, mm/mmap.c).

Every function gives an address or raises; a page offset counts in pages, all else in bytes.
"""

from bisect import bisect_left
from errno import EINVAL, ENOMEM, EPERM
from typing import Final

from abi.consts import (
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_FIXED,
    MAP_SHARED,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    WORD,
)
from model.errors import SyscallError
from model.flags import VM_GROWSDOWN
from model.profile import (
    ANONYMOUS_THP_AREA,
    DEVZERO_THP_AREA,
    FILES_NOT_ALIGNED,
    HUGETLB_AREA,
    MAP_ABOVE4G_KNOWN,
    THP_AREA_TOPDOWN,
)
from model.space import AddressSpace, guard_start
from model.vma import File

#: Addresses above it are given only to those who ask with a hint above it (5-level paging).
DEFAULT_MAP_WINDOW: Final = (1 << 47) - PAGE
_MAX_ERRNO: Final = 4095


def get_unmapped_area(
    space: AddressSpace, file: File | None, addr: int, length: int, pgoff: int, flags: int
) -> int:
    """The address for a mapping of `length` bytes; `addr` is a hint, or the place with MAP_FIXED in `flags`
    (mm/mmap.c: __get_unmapped_area()).

    Raises:
        SyscallError: ENOMEM, EINVAL or EPERM.
    """
    environment = space.environment
    if length > environment.task_size:
        # mm/mmap.c: __get_unmapped_area(): longer than the address space
        raise SyscallError(ENOMEM)
    if file and file.kind and file.kind.area:
        file.kind.area(space, addr, pgoff)
    if flags & MAP_FIXED:
        if file and file.inode.huge and (addr | length) & file.inode.huge - 1:
            # fs/hugetlbfs/inode.c: hugetlb_get_unmapped_area(): a fixed address or length inside a huge page
            raise SyscallError(EINVAL)
        if addr > WORD - _MAX_ERRNO:
            # mm/mmap.c: __get_unmapped_area(): taken for an errno
            raise SyscallError(WORD + 1 - addr)
    else:
        addr = _choose(space, file, addr, length, pgoff, flags)
    if addr > environment.task_size - length:
        raise SyscallError(ENOMEM)  # mm/mmap.c: __get_unmapped_area(): ends beyond TASK_SIZE
    if addr & PAGE - 1:
        raise SyscallError(EINVAL)  # mmap(2): a fixed address is not page-aligned
    if addr < environment.dac_mmap_min_addr and "SYS_RAWIO" not in environment.capabilities:
        raise SyscallError(EPERM)  # security/commoncap.c: cap_mmap_addr(): below vm.mmap_min_addr
    return addr


def _choose(
    space: AddressSpace, file: File | None, addr: int, length: int, pgoff: int, flags: int
) -> int:
    """What the file's get_unmapped_area, or the default for its kind, chooses."""
    if file is None:
        if not flags & MAP_SHARED and _is_aligned(space, addr, length):
            return _thp_area(space, addr, length, 0, flags)
        if flags & MAP_SHARED:
            return _shmem_area(space, addr, length, 0, flags)
        return _search(space, addr, length, flags)
    if file.below:
        return _default_area(space, addr, length, pgoff, flags)
    if file.inode.huge:
        return _huge_area(space, addr, length, flags, file.inode.huge)
    if file.inode.shmem or (file.zero and flags & MAP_SHARED):
        return _shmem_area(space, addr, length, pgoff, flags)
    if file.thp_area or (file.zero and DEVZERO_THP_AREA in space.changes):
        return _thp_area(space, addr, length, pgoff, flags)
    if file.own_area or (file.kind and file.kind.own_area):
        return _search(space, addr, length, flags)
    return _default_area(space, addr, length, pgoff, flags)


def _default_area(space: AddressSpace, addr: int, length: int, pgoff: int, flags: int) -> int:
    """For a file that has no get_unmapped_area (mm/mmap.c: __get_unmapped_area())."""
    if FILES_NOT_ALIGNED not in space.changes and _is_aligned(space, addr, length):
        return _thp_area(space, addr, length, pgoff, flags)
    return _search(space, addr, length, flags)


def _is_aligned(space: AddressSpace, hint: int, length: int) -> bool:
    """Without a hint, whole huge pages are placed so that they can be such (mm/mmap.c: __get_unmapped_area())."""
    return not hint and length % PMD_SIZE == 0 and ANONYMOUS_THP_AREA in space.changes


def _thp_area(space: AddressSpace, addr: int, length: int, pgoff: int, flags: int) -> int:
    """Aligned so that huge pages fit, where the kernel has any and the extent holds one
    (mm/huge_memory.c: thp_get_unmapped_area())."""
    off = _signed(pgoff << PAGE_SHIFT)
    off_align = _signed(off + PMD_SIZE - 1 & -PMD_SIZE)
    off_end = _signed(off + length)
    padded = length + PMD_SIZE
    unsigned = off & WORD
    if (
        "THP" in space.environment.config
        and off_end > off_align
        and off_end - off_align >= PMD_SIZE
        and padded <= WORD
        and (unsigned + padded & WORD) >= unsigned
        and padded <= space.environment.task_size
    ):
        try:
            found = _search(space, addr, padded, flags)
        except SyscallError:
            found = 0
        if found:
            if found == addr:
                return addr
            rest = off - found & PMD_SIZE - 1
            if not rest and THP_AREA_TOPDOWN in space.changes:
                rest = PMD_SIZE  # the gap is used from its end
            return found + rest
    return _search(space, addr, length, flags)


def _huge_area(space: AddressSpace, hint: int, length: int, flags: int, size: int) -> int:
    """Aligned to huge pages; so is the hint (fs/hugetlbfs/inode.c: hugetlb_get_unmapped_area())."""
    if HUGETLB_AREA not in space.changes:  # arch/x86/mm/hugetlbpage.c
        if 0 < hint < size and _is_free(space, 0, length):
            return 0  # rounded down, and no lowest address is looked at
        return _search(space, hint & -size, length, flags & ~(MAP_32BIT | MAP_ABOVE4G), size - PAGE)
    return _search(space, hint + size - 1 & WORD & -size, length, flags, size - PAGE)


def _shmem_area(space: AddressSpace, hint: int, length: int, pgoff: int, flags: int) -> int:
    """Aligned so that huge pages fit, where shmem may have them (mm/shmem.c: shmem_get_unmapped_area())."""
    addr = _search(space, hint, length, flags)
    offset = pgoff << PAGE_SHIFT & PMD_SIZE - 1
    if (
        "SHMEM_HUGE" not in space.environment.config
        or addr == hint
        or length < PMD_SIZE
        or (offset and offset + length < 2 * PMD_SIZE)
        or addr & PMD_SIZE - 1 == offset
    ):
        return addr
    try:
        found = _search(space, hint, length + PMD_SIZE - PAGE, flags)
    except SyscallError:
        return addr
    aligned = found + (offset - found & PMD_SIZE - 1)
    return addr if aligned > space.environment.task_size - length else aligned


def _search(space: AddressSpace, hint: int, length: int, flags: int, mask: int = 0) -> int:
    """The hint if it is free, else a gap, in the direction that the process has
    (mm/mmap.c: mm_get_unmapped_area_vmaflags())."""
    if "BOTTOM_UP" in space.environment.config:
        return _generic(space, hint, length, mask)
    return _topdown(space, hint, length, flags, mask)


def _generic(space: AddressSpace, hint: int, length: int, mask: int) -> int:
    """The hint if it is free, else the lowest gap above mmap_base (mm/mmap.c: generic_get_unmapped_area()); no flag of
    mmap matters."""
    environment = space.environment
    end, lowest = environment.task_size, environment.mmap_min_addr
    if length > end - lowest:
        raise SyscallError(ENOMEM)  # longer than the address space
    if hint:
        addr = hint + PAGE - 1 & WORD & -PAGE
        if end - length >= addr >= lowest and _is_free(space, addr, length):
            return addr
    return _lowest_gap(space, max(environment.geometry.top, lowest), end, length, mask)


def _topdown(space: AddressSpace, hint: int, length: int, flags: int, mask: int) -> int:
    """The hint if it is free, else the highest gap below mmap_base, else the lowest above TASK_UNMAPPED_BASE; in a gap,
    no bit of `mask` is set in the address (arch/x86/kernel/sys_x86_64.c: arch_get_unmapped_area_topdown())."""
    environment = space.environment
    task_size = environment.task_size
    if length > task_size:
        raise SyscallError(ENOMEM)  # longer than the address space
    if flags & MAP_32BIT:
        return _bottomup(space, hint, length, flags, mask)
    addr = hint & -PAGE
    if addr and _hint_valid(task_size, addr, length) and _is_free(space, addr, length):
        return addr
    high = environment.geometry.top
    if addr > DEFAULT_MAP_WINDOW:
        high += task_size - DEFAULT_MAP_WINDOW
    above = flags & MAP_ABOVE4G and MAP_ABOVE4G_KNOWN in space.changes
    low = max(1 << 32 if above else PAGE, environment.mmap_min_addr)
    found = _highest_gap(space, low, high, length, mask)
    return _bottomup(space, hint, length, flags, mask) if found is None else found


def _bottomup(space: AddressSpace, hint: int, length: int, flags: int, mask: int) -> int:
    """The hint if it is free, else the lowest gap (arch/x86/kernel/sys_x86_64.c: arch_get_unmapped_area())."""
    task_size = space.environment.task_size
    if flags & MAP_32BIT:
        begin, end = 0x4000_0000, 0x8000_0000
    else:
        begin = DEFAULT_MAP_WINDOW // 3 + PAGE - 1 & -PAGE
        end = task_size if hint > DEFAULT_MAP_WINDOW else DEFAULT_MAP_WINDOW
    if length > end:
        raise SyscallError(ENOMEM)  # longer than the range that is searched
    if hint:
        addr = hint + PAGE - 1 & WORD & -PAGE
        if end - length >= addr and _is_free(space, addr, length):
            return addr
    return _lowest_gap(space, max(begin, space.environment.mmap_min_addr), end, length, mask)


def _hint_valid(task_size: int, addr: int, length: int) -> bool:
    """A hint that does not straddle the 47-bit boundary (arch/x86/mm/mmap.c: mmap_address_hint_valid())."""
    if task_size - length < addr:
        return False
    return (addr > DEFAULT_MAP_WINDOW) == (addr + length > DEFAULT_MAP_WINDOW)


def _is_free(space: AddressSpace, addr: int, length: int) -> bool:
    """Nothing is mapped in the range, nor does a stack above need it as guard gap."""
    index = space.find(addr)
    if index == len(space.vmas):
        return True
    return addr + length <= guard_start(space.vmas[index], space.environment.stack_guard_gap)


def _highest_gap(
    space: AddressSpace, low: int, high: int, length: int, mask: int = 0
) -> int | None:
    """The address at the end of the highest gap of [low, high) that fits, with room to align
    (mm/vma.c: unmapped_area_topdown())."""
    vmas = space.vmas
    wanted, length = length, length + mask
    while True:
        index = bisect_left(space.starts, high)
        gap_end = high
        while gap_end - max(vmas[index - 1].end if index else 0, low) < length:
            if not index or gap_end <= low:
                return None
            index -= 1
            gap_end = min(vmas[index].start, high)
        addr = gap_end - wanted
        addr -= addr & mask
        if index == len(vmas):
            return addr
        guard = guard_start(vmas[index], space.environment.stack_guard_gap)
        if guard >= gap_end:
            return addr
        high = guard  # the stack above wants its guard gap: search again below it


def _lowest_gap(space: AddressSpace, low: int, high: int, length: int, mask: int) -> int:
    """The address at the start of the lowest gap of [low, high) that fits, with room to align
    (mm/vma.c: unmapped_area()).

    Raises:
        SyscallError: ENOMEM, there is none.
    """
    vmas = space.vmas
    length += mask
    index = space.find(low)
    gap_start = low
    if index < len(vmas) and vmas[index].start <= low:
        gap_start = vmas[index].end
        index += 1
    while gap_start < high:
        above = vmas[index] if index < len(vmas) else None
        gap_end = min(above.start, high) if above else high
        if gap_end - gap_start >= length:
            guard = guard_start(above, space.environment.stack_guard_gap) if above else high
            addr = gap_start + (-gap_start & mask)
            if above is None or not above.flags & VM_GROWSDOWN or guard >= addr + length - 1:
                return addr
        if above is None:
            break
        gap_start = above.end
        index += 1
    raise SyscallError(ENOMEM)  # mm/vma.c: unmapped_area(): no gap is large enough


def _signed(word: int) -> int:
    """A word as loff_t, as the kernel reads file offsets."""
    return ((word & WORD) ^ 1 << 63) - (1 << 63)
