"""What is not sent to the kernel, and after which programs the executor starts anew.

The executor itself has no policy. Refused here, before submission, are calls that name the executor's own descriptors
(the shared memory would change under it), options of prctl and resources of setrlimit outside the vocabulary, and what
takes memory away from the whole machine until it is booted again: for an executor with CAP_SYS_ADMIN, MADV_HWPOISON and
MADV_SOFT_OFFLINE; for all, an mremap after a private mapping that reserves huge pages, for kernels up to 7.3.4 leak
what was reserved for the rest when a part moves (mm/hugetlb.c: fixup_hugetlb_reservations()). Where the kernel does not
know mseal(2), so are calls that would take the executor's own memory from it, or give it to the program.
"""

from collections.abc import Sequence
from typing import Final

from abi.calls import (
    Call,
    Ftruncate,
    Madvise,
    Mbind,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    PkeyMprotect,
    Prctl,
    ProcessMadvise,
    Program,
    RemapFilePages,
    Setrlimit,
    SetVmaName,
    Shmat,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
)
from abi.consts import (
    FD_NAMES,
    FIRST_OBJECT_FD,
    MADV_HWPOISON,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_TYPE,
    MREMAP_FIXED,
    PAGE,
    PR_MDWE_NO_INHERIT,
    PR_MDWE_REFUSE_EXEC_GAIN,
    PR_SET_MDWE,
    PRCTL_NAMES,
    RESOURCE_NAMES,
    SHM_REMAP,
)
from abi.wire import (
    FD_FAIL,
    FD_KCOV,
    FD_READER,
    FD_READER_END,
    IMAGE_BASE,
    SEGMENT_SIZE,
    SHARED_BASE,
    SHARED_SIZE,
)

_INT: Final = 0xFFFFFFFF
_INVISIBLE: Final = (Madvise, ProcessMadvise, UffdRegister, UffdUnregister, Mbind, SetVmaName)
_POISON: Final = (MADV_HWPOISON, MADV_SOFT_OFFLINE)
_OWN_END: Final = SHARED_BASE + SHARED_SIZE


def refusal(program: Program, sys_admin: bool, unsealed: Sequence[tuple[int, int]] = ()) -> str:
    """Why the program may not run, in one line, or "". `sys_admin`: the executor has CAP_SYS_ADMIN; `unsealed`: ranges
    of the executor's own that nothing keeps a program from."""
    reserves = False
    for index, call in enumerate(program):
        if any(_takes(call, low, high) for low, high in unsealed):
            return (
                f"call {index} could take the executor's own memory, which this kernel cannot seal"
            )
        # The kernel reads an int: the low 32 bits.
        match call:
            case Mmap() | UffdRegister() | UffdUnregister() | UffdWriteprotect() | Ftruncate():
                fd = call.fd & _INT
                if fd < FIRST_OBJECT_FD or fd in (FD_KCOV, FD_FAIL, FD_READER, FD_READER_END):
                    return f"call {index} names a descriptor of the executor's own"
                reserves |= type(call) is Mmap and reserves_privately(call)
            case Mremap():
                if reserves:
                    return f"call {index} could leak huge pages that are reserved for a private mapping"
            case Prctl():
                if call.option & _INT not in PRCTL_NAMES.values():
                    return f"call {index} is a prctl outside the vocabulary"
            case Setrlimit():
                if call.resource & _INT not in RESOURCE_NAMES.values():
                    return f"call {index} sets a limit outside the vocabulary"
            case Madvise() | ProcessMadvise():
                if sys_admin and call.advice & _INT in _POISON and call.length:
                    return f"call {index} would take memory from the machine (CAP_SYS_ADMIN)"
    return ""


def _takes(call: Call, low: int, high: int) -> bool:
    """What mseal(2) would refuse if [low, high) was sealed, whether it succeeds or not."""
    ranges: tuple[tuple[int, int], ...] = ()
    match call:
        case Munmap() | Mprotect() | PkeyMprotect() | RemapFilePages():
            ranges = ((call.addr, call.length),)
        case Mmap() if call.flags & MAP_FIXED:
            ranges = ((call.addr, call.length),)
        case Shmat() if call.shm_flags & SHM_REMAP:
            ranges = ((call.addr, SEGMENT_SIZE),)
        case Mremap():
            ranges = ((call.addr, call.old_len),)
            if call.flags & MREMAP_FIXED:
                ranges += ((call.new_addr, call.new_len),)
    return any(addr < high and addr + length + PAGE > low for addr, length in ranges)


def reserves_privately(call: Mmap) -> bool:
    """It is private, of huge pages, and reserves them: a part of it that moves would leak the rest's."""
    anonymous = call.flags & MAP_ANONYMOUS
    huge = call.flags & MAP_HUGETLB if anonymous else call.fd & _INT == FD_NAMES["hugetlb"]
    return bool(huge) and call.flags & (MAP_TYPE | MAP_NORESERVE) == MAP_PRIVATE


def leaves_traces(program: Program) -> bool:
    """Whether a call may have changed the executor's own VMAs in a way that no layout shows, or the process until it
    executes itself anew."""
    for call in program:
        if isinstance(call, Prctl) and sets_mdwe(call):
            return True
        # Lengths are rounded up to pages; one that wraps makes the call fail.
        if (
            isinstance(call, _INVISIBLE)
            and call.addr < _OWN_END
            and call.addr + call.length + PAGE > IMAGE_BASE
        ):
            return True
    return False


def outlasts_exec(program: Program) -> bool:
    """Whether a call may have changed the process in a way that it keeps when it executes itself anew:
    PR_MDWE_REFUSE_EXEC_GAIN, which only PR_MDWE_NO_INHERIT ends there."""
    return any(
        isinstance(call, Prctl) and sets_mdwe(call) and call.value == PR_MDWE_REFUSE_EXEC_GAIN
        for call in program
    )


def sets_mdwe(call: Prctl) -> bool:
    """PR_SET_MDWE with arguments that may be taken."""
    usual = (PR_MDWE_REFUSE_EXEC_GAIN, PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT)
    return call.option & _INT == PR_SET_MDWE and call.value in usual and not call.extra
