"""mremap(2) (mm/mremap.c).

What the flags and lengths make of a call (rounded lengths; -- fails):

    flags                 old == new             old > new                   old < new           old == 0 (shared)
    none                  nothing                unmap the tail              grow in place or -- --
    MAYMOVE               nothing                unmap the tail              grow in place, else duplicate
                                                                             move elsewhere
    MAYMOVE|FIXED         move a range of VMAs   unmap target, tail; move    unmap target; move  unmap target; duplicate
    MAYMOVE|DONTUNMAP     copy, `new` a hint     --                          --                  --
    all three             copy a range of VMAs   --                          --                  --

Only the calls that move a range may span VMAs; what lies between them is neither moved nor unmapped at the target.
"""

from errno import EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM
from typing import Final

from abi.calls import Mremap
from abi.consts import (
    MAP_FIXED,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PAGE_SHIFT,
    UFFD_EVENT_REMAP,
    WORD,
)
from model import hugetlb, thp
from model.errors import SyscallError
from model.fault import populate
from model.flags import (
    VM_ACCOUNT,
    VM_ARCH_1,
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYSHARE,
    VM_PFNMAP,
    VM_SEALED,
    VM_SHARED,
    VM_UFFD,
)
from model.munmap import do_munmap
from model.placement import get_unmapped_area
from model.profile import (
    DONTUNMAP_ADJACENT_ALONE,
    DONTUNMAP_CLEARS_ACCOUNT,
    DONTUNMAP_LEAKS_LOCKED,
    DONTUNMAP_NO_SELF_MERGE,
    DONTUNMAP_RESETS_PGOFF,
    DONTUNMAP_ROUNDED_LENGTHS,
    DONTUNMAP_SPLITS_LOCKED,
    LOOKUP_BEFORE_SHRINK,
    MAP_COUNT_DONTUNMAP,
    MAP_COUNT_EVERY_CALL,
    MULTI_VMA_FIRST_ABORTS,
    MULTI_VMA_MOVE,
    MULTI_VMA_THP_AREA,
    NEW_LEN_LIMIT,
    OVERLAP_BEFORE_LOOKUP,
    PARAMS_BEFORE_LOOKUP,
    SHRINK_MOVE_CHARGES_SHRUNK,
    UFFD_MOVE_NEVER_MERGES,
    UFFD_REMAP_SHRUNK,
    VALIDATE_BEFORE_UNMAP,
)
from model.space import (
    EVENT_UFFD,
    PTE_ANON,
    PTE_FILE,
    PTE_KIND,
    PTE_STRANDED,
    PTE_ZERO,
    AddressSpace,
    is_whole,
    refuse_filler,
)
from model.vma import Vma

_KNOWN: Final = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP
_NEW_ADDR: Final = MREMAP_FIXED | MREMAP_DONTUNMAP


def mremap(space: AddressSpace, call: Mremap) -> int:
    """mremap(2); the new address. A failed call may have unmapped its target, cut VMAs or moved some of them
    (mm/mremap.c: do_mremap()).

    Raises:
        SyscallError: EINVAL, EFAULT, EPERM, ENOMEM, EAGAIN.
    """
    old_len = call.old_len + PAGE - 1 & WORD & -PAGE
    new_len = call.new_len + PAGE - 1 & WORD & -PAGE
    flags, changes = call.flags, space.changes
    _check_parameters(space, call, old_len, new_len)
    if PARAMS_BEFORE_LOOKUP in changes:
        _check_alignment(call)
        if OVERLAP_BEFORE_LOOKUP in changes:
            _check_target(space, call, old_len, new_len)
        _check_map_count_early(space, flags)
    if flags & MREMAP_FIXED and old_len == new_len and MULTI_VMA_MOVE in changes:
        return _move_range(space, call.addr, old_len, flags, call.new_addr)
    vma = space.lookup(call.addr)
    if vma is None:
        raise SyscallError(EFAULT)  # mremap(2): nothing is mapped at the old address
    refuse_filler(vma)
    if vma.flags & VM_SEALED:
        raise SyscallError(EPERM)  # mseal(2): a sealed mapping is not remapped
    if vma.flags & VM_HUGETLB:
        lengths = hugetlb.round_move(vma, call.addr, old_len, new_len, call.new_addr)
        old_len, new_len = lengths
    if OVERLAP_BEFORE_LOOKUP not in changes:
        _check_alignment(call)
        _check_target(space, call, old_len, new_len)
    if PARAMS_BEFORE_LOOKUP not in changes:
        _check_map_count_early(space, flags)
    if VALIDATE_BEFORE_UNMAP in changes or not flags & _NEW_ADDR:
        _check_vma(space, vma, call.addr, old_len, new_len, flags)
    locked = vma.flags & VM_LOCKED
    addr = call.addr
    if flags & _NEW_ADDR:
        addr = _remap_to(space, addr, old_len, new_len, flags, call.new_addr)
    elif old_len > new_len:
        do_munmap(space, addr + new_len, old_len - new_len)
    elif old_len < new_len:
        addr = _expand(space, vma, addr, old_len, new_len, flags)
    if locked and old_len < new_len:
        populate(space, addr + old_len, addr + new_len)
    return addr


def _check_parameters(space: AddressSpace, call: Mremap, old_len: int, new_len: int) -> None:
    """What is wrong with the arguments alone (mm/mremap.c: check_mremap_params())."""
    flags = call.flags
    if flags & ~_KNOWN:
        raise SyscallError(EINVAL)  # mremap(2): unknown flags
    if call.addr & PAGE - 1:
        raise SyscallError(EINVAL)  # mremap(2): the old address is not page-aligned
    if not new_len:
        raise SyscallError(EINVAL)  # mremap(2): the new length is 0, or wraps to 0 when rounded up
    if new_len > space.environment.task_size and NEW_LEN_LIMIT in space.changes:
        # mm/mremap.c: check_mremap_params(): longer than the address space
        raise SyscallError(EINVAL)
    if flags & _NEW_ADDR and not flags & MREMAP_MAYMOVE:
        raise SyscallError(EINVAL)  # mremap(2): FIXED or DONTUNMAP without MAYMOVE
    if flags & MREMAP_DONTUNMAP:
        if DONTUNMAP_ROUNDED_LENGTHS not in space.changes:
            old_len, new_len = call.old_len, call.new_len
        if old_len != new_len:
            raise SyscallError(EINVAL)  # mremap(2): DONTUNMAP does not resize


def _check_alignment(call: Mremap) -> None:
    """The new address is page-aligned, where the flags give it a meaning (mm/mremap.c: check_mremap_params())."""
    if call.flags & _NEW_ADDR and call.new_addr & PAGE - 1:
        raise SyscallError(EINVAL)  # mremap(2): the new address is not page-aligned


def _check_target(space: AddressSpace, call: Mremap, old_len: int, new_len: int) -> None:
    """What is wrong with the target, where the flags give it a meaning (mm/mremap.c: check_mremap_params())."""
    task_size = space.environment.task_size
    addr, new_addr = call.addr, call.new_addr
    if not call.flags & _NEW_ADDR:
        return
    if new_len > task_size or new_addr > task_size - new_len:
        # mm/mremap.c: check_mremap_params(): the target ends beyond TASK_SIZE
        raise SyscallError(EINVAL)
    if (addr + old_len & WORD) > new_addr and (new_addr + new_len & WORD) > addr:
        raise SyscallError(EINVAL)  # mremap(2): old and new range overlap


def _check_map_count_early(space: AddressSpace, flags: int) -> None:
    """The mapping limit, before anything is looked up (mm/mremap.c: check_map_count_against_split_early())."""
    count, limit = space.map_count(), space.environment.max_map_count
    if MAP_COUNT_EVERY_CALL in space.changes:
        needed = 5 if MAP_COUNT_DONTUNMAP in space.changes and flags & MREMAP_DONTUNMAP else 4
        exceeded = count + needed > limit
    else:
        exceeded = bool(flags & _NEW_ADDR) and count + 2 >= limit - 3
    if exceeded:
        raise SyscallError(ENOMEM)  # mremap(2): the move could exceed vm.max_map_count


def _check_vma(
    space: AddressSpace, vma: Vma, addr: int, old_len: int, new_len: int, flags: int
) -> None:
    """What is wrong with one VMA as a source (mm/mremap.c: check_prep_vma())."""
    if old_len >= new_len and not flags & _NEW_ADDR:
        return
    if not old_len and not vma.flags & (VM_SHARED | VM_MAYSHARE):
        raise SyscallError(EINVAL)  # mremap(2): an old length of 0 duplicates shared mappings only
    if flags & MREMAP_DONTUNMAP and vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise SyscallError(EINVAL)  # mremap(2): DONTUNMAP of a special mapping
    if min(old_len, new_len) > vma.end - addr:
        raise SyscallError(EFAULT)  # mremap(2): the old range is not within one mapping
    if new_len <= old_len:
        return
    delta = new_len - old_len
    pgoff = vma.page_offset(addr)
    if pgoff + (new_len >> PAGE_SHIFT) > WORD:
        raise SyscallError(EINVAL)  # mm/mremap.c: check_prep_vma(): the file offset wraps
    if vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise SyscallError(EFAULT)  # mremap(2): a special mapping does not grow
    if vma.flags & VM_LOCKED and not space.may_lock(delta):
        raise SyscallError(EAGAIN)  # mremap(2): locked memory would exceed RLIMIT_MEMLOCK
    if not space.may_expand(vma.flags, delta >> PAGE_SHIFT):
        raise SyscallError(ENOMEM)  # mremap(2): RLIMIT_AS or RLIMIT_DATA


def _move_range(space: AddressSpace, start: int, length: int, flags: int, new_addr: int) -> int:
    """Move every VMA of a range, keeping the gaps between them; VMAs before the one that fails stay moved
    (mm/mremap.c: remap_move())."""
    end = start + length
    target = new_addr
    result = last_end = None
    alone = False
    while (vma := space.first(start, end)) is not None:
        if last_end is None:
            if vma.start > start:
                raise SyscallError(EFAULT)  # mm/mremap.c: remap_move(): the range begins with a gap
            addr = start
        else:
            addr = vma.start
            target += addr - last_end
        refuse_filler(vma)
        last_end = vma.end
        size = min(end, vma.end) - addr
        if alone:
            # mm/mremap.c: remap_move(): the ineligible first VMA has moved
            raise SyscallError(EFAULT)
        if not multi_allowed(space, vma):
            if result is not None:
                raise SyscallError(EFAULT)  # mm/mremap.c: remap_move(): a later VMA is ineligible
            if vma.end < end and MULTI_VMA_FIRST_ABORTS in space.changes:
                # mm/mremap.c: remap_move(): the first of several is ineligible
                raise SyscallError(EFAULT)
            alone = True
        stop = vma.end
        if vma.flags & VM_SEALED:
            # mseal(2): a sealed mapping is not remapped; those before it have moved
            raise SyscallError(EPERM)
        if vma.flags & VM_HUGETLB:
            size, _ = hugetlb.round_move(vma, addr, size, size, target)
        _check_vma(space, vma, addr, size, size, flags)
        moved_to = _remap_to(space, addr, size, size, flags, target)
        result = moved_to if result is None else result
        target = moved_to + size
        start = stop
    if result is None:
        raise SyscallError(EFAULT)  # mremap(2): nothing is mapped in the old range
    return result


def multi_allowed(space: AddressSpace, vma: Vma) -> bool:
    """It may be one of several: not uffd-armed, no file whose handler might disregard MREMAP_FIXED
    (mm/mremap.c: vma_multi_allowed())."""
    if vma.flags & VM_UFFD:
        return False
    file = vma.file
    if file is None or vma.is_shmem or file.inode.huge:
        return True
    if file.kind:
        return not file.kind.own_area
    if file.thp_area:
        return MULTI_VMA_THP_AREA in space.changes
    return not file.own_area


def _remap_to(
    space: AddressSpace, addr: int, old_len: int, new_len: int, flags: int, new_addr: int
) -> int:
    """Move one VMA's part to `new_addr`, which is a hint without FIXED (mm/mremap.c: mremap_to())."""
    if flags & MREMAP_FIXED:
        do_munmap(space, new_addr, new_len)
    reported = len(space.events)
    vma = space.lookup(addr)
    shrinks_first = old_len > new_len and LOOKUP_BEFORE_SHRINK not in space.changes
    if vma is None and not shrinks_first:
        # mm/mremap.c: mremap_to(): the target's unmapping took the source
        raise SyscallError(EFAULT)
    delta, told = abs(new_len - old_len), old_len
    if old_len > new_len:
        do_munmap(space, addr + new_len, delta)
        old_len = new_len
        if UFFD_REMAP_SHRUNK in space.changes:
            told = new_len
        if SHRINK_MOVE_CHARGES_SHRUNK not in space.changes:
            delta = 0
        vma = space.lookup(addr)
    if vma is None:
        # mm/mremap.c: vma_to_resize(): the target's unmapping took the source
        raise SyscallError(EFAULT)
    if VALIDATE_BEFORE_UNMAP not in space.changes:
        _check_vma(space, vma, addr, old_len, new_len, flags)
    if flags & MREMAP_DONTUNMAP and not space.may_expand(vma.flags, old_len >> PAGE_SHIFT):
        raise SyscallError(ENOMEM)  # mremap(2): DONTUNMAP and RLIMIT_AS; the target is gone
    new_addr = _new_address(space, vma, addr, new_len, flags, new_addr)
    charge = new_len if flags & MREMAP_DONTUNMAP else delta
    return _move_vma(space, vma, addr, old_len, new_len, flags, new_addr, charge, reported, told)


def _new_address(
    space: AddressSpace, vma: Vma, addr: int, new_len: int, flags: int, new_addr: int
) -> int:
    """Where the kernel puts it (mm/mremap.c: vrm_set_new_addr())."""
    map_flags = MAP_FIXED if flags & MREMAP_FIXED else 0
    if vma.flags & VM_MAYSHARE:
        map_flags |= MAP_SHARED
    return get_unmapped_area(space, vma.file, new_addr, new_len, vma.page_offset(addr), map_flags)


def _expand(
    space: AddressSpace, vma: Vma, addr: int, old_len: int, new_len: int, flags: int
) -> int:
    """Grow in place, else move elsewhere (mm/mremap.c: expand_vma())."""
    if addr + old_len == vma.end and _can_grow(space, vma, new_len - old_len):
        _grow(space, vma, new_len - old_len)
    elif not flags & MREMAP_MAYMOVE:
        raise SyscallError(ENOMEM)  # mremap(2): no room to grow in place, and no MAYMOVE
    else:
        new_addr = _new_address(space, vma, addr, new_len, 0, 0)
        delta = new_len - old_len
        addr = _move_vma(space, vma, addr, old_len, new_len, flags, new_addr, delta)
    return addr


def _can_grow(space: AddressSpace, vma: Vma, delta: int) -> bool:
    """The hole behind `vma` takes `delta` more bytes (mm/mremap.c: vma_expandable())."""
    end = vma.end + delta
    if end > WORD or space.intersects(vma.end, end):
        return False
    try:
        get_unmapped_area(space, None, vma.start, end - vma.start, 0, MAP_FIXED)
    except SyscallError:
        return False
    return True


def _grow(space: AddressSpace, vma: Vma, delta: int) -> None:
    """Grow `vma` upwards, merging with the next VMA if it then touches one alike (mm/vma.c: vma_merge_extend())."""
    if vma.flags & VM_ACCOUNT:
        space.charge(delta >> PAGE_SHIFT)
    like = vma.copy()
    like.pgoff = vma.page_offset(vma.end)
    grown = space.merge_new(vma.end, vma.end + delta, like)
    if grown is None and not space.close_allows(vma):
        grown = vma  # mm/mremap.c: sys_mremap(), as it was: it grows without a merge
        space.set_end(vma, vma.end + delta)
    if grown is None:
        raise SyscallError(ENOMEM)  # mm/vma.c: vma_merge_extend(): a special mapping
    _account(space, grown.flags, delta)


def _move_vma(
    space: AddressSpace,
    vma: Vma,
    addr: int,
    old_len: int,
    new_len: int,
    flags: int,
    new_addr: int,
    charge: int,
    reported: int = 0,
    told: int = 0,
) -> int:
    """Copy the VMA, move its page tables, unmap the source or leave it empty. `charge`: bytes to promise for it if it
    is accounted; `reported`: the place of the move among the events, behind the target's unmapping; told: the
    length that the event has, 0 for what moves (mm/mremap.c: move_vma(), notify_uffd())."""
    dontunmap = bool(flags & MREMAP_DONTUNMAP)
    pre_split = (
        dontunmap and DONTUNMAP_SPLITS_LOCKED in space.changes and bool(vma.flags & VM_LOCKED)
    )
    _check_map_count(space, pre_split=pre_split)
    if (vma.start, vma.end) != (addr, addr + old_len) and is_whole(vma):
        raise SyscallError(EINVAL)  # mm/mremap.c: prep_move_vma(): it cannot be cut
    hugetlb.check_move(vma)
    if pre_split:
        vma = space.cut_out(vma, addr, addr + old_len)
    if vma.flags & VM_ACCOUNT:
        space.charge(charge >> PAGE_SHIFT)
    new, vma = _copy_vma(space, vma, addr, new_len, new_addr, keep_source=dontunmap)
    if space.fails():
        _account(space, new.flags, new_len)
        _unmap_source(space, new, new_addr, new_len)
        raise SyscallError(ENOMEM)  # mm/mremap.c: copy_vma_and_data(): no page table there
    forgets = new.uffd not in (0, EVENT_UFFD)
    space.move_ptes(addr, addr + old_len, new_addr, unprotect=forgets)
    if space.tables is not None:
        thp.note_range(space, new_addr, new_addr + new_len)
    if forgets:
        new.flags &= ~VM_UFFD
        new.uffd = 0
    elif new.uffd:
        event = (UFFD_EVENT_REMAP, new.uffd, addr, new_addr, told or old_len)
        space.events.insert(reported, event)
    vma.flags &= ~VM_ARCH_1  # mm/mremap.c: move_vma(): untrack_pfn_moved()
    if not dontunmap:
        _account(space, vma.flags, new_len)
        _unmap_source(space, vma, addr, old_len)
    else:
        counted = VM_LOCKED if DONTUNMAP_LEAKS_LOCKED in space.changes else 0
        _account(space, vma.flags & counted, new_len)
        _leave_empty(space, vma, new, addr, addr + old_len)
    return new_addr


def _check_map_count(space: AddressSpace, *, pre_split: bool) -> None:
    """The mapping limit, per VMA moved (mm/mremap.c: check_map_count_against_split())."""
    count, limit = space.map_count(), space.environment.max_map_count
    if MAP_COUNT_EVERY_CALL in space.changes:
        exceeded = count + (3 if pre_split else 2) > limit
    else:
        exceeded = count >= limit - 3
    if exceeded:
        raise SyscallError(ENOMEM)  # mremap(2): the move could exceed vm.max_map_count


def _copy_vma(
    space: AddressSpace, vma: Vma, addr: int, new_len: int, new_addr: int, *, keep_source: bool
) -> tuple[Vma, Vma]:
    """The VMA at the new address, merged with neighbours where it can be, and the source, which is then another
    where the copy merged with it (mm/vma.c: copy_vma())."""
    like = vma.copy()
    unfaulted = vma.anonymous and not vma.anon_vma
    like.pgoff = new_addr >> PAGE_SHIFT if unfaulted else vma.page_offset(addr)
    like.moved = vma.moved + (addr - new_addr >> PAGE_SHIFT) if vma.anon_vma else 0
    like.start, like.end, like.record = new_addr, new_addr + new_len, None
    alone = unfaulted and keep_source and DONTUNMAP_NO_SELF_MERGE in space.changes
    adjacent = new_addr == vma.end or vma.start == new_addr + new_len
    if UFFD_MOVE_NEVER_MERGES in space.changes and vma.uffd not in (0, EVENT_UFFD):
        merged = None
    elif alone and adjacent and DONTUNMAP_ADJACENT_ALONE in space.changes:
        merged = None  # mm/mmap.c: copy_vma(): nor with what is on its other side
    else:
        merged = space.merge_new(
            new_addr, new_addr + new_len, like, not_with=vma if alone else None, copied_from=vma
        )
    if merged is None:
        space.allocate()
        space.insert(like)
        return like, vma
    if merged.start <= vma.start < merged.end:
        return merged, merged
    return merged, vma


def _account(space: AddressSpace, flags: int, length: int) -> None:
    """Count `length` more bytes of such memory (mm/mremap.c: vrm_stat_account())."""
    pages = length >> PAGE_SHIFT
    space.total_vm += pages
    if flags & VM_LOCKED:
        space.locked_vm += pages


def _strand(space: AddressSpace, vma: Vma) -> None:
    """What is left in a VMA that loses its lock so stays on the unevictable list, for nobody unlocks it
    (mm/mlock.c: __munlock_folio())."""
    for page in space.pages_of(vma.start, vma.end):
        held = space.ptes[page]
        if held & PTE_KIND == PTE_ANON and not held & PTE_ZERO:
            space.ptes[page] = held | PTE_STRANDED
        elif held & PTE_KIND == PTE_FILE and vma.file:
            vma.file.inode.stranded.add(vma.page_offset(page << PAGE_SHIFT))


def _leave_empty(space: AddressSpace, vma: Vma, new: Vma, start: int, end: int) -> None:
    """The source of MREMAP_DONTUNMAP stays, unlocked; if it was a whole VMA, unfaulted too
    (mm/mremap.c: dontunmap_complete())."""
    if vma.flags & VM_LOCKED:
        _strand(space, vma)
    vma.flags &= ~VM_LOCKED_MASK
    if DONTUNMAP_CLEARS_ACCOUNT in space.changes:
        vma.flags &= ~VM_ACCOUNT
    if new is not vma and (vma.start, vma.end) == (start, end):
        vma.anon_vma = vma.moved = 0
        if DONTUNMAP_RESETS_PGOFF in space.changes and vma.anonymous and not vma.file:
            vma.pgoff = vma.start >> PAGE_SHIFT
            vma.record = None


def _unmap_source(space: AddressSpace, vma: Vma, addr: int, length: int) -> None:
    """Unmap what was moved. If that fails, all of the source's VMA stays and is charged for no more
    (mm/mremap.c: unmap_source_vma())."""
    accounted, start, end = vma.flags & VM_ACCOUNT, vma.start, vma.end
    vma.flags &= ~VM_ACCOUNT
    try:
        do_munmap(space, addr, length)
    except SyscallError:
        return
    for rest in space.between(start, end):
        rest.flags |= accounted
