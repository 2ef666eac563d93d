"""What a step shows besides its result and the layout, as `abi.trace` sections. Changes nothing."""

from typing import Final

from abi.consts import PAGE_SHIFT, TOUCH_SIGBUS, TOUCH_SIGSEGV
from abi.trace import (
    CODES,
    CONTENT_PAGES,
    COUNT,
    COUNTERS,
    ENTRY,
    PAGE_FILE,
    PAGE_GUARD,
    PAGE_PRESENT,
    PAGE_WP,
)
from abi.wire import IDENT_IMAGE, IDENT_SHARED
from model import flags as vm
from model import hugetlb
from model.fault import is_reachable
from model.flags import (
    VM_EXEC,
    VM_FILLER,
    VM_GROWSDOWN,
    VM_LOCKONFAULT,
    VM_READ,
    VM_SHADOW_STACK,
    VM_SOFTDIRTY,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_WRITE,
)
from model.profile import LOCKONFAULT_SHOWN
from model.space import (
    PTE_ANON,
    PTE_FILE,
    PTE_GUARD,
    PTE_KIND,
    PTE_WORD,
    PTE_WP,
    AddressSpace,
    is_data,
)
from model.vma import Vma

#: VM_* bit -> bit of a flags word.
_BITS: Final = tuple((vm.CODES[code], 1 << i) for i, code in enumerate(CODES) if code in vm.CODES)
#: The bit of any flag that has no code.
_NAMELESS: Final = 1 << CODES.index("??")
_ENTRY_WORD: Final = 8


def data_and_stack(space: AddressSpace) -> int:
    """VmData + VmStk (pages)."""
    data, stack, _ = _counted(space)
    return data + stack


def _counted(space: AddressSpace) -> tuple[int, int, int]:
    """VmData, VmStk, VmExe + VmLib (pages; mm/mmap.c: vm_stat_account())."""
    data = stack = executable = 0
    for vma in space.vmas:
        flags, size = vma.flags, vma.end - vma.start
        if flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN) == VM_EXEC:
            executable += size
        elif flags & (VM_GROWSDOWN | VM_SHADOW_STACK):
            stack += size
        elif is_data(flags):
            data += size
    return data >> PAGE_SHIFT, stack >> PAGE_SHIFT, executable >> PAGE_SHIFT


def flags_section(space: AddressSpace) -> bytes:
    """VmFlags of every VMA; 0 for the filler, whose mappings differ. Where the kernel tracks what was written to, every
    mapping begins as if it was (mm/vma.c: __mmap_complete(), do_brk_flags()), and nothing here makes it forget."""
    always = VM_SOFTDIRTY if "SOFT_DIRTY" in space.environment.config else 0
    nameless = 0 if LOCKONFAULT_SHOWN in space.changes else VM_LOCKONFAULT
    return b"".join(
        [
            COUNT.pack(0 if vma.flags & VM_FILLER else _word(vma.flags | always, nameless))
            for vma in space.vmas
        ]
    )


def _word(flags: int, nameless: int, _known: dict[int, int] = {}) -> int:  # noqa: B006  # a cache
    if flags & nameless:
        return _word(flags & ~nameless, 0) | _NAMELESS
    word = _known.get(flags)
    if word is None:
        word = _known[flags] = sum(bit for flag, bit in _BITS if flags & flag)
    return word


def counters_section(space: AddressSpace) -> bytes:
    """VmLck, VmData, VmStk, VmExe + VmLib."""
    return COUNTERS.pack(space.locked_vm, *_counted(space))


def pages_section(space: AddressSpace) -> bytes:
    """The page table entries of every VMA whose contents are compared."""
    entries = []
    for vma in space.vmas:
        if is_opaque(space, vma):
            continue
        for page in sorted(space.pages_of(vma.start, vma.end)):
            held = space.ptes[page]
            kind = held & PTE_KIND
            entry = PAGE_WP if held & PTE_WP else 0
            if kind == PTE_GUARD:
                entry |= PAGE_GUARD
            elif kind == PTE_ANON:
                word = held >> PTE_WORD if _is_seen(space, vma) else 0
                entry |= PAGE_PRESENT | word << _ENTRY_WORD
            elif kind == PTE_FILE and vma.file and vma.file.inode.resident:
                index = vma.page_offset(page << PAGE_SHIFT)
                word = vma.file.inode.word(index) if _is_seen(space, vma) else 0
                entry |= PAGE_PRESENT | PAGE_FILE | word << _ENTRY_WORD
            if entry:
                entries.append(ENTRY.pack(page, entry))
    return COUNT.pack(len(entries)) + b"".join(entries)


def contents_section(space: AddressSpace) -> tuple[bytes, set[tuple[int, int]]]:
    """What reading every page gives, in address order, up to CONTENT_PAGES pages; and the pages of shared memory that
    were read, which are in the page cache then."""
    entries: list[bytes] = []
    budget = CONTENT_PAGES
    filled: set[tuple[int, int]] = set()
    for vma in space.vmas:
        if is_opaque(space, vma):
            continue
        first = vma.start >> PAGE_SHIFT
        last = min(vma.end >> PAGE_SHIFT, first + budget)
        budget -= last - first
        if _reads_as_zero(vma) and _is_seen(space, vma):
            pages = sorted(space.pages_of(vma.start, last << PAGE_SHIFT))
        else:
            pages = list(range(first, last))
        for page in pages:
            value = _reading(space, vma, page, filled)
            if value:
                entries.append(ENTRY.pack(page, value))
        if not budget:
            break
    return COUNT.pack(len(entries)) + b"".join(entries), filled


def _is_seen(space: AddressSpace, vma: Vma) -> bool:
    """What its pages hold can be read, through /proc/self/mem if need be (fs/proc/base.c: proc_mem_foll_force())."""
    if vma.flags & VM_READ:
        return True
    return "BLIND" not in space.environment.config and is_reachable(vma)


def _reads_as_zero(vma: Vma) -> bool:
    """A page of it without an entry reads as zero."""
    return vma.anonymous and not vma.flags & VM_UFFD_MISSING


def _reading(space: AddressSpace, vma: Vma, page: int, filled: set[tuple[int, int]]) -> int:
    """The entry for a page that is read: its word, or how it fails; what is not readable is read as ptrace does, whose
    failures look alike. `filled`: the pages of shared memory (ident, index) that reading has put into the cache."""
    held = space.ptes.get(page, 0)
    kind = held & PTE_KIND
    readable = vma.flags & VM_READ
    if kind == PTE_GUARD or not _is_seen(space, vma):
        return TOUCH_SIGSEGV
    if kind == PTE_ANON:
        return held >> PTE_WORD << _ENTRY_WORD
    bad = TOUCH_SIGBUS if readable else TOUCH_SIGSEGV
    if vma.file is None or vma.anonymous:
        return bad if vma.flags & VM_UFFD_MISSING else 0
    inode = vma.file.inode
    index = vma.page_offset(page << PAGE_SHIFT)
    if inode.huge:
        if kind != PTE_FILE and not hugetlb.reads(space, vma, page, filled):
            return bad
    elif kind != PTE_FILE:
        if vma.file.is_past_end(index):
            return bad
        if inode.shmem:
            cached = index in inode.cached or (inode.ident, index) in filled
            if vma.flags & (VM_UFFD_MINOR if cached else VM_UFFD_MISSING):
                return bad
            filled.add((inode.ident, index))
    return inode.word(index) << _ENTRY_WORD


def is_opaque(space: AddressSpace, vma: Vma) -> bool:
    """It is the executor's own, the filler, or of an object whose contents are not compared."""
    if vma.flags & VM_FILLER:
        return True
    if vma.file and (
        vma.file.inode.ident in (IDENT_IMAGE, IDENT_SHARED) or not vma.file.inode.contents
    ):
        return True
    return any(own.start <= vma.start and vma.end <= own.end for own in space.environment.initial)
