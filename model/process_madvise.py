"""process_madvise(2) of the process itself (mm/madvise.c)."""

from errno import EFAULT, EINVAL, EPERM, ETIME
from typing import Final

from abi.calls import Madvise, ProcessMadvise, signed32
from abi.consts import MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED
from model.errors import SyscallError, Unmodelled
from model.madvise import is_known, madvise
from model.profile import (
    PROCESS_MADVISE_ADVICE_FIRST,
    PROCESS_MADVISE_CUT_FIRST,
    PROCESS_MADVISE_OWN,
    PROCESS_MADVISE_SELF,
)
from model.space import AddressSpace

#: Advice that was all there was, and that still is for another process.
_HINTS: Final = frozenset((MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED))
#: Most bytes of one range; longer ones are cut (include/linux/fs.h: MAX_RW_COUNT).
MOST_BYTES: Final = 0x7FFF_F000


def process_madvise(space: AddressSpace, call: ProcessMadvise) -> int:
    """process_madvise(2) with one range; the bytes advised, unrounded. Of a range that fails nothing is counted.

    Raises:
        SyscallError: EINVAL, EFAULT, EPERM, or with the errno of madvise(2).
    """
    if call.pm_flags & 0xFFFFFFFF:
        raise SyscallError(EINVAL)  # process_madvise(2): flags is not 0
    if call.length >> 63:
        raise SyscallError(EINVAL)  # process_madvise(2): the length does not fit in ssize_t
    length = min(call.length, MOST_BYTES)
    seen = length if PROCESS_MADVISE_CUT_FIRST in space.changes else call.length
    if call.addr + seen > space.environment.task_size:
        # lib/iov_iter.c: import_ubuf(): the range is not in user space
        raise SyscallError(EFAULT)
    advice = signed32(call.advice)
    if PROCESS_MADVISE_SELF not in space.changes:
        if advice not in _HINTS:
            raise SyscallError(EINVAL)  # mm/madvise.c: process_madvise_behavior_valid(): not a hint
    elif PROCESS_MADVISE_ADVICE_FIRST in space.changes and not is_known(space, advice):
        raise SyscallError(EINVAL)  # process_madvise(2): an advice this kernel does not know
    may = "SYS_NICE" in space.environment.capabilities
    if PROCESS_MADVISE_OWN not in space.changes and not may:
        # mm/madvise.c: process_madvise(): needs CAP_SYS_NICE, once for the process itself too
        raise SyscallError(EPERM)
    if not length:
        return 0
    try:
        madvise(space, Madvise(call.addr, length, call.advice))
    except SyscallError as error:
        if error.errno == ETIME:
            # mm/madvise.c: vector_madvise(): it begins again without returning
            raise Unmodelled("a call that never ends") from None
        raise
    return length
