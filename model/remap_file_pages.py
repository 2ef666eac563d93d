"""remap_file_pages(2), which is an mmap(2) over a shared mapping (mm/mmap.c)."""

from errno import EINVAL

from abi.calls import RemapFilePages
from abi.consts import (
    MAP_FIXED,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_POPULATE,
    MAP_SHARED,
    PAGE,
    PAGE_SHIFT,
    WORD,
)
from model.errors import SyscallError
from model.flags import VM_ACCESS, VM_LOCKED, VM_SHARED
from model.mmap import map_object
from model.space import AddressSpace


def remap_file_pages(space: AddressSpace, call: RemapFilePages) -> int:
    """remap_file_pages(2). Of the VMA that is replaced the new one has access rights and lock, but no advice and no
    registration; a range of several VMAs takes them all from the first.

    Raises:
        SyscallError: with the errno of remap_file_pages(2), or of mmap(2).
    """
    if call.prot:
        raise SyscallError(EINVAL)  # remap_file_pages(2): prot is not 0
    start, size = call.addr & -PAGE, call.length & -PAGE
    end = start + size
    if not size or end > WORD:
        raise SyscallError(
            EINVAL
        )  # mm/mmap.c: remap_file_pages(): an empty range, or one that wraps
    if call.pgoff + (size >> PAGE_SHIFT) > WORD:
        raise SyscallError(EINVAL)  # mm/mmap.c: remap_file_pages(): the page offset wraps
    vma = space.lookup(start)
    if vma is None or not vma.flags & VM_SHARED:
        raise SyscallError(EINVAL)  # remap_file_pages(2): no shared mapping begins there
    at = vma.end
    while at < end:
        above = space.lookup(at)
        if above is None or above.file is not vma.file or above.flags != vma.flags:
            # remap_file_pages(2): the range is not one mapping, or several alike
            raise SyscallError(EINVAL)
        at = above.end
    flags = call.flags & MAP_NONBLOCK | MAP_SHARED | MAP_FIXED | MAP_POPULATE
    if vma.flags & VM_LOCKED:
        flags |= MAP_LOCKED
    access = vma.flags & VM_ACCESS
    map_object(space, vma.file, start, size, access, flags, call.pgoff, notify=False)
    return 0
