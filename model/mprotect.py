"""mprotect(2) (mm/mprotect.c)."""

from errno import EACCES, EINVAL, ENOMEM, ENOSYS, EPERM
from typing import Final

from abi.calls import Mprotect, PkeyMprotect, signed32
from abi.consts import (
    PAGE,
    PAGE_SHIFT,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    WORD,
)
from model.errors import SyscallError
from model.fault import populate
from model.flags import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_NORESERVE,
    VM_PKEY_EXEC_ONLY,
    VM_SEALED,
    VM_SHARED,
    VM_UFFD_WP,
    VM_WRITE,
)
from model.prctl import check_exec_gain
from model.profile import MPROTECT_UNACCOUNTS
from model.space import (
    PTE_ANON,
    PTE_FORKED,
    PTE_KIND,
    PTE_WP,
    PTE_WRITABLE,
    PTE_ZERO,
    AddressSpace,
)
from model.vma import Vma

#: What stands for no protection key (mm/mprotect.c: mprotect()).
_NO_KEY: Final = -1
_GROWS: Final = PROT_GROWSDOWN | PROT_GROWSUP
_KNOWN: Final = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM


def mprotect(space: AddressSpace, call: Mprotect) -> int:
    """mprotect(2). At a hole, or at a VMA that cannot change, it stops and keeps what it has changed
    (mm/mprotect.c: do_mprotect_pkey()).

    Raises:
        SyscallError: EINVAL, ENOMEM, EACCES, EPERM.
    """
    return _mprotect(space, call, _NO_KEY)


def pkey_mprotect(space: AddressSpace, call: PkeyMprotect) -> int:
    """pkey_mprotect(2): as mprotect(2) with key -1. No program allocates a key, so at most key 0 is there.

    Raises:
        SyscallError: ENOSYS, EINVAL, ENOMEM, EACCES, EPERM.
    """
    if "PKEYS" not in space.environment.config:
        raise SyscallError(ENOSYS)  # mm/mprotect.c: an architecture without protection keys
    return _mprotect(space, call, signed32(call.pkey))


def _mprotect(space: AddressSpace, call: Mprotect | PkeyMprotect, key: int) -> int:
    start, grows, prot = call.addr, call.prot & _GROWS, call.prot & ~_GROWS
    if grows == _GROWS:
        raise SyscallError(EINVAL)  # mprotect(2): PROT_GROWSUP and PROT_GROWSDOWN together
    if start & PAGE - 1:
        raise SyscallError(EINVAL)  # mprotect(2): the address is not page-aligned
    if not call.length:
        return 0
    end = start + (call.length + PAGE - 1 & WORD & -PAGE) & WORD
    if end <= start:
        raise SyscallError(ENOMEM)  # mm/mprotect.c: do_mprotect_pkey(): the range wraps
    if prot & ~_KNOWN:
        raise SyscallError(EINVAL)  # mprotect(2): unknown bits in prot
    if key != _NO_KEY and (key or "PKU" not in space.environment.config):
        # pkey_mprotect(2): a key that was not allocated, or none can be
        raise SyscallError(EINVAL)
    index = space.find(start)
    if index == len(space.vmas) or space.starts[index] >= end:
        raise SyscallError(ENOMEM)  # mprotect(2): nothing is mapped in the range
    vma = space.vmas[index]
    if grows == PROT_GROWSDOWN:
        start = vma.start
        if not vma.flags & VM_GROWSDOWN:
            raise SyscallError(EINVAL)  # mprotect(2): PROT_GROWSDOWN and the mapping does not
    elif vma.start > start:
        raise SyscallError(ENOMEM)  # mprotect(2): the range begins with a hole
    elif grows:
        raise SyscallError(EINVAL)  # mprotect(2): PROT_GROWSUP and the mapping does not
    while start < end:
        vma_or_none = space.lookup(start)
        if vma_or_none is None:
            # mprotect(2): a hole in the range; what lies before it is changed
            raise SyscallError(ENOMEM)
        flags = _flags_for(space, vma_or_none, prot, key)
        start = _protect_vma(space, vma_or_none, start, min(vma_or_none.end, end), flags)
    return 0


def _flags_for(space: AddressSpace, vma: Vma, prot: int, key: int) -> int:
    """The VMA's flags with the new protection, a protection key for execute-only included unless one is given."""
    flags = prot & VM_ACCESS | vma.flags & ~(VM_ACCESS | VM_PKEY_EXEC_ONLY)
    if key == _NO_KEY and prot == PROT_EXEC and "PKU" in space.environment.config:
        flags |= VM_PKEY_EXEC_ONLY
    if flags & ~(flags >> 4) & VM_ACCESS:
        # mprotect(2): more than the mapping may have (a file opened read-only)
        raise SyscallError(EACCES)
    check_exec_gain(space, vma.flags, flags)
    return flags


def _protect_vma(space: AddressSpace, vma: Vma, start: int, end: int, flags: int) -> int:
    """Change one VMA's part; where it ends (mm/mprotect.c: mprotect_fixup())."""
    old = vma.flags
    if old & VM_SEALED:
        raise SyscallError(EPERM)  # mseal(2): a sealed mapping keeps its protection
    if flags == old:
        return vma.end
    pages = end - start >> PAGE_SHIFT
    if flags & VM_WRITE:
        if not space.may_expand(flags, pages) and space.may_expand(old, pages):
            raise SyscallError(ENOMEM)  # mm/mprotect.c: mprotect_fixup(): RLIMIT_DATA
        if not old & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE):
            space.charge(pages)
            flags |= VM_ACCOUNT
    elif _unaccounts(space, vma):
        flags &= ~VM_ACCOUNT
    vma = space.modify(vma, start, end, flags, vma.uffd)
    if space.write_protected:
        _make_writable(space, vma, start, end)
    if flags & VM_WRITE and old & (VM_LOCKED | VM_WRITE | VM_SHARED) == VM_LOCKED:
        populate(space, start, end, once=True)
    return vma.end


def _unaccounts(space: AddressSpace, vma: Vma) -> bool:
    """What was never faulted need not be accounted for while it cannot be written to."""
    unfaulted = vma.flags & VM_ACCOUNT and vma.anonymous and not vma.anon_vma
    return bool(unfaulted) and MPROTECT_UNACCOUNTS in space.changes


def _make_writable(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Whether pages that a userfaultfd once write-protected can be written to without a fault
    (mm/mprotect.c: change_pte_range(), can_change_pte_writable())."""
    may = vma.flags & VM_WRITE and not vma.flags & VM_UFFD_WP
    for page in space.pages_of(start, end):
        held = space.ptes[page]
        if held & PTE_WP and held & PTE_KIND:
            held &= ~PTE_WRITABLE
            own = held & (PTE_KIND | PTE_ZERO | PTE_FORKED) == PTE_ANON
            own = own and not vma.flags & VM_HUGETLB  # hugetlb_change_protection() only modifies
            if may and (vma.flags & VM_SHARED or own):
                held |= PTE_WRITABLE
            space.ptes[page] = held
