"""prctl(2): the options that change how a process maps memory from then on (kernel/sys.c, mm/ksm.c)."""

from errno import EACCES, EINVAL, EPERM
from typing import Final

from abi.calls import Prctl, signed32
from abi.consts import (
    PR_MDWE_NO_INHERIT,
    PR_MDWE_REFUSE_EXEC_GAIN,
    PR_SET_MDWE,
    PR_SET_MEMORY_MERGE,
    PR_SET_THP_DISABLE,
    PR_THP_DISABLE_EXCEPT_ADVISED,
)
from model import thp
from model.errors import SyscallError, Unmodelled
from model.flags import VM_EXEC, VM_MERGEABLE, VM_WRITE
from model.madvise import KSM_LEAVES
from model.profile import (
    DEVZERO_MMAP_PREPARE,
    KSM_FLAG_BEFORE_MERGE,
    MDWE,
    MEMORY_MERGE,
    THP_DISABLE_FLAGS,
)
from model.space import THP_ADVISED_ONLY, THP_DISABLED, THP_ENABLED, AddressSpace
from model.vma import File

_MDWE: Final = PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT


def prctl(space: AddressSpace, call: Prctl) -> int:
    """prctl(2) with `value` and `extra` as its second and third argument.

    Raises:
        SyscallError: EINVAL, EPERM.
        Unmodelled: an option outside the vocabulary, which is not sent to a kernel either.
    """
    option = signed32(call.option)
    if option == PR_SET_THP_DISABLE:
        _set_thp_disable(space, call.value, call.extra)
    elif option == PR_SET_MEMORY_MERGE:
        _set_memory_merge(space, call.value, call.extra)
    elif option == PR_SET_MDWE:
        _set_mdwe(space, call.value, call.extra)
    else:
        raise Unmodelled(f"prctl option {option}")
    return 0


def _set_thp_disable(space: AddressSpace, disable: int, flags: int) -> None:
    """PR_SET_THP_DISABLE (kernel/sys.c: prctl_set_thp_disable())."""
    known = PR_THP_DISABLE_EXCEPT_ADVISED if THP_DISABLE_FLAGS in space.changes else 0
    if flags & ~known or (flags and not disable):
        # PR_SET_THP_DISABLE(2const): unknown flags, or flags where nothing is disabled
        raise SyscallError(EINVAL)
    if not disable:
        space.thp_disabled = THP_ENABLED
    else:
        space.thp_disabled = THP_ADVISED_ONLY if flags else THP_DISABLED
    if space.thp_disabled != THP_DISABLED:
        thp.enable(space)


def _set_memory_merge(space: AddressSpace, enable: int, reserved: int) -> None:
    """PR_SET_MEMORY_MERGE: every VMA that KSM could merge becomes mergeable or none is; neighbours that are alike then
    stay apart (mm/ksm.c: ksm_enable_merge_any(), ksm_disable_merge_any())."""
    if "KSM" not in space.environment.config or MEMORY_MERGE not in space.changes:
        # kernel/sys.c: prctl(): a kernel without CONFIG_KSM, or from before the option
        raise SyscallError(EINVAL)
    if reserved:
        raise SyscallError(EINVAL)  # PR_SET_MEMORY_MERGE(2const): a further argument is not 0
    if bool(enable) == space.merge_any:
        return
    if enable:
        space.allocate()  # mm/ksm.c: __ksm_enter()
    space.merge_any = bool(enable)
    for vma in space.vmas:
        if not enable:
            vma.flags &= ~VM_MERGEABLE
        elif not vma.flags & KSM_LEAVES:
            vma.flags |= VM_MERGEABLE


def new_vma_flags(space: AddressSpace, file: File | None, flags: int) -> int:
    """The VM_* with which a new mapping looks for neighbours to merge with (mm/vma.c: can_set_ksm_flags_early())."""
    if KSM_FLAG_BEFORE_MERGE not in space.changes:
        return flags
    if file and (file.late or (file.zero and DEVZERO_MMAP_PREPARE not in space.changes)):
        return flags
    return mergeable_flags(space, flags)


def mergeable_flags(space: AddressSpace, flags: int) -> int:
    """The VM_* of a new mapping once it stands alone (mm/ksm.c: ksm_vma_flags())."""
    return flags | VM_MERGEABLE if space.merge_any and not flags & KSM_LEAVES else flags


def _set_mdwe(space: AddressSpace, bits: int, reserved: int) -> None:
    """PR_SET_MDWE: what was set is not unset (kernel/sys.c: prctl_set_mdwe())."""
    if MDWE not in space.changes:
        raise SyscallError(EINVAL)  # kernel/sys.c: prctl(): an option this kernel does not know
    if reserved:
        raise SyscallError(EINVAL)  # PR_SET_MDWE(2const): a further argument is not 0
    if bits & ~_MDWE:
        raise SyscallError(EINVAL)  # PR_SET_MDWE(2const): an unknown bit
    if bits == PR_MDWE_NO_INHERIT:
        raise SyscallError(EINVAL)  # PR_SET_MDWE(2const): PR_MDWE_NO_INHERIT alone
    if space.mdwe and space.mdwe != bits:
        raise SyscallError(EPERM)  # PR_SET_MDWE(2const): other bits are set already
    space.mdwe = bits


def check_exec_gain(space: AddressSpace, old: int, new: int) -> None:
    """PR_SET_MDWE: nothing becomes executable that is or was not so, nor is both writable and executable.

    Raises:
        SyscallError: EACCES.
    """
    if space.mdwe & PR_MDWE_REFUSE_EXEC_GAIN and new & VM_EXEC:
        if new & VM_WRITE:
            # PR_SET_MDWE(2const): memory both writable and executable
            raise SyscallError(EACCES)
        if not old & VM_EXEC:
            raise SyscallError(EACCES)  # PR_SET_MDWE(2const): mapped memory becomes executable
