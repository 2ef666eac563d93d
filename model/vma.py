"""A VMA, the open file behind it and the object behind that. Knows no address space and no call."""

from typing import TYPE_CHECKING, Final

from abi.consts import PAGE, PAGE_SHIFT, WORD
from abi.trace import (
    NAME_ANON,
    NAME_FILE,
    NAME_FILLER,
    NAME_HEAP,
    NAME_NONE,
    NAME_STACK,
    PERM_SHARED,
    RECORD,
    file_tag,
)
from model.flags import VM_ACCESS, VM_FILLER, VM_MAYSHARE

if TYPE_CHECKING:
    from model.kinds import Kind

_WORD_BYTES: Final = 8


class Inode:
    """A mapped object: `ident` as in layouts, `pages` its size, `cached` the page indexes in its page cache, `dirty`
    those of them that were written to.

    shmem: tmpfs memory (memfd, shared anonymous memory). The cache is kept for shmem alone, where userfaultfd sees it.
    max_bytes: the file system's largest file offset. tail: the bytes of its last page that are within it, 0 for all.
    data_pages: how many pages begin with a tag before any program; words: the first words of pages that were written to
    or dropped since. contents: whether its contents are compared; resident: whether the presence of its pages is, too;
    reclaimed: MADV_PAGEOUT may have taken pages of another file. stranded: pages that were left locked by nobody;
    unlocked: a mapping of it was locked and is no more.
    huge: the size of its pages where they are huge pages (bytes), else 0: then `cached` counts in them, and so does
    `reserved`, those that are set aside for it.
    """

    __slots__ = (
        "_initial_size",
        "cached",
        "contents",
        "data_pages",
        "dirty",
        "huge",
        "ident",
        "max_bytes",
        "pages",
        "reclaimed",
        "reserved",
        "resident",
        "shmem",
        "stranded",
        "tail",
        "unlocked",
        "words",
    )

    def __init__(
        self,
        ident: int,
        pages: int,
        *,
        shmem: bool,
        max_bytes: int,
        data_pages: int = 0,
        contents: bool = True,
        huge: int = 0,
    ) -> None:
        self.ident = ident
        self.huge = huge
        self.reserved: set[int] = set()
        self.pages = pages
        self.shmem = shmem
        self.max_bytes = max_bytes
        self.data_pages = data_pages
        self.contents = contents
        self.resident = shmem or huge > 0
        self.tail = 0
        self.reclaimed = False
        self.stranded: set[int] = set()
        self.unlocked = False
        self.cached: set[int] = set()
        self.dirty: set[int] = set()
        self.words: dict[int, int] = {}
        self._initial_size = pages, 0
        self.reset()

    def word(self, index: int) -> int:
        """The first word of page `index`."""
        word = self.words.get(index)
        if word is not None:
            return word
        return file_tag(self.ident, index) if index < self.data_pages else 0

    def drop(self, first: int, last: int) -> None:
        """Pages [first, last) become a hole: zeros, and not cached."""
        for kept in (self.cached, self.dirty, self.stranded):
            kept.difference_update([index for index in kept if first <= index < last])
        for index in [index for index in self.words if first <= index < last]:
            del self.words[index]
        for index in range(first, min(last, self.data_pages)):
            self.words[index] = 0

    def resize(self, size: int) -> None:
        """Make it `size` bytes long: what is cut off is zero when it grows again."""
        pages, tail = size + PAGE - 1 >> PAGE_SHIFT, size & PAGE - 1
        if pages < self.pages or (pages == self.pages and tail):
            self.drop(pages, self.pages)
        if tail and tail < _WORD_BYTES and pages <= self.pages:
            self.words[pages - 1] = self.word(pages - 1) & (1 << 8 * tail) - 1
        self.pages, self.tail = pages, tail

    def reset(self) -> None:
        """As before any program: what has data is cached, for it was written."""
        self.pages, self.tail = self._initial_size
        self.reserved.clear()
        self.cached.clear()
        self.dirty.clear()
        self.words.clear()
        if self.shmem:
            self.cached.update(range(self.data_pages))
            self.dirty.update(range(self.data_pages))
        self.reclaimed = False
        self.stranded.clear()
        self.unlocked = False


class File:
    """An open file (struct file). Two VMAs of one object merge only if they share it.

    zero: it is /dev/zero, whose private mappings are anonymous memory with a file.
    thp_area: its get_unmapped_area is thp_get_unmapped_area(); own_area: it is another one, of its own.
    sync: its file system knows MAP_SYNC, and refuses it for it is not DAX. fsync: its file system knows fsync(2).
    kernel: it is a file of the kernel's ("proc", "sysfs"), each mapped in its own way. below: the file that is
    mapped in its place, which is how overlayfs maps.
    disk: its file system is one of a disk, from which pages are read.
    late: its file system knows mmap, not mmap_prepare, so that KSM's flag comes after a merge is looked for.
    kind: what is special of it, if it is; pages: the size of what can be mapped of it then.
    """

    __slots__ = (
        "below",
        "disk",
        "fsync",
        "inode",
        "kernel",
        "kind",
        "late",
        "mappable",
        "noexec",
        "own_area",
        "pages",
        "readable",
        "regular",
        "sync",
        "thp_area",
        "writable",
        "zero",
    )

    def __init__(
        self,
        inode: Inode,
        *,
        zero: bool = False,
        thp_area: bool = False,
        own_area: bool = False,
        sync: bool = False,
        fsync: bool = True,
        disk: bool = False,
        kernel: str = "",
        below: "File | None" = None,
        readable: bool = True,
        writable: bool = True,
        noexec: bool = False,
        mappable: bool = True,
        regular: bool = True,
        late: bool = False,
        kind: "Kind | None" = None,
        pages: int = 0,
    ) -> None:
        self.inode = inode
        self.kind = kind
        self.pages = pages
        self.zero = zero
        self.thp_area = thp_area
        self.own_area = own_area
        self.sync = sync
        self.fsync = fsync
        self.disk = disk
        self.kernel = kernel
        self.below = below
        self.readable = readable
        self.writable = writable
        self.noexec = noexec
        self.mappable = mappable
        self.regular = regular
        self.late = late

    @property
    def is_secret(self) -> bool:
        """It is of memfd_secret(2)."""
        return self.kind is not None and self.kind.secret

    def is_past_end(self, index: int) -> bool:
        """No page of this number is to be had."""
        return index >= self.inode.pages and not self.is_negative(index)

    def is_negative(self, index: int) -> bool:
        """It is taken for one before the file's end, for the offset in bytes is a signed number of 64 bits: of secret
        memory, which mremap(2) lets grow beyond the largest file (mm/secretmem.c: secretmem_fault())."""
        return self.is_secret and index << PAGE_SHIFT & 1 << 63 != 0


#: A memory policy: its mode, its flags, its nodes, and the nodes as they were asked for where the flags keep them
#: (mm/mempolicy.c: __mpol_equal()).
Policy = tuple[int, int, int, int]


class Brk:
    """What names an anonymous VMA [heap] or [stack]: mm->start_brk, mm->brk, mm->start_stack (bytes). touching: a VMA
    that only touches the heap is named too."""

    __slots__ = ("brk", "start_brk", "start_stack", "touching")

    def __init__(self, start_brk: int, brk: int, start_stack: int, *, touching: bool) -> None:
        self.start_brk = start_brk
        self.brk = brk
        self.start_stack = start_stack
        self.touching = touching


class Vma:
    """One VMA: [start, end) in bytes, `flags` VM_*, `pgoff` in pages.

    file: the open file, or None. anonymous: it has no vm_ops (mm.h: vma_is_anonymous()), which holds for
    private /dev/zero although it has a file. anon_vma: a token that equals another VMA's where the kernel's
    anon_vma is the same, 0 where there is none (unfaulted). moved: how many pages down it was moved while faulted, so
    that its anonymous page offset is the page number of its start plus `moved`. uffd: the descriptor it is
    registered with, or 0.
    name: a fixed name class for the executor's own VMAs, else None. label: the name that the program gave it
    (consts.VMA_NAMES), 0 for none. policy: its memory policy, None for the default one.
    """

    __slots__ = (
        "anon_vma",
        "anonymous",
        "end",
        "file",
        "flags",
        "label",
        "moved",
        "name",
        "pgoff",
        "policy",
        "record",
        "start",
        "uffd",
    )

    def __init__(
        self,
        start: int,
        end: int,
        flags: int,
        file: File | None,
        pgoff: int,
        *,
        anonymous: bool,
        anon_vma: int = 0,
        uffd: int = 0,
        name: int | None = None,
    ) -> None:
        self.start = start
        self.end = end
        self.flags = flags
        self.file = file
        self.pgoff = pgoff
        self.anonymous = anonymous
        self.anon_vma = anon_vma
        self.moved = 0
        self.uffd = uffd
        self.name = name
        self.label = 0
        self.policy: Policy | None = None
        self.record: bytes | None = None

    def copy(self) -> "Vma":
        """The same VMA as another value, its packed record included."""
        new = Vma(
            self.start,
            self.end,
            self.flags,
            self.file,
            self.pgoff,
            anonymous=self.anonymous,
            anon_vma=self.anon_vma,
            uffd=self.uffd,
            name=self.name,
        )
        new.moved = self.moved
        new.label = self.label
        new.policy = self.policy
        new.record = self.record
        return new

    @property
    def is_shmem(self) -> bool:
        """It maps tmpfs memory, and not by way of a SysV segment (mm/shmem.c: vma_is_shmem())."""
        return self.file is not None and self.file.inode.shmem and not self.file.kind

    @property
    def is_secret(self) -> bool:
        """The kernel does not get at its pages on behalf of a program (mm/secretmem.c: vma_is_secretmem())."""
        return self.file is not None and self.file.is_secret

    def page_offset(self, addr: int) -> int:
        """The page offset of `addr` in what is mapped (pages; include/linux/pagemap.h: linear_page_index())."""
        return self.pgoff + (addr - self.start >> PAGE_SHIFT)

    def pack(self, brk: Brk) -> bytes:
        """The layout record, as `abi.trace.RECORD`; kept until the VMA changes."""
        file = self.file
        perms = self.flags & VM_ACCESS
        if self.flags & VM_MAYSHARE:
            perms |= PERM_SHARED
        if file:
            name = NAME_FILE if self.name is None else self.name
            offset = self.pgoff << PAGE_SHIFT & WORD
            record = RECORD.pack(self.start, self.end, offset, file.inode.ident, perms, name)
        else:
            record = RECORD.pack(self.start, self.end, 0, 0, perms, self._anonymous_name(brk))
        self.record = record
        return record

    def _anonymous_name(self, brk: Brk) -> int:
        """The name class of a VMA without file (fs/proc/task_mmu.c: get_vma_name())."""
        if self.name is not None:
            return self.name
        if self.flags & VM_FILLER:
            return NAME_FILLER
        reach = int(brk.touching)
        if self.start < brk.brk + reach and self.end > brk.start_brk - reach:
            return NAME_HEAP
        if self.start <= brk.start_stack <= self.end:
            return NAME_STACK
        return NAME_ANON if self.label else NAME_NONE
