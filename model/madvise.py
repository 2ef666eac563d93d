"""madvise(2): one row per advice (mm/madvise.c)."""

from collections.abc import Callable
from dataclasses import dataclass
from errno import EACCES, EAGAIN, EBADF, EFBIG, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EPERM, ETIME
from typing import Final

from abi.calls import Madvise, signed32
from abi.consts import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_HWPOISON,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_SOFT_OFFLINE,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    PAGE,
    PAGE_SHIFT,
    UFFD_EVENT_REMOVE,
    WORD,
)
from model import hugetlb
from model.errors import SyscallError, Unmodelled
from model.fault import is_reachable, populate_strictly, prepare_anon_vma
from model.flags import (
    LOW_FLAGS,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_MAYBE_GUARD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_MIXEDMAP,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VM_WRITE,
)
from model.mapping import unmap_mapping
from model.profile import (
    DOFORK_REJECTS_SPECIAL,
    GUARD,
    GUARD_ANON_VMA_ONLY_ANONYMOUS,
    GUARD_FILE,
    GUARD_FLAG,
    GUARD_INSTALL_LOOPS,
    POPULATE_STOPS_AT_HOLE,
    SEAL_KEEPS_ALL_ANONYMOUS,
    UNMERGEABLE_DROPS_FLAGS,
    Change,
)
from model.space import (
    EVENT_UFFD,
    PTE_ANON,
    PTE_FILE,
    PTE_GUARD,
    PTE_KIND,
    PTE_LAZY,
    PTE_STRANDED,
    PTE_WP,
    PTE_ZERO,
    THP_DISABLED,
    AddressSpace,
    refuse_filler,
)
from model.thp import holds_huge
from model.vma import Vma

Effect = Callable[[AddressSpace, Vma, int, int], None]


@dataclass(frozen=True, slots=True)
class Advised:
    """What one advice does to each VMA of the range.

    add, drop: VM_* it sets and clears; refused_on: VM_* that make it EINVAL; no_file: so does a file;
    not_huge: of these, what does not count on hugetlb; newly: without this change only VM_IO of these does;
    keeps: VMAs with one of these VM_* are left as they are;
    effect: what else it does; needs: the change or the configuration ("KSM" ...) without which it is unknown;
    discards: what mseal forbids.
    """

    add: int = 0
    drop: int = 0
    refused_on: int = 0
    not_huge: int = 0
    newly: Change | None = None
    no_file: bool = False
    keeps: int = 0
    effect: Effect | None = None
    needs: Change | str | None = None
    discards: bool = False


def madvise(space: AddressSpace, call: Madvise) -> int:
    """madvise(2). Holes are skipped and give ENOMEM at the end; the first VMA that refuses ends it at once, with
    what lies before it changed (mm/madvise.c: madvise_walk_vmas()).

    Raises:
        SyscallError: with the errno of madvise(2).
        Unmodelled: an advice that takes memory away from the machine, with the privilege for it.
    """
    advice = signed32(call.advice)
    if not is_known(space, advice):
        raise SyscallError(EINVAL)  # madvise(2): an advice this kernel does not know
    start = call.addr
    length = call.length + PAGE - 1 & WORD & -PAGE
    if start & PAGE - 1:
        raise SyscallError(EINVAL)  # madvise(2): the address is not page-aligned
    if (call.length and not length) or start + length > WORD:
        raise SyscallError(EINVAL)  # mm/madvise.c: check_input_range(): the range wraps
    if not length:
        return 0
    if advice in (MADV_HWPOISON, MADV_SOFT_OFFLINE):
        _poison(space)
    end = start + length
    if advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
        _populate(space, start, end, write=advice == MADV_POPULATE_WRITE)
    else:
        row = MADVISE[advice]
        if walk(space, start, end, lambda vma, low, high: _advise(space, row, vma, low, high)):
            # madvise(2): part of the range is not mapped; the rest was advised
            raise SyscallError(ENOMEM)
    return 0


def is_known(space: AddressSpace, advice: int) -> bool:
    """This kernel has the advice (mm/madvise.c: madvise_behavior_valid())."""
    row = MADVISE.get(advice)
    if row is None:
        return False
    if row.needs is None:
        return True
    if isinstance(row.needs, Change):
        return row.needs in space.changes
    return row.needs in space.environment.config


def walk(space: AddressSpace, start: int, end: int, visit: Callable[[Vma, int, int], int]) -> bool:
    """Visit each VMA's part of a range, which says where to go on; whether there were holes
    (mm/madvise.c: madvise_walk_vmas())."""
    hole = False
    while start < end:
        vma = space.first(start, end)
        if vma is None:
            hole = True
            break
        if vma.start > start:
            hole = True
            start = vma.start
        start = visit(vma, start, min(vma.end, end))
    return hole


def _advise(space: AddressSpace, row: Advised, vma: Vma, start: int, end: int) -> int:
    """Advise one VMA's part; where to go on (mm/madvise.c: madvise_vma_behavior())."""
    flags = vma.flags
    refuse_filler(vma)
    if row.discards and flags & VM_SEALED and not flags & VM_WRITE and _seal_keeps(space, vma):
        raise SyscallError(EPERM)  # mseal(2): discarding sealed read-only anonymous memory
    refused_on = row.refused_on & ~row.not_huge if flags & VM_HUGETLB else row.refused_on
    if row.newly and row.newly not in space.changes:
        refused_on &= VM_IO
    if flags & refused_on or (row.no_file and vma.file):
        raise SyscallError(EINVAL)  # madvise(2): not for this kind of mapping
    if row.effect:
        row.effect(space, vma, start, end)
        return end
    if flags & row.keeps:
        return end
    changed = flags & ~row.drop | row.add
    if changed == flags:
        return vma.end
    if row.drop & VM_MERGEABLE and UNMERGEABLE_DROPS_FLAGS in space.changes:
        changed &= LOW_FLAGS
    try:
        if row.add & VM_MERGEABLE:
            space.allocate()  # mm/ksm.c: __ksm_enter()
        return space.modify(vma, start, end, changed, vma.uffd).end
    except SyscallError as error:
        if error.errno != ENOMEM:
            raise
        # mm/madvise.c: madvise_vma_behavior(): ENOMEM of a split is reported as EAGAIN
        raise SyscallError(EAGAIN) from None


def _seal_keeps(space: AddressSpace, vma: Vma) -> bool:
    """Its contents are what a seal protects (mm/madvise.c: can_madvise_modify())."""
    return vma.anonymous and (vma.file is None or SEAL_KEEPS_ALL_ANONYMOUS in space.changes)


def _poison(space: AddressSpace) -> None:
    if "SYS_ADMIN" not in space.environment.capabilities:
        raise SyscallError(EPERM)  # madvise(2): needs CAP_SYS_ADMIN
    raise Unmodelled("MADV_HWPOISON or MADV_SOFT_OFFLINE with CAP_SYS_ADMIN")


def _populate(space: AddressSpace, start: int, end: int, *, write: bool) -> None:
    """MADV_POPULATE_READ and _WRITE: what lies before a failure is populated; once what lies behind a hole was, too
    (mm/madvise.c: madvise_populate())."""
    if POPULATE_STOPS_AT_HOLE not in space.changes:
        if walk(space, start, end, lambda vma, low, high: _fill(space, vma, low, high, write, low)):
            # madvise(2): part of the range is not mapped; the rest is populated
            raise SyscallError(ENOMEM)
        return
    at = start
    while at < end:
        vma = space.lookup(at)
        if vma is None:
            raise SyscallError(ENOMEM)  # madvise(2): a page is not mapped
        at = _fill(space, vma, at, min(vma.end, end), write, start)


def _fill(space: AddressSpace, vma: Vma, start: int, end: int, write: bool, begin: int) -> int:
    """Populate one VMA's part; where it ends."""
    needed = VM_WRITE if write else VM_READ
    if not is_reachable(vma) or not vma.flags & needed:
        raise SyscallError(EINVAL)  # madvise(2): the mapping does not allow such access
    populate_strictly(space, vma, start, end, write=write, begin=begin)
    return end


def _dontneed(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Guard regions stay, all other pages go (mm/madvise.c: madvise_dontneed_single_vma())."""
    if vma.flags & VM_HUGETLB:
        start, end = hugetlb.discarded(vma, start, end)
    if start < end:
        _report_remove(space, vma, start, end)
    if vma.flags & VM_HUGETLB:
        hugetlb.zap(space, start, end)
        return
    space.zap(vma, start, end)
    space.own_dropped |= vma.name is not None


def _free(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Contents may go, page table entries stay: what is not written to again goes when memory is reclaimed, for which
    the programs wait in vain (mm/madvise.c: madvise_free_single_vma())."""
    if not vma.flags & VM_HUGETLB:
        _report_remove(space, vma, start, end)
    if not vma.anonymous:
        raise SyscallError(EINVAL)  # madvise(2): MADV_FREE of anything but private anonymous memory
    space.aged = True
    for page in space.pages_of(start, end):
        held = space.ptes[page]
        if held & PTE_KIND == PTE_ANON and not held & (PTE_ZERO | PTE_STRANDED):
            space.ptes[page] = held | PTE_LAZY


def _remove(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Punch a hole in the file: every mapping of it loses these pages (mm/madvise.c: madvise_remove())."""
    if vma.file is None:
        raise SyscallError(EINVAL)  # madvise(2): MADV_REMOVE without a file
    if vma.flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise SyscallError(EACCES)  # madvise(2): MADV_REMOVE of what is not shared and writable
    _report_remove(space, vma, start, end)
    inode = vma.file.inode
    first = vma.page_offset(start)
    last = first + (end - start >> PAGE_SHIFT)
    offset = first << PAGE_SHIFT & WORD
    if offset >> 63:
        raise SyscallError(EINVAL)  # fs/open.c: vfs_fallocate(): a negative offset
    kind = vma.file.kind
    if kind and not kind.regular:
        raise SyscallError(ENODEV)  # fs/open.c: vfs_fallocate(): not a regular file
    if offset + (end - start) > inode.max_bytes:
        raise SyscallError(EFBIG)  # fs/open.c: vfs_fallocate(): beyond the largest file
    if vma.file.own_area or vma.is_secret:
        # fs/open.c: vfs_fallocate(): ramfs and secret memory have no holes
        raise SyscallError(EOPNOTSUPP)
    if inode.huge:
        hugetlb.punch(space, inode, offset, end - start)
        return
    inode.drop(first, last)
    unmap_mapping(space, inode, first, last)


def _report_remove(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Tell a userfaultfd, before anything else is looked at (mm/userfaultfd.c: userfaultfd_remove())."""
    if vma.uffd == EVENT_UFFD:
        space.events.append((UFFD_EVENT_REMOVE, vma.uffd, start, end, 0))


def _guard_install(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Pages go, markers come (mm/madvise.c: madvise_guard_install())."""
    if vma.file and GUARD_FILE not in space.changes:
        raise SyscallError(EINVAL)  # madvise(2): guard regions in anonymous memory only
    if GUARD_FLAG in space.changes:
        vma.flags |= VM_MAYBE_GUARD
    space.allocate()
    if vma.anonymous or GUARD_ANON_VMA_ONLY_ANONYMOUS not in space.changes:
        prepare_anon_vma(space, vma)
    _allocate_for_guards(space, vma, start, end)
    space.zap(vma, start, end)
    marked = [page for page in space.pages_of(start, end) if space.ptes[page] == PTE_WP]
    if marked and GUARD_INSTALL_LOOPS in space.changes:
        for page in range(start >> PAGE_SHIFT, min(marked)):
            space.ptes[page] = PTE_GUARD
        # mm/madvise.c: madvise_guard_install(): a marker of UFFDIO_WRITEPROTECT is never zapped,
        # so that it begins again for ever; the executor ends it
        raise SyscallError(ETIME)
    space.ptes.update(dict.fromkeys(range(start >> PAGE_SHIFT, end >> PAGE_SHIFT), PTE_GUARD))


def _allocate_for_guards(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Page tables come as markers do, from the beginning on; pages go as soon as one is met, all of them
    (mm/madvise.c: madvise_guard_install()).

    Raises:
        SyscallError: as `AddressSpace.allocate`. There are markers as far as there were page tables.
    """
    at = space.allocate_tables(start, end)
    if at == end:
        return
    if any(space.ptes[page] & PTE_KIND != PTE_GUARD for page in space.pages_of(start, at)):
        space.zap(vma, start, end)
    pages = range(start >> PAGE_SHIFT, at >> PAGE_SHIFT)
    space.ptes.update(dict.fromkeys(pages, PTE_GUARD))
    raise SyscallError(ENOMEM)  # madvise(2): no memory for a page table


def _guard_remove(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Markers go, nothing else changes (mm/madvise.c: madvise_guard_remove())."""
    if vma.file and GUARD_FILE not in space.changes:
        raise SyscallError(EINVAL)  # madvise(2): guard regions in anonymous memory only
    for page in space.pages_of(start, end):
        if space.ptes[page] & PTE_KIND == PTE_GUARD:
            del space.ptes[page]


def _collapse(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Huge pages are off for the executor, so that every VMA is unsuitable until the program puts them on. Advice to do
    without is kept (include/linux/huge_mm.h: vma_thp_disabled())."""
    if space.thp_disabled != THP_DISABLED and not vma.flags & VM_NOHUGEPAGE and holds_huge(vma):
        raise Unmodelled("MADV_COLLAPSE where huge pages are enabled")
    # mm/khugepaged.c: madvise_collapse(): huge pages are not allowed here
    raise SyscallError(EINVAL)


def _willneed(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """What is read ahead no call can tell (mm/madvise.c: madvise_willneed())."""
    if vma.file is None and "SWAP" not in space.environment.config:
        # madvise(2): MADV_WILLNEED without a file, and the kernel does not know swap
        raise SyscallError(EBADF)


def _cold(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Pages count as unused (mm/madvise.c: madvise_cold_or_pageout_pte_range())."""
    _check_splitting(space, vma)
    space.aged = True


def _pageout(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Reclaim: a page of shared memory that is mapped once loses its page table entry, and leaves the cache too if it
    was never written to; an anonymous page whose contents may go is gone, another stays for want of swap
    (mm/madvise.c: madvise_cold_or_pageout_pte_range(); mm/vmscan.c: shrink_folio_list();
    mm/rmap.c: try_to_unmap_one())."""
    _check_splitting(space, vma)
    space.aged = True
    if vma.file is None or vma.anonymous:
        _reclaim_anonymous(space, vma, start, end)
        return
    inode = vma.file.inode
    if not inode.shmem:
        inode.reclaimed = True
        return
    mapped: dict[int, int] = {}
    for other in space.vmas:
        if other.file and other.file.inode is inode:
            delta = other.pgoff - (other.start >> PAGE_SHIFT)
            for page in space.pages_of(other.start, other.end):
                if space.ptes[page] & PTE_KIND == PTE_FILE:
                    mapped[page + delta] = mapped.get(page + delta, 0) + 1
    delta = vma.pgoff - (vma.start >> PAGE_SHIFT)
    for page in space.pages_of(start, end):
        if page + delta in inode.stranded:
            if inode.unlocked:
                raise Unmodelled("MADV_PAGEOUT of shared pages that were left locked")
            continue
        if space.ptes[page] & PTE_KIND == PTE_FILE and mapped[page + delta] == 1:
            space.zap_page(vma, page)
            if page + delta in inode.dirty:
                _check_swap(space)
            else:
                inode.cached.discard(page + delta)


def _check_splitting(space: AddressSpace, vma: Vma) -> None:
    """A buffer of a driver may be one piece that cannot be split. Kernels without transparent huge pages took it for
    split all the same, and began with it again for ever (include/linux/huge_mm.h: split_folio())."""
    if vma.flags & VM_MIXEDMAP and "THP" not in space.environment.config:
        raise Unmodelled("advice on buffers that the kernel may try to split for ever")


def _reclaim_anonymous(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Drop what MADV_FREE or MAP_DROPPABLE allows."""
    for page in space.pages_of(start, end):
        held = space.ptes[page]
        if held & PTE_KIND != PTE_ANON or held & (PTE_ZERO | PTE_STRANDED):
            continue
        if held & PTE_LAZY or vma.flags & VM_DROPPABLE:
            if space.took_huge:
                raise Unmodelled("MADV_PAGEOUT of what may be a transparent huge page")
            del space.ptes[page]
        else:
            _check_swap(space)


def _check_swap(space: AddressSpace) -> None:
    if "SWAP_SPACE" in space.environment.config:
        raise Unmodelled("MADV_PAGEOUT of memory that is swapped out")


_LRU_REFUSES: Final = VM_LOCKED | VM_PFNMAP | VM_HUGETLB
_GUARD_REFUSES: Final = VM_SPECIAL | VM_HUGETLB
#: VMAs that KSM leaves alone (mm/ksm.c: ksm_compatible()).
KSM_LEAVES: Final = VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE

#: Every advice of abi.consts has its row; an advice without one is unknown (EINVAL).
MADVISE: Final[dict[int, Advised]] = {
    MADV_NORMAL: Advised(drop=VM_RAND_READ | VM_SEQ_READ),
    MADV_RANDOM: Advised(add=VM_RAND_READ, drop=VM_SEQ_READ),
    MADV_SEQUENTIAL: Advised(add=VM_SEQ_READ, drop=VM_RAND_READ),
    MADV_WILLNEED: Advised(effect=_willneed),
    MADV_DONTNEED: Advised(effect=_dontneed, refused_on=VM_LOCKED | VM_PFNMAP, discards=True),
    MADV_FREE: Advised(effect=_free, refused_on=VM_LOCKED | VM_PFNMAP, discards=True),
    MADV_REMOVE: Advised(effect=_remove, refused_on=VM_LOCKED, discards=True),
    MADV_DONTFORK: Advised(add=VM_DONTCOPY, discards=True),
    MADV_DOFORK: Advised(drop=VM_DONTCOPY, refused_on=VM_SPECIAL, newly=DOFORK_REJECTS_SPECIAL),
    MADV_MERGEABLE: Advised(add=VM_MERGEABLE, keeps=KSM_LEAVES, needs="KSM"),
    MADV_UNMERGEABLE: Advised(drop=VM_MERGEABLE, needs="KSM"),
    MADV_HUGEPAGE: Advised(add=VM_HUGEPAGE, drop=VM_NOHUGEPAGE, needs="THP"),
    MADV_NOHUGEPAGE: Advised(add=VM_NOHUGEPAGE, drop=VM_HUGEPAGE, needs="THP"),
    MADV_DONTDUMP: Advised(add=VM_DONTDUMP),
    MADV_DODUMP: Advised(
        drop=VM_DONTDUMP, refused_on=VM_SPECIAL | VM_DROPPABLE, not_huge=VM_SPECIAL
    ),
    MADV_WIPEONFORK: Advised(add=VM_WIPEONFORK, refused_on=VM_SHARED, no_file=True, discards=True),
    MADV_KEEPONFORK: Advised(drop=VM_WIPEONFORK, refused_on=VM_DROPPABLE),
    MADV_COLD: Advised(effect=_cold, refused_on=_LRU_REFUSES),
    MADV_PAGEOUT: Advised(effect=_pageout, refused_on=_LRU_REFUSES),
    MADV_POPULATE_READ: Advised(),
    MADV_POPULATE_WRITE: Advised(),
    MADV_DONTNEED_LOCKED: Advised(effect=_dontneed, refused_on=VM_PFNMAP, discards=True),
    MADV_COLLAPSE: Advised(effect=_collapse, needs="THP"),
    MADV_HWPOISON: Advised(needs="MEMORY_FAILURE"),
    MADV_SOFT_OFFLINE: Advised(needs="MEMORY_FAILURE"),
    MADV_GUARD_INSTALL: Advised(
        effect=_guard_install, refused_on=_GUARD_REFUSES | VM_LOCKED, needs=GUARD, discards=True
    ),
    MADV_GUARD_REMOVE: Advised(effect=_guard_remove, refused_on=_GUARD_REFUSES, needs=GUARD),
}
