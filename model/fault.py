"""Page faults: what touching and populating pages does, and when a VMA gets its anon_vma (mm/memory.c).

Of a page's contents its first word is kept: the tag that a touch wrote, a file's data, or zero.
"""

from contextlib import suppress
from errno import EFAULT
from typing import Final

from abi.calls import Touch
from abi.consts import (
    PAGE,
    PAGE_SHIFT,
    RLIMIT_STACK,
    TOUCH_ENDLESS,
    TOUCH_OK,
    TOUCH_PAGES,
    TOUCH_SIGBUS,
    TOUCH_SIGSEGV,
    WORD,
)
from abi.trace import written_tag
from model import hosted, hugetlb, thp
from model.errors import SyscallError, Unmodelled
from model.flags import (
    VM_ACCESS,
    VM_DONTEXPAND,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_IGNORE_MERGE,
    VM_IO,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MAYREAD,
    VM_PFNMAP,
    VM_PKEY_EXEC_ONLY,
    VM_SHARED,
    VM_UFFD,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WRITE,
)
from model.profile import PRIVATE_FILE_ANON_PGOFF
from model.space import (
    PTE_ANON,
    PTE_FILE,
    PTE_FORKED,
    PTE_GUARD,
    PTE_KIND,
    PTE_LAZY,
    PTE_WORD,
    PTE_WP,
    PTE_WRITABLE,
    PTE_ZERO,
    PTES_PER_TABLE,
    AddressSpace,
)
from model.vma import Vma

#: Pages that one read fault of a file maps around itself (mm/memory.c: fault_around_bytes).
FAULT_AROUND: Final = 16
_WORD_BYTES: Final = 8
_MAX_INDEX: Final = (1 << 63) - 1 >> PAGE_SHIFT


def touch(space: AddressSpace, call: Touch) -> int:
    """Access pages one by one; two bits a page in the result, TOUCH_* (see abi.calls.Touch)."""
    result = 0
    addr, write = call.addr, bool(call.access & 1)
    for shift in range(0, 2 * min(call.pages, TOUCH_PAGES), 2):
        outcome = access(space, addr, write=write)
        if outcome:
            result |= outcome << shift
        elif write:
            _write(space, addr >> PAGE_SHIFT)
        addr = addr + PAGE & WORD
    return result - (1 << 64) if result >> 63 else result


def access(space: AddressSpace, addr: int, *, write: bool) -> int:
    """A load or store of user code at `addr` (arch/x86/mm/fault.c: do_user_addr_fault(); arch/um/kernel/trap.c:
    handle_page_fault())."""
    if addr >= space.environment.task_size:
        hosted.check_address(space, addr)
        return TOUCH_SIGSEGV
    index = space.find(addr)
    if index == len(space.vmas):
        return TOUCH_SIGSEGV
    vma = space.vmas[index]
    if addr < vma.start and not expand_downwards(space, index, addr):
        return TOUCH_SIGSEGV
    flags = vma.flags
    if flags & VM_PKEY_EXEC_ONLY or not flags & (VM_WRITE if write else VM_ACCESS):
        return TOUCH_SIGSEGV
    strict = not write and flags & VM_ACCESS == VM_WRITE
    if strict and "STRICT_READ" in space.environment.config:
        return _read_what_is_there(space, vma, addr >> PAGE_SHIFT)
    space.retries = True  # mm/oom_kill.c: pagefault_out_of_memory()
    outcome = fault(space, vma, addr >> PAGE_SHIFT, write=write)
    space.retries = False
    return outcome


def _read_what_is_there(space: AddressSpace, vma: Vma, page: int) -> int:
    """Where only writes make pages come, others are read without a fault. One that the kernel takes for unused is not
    (arch/um/kernel/tlb.c: update_pte_range())."""
    if vma.name is not None:
        return _fault_own(space, vma)
    if space.aged:
        raise Unmodelled("reads of pages for writing only that may be taken for unused")
    if vma.file and not vma.anonymous and not vma.file.inode.resident:
        raise Unmodelled("which pages of a file for writing only are mapped")
    return TOUCH_OK if space.ptes.get(page, 0) & PTE_KIND in (PTE_ANON, PTE_FILE) else TOUCH_SIGSEGV


def _write(space: AddressSpace, page: int) -> None:
    """Leave the tag of this call in a page that is present for writing."""
    tag = written_tag(space.clock, page)
    held = space.ptes.get(page, 0)
    if held & PTE_KIND == PTE_ANON:
        space.ptes[page] = held & (1 << PTE_WORD) - 1 | tag << PTE_WORD
        return
    vma = space.lookup(page << PAGE_SHIFT)
    assert vma is not None
    if vma.file and vma.name is None:
        inode, index = vma.file.inode, vma.page_offset(page << PAGE_SHIFT)
        if index == inode.pages - 1 and 0 < inode.tail < _WORD_BYTES:
            raise Unmodelled("how long bytes behind the end of a file last")
        if vma.file.is_negative(index):
            raise Unmodelled("what is kept in secret memory behind 2**63 bytes")
        inode.words[index] = tag


def fault(space: AddressSpace, vma: Vma, page: int, *, write: bool) -> int:
    """Make a page of `vma` present for such an access (mm/memory.c: handle_pte_fault()); TOUCH_*.

    Raises:
        SyscallError: as `AddressSpace.allocate`.
    """
    if vma.flags & VM_HUGETLB:
        return hugetlb.fault(space, vma, page, write=write)
    held = space.ptes.get(page, 0)
    kind = vma.file.kind if vma.file else None
    if kind and write and kind.read_only_data and vma.page_offset(page << PAGE_SHIFT):
        return TOUCH_SIGBUS
    if held & PTE_KIND:
        return _fault_present(space, vma, page, write=write)
    space.allocate()
    if kind and not kind.faults(space):
        return TOUCH_SIGBUS
    if kind and vma.flags & VM_DONTEXPAND:
        # All that was mapped is there, and no VMA of it grows.
        space.ptes[page] = PTE_FILE
        return TOUCH_OK
    if held:
        return _fault_marker(space, vma, page, write=write)
    private_write = write and not vma.flags & VM_SHARED
    if vma.name is not None and vma.flags & VM_UFFD:
        return _fault_own(space, vma)
    if private_write:
        prepare_anon_vma(space, vma)
        space.allocate()
    if vma.flags & VM_PFNMAP and vma.file and vma.file.kernel:
        return TOUCH_OK
    if vma.anonymous:
        if vma.flags & VM_UFFD_MISSING:
            if not vma.anon_vma and thp.tries_huge(space, vma, page):
                prepare_anon_vma(space, vma)
            thp.note_range(space, page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)
            return TOUCH_SIGBUS
        if thp.take_huge(space, vma, page, write=write):
            return TOUCH_OK
        space.ptes[page] = PTE_ANON if write else PTE_ANON | PTE_ZERO
        return TOUCH_OK
    return _fault_file(space, vma, page, write=write, cow=private_write)


def _fault_present(space: AddressSpace, vma: Vma, page: int, *, write: bool) -> int:
    """A page that a page table entry maps (mm/memory.c: do_wp_page()). Written to in spite of PTE_WP, for the memory is
    registered no more, it stays marked as long as it is not copied."""
    held = space.ptes[page]
    kind = held & PTE_KIND
    if kind == PTE_GUARD:
        return TOUCH_SIGSEGV
    if not write:
        return TOUCH_OK
    if held & PTE_WP:
        if not held & PTE_WRITABLE and vma.flags & VM_UFFD_WP:
            return TOUCH_SIGBUS
        held |= PTE_WRITABLE
    if vma.flags & VM_SHARED:
        space.ptes[page] = held
        if vma.file:
            vma.file.inode.dirty.add(vma.pgoff + page - (vma.start >> PAGE_SHIFT))
        return TOUCH_OK
    space.allocate()
    prepare_anon_vma(space, vma)
    space.allocate()
    if kind == PTE_FILE:
        _copy(space, vma, page)
    elif held & PTE_ZERO:
        space.ptes[page] = PTE_ANON
    else:
        space.ptes[page] = held & ~(PTE_LAZY | PTE_FORKED)
    return TOUCH_OK


def _fault_marker(space: AddressSpace, vma: Vma, page: int, *, write: bool) -> int:
    """A page that is write-protected before it is there: it comes write-protected, so that a write fails; without the
    registration the marker is dropped (mm/memory.c: pte_marker_handle_uffd_wp()).

    Raises:
        SyscallError: as `AddressSpace.allocate`.
    """
    held = space.ptes.pop(page)
    try:
        outcome = fault(space, vma, page, write=write)
    except SyscallError:
        if vma.flags & VM_UFFD_WP:
            space.ptes[page] = held
        raise
    if not vma.flags & VM_UFFD_WP:
        return outcome
    space.ptes[page] = space.ptes.get(page, 0) | PTE_WP
    return TOUCH_SIGBUS if write else outcome


def _fault_own(space: AddressSpace, vma: Vma) -> int:
    """A page of the executor's own, registered with a userfaultfd: all of them are locked, hence present."""
    if space.own_dropped or not vma.flags & VM_LOCKED:
        raise Unmodelled("which pages of its own the executor has used")
    return TOUCH_OK


def _fault_file(space: AddressSpace, vma: Vma, page: int, *, write: bool, cow: bool) -> int:
    """A page of a file that no page table entry maps yet (mm/memory.c: do_fault(); mm/shmem.c: shmem_fault()).

    Raises:
        SyscallError: as `AddressSpace.allocate`.
    """
    assert vma.file is not None
    inode = vma.file.inode
    index = vma.pgoff + page - (vma.start >> PAGE_SHIFT)
    if not inode.shmem:
        if vma.file.is_past_end(index):
            return TOUCH_SIGBUS
        space.ptes[page] = PTE_FILE
        if cow:
            _copy(space, vma, page)
        return TOUCH_OK
    around = not vma.file.kind  # ipc/shm.c: shm_vm_ops has no map_pages()
    if around and not write and not vma.flags & (VM_UFFD_WP | VM_UFFD_MINOR):
        _fault_around(space, vma, page)
        if page in space.ptes:
            return TOUCH_OK
    if index >= inode.pages or index > _MAX_INDEX:
        return TOUCH_SIGBUS
    if index in inode.cached:
        if vma.flags & VM_UFFD_MINOR:
            return TOUCH_SIGBUS
    elif vma.flags & VM_UFFD_MISSING:
        return TOUCH_SIGBUS
    else:
        space.allocate()
        inode.cached.add(index)
    if write and not cow:
        inode.dirty.add(index)
    space.ptes[page] = PTE_FILE
    if cow:
        _copy(space, vma, page)
    return TOUCH_OK


def _copy(space: AddressSpace, vma: Vma, page: int) -> None:
    """A private copy of a file's page (mm/memory.c: do_cow_fault(), wp_page_copy())."""
    assert vma.file is not None
    word = vma.file.inode.word(vma.page_offset(page << PAGE_SHIFT))
    space.ptes[page] = PTE_ANON | word << PTE_WORD


def _fault_around(space: AddressSpace, vma: Vma, page: int) -> None:
    """Map the cached pages around one that is read (mm/memory.c: do_fault_around())."""
    assert vma.file is not None
    inode, ptes = vma.file.inode, space.ptes
    start, end = vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT
    low = max(page - page % FAULT_AROUND, start)
    high = min(low + FAULT_AROUND, page - page % PTES_PER_TABLE + PTES_PER_TABLE, end)
    for near in range(low, high):
        index = vma.pgoff + near - start
        if index in inode.cached and near not in ptes:
            ptes[near] = PTE_FILE


def prepare_anon_vma(space: AddressSpace, vma: Vma) -> None:
    """Give an unfaulted VMA an anon_vma: the next VMA's or the previous one's if they could ever merge, else a new one
    (mm/rmap.c: __anon_vma_prepare(); mm/vma.c: find_mergeable_anon_vma())."""
    if vma.anon_vma:
        return
    index = space.find(vma.start)
    above = space.vmas[index + 1] if index + 1 < len(space.vmas) else None
    below = space.vmas[index - 1] if index else None
    if above and above.anon_vma and _anon_vma_fits(space, vma, above):
        vma.anon_vma = above.anon_vma
    elif below and below.anon_vma and _anon_vma_fits(space, below, vma):
        vma.anon_vma = below.anon_vma
    else:
        vma.anon_vma = space.new_anon_vma()


def _anon_vma_fits(space: AddressSpace, low: Vma, high: Vma) -> bool:
    """Two VMAs that differ in access permissions at most (mm/vma.c: anon_vma_compatible())."""
    return (
        low.end == high.start
        and low.file is high.file
        and low.policy == high.policy
        and not (low.flags ^ high.flags) & ~(VM_ACCESS | VM_IGNORE_MERGE)
        and high.pgoff == low.pgoff + (low.end - low.start >> PAGE_SHIFT)
        and (low.moved == high.moved or PRIVATE_FILE_ANON_PGOFF not in space.changes)
    )


def expand_downwards(space: AddressSpace, index: int, addr: int) -> bool:
    """Grow a stack-like VMA down to the page of `addr`; whether it could (mm/vma.c: expand_downwards()). Without memory
    it cannot, and that is not tried again."""
    vma = space.vmas[index]
    environment = space.environment
    if not vma.flags & VM_GROWSDOWN:
        return False
    addr &= -PAGE
    if addr < environment.mmap_min_addr:
        return False
    if index:
        below = space.vmas[index - 1]
        near = addr - below.end < environment.stack_guard_gap
        if near and below.flags & VM_ACCESS and not below.flags & VM_GROWSDOWN:
            return False
    if space.fails():
        return False
    prepare_anon_vma(space, vma)
    grow = vma.start - addr >> PAGE_SHIFT
    if grow > vma.pgoff or not space.may_expand(vma.flags, grow):
        return False
    if vma.end - addr > space.limits[RLIMIT_STACK]:
        return False
    if vma.flags & VM_LOCKED:
        if not space.may_lock(vma.start - addr):
            return False
        space.locked_vm += grow
    space.total_vm += grow
    space.set_start(index, addr)
    return True


def is_reachable(vma: Vma) -> bool:
    """The kernel gets at its pages on behalf of a program (mm/gup.c: check_vma_flags())."""
    return not vma.flags & (VM_IO | VM_PFNMAP) and not vma.is_secret


def populate(space: AddressSpace, start: int, end: int, *, once: bool = False) -> None:
    """Fault pages in for MAP_POPULATE, MAP_LOCKED and growing locked memory: what fails is left out, VMA by VMA
    (mm/gup.c: __mm_populate()). `once`: nothing is tried again (mm/mprotect.c: mprotect_fixup())."""
    for vma in space.between(start, end):
        with suppress(SyscallError):
            populate_vma(space, vma, max(start, vma.start), min(end, vma.end), once=once)


def populate_locked(space: AddressSpace, start: int, end: int) -> bool:
    """Fault pages in for mlock(), up to the first that fails; whether none did (mm/gup.c: __mm_populate()).

    Raises:
        SyscallError: as `fault`.
    """
    for vma in space.between(start, end):
        if vma.flags & (VM_IO | VM_PFNMAP):
            continue
        if not populate_vma(space, vma, max(start, vma.start), min(end, vma.end)):
            return False
    return True


def populate_vma(
    space: AddressSpace, vma: Vma, start: int, end: int, *, once: bool = False
) -> bool:
    """Fault in pages of one VMA up to the first that fails; whether none did (mm/gup.c: populate_vma_page_range()).
    What finds no memory is tried again if pages before it were faulted in; not where all is faulted in `once`, nor of
    a disk, for a page that is read drops the lock, and counts as the first when it is come back to."""
    flags = vma.flags
    if flags & VM_LOCKONFAULT:
        return True
    if not is_reachable(vma):
        return False
    if flags & VM_PKEY_EXEC_ONLY or not flags & VM_ACCESS or not flags & VM_MAYREAD:
        return False
    if vma.name is not None:
        return not flags & VM_UFFD or _fault_own(space, vma) == TOUCH_OK
    write = flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    begin = None if once or (vma.file and vma.file.disk) else start
    return _fault_in(space, vma, start, end, write=write, begin=begin)


def populate_strictly(
    space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool, begin: int
) -> None:
    """Fault in pages of one VMA for MADV_POPULATE_* (mm/gup.c: faultin_page_range()). begin: where the call began; what
    fails behind it is tried again.

    Raises:
        SyscallError: EFAULT at the first page that fails; those before it stay.
    """
    if not _fault_in(space, vma, start, end, write=write, begin=begin):
        raise SyscallError(EFAULT)  # madvise(2): a page would raise SIGBUS or SIGSEGV


def _fault_in(
    space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool, begin: int | None
) -> bool:
    """Fault in pages up to the first that fails; whether none did. begin: of which page it is told that it failed for
    want of memory, None for all (mm/gup.c: __get_user_pages())."""
    for page in range(start >> PAGE_SHIFT, end >> PAGE_SHIFT):
        space.retries = begin is not None and page << PAGE_SHIFT != begin
        outcome = fault(space, vma, page, write=write)
        space.retries = False
        if outcome == TOUCH_ENDLESS:
            raise Unmodelled("populating pages that fault for ever")
        if outcome != TOUCH_OK:
            return False
    return True
