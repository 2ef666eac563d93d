"""What is not sent to the kernel, and after which programs the executor starts anew.

The executor itself has no policy. Refused here, before submission, are calls that name the executor's own descriptors
(the shared memory would change under it), options of prctl and resources of setrlimit outside the vocabulary, and, for an executor with CAP_SYS_ADMIN, MADV_HWPOISON
and MADV_SOFT_OFFLINE: they take physical pages away from the whole machine until it is booted again.
"""

from typing import Final

from abi.calls import (
    Ftruncate,
    Madvise,
    Mmap,
    Prctl,
    Program,
    Setrlimit,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
)
from abi.consts import (
    FIRST_OBJECT_FD,
    MADV_HWPOISON,
    MADV_SOFT_OFFLINE,
    PAGE,
    PRCTL_NAMES,
    RESOURCE_NAMES,
)
from abi.wire import IMAGE_BASE, SHARED_BASE, SHARED_SIZE

_WITH_FD: Final = frozenset((Mmap, UffdRegister, UffdUnregister, UffdWriteprotect, Ftruncate))
_INVISIBLE: Final = frozenset((Madvise, UffdRegister, UffdUnregister))
_OWN_END: Final = SHARED_BASE + SHARED_SIZE


def refusal(program: Program, sys_admin: bool) -> str:
    """Why the program may not run, in one line, or "". `sys_admin`: the executor has CAP_SYS_ADMIN."""
    for index, call in enumerate(program):
        cls = type(call)
        if cls in _WITH_FD:
            if 0 <= call.fd & 0xFFFFFFFF < FIRST_OBJECT_FD:  # type: ignore[union-attr]
                return f"call {index} names a descriptor of the executor's own"
        elif cls is Prctl:
            if call.option & 0xFFFFFFFF not in PRCTL_NAMES.values():  # type: ignore[union-attr]
                return f"call {index} is a prctl outside the vocabulary"
        elif cls is Setrlimit:
            if call.resource & 0xFFFFFFFF not in RESOURCE_NAMES.values():  # type: ignore[union-attr]
                return f"call {index} sets a limit outside the vocabulary"
        elif cls is Madvise and sys_admin:
            # The kernel reads an int: the low 32 bits.
            advice = call.advice & 0xFFFFFFFF  # type: ignore[union-attr]
            if advice in (MADV_HWPOISON, MADV_SOFT_OFFLINE) and call.length:  # type: ignore[union-attr]
                return f"call {index} would take memory from the machine (CAP_SYS_ADMIN)"
    return ""


def leaves_traces(program: Program) -> bool:
    """Whether a call may have changed the executor's own VMAs in a way that no layout shows."""
    for call in program:
        if type(call) in _INVISIBLE:
            addr: int = call.addr
            # Lengths are rounded up to pages; one that wraps makes the call fail.
            if addr < _OWN_END and addr + call.length + PAGE > IMAGE_BASE:  # type: ignore[union-attr]
                return True
    return False
