"""mseal(2) (mm/mseal.c). What a seal forbids stands where it is forbidden: VM_SEALED."""

from errno import EINVAL, ENOMEM, ENOSYS

from abi.calls import Mseal
from abi.consts import PAGE, WORD
from model.errors import SyscallError
from model.flags import VM_SEALED
from model.profile import MSEAL, MSEAL_MERGE_START
from model.space import AddressSpace


def mseal(space: AddressSpace, call: Mseal) -> int:
    """mseal(2). With a hole in the range nothing is sealed; at the mapping limit what lies before stays sealed.

    Raises:
        SyscallError: ENOSYS, EINVAL, ENOMEM.
    """
    if MSEAL not in space.changes:
        raise SyscallError(ENOSYS)  # syscalls(2): a kernel from before mseal(2)
    if call.seal_flags:
        raise SyscallError(EINVAL)  # mseal(2): no flag is known
    if call.addr & PAGE - 1:
        raise SyscallError(EINVAL)  # mseal(2): the address is not page-aligned
    length = call.length + PAGE - 1 & WORD & -PAGE
    if call.length and not length:
        raise SyscallError(EINVAL)  # mseal(2): the length wraps when rounded up
    start, end = call.addr, call.addr + length
    if end > WORD:
        raise SyscallError(EINVAL)  # mseal(2): the range wraps
    if _has_hole(space, start, end):
        raise SyscallError(ENOMEM)  # mseal(2): part of the range is not mapped
    stale = False
    while start < end:
        vma = space.lookup(start)
        assert vma is not None
        stop = min(vma.end, end)
        if not vma.flags & VM_SEALED:
            if stale:
                vma = space.cut_out(vma, vma.start, stop)
                vma.flags |= VM_SEALED
            else:
                vma = space.modify(vma, start, stop, vma.flags | VM_SEALED, vma.uffd)
        # The next VMA is taken to begin where this one ended before it merged: it merges with none.
        stale = MSEAL_MERGE_START in space.changes and vma.end > stop
        start = vma.end
    return 0


def _has_hole(space: AddressSpace, start: int, end: int) -> bool:
    """Part of the range is not mapped (mm/mseal.c: range_contains_unmapped())."""
    for vma in space.between(start, end):
        if vma.start > start:
            return True
        start = vma.end
    return start < end
