"""shmat(2) and shmdt(2): SysV shared memory (ipc/shm.c). Every attach is an open file of its own."""

from errno import EINVAL
from typing import Final

from abi.calls import Shmat, Shmdt
from abi.consts import (
    MAP_FIXED,
    MAP_SHARED,
    PAGE,
    PAGE_SHIFT,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SHM_EXEC,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    WORD,
)
from model.errors import SyscallError
from model.kinds import KINDS
from model.mmap import map_object
from model.space import AddressSpace
from model.vma import File, Vma

_SEGMENT: Final = KINDS["sysv"]


def shmat(space: AddressSpace, call: Shmat) -> int:
    """shmat(2); the address it is attached at (ipc/shm.c: do_shmat()).

    Raises:
        SyscallError: EINVAL, or as mmap(2) of shared memory.
    """
    addr, flags = call.addr, call.shm_flags & 0xFFFFFFFF
    if call.segment >= len(space.segments):
        raise SyscallError(EINVAL)  # shmat(2): no such segment
    inode = space.segments[call.segment]
    map_flags = MAP_SHARED
    if addr:
        if addr & PAGE - 1:
            if not flags & SHM_RND:
                raise SyscallError(EINVAL)  # shmat(2): not aligned to SHMLBA, and no SHM_RND
            addr &= -PAGE
            if not addr and flags & SHM_REMAP:
                raise SyscallError(EINVAL)  # shmat(2): SHM_REMAP, rounded down to no address
        map_flags |= MAP_FIXED
    elif flags & SHM_REMAP:
        raise SyscallError(EINVAL)  # shmat(2): SHM_REMAP without an address
    prot = PROT_READ if flags & SHM_RDONLY else PROT_READ | PROT_WRITE
    if flags & SHM_EXEC:
        prot |= PROT_EXEC
    length = inode.pages << PAGE_SHIFT
    space.allocate()
    if addr and not flags & SHM_REMAP:
        if addr + length > WORD:
            raise SyscallError(EINVAL)  # ipc/shm.c: do_shmat(): the range wraps
        if space.intersects(addr, addr + length):
            raise SyscallError(EINVAL)  # shmat(2): something is mapped there, and no SHM_REMAP
    file = File(inode, kind=_SEGMENT, writable=not flags & SHM_RDONLY)
    return map_object(space, file, addr, length, prot, map_flags, 0, notify=False)


def shmdt(space: AddressSpace, call: Shmdt) -> int:
    """shmdt(2): the first VMA from there on that is where an attach at `addr` would have it, and further pieces of its
    attach up to the segment's length (ipc/shm.c: ksys_shmdt()).

    Raises:
        SyscallError: EINVAL.
    """
    addr = call.addr
    if addr & PAGE - 1:
        raise SyscallError(EINVAL)  # shmdt(2): not aligned
    vmas = space.vmas[space.find(addr) :]
    first = next((vma for vma in vmas if _is_attached(vma, addr)), None)
    if first is None:
        raise SyscallError(EINVAL)  # shmdt(2): no segment is attached there
    assert first.file is not None
    end = addr + (first.file.inode.pages << PAGE_SHIFT)
    _detach(space, first)
    for vma in vmas[vmas.index(first) + 1 :]:
        if vma.end > end:
            break
        if vma.file is first.file and _is_attached(vma, addr):
            _detach(space, vma)
    return 0


def _is_attached(vma: Vma, addr: int) -> bool:
    """It is of a segment, and as far behind `addr` as it is into the segment."""
    if vma.file is None or vma.file.kind is not _SEGMENT:
        return False
    return (vma.start - addr & WORD) >> PAGE_SHIFT == vma.pgoff


def _detach(space: AddressSpace, vma: Vma) -> None:
    """Unmap it; a sealed one stays, and the call succeeds all the same."""
    try:
        space.unmap(vma.start, vma.end)
    except SyscallError:
        return
