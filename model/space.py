"""The address space: VMAs in address order, cut, merged and taken away. Knows no call.

Mutable, because a program changes it a dozen times and a campaign runs a million programs; `AddressSpace.copy()`
gives each program its own.
"""

from bisect import bisect_left, bisect_right
from errno import EINVAL, ENOMEM, EPERM
from typing import Final

from abi.consts import (
    FD_NAMES,
    PAGE_SHIFT,
    PMD_SIZE,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    RLIMIT_STACK,
    UFFD_EVENT_UNMAP,
    WORD,
)
from abi.environment import Environment
from model.errors import SyscallError, Unmodelled
from model.flags import (
    VM_DROPPABLE,
    VM_FILLER,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_IGNORE_MERGE,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_SEALED,
    VM_SHARED,
    VM_SPECIAL,
    VM_STICKY,
    VM_UFFD_WP,
    VM_WRITE,
)
from model.profile import (
    CLOSE_ALLOWS_MERGES,
    COPIED_MERGE_KEEPS_ANON_VMA,
    HEAP_BOUNDS,
    MERGE_UNFAULTED_TARGET,
    NEW_RANGE_MERGES_BOTH,
    PRIVATE_FILE_ANON_PGOFF,
    Change,
)
from model.vma import Brk, File, Inode, Vma

#: What a page table entry holds, as far as calls can tell. Absent from `ptes`: none. The low two bits say what it is;
#: of an anonymous page the bits from PTE_WORD on are the first word of its contents.
PTE_FILE: Final = 1
PTE_ANON: Final = 2
PTE_GUARD: Final = 3
PTE_KIND: Final = 3
#: A userfaultfd write-protects it; with no kind beside it, it is a marker: whatever comes there will be.
PTE_WP: Final = 4
#: Beside PTE_WP, which can outlive the registration: the page was written to meanwhile, so that it stays writable.
#: Of an anonymous page: a fork shared it with a child, and it was not written to since.
PTE_WRITABLE: Final = 8
PTE_FORKED: Final = 16
PTE_WORD: Final = 8
#: Bits of an anonymous page: it is the page of zeros that all share; MADV_FREE said that its contents may go, and
#: nothing was written since.
PTE_ZERO: Final = 0x40
PTE_LAZY: Final = 0x80
#: An anonymous page that MREMAP_DONTUNMAP left locked where nothing is: reclaim passes it by.
PTE_STRANDED: Final = 0x20

_PTE_OF_WP: Final = PTE_WP | PTE_WRITABLE
#: Pages that one page table maps.
PTES_PER_TABLE: Final = 512
#: Stands for pages of which it is not known which they are.
_SOME: Final = -1

#: The userfaultfd that reports events: FORK (where it may), REMAP, REMOVE and UNMAP.
EVENT_UFFD: Final = FD_NAMES["uffd2"]

#: Values of `AddressSpace.thp_disabled`: as PR_GET_THP_DISABLE gives them. The executor disables huge pages.
THP_ENABLED: Final = 0
THP_DISABLED: Final = 1
THP_ADVISED_ONLY: Final = 3

#: Values of vm.overcommit_memory.
OVERCOMMIT_GUESS: Final = 0
OVERCOMMIT_NEVER: Final = 2


class AddressSpace:
    """The VMAs of a process and what the kernel counts about them.

    vmas: in address order, not overlapping; starts: their start addresses, kept in step.
    clock: the index of the call that runs.
    ptes: page number -> PTE_*. total_vm, locked_vm: in pages. files: descriptor -> open file.
    segments: the SysV segments, by number. uffds: descriptors that are userfaultfds. next_ident: the ident of the next
    object that the program creates.
    events: what EVENT_UFFD reported of the call that runs (`abi.trace.EVENT`). child: what the child of a fork reports:
    records, VmFlags, and the rest.
    failing: at which allocation from here on an injected failure is felt, 0 for none. retries: a fault without memory
    is tried again, so that nothing of it is felt.
    left_behind: the pages that were mapped by page tables which the call that runs freed, by table; kept only where a
    kernel may forget them ("STALE_TABLES").
    write_protected: a userfaultfd has write-protected pages. aged: advice made the kernel take pages for unused.
    own_dropped: pages of the executor's own were dropped; which it has used since then is not known.
    fillers: how many mappings the VMA with VM_FILLER stands for; filled: there was one, once.
    def_flags: VM_* that every new mapping gets (mm->def_flags). limits: soft limits by RLIMIT_* (bytes); a new dict
    whenever one changes, as `brk` is a new value.
    had_ptes: there were page table entries; tables: blocks of 2 MiB in which there may be page tables, None if that is
    not known; took_huge: a fault took a transparent huge page.
    thp_disabled, merge_any, mdwe: what PR_SET_THP_DISABLE, PR_SET_MEMORY_MERGE and PR_SET_MDWE have set.
    """

    __slots__ = (
        "_next_anon_vma",
        "aged",
        "brk",
        "changes",
        "child",
        "clock",
        "def_flags",
        "environment",
        "events",
        "failing",
        "files",
        "filled",
        "fillers",
        "had_ptes",
        "left_behind",
        "limits",
        "locked_vm",
        "mdwe",
        "merge_any",
        "next_ident",
        "own_dropped",
        "ptes",
        "retries",
        "segments",
        "starts",
        "tables",
        "thp_disabled",
        "took_huge",
        "total_vm",
        "uffds",
        "vmas",
        "write_protected",
    )

    def __init__(self, environment: Environment, changes: frozenset[Change]) -> None:
        self.environment = environment
        self.changes = changes
        self.brk = Brk(
            environment.start_brk,
            environment.brk,
            environment.start_stack,
            touching=HEAP_BOUNDS not in changes,
        )
        self.vmas: list[Vma] = []
        self.starts: list[int] = []
        self.ptes: dict[int, int] = {}
        self.clock = 0
        self.events: list[tuple[int, int, int, int, int]] = []
        self.child: tuple[bytes, bytes, bytes] | None = None
        self.failing = 0
        self.retries = False
        self.files: dict[int, File] = {}
        self.segments: tuple[Inode, ...] = ()
        self.uffds: frozenset[int] = frozenset()
        self.def_flags = 0
        self.fillers = 0
        self.filled = False
        self.limits: dict[int, int] = {
            RLIMIT_AS: environment.rlimit_as,
            RLIMIT_DATA: environment.rlimit_data,
            RLIMIT_MEMLOCK: environment.rlimit_memlock,
            RLIMIT_STACK: environment.rlimit_stack,
        }
        self.total_vm = environment.total_pages
        self.locked_vm = environment.locked_pages
        self.next_ident = 0
        self.own_dropped = False
        self.thp_disabled = THP_DISABLED
        self.tables: set[int] | None = None
        self.had_ptes = False
        self.left_behind: dict[int, set[int]] = {}
        self.took_huge = False
        self.merge_any = False
        self.mdwe = 0
        self.write_protected = False
        self.aged = False
        self._next_anon_vma = 1

    def copy(self) -> "AddressSpace":
        """An equal address space that shares no mutable state but the page caches of its files."""
        new = AddressSpace(self.environment, self.changes)
        new.brk = self.brk
        new.vmas = [vma.copy() for vma in self.vmas]
        new.starts = self.starts.copy()
        new.ptes = self.ptes.copy()
        new.clock = self.clock
        new.events = self.events.copy()
        new.child = self.child
        new.failing = self.failing
        new.retries = self.retries
        new.files = self.files
        new.segments = self.segments
        new.uffds = self.uffds
        new.def_flags = self.def_flags
        new.filled = self.filled
        new.fillers = self.fillers
        new.limits = self.limits
        new.total_vm = self.total_vm
        new.locked_vm = self.locked_vm
        new.next_ident = self.next_ident
        new.own_dropped = self.own_dropped
        new.thp_disabled = self.thp_disabled
        new.tables = None if self.tables is None else self.tables.copy()
        new.had_ptes = self.had_ptes
        new.left_behind = {}
        new.took_huge = self.took_huge
        new.merge_any = self.merge_any
        new.mdwe = self.mdwe
        new.write_protected = self.write_protected
        new.aged = self.aged
        new._next_anon_vma = self._next_anon_vma
        return new

    def check(self) -> None:
        """Assert the invariants: order, alignment, counts."""
        assert self.starts == [vma.start for vma in self.vmas]
        above = 0
        for vma in self.vmas:
            assert above <= vma.start < vma.end, hex(vma.start)
            assert (vma.start | vma.end) & ((1 << PAGE_SHIFT) - 1) == 0
            assert vma.record is None or vma.record == vma.copy().pack(self.brk)
            above = vma.end
        assert self.total_vm == sum(vma.end - vma.start for vma in self.vmas) >> PAGE_SHIFT

    def layout(self) -> bytes:
        """The packed records of every VMA, in address order."""
        brk = self.brk
        return b"".join([vma.record or vma.pack(brk) for vma in self.vmas])

    # Looking things up

    def find(self, addr: int) -> int:
        """The index of the first VMA that ends above `addr`; the number of VMAs if there is none (find_vma())."""
        index = bisect_right(self.starts, addr)
        if index and self.vmas[index - 1].end > addr:
            return index - 1
        return index

    def lookup(self, addr: int) -> Vma | None:
        """The VMA that contains `addr` (vma_lookup())."""
        index = bisect_right(self.starts, addr)
        if index:
            vma = self.vmas[index - 1]
            if vma.end > addr:
                return vma
        return None

    def intersects(self, start: int, end: int) -> bool:
        """Whether a VMA overlaps [start, end) (find_vma_intersection())."""
        index = self.find(start)
        return index < len(self.vmas) and self.starts[index] < end

    def first(self, start: int, end: int) -> Vma | None:
        """The lowest VMA that overlaps [start, end) (vma_find())."""
        index = self.find(start)
        if start < end and index < len(self.vmas) and self.starts[index] < end:
            return self.vmas[index]
        return None

    def between(self, start: int, end: int) -> list[Vma]:
        """The VMAs that overlap [start, end), in order."""
        return self.vmas[self.find(start) : bisect_left(self.starts, end)]

    def map_count(self) -> int:
        """Mappings as vm.max_map_count counts them (mm->map_count)."""
        return len(self.vmas) + (self.fillers - 1 if self.fillers else 0)

    def new_anon_vma(self) -> int:
        """A token for an anon_vma that no other VMA has."""
        token = self._next_anon_vma
        self._next_anon_vma += 1
        return token

    def new_shmem_file(self, length: int) -> File:
        """The object behind shared anonymous memory of `length` bytes, which gets its ident when it is mapped
        (mm/shmem.c: shmem_zero_setup())."""
        return File(Inode(-1, length >> PAGE_SHIFT, shmem=True, max_bytes=(1 << 63) - 1))

    def name_inode(self, vma: Vma) -> None:
        """An object that the program makes gets its ident when it is mapped first."""
        if vma.file and vma.file.inode.ident < 0:
            vma.file.inode.ident = self.next_ident
            self.next_ident += 1

    # Limits

    def may_expand(self, flags: int, pages: int) -> bool:
        """RLIMIT_AS and RLIMIT_DATA allow `pages` more of such memory; may be negative. A soft RLIMIT_DATA of 0 means
        the hard one (mm/mmap.c: may_expand_vm())."""
        if self.total_vm + pages > self.limits[RLIMIT_AS] >> PAGE_SHIFT:
            return False
        limit = (self.limits[RLIMIT_DATA] or self.environment.rlimit_data_max) >> PAGE_SHIFT
        if not is_data(flags) or limit >= WORD >> PAGE_SHIFT:
            return True
        return self._data_pages() + pages <= limit

    def _data_pages(self) -> int:
        return sum(vma.end - vma.start for vma in self.vmas if is_data(vma.flags)) >> PAGE_SHIFT

    def charge(self, pages: int) -> None:
        """Promise so many pages; what was promised is not kept account of (mm/util.c: __vm_enough_memory()).

        Raises:
            SyscallError: ENOMEM, it is more than the machine has.
            Unmodelled: strict overcommit, whose limit all processes share.
        """
        environment = self.environment
        if environment.overcommit == OVERCOMMIT_NEVER:
            raise Unmodelled(
                "vm.overcommit_memory is 2: the commit limit belongs to the whole machine"
            )
        if environment.overcommit == OVERCOMMIT_GUESS and pages > environment.memory_pages:
            raise SyscallError(ENOMEM)  # mm/util.c: __vm_enough_memory(): more than memory and swap

    def may_lock(self, length: int) -> bool:
        """RLIMIT_MEMLOCK allows `length` more locked bytes (mm/mmap.c: mlock_future_ok())."""
        if "IPC_LOCK" in self.environment.capabilities:
            return True
        return self.locked_vm + (length >> PAGE_SHIFT) <= self.limits[RLIMIT_MEMLOCK] >> PAGE_SHIFT

    def can_lock(self) -> bool:
        """Locking is not forbidden altogether (mm/mlock.c: can_do_mlock())."""
        return bool(self.limits[RLIMIT_MEMLOCK]) or "IPC_LOCK" in self.environment.capabilities

    def fails(self) -> bool:
        """The kernel allocates memory here, and a failure that was injected is felt."""
        if not self.failing:
            return False
        self.failing -= 1
        return not self.failing

    def allocate(self, errno: int = ENOMEM) -> None:
        """The kernel allocates memory here, and fails without it.

        Raises:
            SyscallError: `errno`, a failure was injected.
        """
        if not self.retries and self.fails():
            raise SyscallError(errno)  # fail: an allocation that was made to fail

    def allocate_tables(self, start: int, end: int) -> int:
        """The kernel makes page tables for [start, end), one after the other: where the first one is missing, `end` if
        none is."""
        at = start
        while self.failing and at < end:
            if self.fails():
                return at
            at = at + PMD_SIZE & -PMD_SIZE
        return end

    def may_split(self) -> None:
        """A split may add a mapping.

        Raises:
            SyscallError: ENOMEM, the mapping limit is reached.
        """
        if self.map_count() >= self.environment.max_map_count:
            raise SyscallError(ENOMEM)  # mm/vma.c: split_vma(): map_count >= vm.max_map_count

    # Changing VMAs

    def insert(self, vma: Vma) -> None:
        """Put `vma` where nothing is."""
        index = bisect_left(self.starts, vma.start)
        self.vmas.insert(index, vma)
        self.starts.insert(index, vma.start)

    def remove(self, low: int, high: int) -> None:
        """Take the VMAs of the index range [low, high) out."""
        del self.vmas[low:high]
        del self.starts[low:high]

    def set_start(self, index: int, start: int) -> None:
        """Move a VMA's start; its contents keep their places, so its pgoff follows."""
        vma = self.vmas[index]
        vma.pgoff += start - vma.start >> PAGE_SHIFT
        vma.start = self.starts[index] = start
        vma.record = None

    def set_end(self, vma: Vma, end: int) -> None:
        """Move a VMA's end."""
        vma.end = end
        vma.record = None

    def split(self, index: int, addr: int) -> None:
        """Cut a VMA at `addr`, which lies inside it: it keeps the lower part (mm/vma.c: __split_vma()).

        Raises:
            SyscallError: EINVAL inside a huge page, or of what cannot be cut; as `allocate`.
        """
        lower = self.vmas[index]
        if is_whole(lower):
            raise SyscallError(EINVAL)  # kernel/events/core.c: perf_mmap_may_split()
        if lower.flags & VM_HUGETLB and lower.file and addr & lower.file.inode.huge - 1:
            raise SyscallError(EINVAL)  # mm/hugetlb.c: hugetlb_vm_op_split(): inside a huge page
        refuse_filler(lower)
        self.allocate()
        upper = lower.copy()
        upper.pgoff += addr - lower.start >> PAGE_SHIFT
        upper.start = addr
        lower.end = addr
        lower.record = upper.record = None
        self.vmas.insert(index + 1, upper)
        self.starts.insert(index + 1, addr)

    def cut_out(self, vma: Vma, start: int, end: int) -> Vma:
        """The VMA that [start, end) of `vma` becomes when it is cut there.

        Raises:
            SyscallError: ENOMEM at the mapping limit; a first cut stays.
        """
        index = bisect_left(self.starts, vma.start)
        if vma.start < start:
            self.may_split()
            self.split(index, start)
            index += 1
            vma = self.vmas[index]
        if vma.end > end:
            self.may_split()
            self.split(index, end)
        return vma

    # Unmapping

    def gather(self, start: int, end: int, *, notify: bool = True) -> tuple[int, int]:
        """Cut the VMAs that cross [start, end) at its ends; the index range of those inside it.

        At least one VMA overlaps the range. When it fails, what was cut stays cut, and what was to be reported is
        (mm/vma.c: vms_gather_munmap_vmas()). `notify`: userfaultfds hear of it, as with most system calls.

        Raises:
            SyscallError: ENOMEM at the mapping limit, EPERM at a sealed VMA.
        """
        low = self.find(start)
        first = self.vmas[low]
        if start > first.start:
            refuse_filler(first)
            if end < first.end:
                self.may_split()
            if first.flags & VM_SEALED:
                raise SyscallError(EPERM)  # mseal(2): the first VMA is sealed and would be cut
            self.split(low, start)
            low += 1
        high = low
        while high < len(self.vmas) and self.starts[high] < end:
            vma = self.vmas[high]
            if vma.flags & VM_SEALED:
                # mseal(2): a VMA of the range is sealed; the first stays cut
                raise SyscallError(EPERM)
            if vma.end > end:
                self.split(high, end)
            self.allocate()
            if vma.uffd == EVENT_UFFD and notify:
                self.allocate()
                notify = False
                self.events.append((UFFD_EVENT_UNMAP, vma.uffd, start, end, 0))
            high += 1
        return low, high

    def drop(self, low: int, high: int) -> None:
        """Unmap the VMAs of an index range: pages, counts and all (mm/vma.c: vms_complete_munmap_vmas())."""
        tables: dict[int, set[int]] = {}
        if "STALE_TABLES" in self.environment.config:
            tables = self._tables_of(self.vmas[low:high])
        for vma in self.vmas[low:high]:
            pages = vma.end - vma.start >> PAGE_SHIFT
            if vma.flags & VM_FILLER:
                self.fillers = 0
            self.total_vm -= pages
            if vma.flags & VM_LOCKED:
                self.locked_vm -= pages
                note_unlocked(vma)
            self.clear_ptes(vma.start, vma.end)
        self.remove(low, high)
        for table, mapped in tables.items():
            # mm/memory.c: free_pgtables(): it is freed with the last VMA that it serves
            if not self.intersects(table * PMD_SIZE, (table + 1) * PMD_SIZE):
                self.left_behind.setdefault(table, set()).update(mapped)

    def _tables_of(self, vmas: list[Vma]) -> dict[int, set[int]]:
        """The pages of some VMAs by page table. Of a file on a disk it is not known which are mapped."""
        tables: dict[int, set[int]] = {}
        for vma in vmas:
            for page in self.pages_of(vma.start, vma.end):
                tables.setdefault(page // PTES_PER_TABLE, set()).add(page)
            if vma.file and not vma.anonymous and not vma.file.inode.resident and self.had_ptes:
                for table in range(vma.start // PMD_SIZE, (vma.end - 1) // PMD_SIZE + 1):
                    tables.setdefault(table, set()).add(_SOME)
        return tables

    def unmap(self, start: int, end: int, *, notify: bool = True) -> None:
        """Unmap whatever is in [start, end), page-aligned (mm/vma.c: do_vmi_align_munmap()).

        Raises:
            SyscallError: as `gather`; nothing was unmapped then.
        """
        if self.intersects(start, end):
            self.drop(*self.gather(start, end, notify=notify))

    # Merging

    def merge_new(
        self,
        start: int,
        end: int,
        like: Vma,
        *,
        not_with: Vma | None = None,
        copied_from: Vma | None = None,
        mapped: bool = False,
    ) -> Vma | None:
        """The neighbour that a new range [start, end) with the attributes of `like` becomes part of, if any.

        `like.pgoff` is the page offset at `start`, `like.anon_vma` what a copied range brings along. Nothing is mapped
        in the range (mm/vma.c: vma_merge_new_range()). `not_with` is left out as a neighbour. `mapped`: it is a new
        mapping, which mmap(2) once merged by itself: what is above first, then what is below both. Without the memory
        that a merge takes, there is none.
        """
        if like.flags & VM_SPECIAL:
            return None
        index = bisect_left(self.starts, start)
        below = self.vmas[index - 1] if index else None
        above = self.vmas[index] if index < len(self.vmas) else None
        left = (
            below is not None
            and below is not not_with
            and below.end == start
            and self._merges_after(below, like, like.pgoff, like.anon_vma)
        )
        right = (
            above is not None
            and above is not not_with
            and above.start == end
            and self._merges_before(
                above, like, like.pgoff + (end - start >> PAGE_SHIFT), like.anon_vma
            )
        )
        if left and right and mapped and NEW_RANGE_MERGES_BOTH not in self.changes:
            assert below is not None and above is not None
            left = self._merges_after(below, like, like.pgoff, above.anon_vma)
        if left and right:
            assert below is not None and above is not None
            if below.anon_vma and above.anon_vma and below.anon_vma != above.anon_vma:
                right = False  # each may merge with the new range, but not with one another
            elif not _is_removable(above):
                right = False
        if (left or right) and self.fails():
            return None
        sticky = like.flags & VM_STICKY
        if left:
            assert below is not None
            target = below
            if right:
                assert above is not None
                end = above.end
                sticky |= above.flags & VM_STICKY
                target.anon_vma = target.anon_vma or above.anon_vma
                self.remove(index, index + 1)
            target.end = end
            target.record = None
        elif right:
            assert above is not None
            target = above
            self.set_start(index, start)
        else:
            return None
        target.flags |= sticky
        if copied_from and COPIED_MERGE_KEEPS_ANON_VMA in self.changes:
            target.anon_vma = target.anon_vma or copied_from.anon_vma
        return target

    def extend_below(self, new: Vma) -> bool:
        """The VMA that ends where `new` begins takes it in, if it is like it; whatever is above is left as it is
        (mm/vma.c: vma_merge_new_range() with just_expand)."""
        index = bisect_left(self.starts, new.start)
        below = self.vmas[index - 1] if index else None
        if below is None or below.end != new.start:
            return False
        if not self._merges_after(below, new, new.pgoff, new.anon_vma):
            return False
        self.allocate()
        below.end = new.end
        below.record = None
        return True

    def modify(self, vma: Vma, start: int, end: int, flags: int, uffd: int) -> Vma:
        """Give [start, end) of `vma` other flags or another userfaultfd: merge it with neighbours that then equal it,
        else cut it out (mm/vma.c: vma_modify(), vma_merge_existing_range()).

        The VMA returned covers at least the range and has the new attributes.

        Raises:
            SyscallError: ENOMEM at the mapping limit; a first cut stays. As `allocate`.
        """
        like = vma.copy()
        like.flags = flags
        like.uffd = uffd
        return self.become(vma, start, end, like)

    def become(
        self,
        vma: Vma,
        start: int,
        end: int,
        like: Vma,
        *,
        pgoff: int | None = None,
        or_not: bool = False,
    ) -> Vma:
        """Give [start, end) of `vma` the flags, the userfaultfd, the policy and the label of `like`; as `modify`.
        `pgoff`: what is taken for the page offset of the range, where that is not its own; or_not: without the memory
        that a merge takes, there is none."""
        refuse_filler(vma)
        like.pgoff = vma.page_offset(start) if pgoff is None else pgoff
        merged = self._merge_existing(vma, start, end, like, or_not)
        if merged is None:
            merged = self.cut_out(vma, start, end)
            merged.flags = like.flags
        merged.uffd = like.uffd
        merged.policy = like.policy
        merged.label = like.label
        merged.record = None
        return merged

    def _merge_existing(
        self, vma: Vma, start: int, end: int, like: Vma, or_not: bool
    ) -> Vma | None:
        left_side = start == vma.start
        right_side = end == vma.end
        if like.flags & VM_SPECIAL or not (left_side or right_side):
            return None
        index = bisect_left(self.starts, vma.start)
        below = self.vmas[index - 1] if left_side and index else None
        above = self.vmas[index + 1] if right_side and index + 1 < len(self.vmas) else None
        if below and not (
            below.end == start and self._merges_after(below, like, like.pgoff, vma.anon_vma)
        ):
            below = None
        if above and not (
            above.start == end
            and self._merges_before(
                above, like, like.pgoff + (end - start >> PAGE_SHIFT), vma.anon_vma
            )
        ):
            above = None
        if left_side and right_side and not _is_removable(vma):
            return None
        if (
            below
            and above
            and below.anon_vma
            and above.anon_vma
            and below.anon_vma != above.anon_vma
        ):
            above = None  # each may merge with the range, but not with one another
        if (below or above) and self.fails():
            if or_not:
                return None
            raise SyscallError(ENOMEM)  # mm/vma.c: vma_modify(): a merge without the memory for it
        if below and above:
            below.flags |= above.flags & VM_STICKY
            below.anon_vma = below.anon_vma or above.anon_vma or vma.anon_vma
            below.end = above.end
            self.remove(index, index + 2)
            return self._stick(below, like.flags)
        if below:
            below.anon_vma = below.anon_vma or vma.anon_vma
            below.end = end
            if right_side:
                self.remove(index, index + 1)
            else:
                self.set_start(index, end)
            return self._stick(below, like.flags)
        if above:
            above.anon_vma = above.anon_vma or vma.anon_vma
            self.set_start(index + 1, start)
            if left_side:
                self.remove(index, index + 1)
            else:
                vma.end = start
                vma.record = None
            return self._stick(above, like.flags)
        return None

    def _stick(self, merged: Vma, flags: int) -> Vma:
        """`merged` with the sticky flags of the range that became part of it."""
        merged.flags |= flags & VM_STICKY
        return merged

    def _merges_after(self, below: Vma, like: Vma, pgoff: int, anon_vma: int) -> bool:
        """`below` can grow upwards over a range like `like` at `pgoff` (mm/vma.c: can_vma_merge_after())."""
        return (
            below.pgoff + (below.end - below.start >> PAGE_SHIFT) == pgoff
            and same_attributes(below, like)
            and self.close_allows(below)
            and self._anon_vmas_allow(below, anon_vma)
            and self._anon_pgoffs_allow(below, like)
        )

    def _merges_before(self, above: Vma, like: Vma, end_pgoff: int, anon_vma: int) -> bool:
        """`above` can grow downwards over a range that ends at `end_pgoff` (mm/vma.c: can_vma_merge_before())."""
        return (
            above.pgoff == end_pgoff
            and same_attributes(above, like)
            and self.close_allows(above)
            and self._anon_vmas_allow(above, anon_vma)
            and self._anon_pgoffs_allow(above, like)
        )

    def close_allows(self, target: Vma) -> bool:
        """A VMA of whose end somebody wants to know may grow by a merge, but once could not
        (mm/vma.c: is_mergeable_vma())."""
        return CLOSE_ALLOWS_MERGES in self.changes or _is_removable(target)

    def _anon_pgoffs_allow(self, target: Vma, like: Vma) -> bool:
        """Private mappings of a file have contiguous anonymous page offsets too
        (mm/vma.c: needs_adjacent_anon_pgoff())."""
        if target.moved == like.moved or PRIVATE_FILE_ANON_PGOFF not in self.changes:
            return True
        return like.file is None or like.flags & (VM_SHARED | VM_MAYWRITE) != VM_MAYWRITE

    def _anon_vmas_allow(self, target: Vma, anon_vma: int) -> bool:
        """The faulted state of both sides allows the merge (mm/vma.c: is_mergeable_anon_vma())."""
        if target.anon_vma == anon_vma or not anon_vma:
            return True
        return not target.anon_vma and MERGE_UNFAULTED_TARGET in self.changes

    # Page tables

    def clear_ptes(self, start: int, end: int) -> None:
        """Empty the page table entries of [start, end), markers too."""
        ptes = self.ptes
        for page in self.pages_of(start, end):
            del ptes[page]

    def zap(self, vma: Vma, start: int, end: int) -> None:
        """Take the pages of [start, end) in `vma` away, but no guard (mm/memory.c: zap_pte_range())."""
        for page in self.pages_of(start, end):
            if self.ptes[page] & PTE_KIND != PTE_GUARD:
                self.zap_page(vma, page)

    def zap_page(self, vma: Vma, page: int) -> None:
        """Take a page of `vma` away. Where it was write-protected by userfaultfd, a mapping of a file keeps a marker
        (mm/memory.c: zap_install_uffd_wp_if_needed())."""
        held = self.ptes[page]
        armed = vma.flags & VM_UFFD_WP or not held & PTE_KIND
        if held & PTE_WP and armed and not vma.anonymous:
            self.ptes[page] = PTE_WP
        else:
            del self.ptes[page]

    def move_ptes(self, start: int, end: int, to: int, *, unprotect: bool = False) -> None:
        """Move the page table entries of [start, end) to `to` (mm/mremap.c: move_page_tables()). `unprotect`: what
        userfaultfd write-protects is so no more."""
        if unprotect:
            self.unprotect(start, end)
        ptes = self.ptes
        moved = [(page, ptes.pop(page)) for page in self.pages_of(start, end)]
        shift = to - start >> PAGE_SHIFT
        for page, held in moved:
            ptes[page + shift] = held

    def unprotect(self, start: int, end: int) -> None:
        """Nothing in [start, end) is write-protected by userfaultfd any more (mm/mprotect.c: change_pte_range())."""
        ptes = self.ptes
        for page in self.pages_of(start, end):
            held = ptes[page]
            if held & PTE_KIND:
                ptes[page] = held & ~_PTE_OF_WP
            else:
                del ptes[page]

    def pages_of(self, start: int, end: int) -> list[int]:
        """The page numbers of [start, end) that have an entry."""
        ptes = self.ptes
        if not ptes:
            return []
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        if last - first < len(ptes):
            return [page for page in range(first, last) if page in ptes]
        return [page for page in ptes if first <= page < last]


def same_attributes(a: Vma, b: Vma) -> bool:
    """What two VMAs must have alike to merge, faults and offsets apart (mm/vma.c: is_mergeable_vma())."""
    return (
        not (a.flags ^ b.flags) & ~VM_IGNORE_MERGE
        and a.file is b.file
        and a.uffd == b.uffd
        and a.policy == b.policy
        and a.label == b.label
    )


def note_unlocked(vma: Vma) -> None:
    """A locked mapping of shared memory is locked no more: how often its pages are locked is counted only roughly
    (mm/mlock.c: __munlock_folio())."""
    if vma.file:
        vma.file.inode.unlocked = True


def refuse_filler(vma: Vma) -> None:
    """Mappings of the filler are not kept one by one.

    Raises:
        Unmodelled: it is the filler.
    """
    if vma.flags & VM_FILLER:
        raise Unmodelled("a call that changes mappings of the filler")


def supports_mlock(vma: Vma) -> bool:
    """Memory of its kind can be locked (mm/internal.h: vma_supports_mlock())."""
    return not vma.flags & (VM_SPECIAL | VM_DROPPABLE | VM_HUGETLB)


def is_whole(vma: Vma) -> bool:
    """It cannot be cut (vm_ops->may_split)."""
    return vma.file is not None and vma.file.kind is not None and vma.file.kind.whole


def _is_removable(vma: Vma) -> bool:
    """A merge may remove it: nobody wants to know of its end (mm/vma.c: can_merge_remove_vma())."""
    return vma.file is None or vma.file.kind is None or not vma.file.kind.has_close


def is_data(flags: int) -> bool:
    """Such memory counts as data (mm/internal.h: is_data_mapping())."""
    return flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE


def is_accountable(flags: int) -> bool:
    """A new private mapping that commit accounting charges (mm/vma.c: accountable_mapping())."""
    return flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE


def guard_start(vma: Vma, gap: int) -> int:
    """Where the space that `vma` keeps free below itself begins (include/linux/mm.h: vm_start_gap())."""
    return max(0, vma.start - gap) if vma.flags & VM_GROWSDOWN else vma.start
