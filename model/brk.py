"""brk(2), the system call (mm/mmap.c)."""

from typing import Final

from abi.calls import Brk as BrkCall
from abi.consts import MAP_FIXED, PAGE, PAGE_SHIFT, RLIMIT_DATA, WORD
from model.errors import SyscallError
from model.fault import populate
from model.flags import VM_ACCOUNT, VM_EXEC, VM_LOCKED, VM_MAYACCESS, VM_READ, VM_WRITE
from model.placement import get_unmapped_area
from model.prctl import mergeable_flags, new_vma_flags
from model.space import AddressSpace, guard_start
from model.vma import Brk, Vma

_DATA: Final = VM_READ | VM_WRITE | VM_MAYACCESS | VM_ACCOUNT


def brk(space: AddressSpace, call: BrkCall) -> int:
    """brk(2): the break afterwards, which is the old one if it could not move; no errno (mm/mmap.c: sys_brk())."""
    addr, now = call.addr, space.brk
    data = addr - now.start_brk + space.environment.data_segment
    if addr < now.start_brk or data > _limit(space):
        return now.brk
    old_end, new_end = now.brk + PAGE - 1 & -PAGE, addr + PAGE - 1 & WORD & -PAGE
    grows = new_end > old_end
    if old_end == new_end:
        pass
    elif addr <= now.brk:
        if not space.intersects(new_end, old_end):
            return now.brk  # nothing is left of the heap there
        try:
            space.unmap(new_end, old_end)
        except SyscallError:
            return now.brk
    elif not _grow(space, old_end, new_end):
        return now.brk
    _set(space, addr)
    if grows and space.def_flags & VM_LOCKED:
        populate(space, old_end, new_end)
    return addr - (1 << 64) if addr >> 63 else addr


def _limit(space: AddressSpace) -> int:
    """RLIMIT_DATA for heap and data segment together (include/linux/mm.h: check_data_rlimit())."""
    limit = space.limits[RLIMIT_DATA]
    return 2 * WORD if limit == WORD else limit


def _grow(space: AddressSpace, start: int, end: int) -> bool:
    """Map more heap; whether that could be done (mm/mmap.c: sys_brk(); mm/vma.c: do_brk_flags())."""
    environment = space.environment
    length, flags = end - start & WORD, _DATA | space.def_flags
    if "EXEC_BRK" in environment.config:
        flags |= VM_EXEC  # include/linux/mm.h: VM_DATA_DEFAULT_FLAGS
    try:
        get_unmapped_area(space, None, start, length, 0, MAP_FIXED)
    except SyscallError:
        return False
    if flags & VM_LOCKED and not space.may_lock(length):
        return False
    index = space.find(start)
    if index < len(space.vmas):
        above = space.vmas[index]
        if end + PAGE > guard_start(above, environment.stack_guard_gap):
            return False
    if not space.may_expand(flags, length >> PAGE_SHIFT):
        return False
    if space.map_count() > environment.max_map_count:
        return False
    try:
        space.charge(length >> PAGE_SHIFT)
    except SyscallError:
        return False
    vma = Vma(start, end, flags, None, start >> PAGE_SHIFT, anonymous=True)
    vma.flags = new_vma_flags(space, None, flags)
    try:
        if not space.extend_below(vma):
            vma.flags = mergeable_flags(space, flags)
            space.allocate()
            space.insert(vma)
    except SyscallError:
        return False
    space.total_vm += length >> PAGE_SHIFT
    if flags & VM_LOCKED:
        space.locked_vm += length >> PAGE_SHIFT
    return True


def _set(space: AddressSpace, addr: int) -> None:
    """Move the break. What is anonymous below it is named [heap]."""
    now = space.brk
    space.brk = Brk(now.start_brk, addr, now.start_stack, touching=now.touching)
    for vma in space.between(now.start_brk - 1, max(now.brk, addr) + 1):
        vma.record = None
