"""What a program may not do to the machine it runs on, and what it does rarely because it costs much.

Knows nothing of the kernel's answers: these are calls that are not made, whatever they would return.
"""

from dataclasses import replace
from typing import Final

from abi.calls import (
    Call,
    Fill,
    Madvise,
    Mlock,
    Mlock2,
    Mmap,
    Prctl,
    ProcessMadvise,
    Program,
    Setrlimit,
)
from abi.consts import (
    MADV_COLLAPSE,
    MADV_HWPOISON,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_SOFT_OFFLINE,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    PRCTL_NAMES,
    RESOURCE_NAMES,
)
from kernel_bridge.policy import reserves_privately, sets_mdwe

#: They take a page of memory out of use for good when the caller has CAP_SYS_ADMIN.
_POISON: Final = (MADV_HWPOISON, MADV_SOFT_OFFLINE)
#: An unknown advice that a poisoning one becomes.
_UNKNOWN_ADVICE: Final = 0x100
_INT: Final = 0xFFFFFFFF
#: The options of prctl and the resources of setrlimit that are sent; any other becomes one of them.
_OPTIONS: Final = tuple(PRCTL_NAMES.values())
_RESOURCES: Final = tuple(RESOURCE_NAMES.values())

#: Populating takes up to 0.2 ms a MiB.
_MUCH: Final = 16 << 20
_EAGER_FLAGS: Final = MAP_POPULATE | MAP_LOCKED
_ADVISING: Final = (Madvise, ProcessMadvise)
_LOCKING: Final = (Mlock, Mlock2)
#: One that fills takes a quarter of a second: so few of those that could are made; of what is read from bytes, in which
#: they are as frequent as any other, fewer.
FILL_SHARE: Final = 0.1
READ_FILL_SHARE: Final = 0.01
#: More mappings than there can be, so that nothing is filled.
_NOTHING_SPARE: Final = (1 << 64) - 1
_MOST_SPARE: Final = 1 << 32
_EAGER_ADVICE: Final = (MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE)


#: Calls that `restrain` and `cheapen` may change.
RESTRAINED: Final = frozenset(
    (Mmap, Madvise, ProcessMadvise, Mlock, Mlock2, Prctl, Setrlimit, Fill)
)


def restrain(call: Call, unprivileged: bool = False) -> Call:
    """The call, without what harms the machine or is out of scope.

    `unprivileged` says that the executor has no capabilities, so that the kernel refuses poisoning itself.
    """
    if isinstance(call, _ADVISING):
        if call.advice & _INT in _POISON and not unprivileged:
            return replace(call, advice=call.advice | _UNKNOWN_ADVICE)
    elif isinstance(call, Prctl):
        if call.option & _INT not in _OPTIONS:
            return replace(call, option=_OPTIONS[call.option % len(_OPTIONS)])
    elif isinstance(call, Setrlimit) and call.resource & _INT not in _RESOURCES:
        return replace(call, resource=_RESOURCES[call.resource % len(_RESOURCES)])
    elif isinstance(call, Mmap) and reserves_privately(call):
        return replace(call, flags=call.flags | MAP_NORESERVE)
    return call


def restrain_program(program: Program, unprivileged: bool = False) -> Program:
    """Every call restrained: for programs that were decoded from bytes."""
    return tuple(restrain(call, unprivileged) for call in program)


def is_costly(call: Call) -> bool:
    """The call fills more than 16 MiB of memory if it succeeds, or takes all mappings, or lasts as long as the process,
    so that there has to be another."""
    if isinstance(call, Mmap):
        return call.length > _MUCH and call.flags & _EAGER_FLAGS != 0
    if isinstance(call, _ADVISING):
        return call.length > _MUCH and call.advice & _INT in _EAGER_ADVICE
    if is_filling(call):
        return True
    if isinstance(call, Prctl):
        return sets_mdwe(call)
    return isinstance(call, _LOCKING) and call.length > _MUCH


def is_filling(call: Call) -> bool:
    """The call takes all mappings but a few."""
    return isinstance(call, Fill) and call.spare < _MOST_SPARE


def cheapen(call: Call) -> Call:
    """The costly call without what makes it costly."""
    if isinstance(call, Mmap):
        flags = call.flags & ~_EAGER_FLAGS
        return Mmap(call.addr, call.length, call.prot, flags, call.fd, call.offset)
    if isinstance(call, Fill):
        return replace(call, spare=_NOTHING_SPARE)
    if isinstance(call, Prctl):
        return replace(call, extra=1)
    if isinstance(call, _ADVISING + _LOCKING):
        return replace(call, length=call.length % _MUCH)
    return call
