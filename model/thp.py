"""Transparent huge pages of anonymous memory: off for the executor until a program puts them on (prctl(2)).

A write to memory that is advised to have them takes a whole huge page where no page table has been: it then looks
like 512 pages that were written to, and what is done to a part of it splits it without a trace. Which page tables there
are is known from the program's beginning, or not at all; where it is not, and for the huge page of zeros, whose
splitting shows, a fault is `Unmodelled`. So is a huge page's place with some pages in it, which khugepaged may fill at
any time. The model takes it that the machine has a free huge page.
"""

from typing import Final

from abi.consts import PAGE_SHIFT, PMD_SIZE
from model.errors import Unmodelled
from model.flags import VM_DROPPABLE, VM_HUGEPAGE, VM_NOHUGEPAGE
from model.space import PTE_ANON, THP_DISABLED, THP_ENABLED, AddressSpace
from model.vma import Vma

_PAGES: Final = PMD_SIZE >> PAGE_SHIFT


def enable(space: AddressSpace) -> None:
    """The program puts huge pages on. If nothing was ever faulted before, there are no page tables yet."""
    if space.tables is None and not space.had_ptes:
        space.tables = set()


def note_tables(space: AddressSpace) -> None:
    """After a call: where there are page table entries there are page tables, from then on.

    Raises:
        Unmodelled: khugepaged may fill a place (mm/khugepaged.c: collapse_scan_pmd()).
    """
    if space.ptes:
        space.had_ptes = True
        if space.tables is not None:
            space.tables.update([page // _PAGES for page in space.ptes])
        if space.thp_disabled != THP_DISABLED:
            _check_khugepaged(space)


def _check_khugepaged(space: AddressSpace) -> None:
    for vma in space.vmas:
        if not vma.anonymous or not _may_have(space, vma) or not holds_huge(vma):
            continue
        first = vma.start + PMD_SIZE - 1 & -PMD_SIZE
        for block in range(first, vma.end - PMD_SIZE + 1, PMD_SIZE):
            if 0 < len(space.pages_of(block, block + PMD_SIZE)) < _PAGES:
                raise Unmodelled("what khugepaged may fill")


def _may_have(space: AddressSpace, vma: Vma) -> bool:
    """Huge pages are on for `vma` (include/linux/huge_mm.h: thp_vma_allowable_orders())."""
    config = space.environment.config
    if vma.flags & VM_NOHUGEPAGE or "THP_NEVER" in config:
        return False
    always = space.thp_disabled == THP_ENABLED and "THP_ALWAYS" in config
    return always or vma.flags & VM_HUGEPAGE != 0


def note_range(space: AddressSpace, start: int, end: int) -> None:
    """There may be page tables, though nothing is in them: for [start, end), which is not empty."""
    space.had_ptes = True
    if space.tables is not None:
        space.tables.update(range(start // PMD_SIZE, (end - 1) // PMD_SIZE + 1))


def holds_huge(vma: Vma) -> bool:
    """It has room for a huge page at its place (include/linux/huge_mm.h: thp_vma_suitable_order())."""
    return (vma.start + PMD_SIZE - 1 & -PMD_SIZE) + PMD_SIZE <= vma.end


def tries_huge(space: AddressSpace, vma: Vma, page: int) -> bool:
    """A fault of anonymous memory is for a huge page first, which takes an anon_vma even where it reads, and before a
    userfaultfd is asked (mm/huge_memory.c: do_huge_pmd_anonymous_page()).

    Raises:
        Unmodelled: it is not known.
    """
    if not _has_place(space, vma, page):
        return False
    _check_tables(space, page)
    return True


def _has_place(space: AddressSpace, vma: Vma, page: int) -> bool:
    """There could be a huge page around this one."""
    if space.thp_disabled == THP_DISABLED or not holds_huge(vma) or not _may_have(space, vma):
        return False
    block = page << PAGE_SHIFT & -PMD_SIZE
    return vma.start <= block <= vma.end - PMD_SIZE


def _check_tables(space: AddressSpace, page: int) -> None:
    if space.tables is None or page // _PAGES in space.tables:
        raise Unmodelled("transparent huge pages where there may be page tables")


def take_huge(space: AddressSpace, vma: Vma, page: int, *, write: bool) -> bool:
    """A fault of anonymous memory takes a huge page, or it is for small ones (mm/memory.c: create_huge_pmd()).

    Without the memory for a huge page it is for small ones.

    Raises:
        Unmodelled: it is not known which, or what it looks like later.
    """
    if not _has_place(space, vma, page):
        return False
    if not write:
        raise Unmodelled("the huge page of zeros")
    _check_tables(space, page)
    if vma.file or vma.uffd or vma.flags & VM_DROPPABLE:
        raise Unmodelled("transparent huge pages of a special mapping")
    block = page // _PAGES
    if space.fails():
        note_range(space, page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)
        return False
    first = block * _PAGES
    space.ptes.update(dict.fromkeys(range(first, first + _PAGES), PTE_ANON))
    if space.tables is not None:
        space.tables.add(block)
    space.took_huge = True
    return True
