"""Taking pages of a file away from every mapping of it (mm/memory.c: unmap_mapping_range())."""

from abi.consts import PAGE_SHIFT
from model.space import PTE_FILE, PTE_GUARD, PTE_KIND, AddressSpace
from model.vma import Inode


def unmap_mapping(
    space: AddressSpace,
    inode: Inode,
    first: int,
    last: int,
    *,
    even_cows: bool = False,
) -> None:
    """Empty the entries of pages [first, last) of a file; private copies go too if `even_cows`, guard regions
    never (mm/memory.c: zap_pte_range())."""
    for vma in space.vmas:
        if vma.anonymous or not vma.file or vma.file.inode is not inode:
            continue
        delta = (vma.start >> PAGE_SHIFT) - vma.pgoff
        low = max(vma.start >> PAGE_SHIFT, first + delta)
        high = min(vma.end >> PAGE_SHIFT, last + delta)
        if low >= high:
            continue
        for page in space.pages_of(low << PAGE_SHIFT, high << PAGE_SHIFT):
            kind = space.ptes[page] & PTE_KIND
            if kind == PTE_FILE or (even_cows and kind != PTE_GUARD):
                space.zap_page(vma, page)
