"""prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME) (mm/madvise.c: set_anon_vma_name())."""

from errno import EAGAIN, EBADF, EINVAL, ENOMEM
from typing import Final

from abi.calls import SetVmaName
from abi.consts import PAGE, VMA_NAMES, WORD
from model.errors import SyscallError
from model.madvise import walk
from model.profile import SHARED_MEMORY_NAMES
from model.space import AddressSpace
from model.vma import Vma

_BAD: Final = frozenset((VMA_NAMES["bad["], VMA_NAMES["long"]))


def set_vma_name(space: AddressSpace, call: SetVmaName) -> int:
    """PR_SET_VMA_ANON_NAME: holes are skipped and give ENOMEM at the end; a file ends it.

    Raises:
        SyscallError: EINVAL, EBADF, ENOMEM, EAGAIN.
    """
    if "ANON_VMA_NAME" not in space.environment.config:
        # PR_SET_VMA(2const): a kernel without CONFIG_ANON_VMA_NAME
        raise SyscallError(EINVAL)
    if call.name:
        space.allocate()
    if call.name in _BAD:
        raise SyscallError(
            EINVAL
        )  # PR_SET_VMA(2const): the name is too long, or has a bad character
    label = executor_name(call.name)
    start = call.addr
    length = call.length + PAGE - 1 & WORD & -PAGE
    if start & PAGE - 1:
        raise SyscallError(EINVAL)  # PR_SET_VMA(2const): the address is not page-aligned
    if (call.length and not length) or start + length > WORD:
        raise SyscallError(EINVAL)  # mm/madvise.c: madvise_set_anon_name(): the range wraps
    end = start + length
    if walk(space, start, end, lambda vma, low, high: _name(space, vma, low, high, label)):
        # PR_SET_VMA(2const): part of the range is not mapped; the rest was named
        raise SyscallError(ENOMEM)
    return 0


def executor_name(name: int) -> int:
    """The name that the executor gives for a number: 0 is none, 2 "b", 3 and 4 bad ones, any other "a"."""
    return name if name in VMA_NAMES.values() else VMA_NAMES["a"]


def _name(space: AddressSpace, vma: Vma, start: int, end: int, label: int) -> int:
    """Name one VMA's part; where to go on."""
    if vma.file and not (vma.is_shmem and SHARED_MEMORY_NAMES in space.changes):
        # PR_SET_VMA(2const): a file has a name of its own; one that was unlinked, as all of the
        # executor's are, is as good as anonymous on tmpfs (mm/shmem.c: shmem_mmap_prepare())
        raise SyscallError(EBADF)
    if vma.label == label:
        return vma.end
    like = vma.copy()
    like.label = label
    try:
        return space.become(vma, start, end, like).end
    except SyscallError:
        # mm/madvise.c: madvise_vma_behavior(): ENOMEM of a split is reported as EAGAIN
        raise SyscallError(EAGAIN) from None
