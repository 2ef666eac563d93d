"""mmap(2): checks in the kernel's order, then placement, then replacement (mm/mmap.c, mm/vma.c)."""

from collections.abc import Callable
from errno import (
    EACCES,
    EAGAIN,
    EBADF,
    EEXIST,
    EINVAL,
    ENODEV,
    ENOMEM,
    ENOSPC,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
)
from typing import Final

from abi.calls import Mmap
from abi.consts import (
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_ANONYMOUS,
    MAP_DENYWRITE,
    MAP_DROPPABLE,
    MAP_EXECUTABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGE_1GB,
    MAP_HUGE_2MB,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_SYNC,
    MAP_TYPE,
    PAGE,
    PAGE_SHIFT,
    PROT_EXEC,
    PROT_WRITE,
    WORD,
)
from model import hugetlb
from model.errors import SyscallError
from model.fault import populate
from model.flags import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYACCESS,
    VM_MAYEXEC,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PKEY_EXEC_ONLY,
    VM_SHARED,
    VM_SYNC,
    VM_WIPEONFORK,
)
from model.kernfs import kernel_flags
from model.placement import get_unmapped_area
from model.prctl import check_exec_gain, mergeable_flags, new_vma_flags
from model.profile import (
    DROPPABLE,
    DROPPABLE_NEVER_LOCKED,
    GATHER_BEFORE_LIMITS,
    MAP_ABOVE4G_KNOWN,
    MAP_STACK_NOHUGEPAGE,
)
from model.space import (
    OVERCOMMIT_NEVER,
    PTE_FILE,
    AddressSpace,
    is_accountable,
    supports_mlock,
)
from model.vma import File, Vma

#: Flags that MAP_SHARED_VALIDATE knows (include/linux/mman.h: LEGACY_MAP_MASK).
_LEGACY_FLAGS: Final = (
    MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | 0x4000000  # MAP_UNINITIALIZED
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_ABOVE4G
    | MAP_HUGE_2MB
    | MAP_HUGE_1GB
)
_MAX_LFS_FILESIZE: Final = (1 << 63) - 1


def mmap(space: AddressSpace, call: Mmap) -> int:
    """mmap(2); the address mapped. Replaced mappings are gone even where a file's own mmap then fails.

    Raises:
        SyscallError: with the errno of mmap(2).
        Unmodelled: it depends on the huge pages of the whole machine.
    """
    flags, offset, length = call.flags, call.offset, call.length
    if offset & PAGE - 1:
        raise SyscallError(EINVAL)  # mmap(2): the offset is not page-aligned
    file = None
    if not flags & MAP_ANONYMOUS:
        file = space.files.get(call.fd)
        if file is None:
            raise SyscallError(EBADF)  # mmap(2): no such descriptor
        if file.inode.huge:
            length = hugetlb.round_up(length, file.inode.huge)
        elif flags & MAP_HUGETLB:
            # mm/mmap.c: ksys_mmap_pgoff(): MAP_HUGETLB of an ordinary file
            raise SyscallError(EINVAL)
    elif flags & MAP_HUGETLB:
        size = hugetlb.size_of(space, flags)
        length = hugetlb.round_up(length, size)
        space.allocate(ENOSPC)  # fs/hugetlbfs/inode.c: hugetlb_file_setup()
        space.allocate()
        file = hugetlb.new_file(length, size)
    if not length:
        # mmap(2): the length is 0, or wraps when it is rounded up to huge pages
        raise SyscallError(EINVAL)
    return map_object(space, file, call.addr, length, call.prot, flags, offset >> PAGE_SHIFT)


def map_object(
    space: AddressSpace,
    file: File | None,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    pgoff: int,
    *,
    notify: bool = True,
) -> int:
    """Map a file or, without one, memory; the address (mm/mmap.c: do_mmap()). `notify`: userfaultfds hear of what it
    unmaps, as with mmap(2) alone.

    Raises:
        SyscallError: with an errno of mmap(2).
        Unmodelled: it depends on the huge pages of the whole machine.
    """
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if not flags & MAP_FIXED:
        addr = _round_hint(space, addr)
    length = length + PAGE - 1 & WORD & -PAGE
    if not length:
        raise SyscallError(ENOMEM)  # mm/mmap.c: do_mmap(): the length wraps when rounded up
    if space.map_count() > space.environment.max_map_count:
        raise SyscallError(ENOMEM)  # mm/mmap.c: do_mmap(): map_count > vm.max_map_count
    vm_flags = _initial_flags(space, prot, flags)
    addr = get_unmapped_area(space, file, addr, length, pgoff, flags)
    if flags & MAP_FIXED_NOREPLACE and space.intersects(addr, addr + length):
        raise SyscallError(EEXIST)  # mmap(2): MAP_FIXED_NOREPLACE and something is mapped there
    _check_lock(space, flags, vm_flags, length)
    if file:
        vm_flags, flags = _file_flags(space, file, prot, flags, vm_flags, pgoff, length)
    else:
        vm_flags = _anonymous_flags(space, flags, vm_flags)
        pgoff = 0 if vm_flags & VM_SHARED else addr >> PAGE_SHIFT
    huge = file is not None and file.inode.huge > 0
    if flags & MAP_NORESERVE and (huge or space.environment.overcommit != OVERCOMMIT_NEVER):
        vm_flags |= VM_NORESERVE
    _map_region(space, file, addr, length, vm_flags, pgoff, notify=notify)
    if vm_flags & VM_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        populate(space, addr, addr + length)
    return addr


def _round_hint(space: AddressSpace, hint: int) -> int:
    """A hint as it is used (mm/mmap.c: round_hint_to_min())."""
    hint &= -PAGE
    lowest = space.environment.mmap_min_addr
    return lowest + PAGE - 1 & -PAGE if hint and hint < lowest else hint


def _initial_flags(space: AddressSpace, prot: int, flags: int) -> int:
    """VM_* that follow from the arguments alone (include/linux/mman.h: calc_vm_prot_bits(), calc_vm_flag_bits())."""
    config = space.environment.config
    vm_flags = prot & VM_ACCESS | VM_MAYACCESS | space.def_flags
    if prot == PROT_EXEC and "PKU" in config:
        vm_flags |= VM_PKEY_EXEC_ONLY
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if flags & MAP_SYNC:
        vm_flags |= VM_SYNC
    if flags & MAP_STACK and "THP" in config and MAP_STACK_NOHUGEPAGE in space.changes:
        vm_flags |= VM_NOHUGEPAGE
    return vm_flags


def _check_lock(space: AddressSpace, flags: int, vm_flags: int, length: int) -> None:
    if flags & MAP_LOCKED and not space.can_lock():
        raise SyscallError(EPERM)  # mmap(2): MAP_LOCKED and RLIMIT_MEMLOCK is 0
    if vm_flags & VM_LOCKED and not space.may_lock(length):
        raise SyscallError(EAGAIN)  # mmap(2): locked, beyond RLIMIT_MEMLOCK


def _file_flags(
    space: AddressSpace,
    file: File,
    prot: int,
    flags: int,
    vm_flags: int,
    pgoff: int,
    length: int,
) -> tuple[int, int]:
    """The checks for a file; its VM_* and the flags as they count from then on (mm/mmap.c: do_mmap())."""
    limit = _MAX_LFS_FILESIZE if file.regular else WORD
    if length > limit or pgoff > limit - length >> PAGE_SHIFT:
        # mm/mmap.c: file_mmap_ok(): offset and length beyond any file
        raise SyscallError(EOVERFLOW)
    kind, legacy = flags & MAP_TYPE, _LEGACY_FLAGS
    if MAP_ABOVE4G_KNOWN not in space.changes:
        legacy &= ~MAP_ABOVE4G
    if kind == MAP_SHARED or kind == MAP_SHARED_VALIDATE:
        if kind == MAP_SHARED:
            flags &= legacy
        known = legacy | (MAP_SYNC if file.sync else 0)
        if flags & ~known & ~MAP_TYPE:
            raise SyscallError(EOPNOTSUPP)  # mmap(2): MAP_SHARED_VALIDATE with an unknown flag
        if prot & PROT_WRITE and not file.writable:
            raise SyscallError(EACCES)  # mmap(2): shared and writable, opened read-only
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if not file.writable:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    elif kind != MAP_PRIVATE:
        raise SyscallError(EINVAL)  # mmap(2): neither shared nor private
    if not file.readable:
        raise SyscallError(EACCES)  # mmap(2): not opened for reading
    if file.noexec:
        if vm_flags & VM_EXEC:
            raise SyscallError(EPERM)  # mmap(2): PROT_EXEC on a file system mounted noexec
        vm_flags &= ~VM_MAYEXEC
    if not file.mappable:
        raise SyscallError(ENODEV)  # mmap(2): this kind of file cannot be mapped
    if vm_flags & VM_GROWSDOWN:
        raise SyscallError(EINVAL)  # mm/mmap.c: do_mmap(): a file mapping does not grow down
    return vm_flags, flags


def _anonymous_flags(space: AddressSpace, flags: int, vm_flags: int) -> int:
    """The checks for anonymous memory; its VM_* (mm/mmap.c: do_mmap())."""
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN:
            raise SyscallError(EINVAL)  # mm/mmap.c: do_mmap(): shared memory does not grow down
        return vm_flags | VM_SHARED | VM_MAYSHARE
    if kind == MAP_DROPPABLE and DROPPABLE in space.changes:
        if flags & MAP_LOCKED or vm_flags & VM_GROWSDOWN:
            raise SyscallError(EINVAL)  # mmap(2): MAP_DROPPABLE is neither locked nor a stack
        return vm_flags | VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    if kind != MAP_PRIVATE:
        raise SyscallError(EINVAL)  # mmap(2): neither shared nor private
    return vm_flags


def _map_special(
    space: AddressSpace, function: Callable[[AddressSpace, Vma], int], vma: Vma, locked: int
) -> int:
    """A file's own mmap, which still finds so many pages counted as locked as before anything was replaced
    (mm/vma.c: vms_complete_munmap_vmas())."""
    now, space.locked_vm = space.locked_vm, locked
    try:
        return function(space, vma)
    finally:
        space.locked_vm = now


def _gather(
    space: AddressSpace, addr: int, end: int, vm_flags: int, *, notify: bool
) -> tuple[int, int]:
    """The index range of what is to be replaced, cut at its ends (mm/vma.c: __mmap_setup()).

    Raises:
        SyscallError: ENOMEM, or as AddressSpace.gather().
    """
    low = high = replaced = 0
    if space.intersects(addr, end):
        low, high = space.gather(addr, end, notify=notify)
        replaced = sum(vma.end - vma.start for vma in space.vmas[low:high])
    if not space.may_expand(vm_flags, end - addr - replaced >> PAGE_SHIFT):
        raise SyscallError(ENOMEM)  # mmap(2): RLIMIT_AS or RLIMIT_DATA; what was cut stays cut
    return low, high


def _make_room(space: AddressSpace, addr: int, end: int, vm_flags: int, *, notify: bool) -> None:
    """Limits first, then what is to be replaced is unmapped for good; why it cannot be is not told (mm/mmap.c:
    mmap_region(), before it was split).

    Raises:
        SyscallError: ENOMEM.
    """
    replaced = sum(min(v.end, end) - max(v.start, addr) for v in space.between(addr, end))
    if not space.may_expand(vm_flags, end - addr - replaced >> PAGE_SHIFT):
        raise SyscallError(ENOMEM)  # mmap(2): RLIMIT_AS or RLIMIT_DATA; nothing is cut
    try:
        space.unmap(addr, end, notify=notify)
    except SyscallError:
        # mm/mmap.c: mmap_region(): the mapping limit, or a part of a huge page
        raise SyscallError(ENOMEM) from None


def _map_region(
    space: AddressSpace,
    file: File | None,
    addr: int,
    length: int,
    vm_flags: int,
    pgoff: int,
    *,
    notify: bool,
) -> None:
    """Replace what is mapped there, merge with neighbours or insert (mm/vma.c: __mmap_region())."""
    check_exec_gain(space, vm_flags, vm_flags)
    end = addr + length
    pages = length >> PAGE_SHIFT
    low = high = 0
    if GATHER_BEFORE_LIMITS in space.changes:
        low, high = _gather(space, addr, end, vm_flags, notify=notify)
    else:
        _make_room(space, addr, end, vm_flags, notify=notify)
    huge = file is not None and file.inode.huge > 0
    if is_accountable(vm_flags) and not huge:
        accounted = sum(v.end - v.start for v in space.vmas[low:high] if v.flags & VM_ACCOUNT)
        space.charge(pages - (accounted >> PAGE_SHIFT))
        vm_flags |= VM_ACCOUNT
    locked = space.locked_vm
    if high:
        space.drop(low, high)
    if file and file.late:
        space.allocate()  # mm/vma.c: __mmap_new_vma(): before the file is asked
    stacked = False
    if file:
        if file.below:
            file, stacked = file.below, True
        if vm_flags & VM_SYNC and file.sync:
            # mmap(2): MAP_SYNC of a file that is not DAX; the hole remains
            raise SyscallError(EOPNOTSUPP)
        if file.kernel:
            vm_flags = kernel_flags(file, vm_flags, pages, pgoff)
    anonymous = file is None or file.zero
    if vm_flags & VM_SHARED and anonymous:
        space.allocate(ENOSPC)  # mm/shmem.c: __shmem_get_inode()
        file = space.new_shmem_file(length)
        anonymous = False
    vma = Vma(addr, end, vm_flags, file, pgoff, anonymous=anonymous)
    vma.flags = new_vma_flags(space, file, vm_flags)
    if huge:
        hugetlb.map_file(space, vma)
        space.name_inode(vma)
    if file and file.kind and file.kind.mmap:
        present = _map_special(space, file.kind.mmap, vma, locked)
        first = addr >> PAGE_SHIFT
        space.ptes.update(dict.fromkeys(range(first, first + present), PTE_FILE))
    # What overlayfs maps is found after the attempt to merge (mm/vma.c: __mmap_new_file_vma()).
    mapped = None if stacked else space.merge_new(addr, end, vma, mapped=True)
    if mapped is None:
        vma.flags = mergeable_flags(space, vma.flags)
        space.allocate()  # mm/vma.c: __mmap_new_vma(): the hole remains
        space.name_inode(vma)
        space.insert(vma)
        mapped = vma
    space.total_vm += pages
    if vma.flags & VM_LOCKED:
        if supports_mlock(mapped) or (
            mapped.flags & VM_DROPPABLE and DROPPABLE_NEVER_LOCKED not in space.changes
        ):
            space.locked_vm += pages
        else:
            mapped.flags &= ~VM_LOCKED_MASK
