"""mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2) (mm/mlock.c)."""

from errno import EAGAIN, EINVAL, ENOMEM, EPERM

from abi.calls import Mlock, Mlock2, Mlockall, Munlock, Munlockall, signed32
from abi.consts import (
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    PAGE,
    PAGE_SHIFT,
    RLIMIT_MEMLOCK,
    WORD,
)
from model.errors import SyscallError
from model.fault import populate, populate_locked
from model.flags import VM_LOCKED, VM_LOCKED_MASK
from model.space import AddressSpace, note_unlocked, supports_mlock
from model.vma import Vma


def mlock(space: AddressSpace, call: Mlock) -> int:
    """mlock(2).

    Raises:
        SyscallError: as `_lock`.
    """
    return _lock(space, call.addr, call.length, VM_LOCKED)


def mlock2(space: AddressSpace, call: Mlock2) -> int:
    """mlock2(2).

    Raises:
        SyscallError: EINVAL; as `_lock`.
    """
    flags = signed32(call.lock_flags)
    if flags & ~MLOCK_ONFAULT:
        raise SyscallError(EINVAL)  # mlock2(2): unknown flags
    return _lock(space, call.addr, call.length, VM_LOCKED_MASK if flags else VM_LOCKED)


def munlock(space: AddressSpace, call: Munlock) -> int:
    """munlock(2). What lies before a hole is unlocked.

    Raises:
        SyscallError: EINVAL, ENOMEM.
    """
    start, length = _whole_pages(call.addr, call.length)
    _apply(space, start, length, 0)
    return 0


def mlockall(space: AddressSpace, call: Mlockall) -> int:
    """mlockall(2). MCL_FUTURE is forgotten by the next call without it; a VMA that cannot be locked is left out, and
    so is a page that cannot be faulted in.

    Raises:
        SyscallError: EINVAL, EPERM, ENOMEM.
    """
    flags = signed32(call.mcl_flags)
    if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or flags == MCL_ONFAULT:
        raise SyscallError(EINVAL)  # mlockall(2): unknown flags, or neither CURRENT nor FUTURE
    if not space.can_lock():
        raise SyscallError(EPERM)  # mlockall(2): RLIMIT_MEMLOCK is 0
    limit = space.limits[RLIMIT_MEMLOCK] >> PAGE_SHIFT
    privileged = "IPC_LOCK" in space.environment.capabilities
    if flags & MCL_CURRENT and space.total_vm > limit and not privileged:
        raise SyscallError(ENOMEM)  # mlockall(2): all that is mapped exceeds RLIMIT_MEMLOCK
    _apply_to_all(space, flags)
    if flags & MCL_CURRENT:
        populate(space, 0, space.environment.task_size)
    return 0


def munlockall(space: AddressSpace, call: Munlockall) -> int:
    """munlockall(2)."""
    _apply_to_all(space, 0)
    return 0


def _lock(space: AddressSpace, addr: int, length: int, flags: int) -> int:
    """Lock a range, then fault it in. What lies before a hole is locked but not faulted in; what lies before a page
    that cannot be faulted in is both (mm/mlock.c: do_mlock()).

    Raises:
        SyscallError: EPERM, ENOMEM, EINVAL, EAGAIN.
    """
    if not space.can_lock():
        raise SyscallError(EPERM)  # mlock(2): RLIMIT_MEMLOCK is 0
    start, length = _whole_pages(addr, length)
    if "IPC_LOCK" not in space.environment.capabilities:
        limit = space.limits[RLIMIT_MEMLOCK] >> PAGE_SHIFT
        locked = space.locked_vm + (length >> PAGE_SHIFT)
        if locked > limit and locked - _locked_already(space, start, length) > limit:
            raise SyscallError(ENOMEM)  # mlock(2): beyond RLIMIT_MEMLOCK
    _apply(space, start, length, flags)
    try:
        populated = not length or populate_locked(space, start, start + length)
    except SyscallError:
        raise SyscallError(EAGAIN) from None  # mlock(2): no memory for a page; all is locked
    if not populated:
        # mlock(2): a page without access, beyond the file, guarded or missing; all is locked
        raise SyscallError(ENOMEM)
    return 0


def _whole_pages(addr: int, length: int) -> tuple[int, int]:
    """The pages that the range touches: start and length (bytes)."""
    return addr & -PAGE, length + (addr & PAGE - 1) + PAGE - 1 & WORD & -PAGE


def _locked_already(space: AddressSpace, start: int, length: int) -> int:
    """Pages of the range that are locked (mm/mlock.c: count_mm_mlocked_page_nr())."""
    end = min(start + length, WORD)
    pages = 0
    for vma in space.between(start, end):
        if vma.flags & VM_LOCKED:
            pages += min(vma.end, end) - max(vma.start, start)
    return pages >> PAGE_SHIFT


def _apply(space: AddressSpace, start: int, length: int, flags: int) -> None:
    """Give a range without holes other VM_LOCKED_MASK bits, VMA by VMA (mm/mlock.c: apply_vma_lock_flags())."""
    end = start + length
    if end > WORD:
        raise SyscallError(EINVAL)  # mlock(2): the range wraps
    while start < end:
        vma = space.lookup(start)
        if vma is None:
            raise SyscallError(ENOMEM)  # mlock(2): a hole in the range; what lies before it changed
        start = _fix_up(space, vma, start, min(vma.end, end), flags).end


def _apply_to_all(space: AddressSpace, flags: int) -> None:
    """mlockall(2), munlockall(2): MCL_FUTURE for what will be mapped, MCL_CURRENT or nothing for what is
    (mm/mlock.c: apply_mlockall_flags())."""
    kind = VM_LOCKED_MASK if flags & MCL_ONFAULT else VM_LOCKED
    space.def_flags &= ~VM_LOCKED_MASK
    if flags & MCL_FUTURE:
        space.def_flags |= kind
        if not flags & MCL_CURRENT:
            return
    addr = 0
    while (vma := space.first(addr, WORD)) is not None:
        addr = vma.end
        try:
            changed = _fix_up(space, vma, vma.start, vma.end, kind if flags & MCL_CURRENT else 0)
        except SyscallError:
            continue  # the mapping limit
        addr = changed.end


def _fix_up(space: AddressSpace, vma: Vma, start: int, end: int, flags: int) -> Vma:
    """Change a VMA's part, if it is of a kind that can be locked; the VMA it is then in (mm/mlock.c: mlock_fixup())."""
    old = vma.flags
    new = old & ~VM_LOCKED_MASK | flags
    if new == old or vma.is_secret or not supports_mlock(vma):
        return vma
    if not new & VM_LOCKED:
        note_unlocked(vma)
    vma = space.modify(vma, start, end, new, vma.uffd)
    pages = end - start >> PAGE_SHIFT
    space.locked_vm += pages * (bool(new & VM_LOCKED) - bool(old & VM_LOCKED))
    return vma
