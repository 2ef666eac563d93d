"""msync(2) (mm/msync.c). Nothing that it writes can be told from memory."""

from errno import EBUSY, EINVAL, ENOMEM
from typing import Final

from abi.calls import Msync, signed32
from abi.consts import MS_ASYNC, MS_INVALIDATE, MS_SYNC, PAGE, WORD
from model.errors import SyscallError
from model.flags import VM_LOCKED, VM_SHARED
from model.space import AddressSpace

_KNOWN: Final = MS_ASYNC | MS_INVALIDATE | MS_SYNC


def msync(space: AddressSpace, call: Msync) -> int:
    """msync(2). A hole is an error only at the end, so what fails behind it is reported instead.

    Raises:
        SyscallError: with the errno of msync(2).
    """
    flags, start = signed32(call.sync_flags), call.addr
    if flags & ~_KNOWN:
        raise SyscallError(EINVAL)  # msync(2): an unknown flag
    if start & PAGE - 1:
        raise SyscallError(EINVAL)  # msync(2): the address is not page-aligned
    if flags & MS_ASYNC and flags & MS_SYNC:
        raise SyscallError(EINVAL)  # msync(2): both MS_ASYNC and MS_SYNC
    end = start + (call.length + PAGE - 1 & WORD & -PAGE)
    if end > WORD:
        raise SyscallError(ENOMEM)  # mm/msync.c: the range wraps
    hole = False
    while start < end:
        vma = space.first(start, end)
        if vma is None:
            raise SyscallError(ENOMEM)  # msync(2): the range ends in a hole
        if vma.start > start:
            hole = True
            if flags == MS_ASYNC:
                break
            start = vma.start
        if flags & MS_INVALIDATE and vma.flags & VM_LOCKED:
            raise SyscallError(EBUSY)  # msync(2): MS_INVALIDATE of locked memory
        if flags & MS_SYNC and vma.flags & VM_SHARED and vma.file and not vma.file.fsync:
            raise SyscallError(EINVAL)  # fs/sync.c: vfs_fsync_range(): a file without fsync(2)
        start = vma.end
    if hole:
        raise SyscallError(ENOMEM)  # msync(2): part of the range is not mapped
    return 0
