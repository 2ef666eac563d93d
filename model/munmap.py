"""munmap(2)."""

from errno import EINVAL

from abi.calls import Munmap
from abi.consts import PAGE, WORD
from model.errors import SyscallError
from model.space import AddressSpace


def munmap(space: AddressSpace, call: Munmap) -> int:
    """munmap(2). Holes are ignored; a sealed VMA stops it before anything is unmapped, with the first VMA cut.

    Raises:
        SyscallError: EINVAL, ENOMEM, EPERM.
    """
    do_munmap(space, call.addr, call.length)
    return 0


def do_munmap(space: AddressSpace, start: int, length: int) -> None:
    """Unmap as the system call does, for callers within the kernel (mm/vma.c: do_vmi_munmap())."""
    task_size = space.environment.task_size
    if start & PAGE - 1 or start > task_size or length > task_size - start:
        raise SyscallError(EINVAL)  # munmap(2): not page-aligned, or beyond the address space
    end = start + (length + PAGE - 1 & WORD & -PAGE)
    if end == start:
        raise SyscallError(EINVAL)  # munmap(2): the length is 0
    space.unmap(start, end)
