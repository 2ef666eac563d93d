"""Huge pages of hugetlbfs: MAP_HUGETLB, the `hugetlb` object, and what is different for their VMAs (mm/hugetlb.c).

Everything about them is in huge pages: lengths of mmap and mremap are rounded up to them, VMAs are not cut inside
one, a fault fills 512 page table entries. They come from a pool of the machine, of which the environment tells how much
a program may count on; a mapping without MAP_NORESERVE takes its pages from it at once (of a shared one, those that
the object has not), any other when it is accessed.
"""

from collections.abc import Iterator
from errno import EINVAL, ENOMEM
from typing import Final

from abi.consts import (
    MAP_HUGE_1GB,
    MAP_HUGE_2MB,
    PAGE_SHIFT,
    PMD_SIZE,
    TOUCH_ENDLESS,
    TOUCH_OK,
    TOUCH_SIGBUS,
    WORD,
)
from model.errors import SyscallError, Unmodelled
from model.flags import (
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_NORESERVE,
    VM_SHARED,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WRITE,
)
from model.space import PTE_ANON, PTE_FILE, PTE_KIND, PTE_WORD, PTE_WP, PTE_WRITABLE, AddressSpace
from model.vma import File, Inode, Vma

GIB: Final = 1 << 30
_SIZE_BITS: Final = 0x3F << 26
#: Pages in a huge page of 2 MiB, the only size that is ever filled.
PAGES: Final = PMD_SIZE >> PAGE_SHIFT


def size_of(space: AddressSpace, flags: int) -> int:
    """The size of the huge pages that mmap's flags ask for (bytes; mm/mmap.c: ksys_mmap_pgoff()).

    Raises:
        SyscallError: EINVAL, the kernel has none of this size.
    """
    config, log = space.environment.config, flags & _SIZE_BITS
    if log in (0, MAP_HUGE_2MB) and "HUGE_2MB" in config:
        return PMD_SIZE
    if log == MAP_HUGE_1GB and "HUGE_1GB" in config:
        return GIB
    raise SyscallError(EINVAL)  # mmap(2): MAP_HUGETLB with a size that the kernel does not have


def round_up(length: int, size: int) -> int:
    """`length` in whole huge pages; 0 where that does not fit in a word."""
    return length + size - 1 & WORD & -size


def new_file(length: int, size: int) -> File:
    """The object behind anonymous memory in huge pages, shared or private (fs/hugetlbfs/inode.c: hugetlb_file_setup()).
    It gets its ident when it is mapped."""
    inode = Inode(-1, length >> PAGE_SHIFT, shmem=False, max_bytes=(1 << 63) - 1, huge=size)
    return File(inode, late=True)


def map_file(space: AddressSpace, vma: Vma) -> None:
    """The file's own mmap: flags, reservation and size (fs/hugetlbfs/inode.c: hugetlbfs_file_mmap()).

    Raises:
        SyscallError: EINVAL, ENOMEM. What was mapped there is gone.
        Unmodelled: it depends on the huge pages of the whole machine.
    """
    assert vma.file is not None
    inode = vma.file.inode
    vma.flags |= VM_HUGETLB | VM_DONTEXPAND
    if vma.pgoff << PAGE_SHIFT & inode.huge - 1:
        raise SyscallError(EINVAL)  # mmap(2): the offset is not a multiple of the huge page
    if inode.huge != PMD_SIZE:
        raise Unmodelled("huge pages of 1 GiB")
    first = vma.pgoff // PAGES
    count = (vma.end - vma.start) // inode.huge
    if not vma.flags & VM_NORESERVE:
        indexes = set(range(first, first + count))
        needed = len(indexes - inode.reserved) if vma.flags & VM_SHARED else count
        if not _can_take(space, needed):
            # mmap(2): the pool has too few huge pages; without MAP_NORESERVE they are reserved
            raise SyscallError(ENOMEM)
        if vma.flags & VM_SHARED:
            inode.reserved |= indexes
    elif space.environment.huge_pages < 0:
        raise Unmodelled("huge pages that others may use too")
    if vma.flags & VM_WRITE:
        inode.pages = max(inode.pages, (first + count) * PAGES)


def _can_take(space: AddressSpace, needed: int) -> bool:
    """The pool gives `needed` more huge pages.

    Raises:
        Unmodelled: it may or may not.
    """
    have = space.environment.huge_pages
    if not needed or (have > 0 and taken(space) + needed <= have):
        return True
    if have:
        raise Unmodelled("more huge pages than a program may count on")
    return False


def taken(space: AddressSpace) -> int:
    """The huge pages that the program has or that are reserved for it."""
    inodes = {file.inode for file in space.files.values() if file.inode.huge}
    count = 0
    for vma in space.vmas:
        if not vma.flags & VM_HUGETLB:
            continue
        assert vma.file is not None
        inodes.add(vma.file.inode)
        if vma.flags & VM_SHARED:
            continue
        if _owns_reservation(vma):
            count += (vma.end - vma.start) // vma.file.inode.huge
        else:
            first, last = vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT
            held = (space.ptes.get(page, 0) & PTE_KIND for page in range(first, last, PAGES))
            count += sum(kind == PTE_ANON for kind in held)
    return count + sum(len(inode.reserved | inode.cached) for inode in inodes)


def _owns_reservation(vma: Vma) -> bool:
    """Huge pages are reserved for all of this private VMA."""
    return not vma.flags & (VM_SHARED | VM_NORESERVE)


def round_move(vma: Vma, addr: int, old_len: int, new_len: int, new_addr: int) -> tuple[int, int]:
    """The lengths of an mremap of huge pages, rounded up (mm/mremap.c: align_hugetlb()).

    Raises:
        SyscallError: EINVAL. The new address counts even where the flags give it no meaning.
    """
    assert vma.file is not None
    size = vma.file.inode.huge
    old_len, new_len = round_up(old_len, size), round_up(new_len, size)
    if (addr | new_addr) & size - 1:
        raise SyscallError(EINVAL)  # mm/mremap.c: align_hugetlb(): an address inside a huge page
    if new_len > old_len:
        raise SyscallError(EINVAL)  # mm/mremap.c: align_hugetlb(): huge pages do not grow
    return old_len, new_len


def check_move(vma: Vma) -> None:
    """A part of a private VMA that has a reservation takes the reservation along, and nobody gives back what was
    reserved for the rest (mm/hugetlb.c: fixup_hugetlb_reservations()): the machine has less memory until it is booted
    again. So no such VMA is ever moved.

    Raises:
        Unmodelled: it would be.
    """
    if vma.flags & VM_HUGETLB and _owns_reservation(vma):
        raise Unmodelled("moving a private hugetlb mapping with a reservation, which may leak")


def discarded(vma: Vma, start: int, end: int) -> tuple[int, int]:
    """The range that MADV_DONTNEED means: an end inside a huge page is rounded down
    (mm/madvise.c: madvise_dontneed_free_valid_vma()).

    Raises:
        SyscallError: EINVAL.
    """
    assert vma.file is not None
    size = vma.file.inode.huge
    if start & size - 1:
        # mm/madvise.c: madvise_dontneed_free_valid_vma(): begins inside a huge page
        raise SyscallError(EINVAL)
    return start, max(start, end & -size)


def punch(space: AddressSpace, inode: Inode, offset: int, length: int) -> None:
    """A hole in the object: whole huge pages go, and with them whatever is mapped there, private copies too; of others
    the part is zeroed (fs/hugetlbfs/inode.c: hugetlbfs_punch_hole()). A page between others stays reserved without the
    memory to note that it is not (mm/hugetlb.c: region_del(), hugetlb_fix_reserve_counts())."""
    size = inode.huge
    first, last = (offset + size - 1) // size, (offset + length) // size
    for page in range(offset >> PAGE_SHIFT, offset + length >> PAGE_SHIFT):
        inode.words.pop(page, None)
    for index in sorted(index for index in inode.cached if first <= index < last):
        noted = inode.cached | inode.reserved
        inode.cached.remove(index)
        if index - 1 in noted and index + 1 in noted and space.fails():
            inode.reserved.add(index)
        else:
            inode.reserved.discard(index)
    for _, low, high in _mapped(space, inode, first, last):
        zap(space, low, high)


def truncate(space: AddressSpace, inode: Inode, size: int) -> None:
    """The object gets another size; what is behind it goes, reservations too (hugetlb_vmtruncate()).

    Raises:
        SyscallError: EINVAL.
    """
    if size & inode.huge - 1:
        # fs/hugetlbfs/inode.c: hugetlbfs_setattr(): a size that is not whole huge pages
        raise SyscallError(EINVAL)
    first = size // inode.huge
    inode.pages = size >> PAGE_SHIFT
    for kept in (inode.cached, inode.reserved):
        kept.difference_update([index for index in kept if index >= first])
    for page in [page for page in inode.words if page >= inode.pages]:
        del inode.words[page]
    for _, low, high in _mapped(space, inode, first, 1 << 64):
        space.clear_ptes(low, high)


def _mapped(
    space: AddressSpace, inode: Inode, first: int, last: int
) -> Iterator[tuple[Vma, int, int]]:
    """Where huge pages [first, last) of the object are mapped: VMAs and ranges (bytes; hugetlb_vmdelete_list())."""
    for vma in space.vmas:
        if vma.file and vma.file.inode is inode:
            delta = vma.start - (vma.pgoff << PAGE_SHIFT)
            low = max(vma.start, first * inode.huge + delta)
            high = min(vma.end, last * inode.huge + delta)
            if low < high:
                yield vma, low, high


def zap(space: AddressSpace, start: int, end: int) -> None:
    """Take huge pages away. Where one was write-protected by a userfaultfd, a marker stays, of private memory too
    (mm/hugetlb.c: __unmap_hugepage_range())."""
    for page in space.pages_of(start, end):
        if space.ptes[page] & PTE_WP:
            space.ptes[page] = PTE_WP
        else:
            del space.ptes[page]


def fault(space: AddressSpace, vma: Vma, page: int, *, write: bool) -> int:
    """Make the huge page around `page` present for such an access (hugetlb_fault()); TOUCH_*.

    Raises:
        SyscallError: as `AddressSpace.allocate`.
        Unmodelled: it depends on the huge pages of the whole machine.
    """
    assert vma.file is not None
    inode = vma.file.inode
    page -= page % PAGES
    entry = space.ptes.get(page, 0)
    held, protected = entry & PTE_KIND, entry & PTE_WP
    index = vma.page_offset(page << PAGE_SHIFT) // PAGES
    # Protected by a registration that is gone (from 7.3 on none leaves this): hugetlb_wp() does nothing, and the access
    # is tried again, for ever.
    refused = TOUCH_SIGBUS if vma.flags & VM_UFFD_WP else TOUCH_ENDLESS
    if not held:
        space.allocate()
        if index in inode.cached:
            if vma.flags & VM_UFFD_MINOR:
                return TOUCH_SIGBUS
        elif (index + 1) * PAGES > inode.pages or vma.flags & VM_UFFD_MISSING:
            return TOUCH_SIGBUS
        elif not vma.flags & VM_SHARED:
            filled = _fill(space, vma, page, PTE_ANON | protected, {})
            if not filled:
                return TOUCH_SIGBUS
            return refused if write and protected else TOUCH_OK
        elif index not in inode.reserved and not _can_take(space, 1):
            return TOUCH_SIGBUS
        else:
            inode.cached.add(index)
        entry = PTE_FILE | protected
        space.ptes.update(dict.fromkeys(range(page, page + PAGES), entry))
        held = PTE_FILE
    if write and protected and not entry & PTE_WRITABLE:
        return refused
    if write and not vma.flags & VM_SHARED:
        space.allocate()
    if write and held == PTE_FILE and not vma.flags & VM_SHARED:
        return TOUCH_OK if _fill(space, vma, page, PTE_ANON, _words(inode, index)) else TOUCH_SIGBUS
    return TOUCH_OK


def _fill(space: AddressSpace, vma: Vma, page: int, entry: int, words: dict[int, int]) -> bool:
    """A private huge page that holds `words`, by their place in it, if there is one to be had
    (hugetlb_no_page(), hugetlb_wp())."""
    vma.anon_vma = vma.anon_vma or space.new_anon_vma()
    if not _owns_reservation(vma) and not _can_take(space, 1):
        return False
    space.ptes.update(dict.fromkeys(range(page, page + PAGES), entry))
    for place, word in words.items():
        space.ptes[page + place] = entry | word << PTE_WORD
    return True


def in_memory(space: AddressSpace, vma: Vma, page: int) -> bool:
    """What mincore(2) says of a page: whether it is mapped (mm/mincore.c: mincore_hugetlb()).

    Raises:
        Unmodelled: where no page table is left, mincore(2) looks at the object instead.
    """
    assert vma.file is not None
    if space.ptes.get(page, 0) & PTE_KIND:
        return True
    index = vma.page_offset(page << PAGE_SHIFT) // PAGES
    start = (page << PAGE_SHIFT) & -GIB
    if index in vma.file.inode.cached and not space.pages_of(start, start + GIB):
        raise Unmodelled("which page tables there are")
    return False


def _words(inode: Inode, index: int) -> dict[int, int]:
    first = index * PAGES
    return {p - first: word for p, word in inode.words.items() if first <= p < first + PAGES}


def reads(space: AddressSpace, vma: Vma, page: int, filled: set[tuple[int, int]]) -> bool:
    """A page without page table entry can be read; `filled`: the huge pages that such reading has filled, of shared
    memory (ident, index), and where it has mapped them (-1, page number), which nothing else knows."""
    assert vma.file is not None
    inode = vma.file.inode
    index = vma.page_offset(page << PAGE_SHIFT) // PAGES
    place, content = (-1, page - page % PAGES), (inode.ident, index)
    if place in filled:
        return True
    shared = vma.flags & VM_SHARED
    if index in inode.cached or content in filled:
        if vma.flags & VM_UFFD_MINOR:
            return False
    elif (index + 1) * PAGES > inode.pages or vma.flags & VM_UFFD_MISSING:
        return False
    elif shared:
        if index not in inode.reserved and space.environment.huge_pages <= 0:
            return False
        filled.add(content)
    elif not _owns_reservation(vma) and space.environment.huge_pages <= 0:
        return False
    filled.add(place)
    return True
