"""fork(2), and what its child sees (kernel/fork.c; mm/mmap.c: dup_mmap()).

The child reports and ends. In the parent nothing changes that a later call could tell, but for pages that a
userfaultfd once write-protected, and the page cache of shared memory that the child reads.
"""

from errno import ENOMEM

from abi.calls import Fork
from abi.consts import PAGE_SHIFT, UFFD_EVENT_FORK
from abi.trace import COUNT, RECORD
from model.errors import SyscallError, Unmodelled
from model.flags import (
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_LOCKED_MASK,
    VM_MAYBE_GUARD,
    VM_MAYWRITE,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_SHARED,
    VM_UFFD,
    VM_UFFD_WP,
    VM_WIPEONFORK,
)
from model.observe import contents_section, counters_section, flags_section
from model.space import (
    EVENT_UFFD,
    PTE_ANON,
    PTE_FORKED,
    PTE_KIND,
    PTE_WP,
    PTE_WRITABLE,
    PTE_ZERO,
    AddressSpace,
)
from model.vma import Vma

#: VMAs whose page tables are copied, faulted or not (include/linux/mm.h: VM_COPY_ON_FORK).
_COPY_ON_FORK = VM_PFNMAP | VM_MIXEDMAP | VM_UFFD_WP | VM_MAYBE_GUARD


def fork(space: AddressSpace, call: Fork) -> int:
    """fork(2): 0, for the child is gone when the call returns.

    Raises:
        SyscallError: ENOMEM, an accounted VMA is more than the machine has; as `AddressSpace.allocate`, pages of some
            VMAs are shared then.
        Unmodelled: the child would not have all of the executor's own memory.
    """
    for vma in space.vmas:
        if vma.name is not None and vma.flags & VM_DONTCOPY:
            raise Unmodelled("a fork without the executor's own memory")
        if vma.flags & VM_ACCOUNT and not vma.flags & VM_DONTCOPY:
            space.charge(vma.end - vma.start >> PAGE_SHIFT)
    _share_in_part(space)
    child = _child(space)
    if space.fails():
        _share_pages(space)
        raise SyscallError(ENOMEM)  # kernel/fork.c: copy_process(): after copy_mm()
    layout = child.layout()
    count = COUNT.pack(len(layout) // RECORD.size)
    contents, filled = contents_section(child)
    space.child = (count + layout, flags_section(child), counters_section(child) + contents)
    inodes = {vma.file.inode.ident: vma.file.inode for vma in child.vmas if vma.file}
    for ident, index in filled:
        if ident in inodes:
            inodes[ident].cached.add(index)
    _share_pages(space)
    return 0


def _child(space: AddressSpace) -> AddressSpace:
    """The address space of the child as it starts; registered memory is reported."""
    child = space.copy()
    forks = "UFFD_FORK" in space.environment.config
    child.ptes = {}
    child.locked_vm = 0
    child.vmas = [vma for vma in child.vmas if not vma.flags & VM_DONTCOPY]
    child.starts = [vma.start for vma in child.vmas]
    child.total_vm = sum(vma.end - vma.start for vma in child.vmas) >> PAGE_SHIFT
    for vma in child.vmas:
        vma.flags &= ~VM_LOCKED_MASK
        if vma.uffd and not (forks and vma.uffd == EVENT_UFFD):
            vma.flags &= ~VM_UFFD
            vma.uffd = 0
        if not vma.flags & VM_WIPEONFORK and (vma.anon_vma or vma.flags & _COPY_ON_FORK):
            _copy_ptes(space, child, vma)
    if any(vma.uffd for vma in child.vmas):
        space.events.append((UFFD_EVENT_FORK, EVENT_UFFD, 0, 0, 0))
    return child


def _copy_ptes(space: AddressSpace, child: AddressSpace, vma: Vma) -> None:
    """All but the markers of a registration that the child does not have (mm/memory.c: copy_page_range())."""
    for page in space.pages_of(vma.start, vma.end):
        held = space.ptes[page]
        if not vma.flags & VM_UFFD_WP:
            held &= ~PTE_WP
        if held & PTE_KIND or held & PTE_WP:
            child.ptes[page] = held


def _share_in_part(space: AddressSpace) -> None:
    """VMAs are copied one by one, which may fail at each (mm/mmap.c: dup_mmap())."""
    for vma in space.vmas if space.failing else ():
        space.allocate()
        _share(space, vma)


def _share_pages(space: AddressSpace) -> None:
    for vma in space.vmas:
        _share(space, vma)


def _share(space: AddressSpace, vma: Vma) -> None:
    """Pages of private memory are copied or taken over when next written to (mm/memory.c: copy_present_ptes())."""
    private = vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
    if not private or vma.flags & (VM_DONTCOPY | VM_WIPEONFORK):
        return
    for page in space.pages_of(vma.start, vma.end):
        held = space.ptes[page]
        if held & PTE_WP and held & PTE_KIND:
            held &= ~PTE_WRITABLE
        if held & (PTE_KIND | PTE_ZERO) == PTE_ANON:
            held |= PTE_FORKED
        space.ptes[page] = held
