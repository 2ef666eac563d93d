"""UFFDIO_REGISTER, UFFDIO_UNREGISTER and UFFDIO_WRITEPROTECT of userfaultfds with UFFD_FEATURE_SIGBUS, one of which
reports events (mm/userfaultfd.c)."""

from collections.abc import Sequence
from errno import EBADF, EBUSY, EINVAL, ENOENT, ENOMEM, ENOTTY, EOPNOTSUPP, EPERM
from typing import Final

from abi.calls import UffdRegister, UffdUnregister, UffdWriteprotect
from abi.consts import (
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
    UFFDIO_WRITEPROTECT_MODE_WP,
)
from model.errors import SyscallError, Unmodelled
from model.flags import (
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_MAYWRITE,
    VM_SPECIAL,
    VM_UFFD,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
)
from model.profile import (
    UFFD_LOW_ADDRESSES,
    UFFD_NOTHING_ABOVE,
    UFFD_PARTS_MERGE,
    UFFD_REJECTS_DROPPABLE,
    UFFD_UNREGISTER_CHECKS_OWNER,
    UFFD_WP_DROP_BUSY,
    UFFD_WP_SEVERAL_VMAS,
    UFFD_WP_UNPOPULATED,
)
from model.space import (
    EVENT_UFFD,
    PTE_GUARD,
    PTE_KIND,
    PTE_WP,
    PTE_WRITABLE,
    AddressSpace,
)
from model.vma import Vma

_MODES: Final = {
    UFFDIO_REGISTER_MODE_MISSING: VM_UFFD_MISSING,
    UFFDIO_REGISTER_MODE_WP: VM_UFFD_WP,
    UFFDIO_REGISTER_MODE_MINOR: VM_UFFD_MINOR,
}
#: Modes that not every architecture has, and what says so (`abi.environment.Environment.config`).
_NEEDS: Final = (
    (UFFDIO_REGISTER_MODE_WP, "UFFD_WP"),
    (UFFDIO_REGISTER_MODE_MINOR, "UFFD_MINOR"),
)


def uffd_register(space: AddressSpace, call: UffdRegister) -> int:
    """UFFDIO_REGISTER: all VMAs of the range are checked before the first changes; holes are ignored.

    A VMA that has the modes already is left alone, otherwise its modes are replaced.

    Raises:
        SyscallError: EBADF, ENOTTY, EINVAL, EPERM, EBUSY, ENOMEM.
    """
    fd = _descriptor(space, call.fd)
    if not call.mode or call.mode & ~sum(_MODES):
        raise SyscallError(EINVAL)  # UFFDIO_REGISTER(2const): no mode, or an unknown one
    if any(call.mode & mode and name not in space.environment.config for mode, name in _NEEDS):
        raise SyscallError(EINVAL)  # UFFDIO_REGISTER(2const): a mode that the kernel does not have
    modes = sum(flag for mode, flag in _MODES.items() if call.mode & mode)
    end = _range_end(space, call.addr, call.length)
    vmas = space.between(call.addr, end)
    _refuse_hole(space, call.addr, vmas)
    if call.addr & _huge(vmas[0]):
        # mm/userfaultfd.c: userfaultfd_register(): begins inside a huge page
        raise SyscallError(EINVAL)
    for vma in vmas:
        if not _can_userfault(space, vma, modes):
            raise SyscallError(EINVAL)  # UFFDIO_REGISTER(2const): a mapping of an incompatible kind
        if not vma.flags & VM_MAYWRITE:
            # mm/userfaultfd.c: userfaultfd_register(): a read-only shared file
            raise SyscallError(EPERM)
        if end <= vma.end and end & _huge(vma):
            # mm/userfaultfd.c: userfaultfd_register(): ends inside a huge page
            raise SyscallError(EINVAL)
        if vma.uffd and vma.uffd != fd:
            # UFFDIO_REGISTER(2const): registered with another userfaultfd
            raise SyscallError(EBUSY)
        if UFFD_WP_DROP_BUSY in space.changes and vma.flags & VM_UFFD_WP & ~modes:
            raise SyscallError(EBUSY)  # mm/userfaultfd.c: userfaultfd_register(): it would lose WP
    start = call.addr
    while (vma_or_none := space.first(start, end)) is not None:
        vma = vma_or_none
        if vma.uffd != fd or vma.flags & modes != modes:
            flags = vma.flags & ~VM_UFFD | modes
            vma = _modify(space, vma, max(start, vma.start), min(end, vma.end), flags, fd)
        start = vma.end
    return 0


def uffd_unregister(space: AddressSpace, call: UffdUnregister) -> int:
    """UFFDIO_UNREGISTER: what is not registered is skipped.

    Raises:
        SyscallError: EBADF, ENOTTY, EINVAL, ENOMEM.
    """
    fd = _descriptor(space, call.fd)
    end = _range_end(space, call.addr, call.length)
    vmas = space.between(call.addr, end)
    _refuse_hole(space, call.addr, vmas)
    if call.addr & _huge(vmas[0]):
        # mm/userfaultfd.c: userfaultfd_unregister(): begins inside a huge page
        raise SyscallError(EINVAL)
    for vma in vmas:
        if vma.uffd and vma.uffd != fd and UFFD_UNREGISTER_CHECKS_OWNER in space.changes:
            # mm/userfaultfd.c: userfaultfd_unregister(): another userfaultfd's
            raise SyscallError(EINVAL)
        if not _can_userfault(space, vma, vma.flags & VM_UFFD):
            # UFFDIO_UNREGISTER(2const): a mapping of an incompatible kind
            raise SyscallError(EINVAL)
    start = call.addr
    while (vma_or_none := space.first(start, end)) is not None:
        vma = vma_or_none
        if vma.uffd:
            start, stop = max(start, vma.start), min(end, vma.end)
            if vma.flags & VM_UFFD_WP:
                # Of a huge page all of it, even if the range then cannot be cut inside it.
                space.unprotect(start, stop + _huge(vma) & ~_huge(vma))
            # mm/userfaultfd.c: userfaultfd_clear_vma()
            whole = (start, stop) == (vma.start, vma.end)
            vma = _modify(space, vma, start, stop, vma.flags & ~VM_UFFD, 0, or_not=whole)
        start = vma.end
    return 0


def uffd_writeprotect(space: AddressSpace, call: UffdWriteprotect) -> int:
    """UFFDIO_WRITEPROTECT: pages that are there are protected; where none is, mappings of files get a marker, and so do
    anonymous ones with UFFD_FEATURE_WP_UNPOPULATED, where the kernel has it. Whose registration it is does not matter.
    VMAs before the one that fails are done (mm/userfaultfd.c: mwriteprotect_range()).

    Raises:
        SyscallError: EBADF, ENOTTY, EINVAL, ENOENT.
        Unmodelled: the executor's own memory, which it then cannot write to.
    """
    _descriptor(space, call.fd)
    end = _range_end(space, call.addr, call.length)
    protect = bool(call.wp_mode & UFFDIO_WRITEPROTECT_MODE_WP)
    if call.wp_mode & ~(UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE):
        raise SyscallError(EINVAL)  # UFFDIO_WRITEPROTECT(2const): an unknown mode
    if protect and call.wp_mode & UFFDIO_WRITEPROTECT_MODE_DONTWAKE:
        raise SyscallError(EINVAL)  # UFFDIO_WRITEPROTECT(2const): DONTWAKE is for unprotecting
    vmas = space.between(call.addr, end)
    if UFFD_WP_SEVERAL_VMAS not in space.changes:
        only = space.lookup(call.addr)
        if only is None or only.end < end:
            raise SyscallError(ENOENT)  # mm/userfaultfd.c: find_dst_vma(): not within one mapping
    for vma in vmas:
        if not vma.flags & VM_UFFD_WP:
            raise SyscallError(ENOENT)  # UFFDIO_WRITEPROTECT(2const): not registered for it
        if vma.flags & VM_HUGETLB and (call.addr | call.length) & PMD_SIZE - 1:
            # UFFDIO_WRITEPROTECT(2const): a part of a huge page
            raise SyscallError(EINVAL)
        start, stop = max(call.addr, vma.start), min(end, vma.end)
        if not protect:
            space.unprotect(start, stop)
        elif vma.name is not None:
            raise Unmodelled("the executor's own memory is write-protected")
        else:
            _protect(space, vma, start, stop)
    if not vmas:
        # mm/userfaultfd.c: mwriteprotect_range(): nothing is mapped there
        raise SyscallError(ENOENT)
    return 0


def _modify(
    space: AddressSpace,
    vma: Vma,
    start: int,
    end: int,
    flags: int,
    fd: int,
    *,
    or_not: bool = False,
) -> Vma:
    """Register a VMA's part anew. One that begins inside it was once taken to have the page offset of the VMA, which
    seldom fits the VMA above (mm/userfaultfd.c: userfaultfd_register_range(), userfaultfd_clear_vma())."""
    pgoff = None if UFFD_PARTS_MERGE in space.changes else vma.pgoff
    like = vma.copy()
    like.flags, like.uffd = flags, fd
    return space.become(vma, start, end, like, pgoff=pgoff, or_not=or_not)


def _protect(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Write-protect pages, but no guards (mm/mprotect.c: change_pte_range()). Markers take page tables.

    Raises:
        SyscallError: as `AddressSpace.allocate`; what is below the missing page table is protected.
    """
    ptes = space.ptes
    space.write_protected = True
    unpopulated = vma.uffd == EVENT_UFFD and UFFD_WP_UNPOPULATED in space.changes
    marks = not vma.anonymous or unpopulated
    stop = space.allocate_tables(start, end) if marks else end
    missing, end = stop < end, stop
    for page in space.pages_of(start, end):
        if ptes[page] & PTE_KIND != PTE_GUARD:
            ptes[page] = ptes[page] & ~PTE_WRITABLE | PTE_WP
    if marks:
        for page in range(start >> PAGE_SHIFT, end >> PAGE_SHIFT):
            ptes.setdefault(page, PTE_WP)
    if missing:
        raise SyscallError(ENOMEM)  # mm/mprotect.c: change_pmd_prepare()


def _descriptor(space: AddressSpace, fd: int) -> int:
    """The descriptor, which has to be a userfaultfd."""
    if fd not in space.uffds:
        file = space.files.get(fd)
        if file and file.kind and file.kind.no_ioctl:
            raise SyscallError(EOPNOTSUPP)  # net/core/sock.c: sock_no_ioctl()
        raise SyscallError(ENOTTY if file else EBADF)  # ioctl(2): not a userfaultfd
    return fd


def _range_end(space: AddressSpace, start: int, length: int) -> int:
    """Where a valid range ends (mm/userfaultfd.c: validate_range())."""
    task_size = space.environment.task_size
    aligned = not (start | length) & PAGE - 1
    if not aligned or not length or start >= task_size or length > task_size - start:
        raise SyscallError(EINVAL)  # UFFDIO_REGISTER(2const): the range is not valid
    if start < space.environment.mmap_min_addr and UFFD_LOW_ADDRESSES not in space.changes:
        raise SyscallError(EINVAL)  # mm/userfaultfd.c: validate_range(): below vm.mmap_min_addr
    return start + length


def _refuse_hole(space: AddressSpace, start: int, vmas: Sequence[Vma]) -> None:
    """Nothing is mapped in the range, which was told from nothing at all from `start` on
    (mm/userfaultfd.c: userfaultfd_register(), userfaultfd_unregister()).

    Raises:
        SyscallError: EINVAL, ENOMEM.
    """
    if vmas:
        return
    if space.find(start) == len(space.vmas) and UFFD_NOTHING_ABOVE not in space.changes:
        raise SyscallError(ENOMEM)  # fs/userfaultfd.c: userfaultfd_register(): no VMA ends above it
    raise SyscallError(EINVAL)  # mm/userfaultfd.c: userfaultfd_register(): nothing is mapped there


def _huge(vma: Vma) -> int:
    """The bits of an address inside one of its huge pages; 0 without them."""
    return vma.file.inode.huge - 1 if vma.flags & VM_HUGETLB and vma.file else 0


def _can_userfault(space: AddressSpace, vma: Vma, modes: int) -> bool:
    """This kind of memory can be registered so (include/linux/userfaultfd_k.h: vma_can_userfault())."""
    if vma.flags & VM_DROPPABLE and UFFD_REJECTS_DROPPABLE in space.changes:
        return False
    if vma.flags & VM_HUGETLB:
        return True
    if vma.flags & VM_SPECIAL:
        return False
    return vma.is_shmem or (vma.anonymous and not modes & VM_UFFD_MINOR)
