"""mincore(2) (mm/mincore.c)."""

from errno import EAGAIN, EINVAL, ENOMEM
from typing import Final

from abi.calls import Mincore
from abi.consts import PAGE, PAGE_SHIFT
from model import hugetlb
from model.errors import SyscallError, Unmodelled
from model.flags import VM_HUGETLB
from model.space import PTE_ANON, PTE_FILE, PTE_KIND, AddressSpace
from model.vma import Vma

#: The outcome has a bit for each of so many pages.
_PAGES: Final = 62


def mincore(space: AddressSpace, call: Mincore) -> int:
    """mincore(2): the first pages that are in memory, a bit each. Of memory without a file these are the ones that are
    present, of shared memory those in the page cache. Of other files which pages the machine has cached does not
    follow from the program; the executor reports only the private copies.

    Raises:
        SyscallError: EINVAL, ENOMEM; EAGAIN, as `AddressSpace.allocate`.
    """
    start, length = call.addr, call.length
    if start & PAGE - 1:
        raise SyscallError(EINVAL)  # mincore(2): the address is not page-aligned
    if start + length > space.environment.task_size:
        raise SyscallError(ENOMEM)  # mincore(2): the range ends beyond the address space
    space.allocate(EAGAIN)  # mm/mincore.c: mincore(): what the answer is gathered in
    end = start + length + PAGE - 1 & -PAGE
    at = start
    for vma in space.between(start, end):
        if vma.start > at:
            break
        at = vma.end
    if at < end:
        raise SyscallError(ENOMEM)  # mincore(2): a page is not mapped
    result = 0
    for place in range(min(end - start >> PAGE_SHIFT, _PAGES)):
        vma_or_none = space.lookup(start + (place << PAGE_SHIFT))
        if vma_or_none and _is_in_memory(space, vma_or_none, (start >> PAGE_SHIFT) + place):
            result |= 1 << place
    return result


def _is_in_memory(space: AddressSpace, vma: Vma, page: int) -> bool:
    """The bit of one page (mm/mincore.c: mincore_pte_range())."""
    kind = space.ptes.get(page, 0) & PTE_KIND
    if vma.name is not None:
        return True  # the executor's own are locked, and stay cached where they are dropped
    if vma.file and not vma.file.inode.contents:
        return False
    if vma.flags & VM_HUGETLB:
        return hugetlb.in_memory(space, vma, page)
    if kind == PTE_ANON:
        return True
    if vma.file is None:
        return False
    inode = vma.file.inode
    if not inode.resident:
        return False
    index = vma.page_offset(page << PAGE_SHIFT)
    if vma.is_secret:
        if vma.file.is_negative(index):
            raise Unmodelled("what is kept in secret memory behind 2**63 bytes")
        return index < inode.pages  # all of it was made before any program
    return kind == PTE_FILE or (not vma.anonymous and index in inode.cached)
