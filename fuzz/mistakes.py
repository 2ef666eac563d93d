"""Planted mistakes: small wrong versions of the model, each of which fuzzing must notice.

A mistake replaces one piece of source text, which must occur exactly once, by another. `rule` says in words what
the model then gets wrong. None is equivalent to the model on the kernels it is verified on: what cannot show itself
there to an ordinary user has no mistake here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.sources import substitute


@dataclass(frozen=True, slots=True)
class Mistake:
    """`before` becomes `after` in `file`, a path such as `model/mremap.py`."""

    name: str
    file: str
    before: str
    after: str
    rule: str


def _in(file: str, *rows: tuple[str, str, str, str]) -> tuple[Mistake, ...]:
    """Mistakes in one file: (name, before, after, rule)."""
    return tuple(Mistake(name, file, before, after, rule) for name, before, after, rule in rows)


MISTAKES: Final[tuple[Mistake, ...]] = (
    *_in(
        "model/hugetlb.py",
        (
            "huge-move-not-rounded",
            "old_len, new_len = round_up(old_len, size), round_up(new_len, size)",
            "old_len, new_len = old_len, max(new_len, size)",
            "a move takes whole huge pages",
        ),
        (
            "huge-target-anywhere",
            "if (addr | new_addr) & size - 1:",
            "if addr & size - 1:",
            "the new address of huge pages is at a huge page, even where it means nothing",
        ),
        (
            "huge-duplicates",
            "    if new_len > old_len:\n        raise SyscallError(EINVAL)",
            "    if new_len > old_len and old_len:\n        raise SyscallError(EINVAL)",
            "huge pages are not duplicated",
        ),
        (
            "huge-dontneed-rounds-up",
            "return start, max(start, end & -size)",
            "return start, end + size - 1 & -size",
            "MADV_DONTNEED of less than a huge page does nothing",
        ),
        (
            "huge-mapping-never-extends",
            "    if vma.flags & VM_WRITE:\n",
            "    if vma.flags & VM_DONTEXPAND == 0:\n",
            "a writable mapping makes the object longer",
        ),
        (
            "huge-copy-is-empty",
            "_fill(space, vma, page, PTE_ANON, _words(inode, index))",
            "_fill(space, vma, page, PTE_ANON, {})",
            "a private copy of a huge page has what the object has",
        ),
        (
            "huge-hole-in-whole-pages",
            "        inode.words.pop(page, None)\n",
            "        if first < last:\n            inode.words.pop(page, None)\n",
            "a hole in a part of a huge page zeroes that",
        ),
        (
            "huge-hole-spares-copies",
            "for _, low, high in _mapped(space, inode, first, last):\n",
            "for vma, low, high in _mapped(space, inode, first, last):\n"
            "        if not vma.flags & VM_SHARED:\n            continue\n",
            "a hole in the object takes private copies too",
        ),
    ),
    *_in(
        "model/thp.py",
        (
            "thp-unadvised",
            "return always or vma.flags & VM_HUGEPAGE != 0",
            "return True",
            "memory that is not advised to has no huge pages",
        ),
        (
            "thp-beyond-its-mapping",
            "return vma.start <= block <= vma.end - PMD_SIZE",
            "return vma.start <= block",
            "a huge page lies within its mapping",
        ),
    ),
    *_in(
        "model/placement.py",
        (
            "huge-hint-rounded-down",
            "hint + size - 1 & WORD & -size, length, flags, size - PAGE",
            "hint & -size, length, flags, size - PAGE",
            "a hint for huge pages is rounded up",
        ),
    ),
    *_in(
        "model/mremap.py",
        (
            "huge-ineligible",
            "if file is None or vma.is_shmem or file.inode.huge:",
            "if file and file.inode.huge:\n        return False\n    if file is None or vma.is_shmem:",
            "hugetlb moves as one of several",
        ),
    ),
    *_in(
        "model/mremap.py",
        # Moves of several VMAs.
        (
            "gap-dropped",
            "target += addr - last_end",
            "pass",
            "the gaps between moved VMAs are kept",
        ),
        (
            "gap-of-one-page-at-most",
            "target += addr - last_end",
            "target += min(addr - last_end, PAGE)",
            "a gap between moved VMAs keeps its length",
        ),
        (
            "gap-from-start-of-last",
            "last_end = vma.end",
            "last_end = addr",
            "a gap begins where the VMA before it ends",
        ),
        (
            "leading-gap-accepted",
            "if vma.start > start:",
            "start = max(start, vma.start)\n            if vma.start > start:",
            "a range to be moved that begins with a gap is EFAULT",
        ),
        (
            "ineligible-first-moves",
            "if vma.end < end and MULTI_VMA_FIRST_ABORTS in space.changes:",
            "if vma.end < end and MULTI_VMA_FIRST_ABORTS not in space.changes:",
            "an ineligible first VMA of several does not move",
        ),
        (
            "ineligible-alone-refused",
            "if vma.end < end and MULTI_VMA_FIRST_ABORTS",
            "if vma.end <= end and MULTI_VMA_FIRST_ABORTS",
            "an ineligible VMA moves if it is the only one",
        ),
        (
            "ineligible-last-moves",
            "if result is not None:",
            "if result is not None and vma.end < end:",
            "an ineligible VMA does not move after others, not even as the last",
        ),
        (
            "eligibility-checked-first",
            "result = last_end = None",
            "if not all(multi_allowed(space, vma) for vma in space.between(start, end)[1:]):\n"
            "        raise SyscallError(EFAULT)\n"
            "    result = last_end = None",
            "VMAs before an ineligible one have moved when it is met",
        ),
        (
            "uffd-armed-eligible",
            "if vma.flags & VM_UFFD:",
            "if vma.flags & VM_PFNMAP:",
            "a VMA with userfaultfd is not one of several",
        ),
        (
            "devzero-eligible",
            "return not file.own_area",
            "return not file.own_area or file.zero",
            "a private mapping of /dev/zero is not one of several",
        ),
        (
            "ramfs-eligible",
            "return not file.own_area",
            "return not file.zero",
            "a file whose file system places its mappings is not one of several",
        ),
        (
            "shmem-ineligible",
            "if file is None or vma.is_shmem or file.inode.huge:",
            "if vma.is_shmem:\n        return False\n    if file is None or file.inode.huge:",
            "shared memory moves as one of several",
        ),
        (
            "thp-area-ineligible",
            "return MULTI_VMA_THP_AREA in space.changes",
            "return MULTI_VMA_THP_AREA not in space.changes",
            "a file that is placed for huge pages moves as one of several",
        ),
        (
            "first-vma-moves-whole",
            "            addr = start\n",
            "            addr = vma.start\n",
            "of the first VMA only what is in the range moves",
        ),
        (
            "last-vma-moves-whole",
            "size = min(end, vma.end) - addr",
            "size = vma.end - addr",
            "of the last VMA only what is in the range moves",
        ),
        (
            "target-unmapped-as-a-whole",
            "result = last_end = None",
            "do_munmap(space, new_addr, length)\n    result = last_end = None",
            "what lies in the gaps of the target stays mapped",
        ),
        (
            "result-of-last-vma",
            "result = moved_to if result is None else result",
            "result = moved_to",
            "a move returns where the first VMA went",
        ),
        # Parameters and their order.
        (
            "adjacent-counts-as-overlap",
            "(addr + old_len & WORD) > new_addr",
            "(addr + old_len & WORD) >= new_addr",
            "a target right behind the source does not overlap it",
        ),
        (
            "overlap-by-old-length",
            "(new_addr + new_len & WORD) > addr",
            "(new_addr + old_len & WORD) > addr",
            "the target is as long as the new length",
        ),
        (
            "lookup-before-target",
            "flags, changes = call.flags, space.changes",
            "flags, changes = call.flags, space.changes - {PARAMS_BEFORE_LOOKUP}",
            "a bad target is EINVAL even where nothing is mapped",
        ),
        (
            "dontunmap-shrinks",
            "if old_len != new_len:",
            "if old_len < new_len:",
            "MREMAP_DONTUNMAP does not resize",
        ),
        (
            "dontunmap-without-maymove",
            "if flags & _NEW_ADDR and not flags & MREMAP_MAYMOVE:",
            "if flags & MREMAP_FIXED and not flags & MREMAP_MAYMOVE:",
            "MREMAP_DONTUNMAP needs MREMAP_MAYMOVE",
        ),
        (
            "length-limit-at-task-size",
            "if new_len > space.environment.task_size and",
            "if new_len >= space.environment.task_size and",
            "a length of TASK_SIZE is no parameter error",
        ),
        (
            "zero-length-of-private",
            "if not old_len and not vma.flags & (VM_SHARED | VM_MAYSHARE):",
            "if not old_len and vma.flags & VM_PFNMAP:",
            "an old length of 0 duplicates shared mappings only",
        ),
        (
            "zero-length-of-read-only-share",
            "not vma.flags & (VM_SHARED | VM_MAYSHARE)",
            "not vma.flags & VM_SHARED",
            "a shared mapping of a file opened read-only can be duplicated",
        ),
        (
            "shrink-within-one-vma",
            "if old_len >= new_len and not flags & _NEW_ADDR:",
            "if old_len == new_len and not flags & _NEW_ADDR:",
            "shrinking unmaps whatever the old range covers",
        ),
        (
            "growth-ignores-memlock",
            "not space.may_lock(delta)",
            "not space.may_lock(0)",
            "growing locked memory beyond RLIMIT_MEMLOCK is EAGAIN",
        ),
        (
            "growth-ignores-address-limit",
            "not space.may_expand(vma.flags, delta >> PAGE_SHIFT)",
            "not space.may_expand(vma.flags, 0)",
            "growing beyond RLIMIT_AS is ENOMEM",
        ),
        # One VMA.
        (
            "fixed-shrink-tail-a-page-late",
            "do_munmap(space, addr + new_len, delta",
            "do_munmap(space, addr + new_len + PAGE, delta",
            "a move that shrinks unmaps the tail",
        ),
        (
            "dontunmap-ignores-limit",
            "space.may_expand(vma.flags, old_len >> PAGE_SHIFT)",
            "space.may_expand(vma.flags, 0)",
            "MREMAP_DONTUNMAP beyond RLIMIT_AS is ENOMEM",
        ),
        (
            "limit-checked-before-target-unmapped",
            "if flags & MREMAP_FIXED:",
            "source = space.lookup(addr)\n"
            "    pages = old_len >> PAGE_SHIFT if flags & MREMAP_DONTUNMAP else 0\n"
            "    if source and not space.may_expand(source.flags, pages):\n"
            "        raise SyscallError(ENOMEM)\n"
            "    if flags & MREMAP_FIXED:",
            "a move that fails at RLIMIT_AS has unmapped its target",
        ),
        (
            "placed-by-pgoff-of-vma",
            "new_addr, new_len, vma.page_offset(addr), map_flags",
            "new_addr, new_len, vma.pgoff, map_flags",
            "alignment for huge pages goes by the page offset of what is moved",
        ),
        (
            "grows-from-inside",
            "if addr + old_len == vma.end and _can_grow",
            "if addr + old_len <= vma.end and _can_grow",
            "only a range that ends its VMA grows in place",
        ),
        (
            "growth-ignores-next",
            "if end > WORD or space.intersects(vma.end, end):",
            "if end > WORD:",
            "a VMA grows in place only into a hole",
        ),
        (
            "growth-never-reaches-next",
            "space.merge_new(vma.end, vma.end + delta, like)",
            "space.merge_new(\n"
            "        vma.end, vma.end + delta, like, not_with=space.lookup(vma.end + delta)\n"
            "    )",
            "a VMA that grows merges with the next one",
        ),
        (
            "locked-growth-not-populated",
            "if locked and old_len < new_len:",
            "if locked and old_len > new_len:",
            "locked memory that grows is faulted in",
        ),
        (
            "growth-moves-to-hint",
            "_new_address(space, vma, addr, new_len, 0, 0)",
            "_new_address(space, vma, addr, new_len, 0, vma.end)",
            "a VMA that cannot grow in place moves without a hint",
        ),
        (
            "unfaulted-keeps-pgoff",
            "like.pgoff = new_addr >> PAGE_SHIFT if unfaulted else vma.page_offset(addr)",
            "like.pgoff = vma.page_offset(addr)",
            "an unfaulted anonymous VMA gets the page offset of its new place",
        ),
        (
            "faulted-loses-pgoff",
            "unfaulted = vma.anonymous and not vma.anon_vma",
            "unfaulted = vma.anonymous",
            "a faulted VMA keeps its page offset when it moves",
        ),
        (
            "devzero-keeps-pgoff",
            "unfaulted = vma.anonymous and not vma.anon_vma",
            "unfaulted = vma.file is None and not vma.anon_vma",
            "unfaulted /dev/zero gets the page offset of its new place",
        ),
        (
            "move-forgets-anon-vma",
            "like.start, like.end, like.record = new_addr, new_addr + new_len, None",
            "like.start, like.end, like.record, like.anon_vma = new_addr, new_addr + new_len, None, 0",
            "a faulted VMA is faulted where it has moved",
        ),
        (
            "move-keeps-uffd",
            "if new.uffd:",
            "if new.uffd and not new.flags & VM_UFFD:",
            "a VMA loses its userfaultfd when it moves",
        ),
        (
            "page-tables-stay",
            "space.move_ptes(addr, addr + old_len, new_addr, unprotect=forgets)",
            "space.clear_ptes(addr, addr + old_len)",
            "pages and guard regions move with their VMA",
        ),
        (
            "dontunmap-keeps-lock",
            "vma.flags &= ~VM_LOCKED_MASK",
            "pass",
            "the source that MREMAP_DONTUNMAP leaves is not locked",
        ),
        (
            "dontunmap-keeps-anon-vma",
            "vma.anon_vma = vma.moved = 0",
            "vma.moved = 0",
            "the emptied source of MREMAP_DONTUNMAP is unfaulted",
        ),
        (
            "dontunmap-unfaults-part",
            "if new is not vma and (vma.start, vma.end) == (start, end):",
            "if new is not vma:",
            "MREMAP_DONTUNMAP of a part leaves the source faulted",
        ),
    ),
    *_in(
        "model/flags.py",
        # Flags that two merging VMAs must have alike.
        *(
            (
                f"merge-ignores-{name}",
                "VM_IGNORE_MERGE: Final = VM_SOFTDIRTY",
                f"VM_IGNORE_MERGE: Final = VM_SOFTDIRTY | {flags}",
                f"VMAs that differ in {flags} do not merge",
            )
            for name, flags in (
                ("write", "VM_WRITE"),
                ("account", "VM_ACCOUNT"),
                ("noreserve", "VM_NORESERVE"),
                ("locked", "VM_LOCKED"),
                ("dontcopy", "VM_DONTCOPY"),
                ("dontdump", "VM_DONTDUMP"),
                ("wipeonfork", "VM_WIPEONFORK"),
                ("read-ahead", "VM_SEQ_READ | VM_RAND_READ"),
                ("hugepage", "VM_HUGEPAGE"),
                ("nohugepage", "VM_NOHUGEPAGE"),
                ("mergeable", "VM_MERGEABLE"),
                ("growsdown", "VM_GROWSDOWN"),
                ("sync", "VM_SYNC"),
                ("uffd-modes", "VM_UFFD"),
            )
        ),
    ),
    *_in(
        "model/space.py",
        # Merging.
        (
            "merge-by-inode",
            "a.file is b.file",
            "(a.file and a.file.inode) is (b.file and b.file.inode)",
            "VMAs merge only if they share the open file",
        ),
        (
            "merge-ignores-uffd",
            "and a.uffd == b.uffd",
            "and bool(a.uffd) == bool(b.uffd)",
            "VMAs of different userfaultfds do not merge",
        ),
        (
            "merge-upwards-ignores-pgoff",
            "below.pgoff + (below.end - below.start >> PAGE_SHIFT) == pgoff",
            "(like.file is None or below.page_offset(below.end) == pgoff)",
            "anonymous VMAs merge only if their page offsets are contiguous",
        ),
        (
            "merge-downwards-ignores-pgoff",
            "above.pgoff == end_pgoff",
            "(like.file is None or above.pgoff == end_pgoff)",
            "anonymous VMAs merge only if their page offsets are contiguous",
        ),
        (
            "faulted-takes-no-unfaulted",
            "if target.anon_vma == anon_vma or not anon_vma:",
            "if target.anon_vma == anon_vma:",
            "a faulted VMA merges with an unfaulted range",
        ),
        (
            "unfaulted-takes-no-faulted",
            "return not target.anon_vma and MERGE_UNFAULTED_TARGET in self.changes",
            "return False",
            "an unfaulted VMA merges with a faulted range",
        ),
        (
            "anon-vmas-merge",
            "return not target.anon_vma and MERGE_UNFAULTED_TARGET in self.changes",
            "return True",
            "VMAs with different anon_vmas do not merge",
        ),
        (
            "between-two-anon-vmas-joins-right",
            "right = False  # each",
            "left = False  # each",
            "a new range between two anon_vmas merges with the VMA below",
        ),
        (
            "between-two-anon-vmas-joins-none",
            "right = False  # each",
            "left = right = False  # each",
            "a new range between two anon_vmas merges with one of them",
        ),
        (
            "changed-between-two-anon-vmas-joins-none",
            "            above = None  # each may",
            "            below = above = None  # each may",
            "a changed range between two anon_vmas merges with the VMA below",
        ),
        (
            "new-range-forgets-anon-vma-above",
            "target.anon_vma = target.anon_vma or above.anon_vma",
            "pass",
            "a merge of three keeps the anon_vma of the one above",
        ),
        (
            "copied-merge-forgets-anon-vma",
            "target.anon_vma = target.anon_vma or copied_from.anon_vma",
            "pass",
            "an unfaulted VMA that a faulted one moves into is faulted",
        ),
        (
            "changed-range-forgets-own-anon-vma",
            "below.anon_vma = below.anon_vma or above.anon_vma or vma.anon_vma",
            "below.anon_vma = below.anon_vma or above.anon_vma",
            "a merge of three keeps the anon_vma of the one in the middle",
        ),
        (
            "upward-merge-forgets-anon-vma",
            "below.anon_vma = below.anon_vma or vma.anon_vma",
            "pass",
            "a VMA that takes a faulted range from above is faulted",
        ),
        (
            "downward-merge-forgets-anon-vma",
            "above.anon_vma = above.anon_vma or vma.anon_vma",
            "pass",
            "a VMA that takes a faulted range from below is faulted",
        ),
        (
            "changed-range-never-joins-above",
            "above = self.vmas[index + 1] if right_side",
            "above = self.vmas[index + 1] if right_side and not below",
            "a changed range merges with the VMA above too",
        ),
        # Cutting and unmapping.
        (
            "split-keeps-pgoff",
            "upper.pgoff += addr - lower.start >> PAGE_SHIFT",
            "pass",
            "the page offset of the upper part is that of its start",
        ),
        (
            "split-keeps-anonymous-pgoff",
            "upper.pgoff += addr - lower.start >> PAGE_SHIFT",
            "upper.pgoff += (addr - lower.start >> PAGE_SHIFT) * (lower.file is not None)",
            "an anonymous VMA's upper part has a page offset of its own",
        ),
        (
            "split-unfaults-upper",
            "upper.start = addr",
            "upper.start, upper.anon_vma = addr, 0",
            "both parts of a faulted VMA are faulted",
        ),
        (
            "moved-start-keeps-pgoff",
            "vma.pgoff += start - vma.start >> PAGE_SHIFT",
            "pass",
            "a VMA's page offset follows its start",
        ),
        (
            "last-vma-loses-a-page",
            "if vma.end > end:\n                self.split(high, end)",
            "if vma.end > end + 4096:\n                self.split(high, end)",
            "of the last VMA of a range, all that lies behind the range stays mapped",
        ),
        (
            "unmapped-guards-remembered",
            "self.clear_ptes(vma.start, vma.end)",
            "self.zap(vma, vma.start, vma.end)",
            "guard regions go with their VMA",
        ),
        (
            "unmapped-memory-stays-locked",
            "self.locked_vm -= pages",
            "pass",
            "unmapping locked memory gives back what RLIMIT_MEMLOCK counts",
        ),
        # Limits, accounting and guard gaps.
        (
            "limit-reached-is-exceeded",
            "if self.total_vm + pages > self.limits[RLIMIT_AS]",
            "if self.total_vm + pages >= self.limits[RLIMIT_AS]",
            "all of RLIMIT_AS may be used",
        ),
        (
            "shared-memory-accounted",
            "return flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE",
            "return flags & (VM_NORESERVE | VM_WRITE) == VM_WRITE",
            "shared mappings are not VM_ACCOUNT",
        ),
        (
            "read-only-accounted",
            "return flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE",
            "return not flags & (VM_NORESERVE | VM_SHARED)",
            "a new mapping is VM_ACCOUNT only if it is writable",
        ),
        (
            "guard-gap-a-page-short",
            "max(0, vma.start - gap)",
            "max(0, vma.start - gap + 4096)",
            "a stack keeps its whole guard gap",
        ),
        (
            "guard-gap-counts-as-mapped",
            "return index < len(self.vmas) and self.starts[index] < end",
            "gap = self.environment.stack_guard_gap\n"
            "        return index < len(self.vmas) and guard_start(self.vmas[index], gap) < end",
            "growth in place and fixed mappings may use a guard gap",
        ),
    ),
    *_in(
        "model/mmap.py",
        (
            "offset-of-anonymous-unchecked",
            "if offset & PAGE - 1:",
            "if offset & PAGE - 1 and not flags & MAP_ANONYMOUS:",
            "an unaligned offset is EINVAL for anonymous memory too",
        ),
        (
            "length-before-descriptor",
            "    file = None\n",
            "    if not call.length:\n        raise SyscallError(EINVAL)\n    file = None\n",
            "a bad descriptor is noticed before a length of 0",
        ),
        (
            "descriptor-of-anonymous-checked",
            "if not flags & MAP_ANONYMOUS:",
            "if not flags & MAP_ANONYMOUS or call.fd in space.files:",
            "anonymous memory ignores its descriptor",
        ),
        (
            "file-checked-before-placement",
            "addr = get_unmapped_area(",
            "if file:\n"
            "        _file_flags(space, file, prot, flags, vm_flags, pgoff, length)\n"
            "    addr = get_unmapped_area(",
            "no room, or a bad fixed address, is noticed before what is wrong with the file",
        ),
        (
            "hint-rounded-up",
            "hint &= -PAGE",
            "hint = hint + PAGE - 1 & WORD & -PAGE",
            "a hint is rounded down",
        ),
        (
            "low-hint-not-raised",
            "return lowest + PAGE - 1 & -PAGE if hint and hint < lowest else hint",
            "return hint",
            "a hint below vm.mmap_min_addr is raised to it",
        ),
        (
            "noreplace-is-a-hint",
            "        flags |= MAP_FIXED\n",
            "        pass\n",
            "MAP_FIXED_NOREPLACE fails where something is mapped",
        ),
        (
            "noreplace-checks-first-page",
            "if flags & MAP_FIXED_NOREPLACE and space.intersects(addr, addr + length):",
            "if flags & MAP_FIXED_NOREPLACE and space.lookup(addr):",
            "MAP_FIXED_NOREPLACE looks at the whole range",
        ),
        (
            "noreserve-ignored",
            "if flags & MAP_NORESERVE and",
            "if flags & MAP_NORESERVE and flags & MAP_NONBLOCK and",
            "MAP_NORESERVE sets VM_NORESERVE and not VM_ACCOUNT",
        ),
        (
            "nonblock-populates",
            "flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE",
            "flags & MAP_POPULATE",
            "MAP_NONBLOCK keeps MAP_POPULATE from faulting pages in",
        ),
        (
            "locked-not-populated",
            "if vm_flags & VM_LOCKED or flags & (MAP_POPULATE",
            "if flags & (MAP_POPULATE",
            "MAP_LOCKED faults pages in",
        ),
        (
            "stack-allows-huge-pages",
            'if flags & MAP_STACK and "THP" in config and',
            'if flags & MAP_STACK and "THP" not in config and',
            "MAP_STACK sets VM_NOHUGEPAGE",
        ),
        (
            "lock-limit-unchecked",
            "not space.may_lock(length)",
            "not space.may_lock(0)",
            "MAP_LOCKED beyond RLIMIT_MEMLOCK is EAGAIN",
        ),
        (
            "file-end-a-page-early",
            "pgoff > limit - length >> PAGE_SHIFT",
            "pgoff >= limit - length >> PAGE_SHIFT",
            "a file may be mapped up to its last possible byte",
        ),
        (
            "unknown-flags-of-shared-refused",
            "            flags &= legacy\n",
            "            pass\n",
            "MAP_SHARED ignores unknown flags",
        ),
        (
            "shared-validate-ignores-unknown",
            "if flags & ~known & ~MAP_TYPE:",
            "if flags & ~known & MAP_SYNC:",
            "MAP_SHARED_VALIDATE refuses unknown flags",
        ),
        (
            "shared-read-only-file-writable",
            "vm_flags &= ~(VM_MAYWRITE | VM_SHARED)",
            "vm_flags &= ~VM_SHARED",
            "a shared mapping of a file opened read-only never becomes writable",
        ),
        (
            "file-grows-down",
            "if vm_flags & VM_GROWSDOWN:\n        raise",
            "if vm_flags & VM_GROWSDOWN and vm_flags & VM_SHARED:\n        raise",
            "MAP_GROWSDOWN of a file is EINVAL",
        ),
        (
            "shared-anonymous-grows-down",
            "if vm_flags & VM_GROWSDOWN:\n            raise",
            "if vm_flags & VM_GROWSDOWN and vm_flags & VM_EXEC:\n            raise",
            "MAP_GROWSDOWN of shared anonymous memory is EINVAL",
        ),
        (
            "droppable-may-be-locked",
            "if flags & MAP_LOCKED or vm_flags & VM_GROWSDOWN:",
            "if vm_flags & VM_GROWSDOWN:",
            "MAP_DROPPABLE with MAP_LOCKED is EINVAL",
        ),
        (
            "droppable-not-wiped",
            "VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK",
            "VM_DROPPABLE | VM_NORESERVE",
            "MAP_DROPPABLE is VM_WIPEONFORK from the start",
        ),
        (
            "droppable-dumped",
            "VM_WIPEONFORK | VM_DONTDUMP",
            "VM_WIPEONFORK",
            "MAP_DROPPABLE is VM_DONTDUMP from the start",
        ),
        (
            "shared-anonymous-keeps-offset",
            "pgoff = 0 if vm_flags & VM_SHARED else addr >> PAGE_SHIFT",
            "pgoff = pgoff if vm_flags & VM_SHARED else addr >> PAGE_SHIFT",
            "shared anonymous memory begins at page offset 0",
        ),
        (
            "anonymous-keeps-offset",
            "pgoff = 0 if vm_flags & VM_SHARED else addr >> PAGE_SHIFT",
            "pgoff = 0 if vm_flags & VM_SHARED else pgoff or addr >> PAGE_SHIFT",
            "the page offset of private anonymous memory is that of its address",
        ),
        (
            "limit-ignores-replaced",
            "    if not space.may_expand(vm_flags, end - addr - replaced >> PAGE_SHIFT):\n"
            "        raise SyscallError(ENOMEM)  # mmap(2): RLIMIT_AS or RLIMIT_DATA; what",
            "    if not space.may_expand(vm_flags, end - addr >> PAGE_SHIFT):\n"
            "        raise SyscallError(ENOMEM)  # mmap(2): RLIMIT_AS or RLIMIT_DATA; what",
            "what is replaced does not count towards RLIMIT_AS",
        ),
        (
            "limit-checked-before-cutting",
            "low, high = space.gather(addr, end, notify=notify)",
            "inside = [min(v.end, end) - max(v.start, addr) for v in space.between(addr, end)]\n"
            "        if not space.may_expand(vm_flags, end - addr - sum(inside) >> PAGE_SHIFT):\n"
            "            raise SyscallError(ENOMEM)\n"
            "        low, high = space.gather(addr, end, notify=notify)",
            "an mmap that fails at RLIMIT_AS has cut VMAs",
        ),
        (
            "sync-accepted",
            "if vm_flags & VM_SYNC and file.sync:",
            "if vm_flags & VM_SYNC and file.zero:",
            "MAP_SYNC of a file that is not DAX is EOPNOTSUPP",
        ),
        (
            "devzero-shared-is-anonymous",
            "        anonymous = False\n",
            "        anonymous = True\n",
            "a shared mapping of /dev/zero is shared memory",
        ),
    ),
    *_in(
        "model/placement.py",
        (
            "topdown-a-page-low",
            "high = environment.geometry.top",
            "high = environment.geometry.top - PAGE",
            "the search begins at mmap_base",
        ),
        (
            "topdown-ignores-guard-gap",
            "guard = guard_start(vmas[index], space.environment.stack_guard_gap)",
            "guard = gap_end",
            "a mapping is not placed in a stack's guard gap",
        ),
        (
            "hint-ignores-guard-gap",
            "return addr + length <= guard_start(space.vmas[index], space.environment.stack_guard_gap)",
            "return addr + length <= space.vmas[index].start",
            "a hint within a stack's guard gap is not taken",
        ),
        (
            "hint-touching-next-refused",
            "return addr + length <= guard_start(",
            "return addr + length < guard_start(",
            "a hint is taken if the mapping ends where the next begins",
        ),
        (
            "thp-alignment-of-any-length",
            "return not hint and length % PMD_SIZE == 0 and",
            "return not hint and length >= PMD_SIZE and",
            "anonymous memory is aligned only if it is a multiple of 2 MiB",
        ),
        (
            "thp-alignment-despite-hint",
            "return not hint and length",
            "return length",
            "anonymous memory with a hint is not aligned",
        ),
        (
            "thp-alignment-of-shared",
            "if not flags & MAP_SHARED and _is_aligned(",
            "if _is_aligned(",
            "shared anonymous memory is not aligned",
        ),
        (
            "thp-alignment-not-for-files",
            "if file.thp_area or (file.zero",
            "if (file.zero",
            "files of some file systems are aligned for huge pages",
        ),
        (
            "thp-alignment-not-for-devzero",
            "if file.thp_area or (file.zero and DEVZERO_THP_AREA in space.changes)",
            "if file.thp_area",
            "private /dev/zero is aligned for huge pages",
        ),
        (
            "thp-alignment-ignores-offset",
            "rest = off - found & PMD_SIZE - 1",
            "rest = -found & PMD_SIZE - 1",
            "alignment counts the file offset in",
        ),
        (
            "thp-exact-fit-kept-low",
            "if not rest and THP_AREA_TOPDOWN in space.changes:",
            "if rest and THP_AREA_TOPDOWN not in space.changes:",
            "an aligned place at the bottom of the padding is raised to its top",
        ),
        (
            "map-32bit-starts-low",
            "begin, end = 0x4000_0000, 0x8000_0000",
            "begin, end = 0x1_0000, 0x8000_0000",
            "MAP_32BIT is placed above 1 GiB",
        ),
        (
            "map-32bit-as-topdown",
            "if flags & MAP_32BIT:\n        return",
            "if flags & MAP_32BIT and length > 0x8000_0000:\n        return",
            "MAP_32BIT is placed in the low 2 GiB",
        ),
        (
            "null-page-allowed",
            "if addr < environment.dac_mmap_min_addr and",
            "if 0 < addr < environment.dac_mmap_min_addr and",
            "a fixed mapping below vm.mmap_min_addr is EPERM",
        ),
    ),
    *_in(
        "model/munmap.py",
        (
            "munmap-rounds-length-down",
            "end = start + (length + PAGE - 1 & WORD & -PAGE)",
            "end = start + (length & -PAGE)",
            "a length is rounded up to whole pages",
        ),
        (
            "munmap-of-nothing-fails",
            "space.unmap(start, end)",
            "if not space.intersects(start, end):\n"
            "        raise SyscallError(EINVAL)\n"
            "    space.unmap(start, end)",
            "munmap of a hole succeeds",
        ),
    ),
    *_in(
        "model/mprotect.py",
        (
            "prot-before-length",
            "    if not call.length:\n",
            "    if prot & ~_KNOWN:\n        raise SyscallError(EINVAL)\n    if not call.length:\n",
            "an empty range succeeds with any protection",
        ),
        (
            "holes-checked-first",
            "    while start < end:\n",
            "    inside = [min(v.end, end) - max(v.start, start) for v in space.between(start, end)]\n"
            "    if sum(inside) < end - start:\n"
            "        raise SyscallError(ENOMEM)\n"
            "    while start < end:\n",
            "what lies before a hole is protected although the call fails",
        ),
        (
            "growsdown-from-address",
            "start = vma.start\n        if not",
            "if not",
            "PROT_GROWSDOWN protects from the start of the mapping",
        ),
        (
            "growsdown-of-any-mapping",
            "if not vma.flags & VM_GROWSDOWN:",
            "if vma.flags & VM_SHARED:",
            "PROT_GROWSDOWN needs a mapping that grows down",
        ),
        (
            "may-write-ignored",
            "if flags & ~(flags >> 4) & VM_ACCESS:",
            "if flags & ~(flags >> 4) & VM_ACCESS & ~VM_WRITE:",
            "a shared mapping of a file opened read-only does not become writable",
        ),
        (
            "noop-protection-merges",
            "if flags == old:",
            "if flags == old and not vma.anonymous:",
            "a protection that is there already changes and merges nothing",
        ),
        (
            "made-writable-not-accounted",
            "            flags |= VM_ACCOUNT\n",
            "            pass\n",
            "private memory that becomes writable becomes VM_ACCOUNT",
        ),
        (
            "made-writable-shared-accounted",
            "VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE",
            "VM_WRITE | VM_HUGETLB | VM_NORESERVE",
            "shared memory that becomes writable does not become VM_ACCOUNT",
        ),
        (
            "made-writable-noreserve-accounted",
            "VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE",
            "VM_WRITE | VM_HUGETLB | VM_SHARED",
            "MAP_NORESERVE memory that becomes writable does not become VM_ACCOUNT",
        ),
        (
            "made-read-only-stays-accounted",
            "        flags &= ~VM_ACCOUNT\n",
            "        pass\n",
            "unfaulted memory that becomes read-only is VM_ACCOUNT no more",
        ),
        (
            "made-read-only-faulted-unaccounted",
            "vma.anonymous and not vma.anon_vma",
            "vma.anonymous",
            "faulted memory that becomes read-only stays VM_ACCOUNT",
        ),
        (
            "made-read-only-file-unaccounted",
            "vma.anonymous and not vma.anon_vma",
            "not vma.anon_vma",
            "a private file mapping that becomes read-only stays VM_ACCOUNT",
        ),
        (
            "locked-made-writable-not-populated",
            "old & (VM_LOCKED | VM_WRITE | VM_SHARED) == VM_LOCKED",
            "old & (VM_LOCKED | VM_WRITE | VM_SHARED) == VM_WRITE",
            "locked memory that becomes writable is faulted in",
        ),
    ),
    *_in(
        "model/madvise.py",
        (
            "advice-not-truncated",
            "advice = signed32(call.advice)",
            "advice = call.advice",
            "an advice is an int",
        ),
        (
            "advice-stops-at-hole",
            "            start = vma.start\n",
            "            break\n",
            "what lies behind a hole is advised",
        ),
        (
            "advice-ignores-last-hole",
            "            hole = True\n            break\n",
            "            break\n",
            "a hole at the end is ENOMEM",
        ),
        (
            "noop-advice-merges",
            "if changed == flags:",
            "if changed == flags and vma.file:",
            "advice that is followed already merges nothing",
        ),
        (
            "random-keeps-sequential",
            "Advised(add=VM_RAND_READ, drop=VM_SEQ_READ)",
            "Advised(add=VM_RAND_READ)",
            "MADV_RANDOM ends MADV_SEQUENTIAL",
        ),
        (
            "hugepage-keeps-nohugepage",
            "Advised(add=VM_HUGEPAGE, drop=VM_NOHUGEPAGE",
            "Advised(add=VM_HUGEPAGE",
            "MADV_HUGEPAGE ends MADV_NOHUGEPAGE",
        ),
        (
            "wipeonfork-of-file",
            "refused_on=VM_SHARED, no_file=True",
            "refused_on=VM_SHARED",
            "MADV_WIPEONFORK is for anonymous memory",
        ),
        (
            "keeponfork-of-droppable",
            "drop=VM_WIPEONFORK, refused_on=VM_DROPPABLE",
            "drop=VM_WIPEONFORK",
            "MADV_KEEPONFORK refuses MAP_DROPPABLE",
        ),
        (
            "dodump-of-droppable",
            "drop=VM_DONTDUMP, refused_on=VM_SPECIAL | VM_DROPPABLE",
            "drop=VM_DONTDUMP, refused_on=VM_SPECIAL",
            "MADV_DODUMP refuses MAP_DROPPABLE",
        ),
        (
            "mergeable-shared",
            "add=VM_MERGEABLE, keeps=KSM_LEAVES",
            "add=VM_MERGEABLE",
            "MADV_MERGEABLE leaves shared memory as it is",
        ),
        (
            "dontneed-of-locked",
            "effect=_dontneed, refused_on=VM_LOCKED | VM_PFNMAP",
            "effect=_dontneed, refused_on=VM_PFNMAP",
            "MADV_DONTNEED refuses locked memory",
        ),
        (
            "dontneed-clears-guards",
            "    space.zap(vma, start, end)\n    space.own_dropped",
            "    space.clear_ptes(start, end)\n    space.own_dropped",
            "guard regions outlive MADV_DONTNEED",
        ),
        (
            "free-of-devzero-refused",
            "if not vma.anonymous:",
            "if vma.file:",
            "MADV_FREE takes private /dev/zero",
        ),
        (
            "remove-of-private",
            "!= VM_SHARED | VM_MAYWRITE:",
            "== VM_SHARED:",
            "MADV_REMOVE of a private mapping is EACCES",
        ),
        (
            "guard-of-locked",
            "refused_on=_GUARD_REFUSES | VM_LOCKED",
            "refused_on=_GUARD_REFUSES",
            "MADV_GUARD_INSTALL refuses locked memory",
        ),
        (
            "guard-stays-unfaulted",
            "if vma.anonymous or GUARD_ANON_VMA_ONLY_ANONYMOUS not in space.changes:",
            "if GUARD_ANON_VMA_ONLY_ANONYMOUS not in space.changes:",
            "a guard region makes anonymous memory faulted",
        ),
        (
            "guard-remove-clears-pages",
            "if space.ptes[page] & PTE_KIND == PTE_GUARD:",
            "if space.ptes[page]:",
            "MADV_GUARD_REMOVE takes guard regions away and nothing else",
        ),
        (
            "populate-all-or-nothing",
            "        _populate(space, start, end,",
            "        inside = [min(v.end, end) - max(v.start, start) for v in space.between(start, end)]\n"
            "        if sum(inside) < length:\n"
            "            raise SyscallError(ENOMEM)\n"
            "        _populate(space, start, end,",
            "what lies before a hole is populated",
        ),
        (
            "populate-read-of-any-access",
            "needed = VM_WRITE if write else VM_READ",
            "needed = VM_WRITE if write else VM_READ | VM_WRITE",
            "MADV_POPULATE_READ needs read permission",
        ),
    ),
    *_in(
        "model/fault.py",
        (
            "read-makes-faulted",
            "private_write = write and not vma.flags & VM_SHARED",
            "private_write = not vma.flags & VM_SHARED",
            "a read fault leaves a VMA without anon_vma",
        ),
        (
            "shared-write-makes-faulted",
            "private_write = write and not vma.flags & VM_SHARED",
            "private_write = write",
            "a write to shared memory leaves a VMA without anon_vma",
        ),
        (
            "write-over-read-stays-unfaulted",
            "    prepare_anon_vma(space, vma)\n    space.allocate()\n    if kind == PTE_FILE:",
            "    space.allocate()\n    if kind == PTE_FILE:",
            "a write to a page that was only read makes the VMA faulted",
        ),
        (
            "anon-vma-never-from-next",
            "if above and above.anon_vma and",
            "if above and above.anon_vma == below and",
            "a VMA takes the anon_vma of the next one if they could merge",
        ),
        (
            "anon-vma-never-from-previous",
            "elif below and below.anon_vma and",
            "elif below and below.anon_vma == above and",
            "a VMA takes the anon_vma of the previous one if they could merge",
        ),
        (
            "anon-vma-shared-by-like-access-only",
            "~(VM_ACCESS | VM_IGNORE_MERGE)",
            "~VM_IGNORE_MERGE",
            "VMAs that differ in protection share an anon_vma",
        ),
        (
            "anon-vma-ignores-pgoff",
            "and high.pgoff == low.pgoff + (low.end - low.start >> PAGE_SHIFT)",
            "and high.pgoff >= low.pgoff",
            "VMAs share an anon_vma only if their page offsets are contiguous",
        ),
        (
            "end-of-shmem-a-page-late",
            "if index >= inode.pages or",
            "if index > inode.pages or",
            "the first page behind the end of shared memory is SIGBUS",
        ),
        (
            "write-passes-uffd-missing",
            "if vma.anonymous:\n        if vma.flags & VM_UFFD_MISSING:",
            "if vma.anonymous:\n        if vma.flags & VM_UFFD_MISSING and not write:",
            "a write to a missing page under userfaultfd is SIGBUS",
        ),
        (
            "missing-stays-unfaulted",
            "    if private_write:\n        prepare_anon_vma(space, vma)\n        space",
            "    if private_write and not vma.uffd:\n        prepare_anon_vma(space, vma)\n        space",
            "a write under userfaultfd makes the VMA faulted although it is SIGBUS",
        ),
        (
            "shmem-passes-uffd-missing",
            "elif vma.flags & VM_UFFD_MISSING:",
            "elif vma.flags & VM_UFFD_WP:",
            "a missing page of shared memory under userfaultfd is SIGBUS",
        ),
        (
            "shmem-passes-uffd-minor",
            "if vma.flags & VM_UFFD_MINOR:",
            "if vma.flags & VM_UFFD_WP:",
            "a cached page of shared memory under userfaultfd's minor mode is SIGBUS",
        ),
        (
            "write-only-not-readable",
            "VM_WRITE if write else VM_ACCESS",
            "VM_WRITE if write else VM_ACCESS & ~VM_WRITE",
            "memory that can be written to can be read",
        ),
        (
            "stack-grows-only-if-accessible",
            "if addr < vma.start and not expand_downwards(space, index, addr):",
            "if addr < vma.start and not (\n"
            "        vma.flags & VM_ACCESS and expand_downwards(space, index, addr)\n"
            "    ):",
            "a stack grows before the access is found to be forbidden",
        ),
        (
            "stack-grows-into-gap",
            "near = addr - below.end < environment.stack_guard_gap",
            "near = addr < below.end",
            "a stack keeps its guard gap to the mapping below",
        ),
        (
            "stack-gap-to-inaccessible",
            "if near and below.flags & VM_ACCESS and not below.flags & VM_GROWSDOWN:",
            "if near and not below.flags & VM_GROWSDOWN:",
            "a stack needs no guard gap to memory without access",
        ),
        (
            "stack-growth-stays-unfaulted",
            "    prepare_anon_vma(space, vma)\n    grow =",
            "    grow =",
            "a stack that grows is faulted",
        ),
        (
            "stack-limit-ignored",
            "if vma.end - addr > space.limits[RLIMIT_STACK]:",
            "if grow << PAGE_SHIFT > space.limits[RLIMIT_STACK]:",
            "a stack that grows is not larger than RLIMIT_STACK",
        ),
        (
            "populate-shared-for-writing",
            "write = flags & (VM_WRITE | VM_SHARED) == VM_WRITE",
            "write = flags & VM_WRITE == 0",
            "populating writes to what is private and writable",
        ),
    ),
    *_in(
        "model/uffd.py",
        (
            "register-checks-first-vma",
            "for vma in vmas:\n        if not _can_userfault(space, vma, modes):",
            "for vma in vmas[:1]:\n        if not _can_userfault(space, vma, modes):",
            "every VMA of the range is checked before one is registered",
        ),
        (
            "register-refuses-holes",
            "    modes = sum(flag for mode",
            "    if space.lookup(call.addr) is None:\n"
            "        raise SyscallError(EINVAL)\n"
            "    modes = sum(flag for mode",
            "a range to be registered may begin with a hole",
        ),
        (
            "register-adds-modes",
            "flags = vma.flags & ~VM_UFFD | modes",
            "flags = vma.flags | modes",
            "registering again replaces the modes",
        ),
        (
            "register-drops-modes",
            "if vma.uffd != fd or vma.flags & modes != modes:",
            "if vma.uffd != fd or vma.flags & VM_UFFD != modes:",
            "registering again with fewer modes changes nothing",
        ),
        (
            "register-takes-over",
            "if vma.uffd and vma.uffd != fd:",
            "if vma.uffd and vma.uffd != fd and vma.flags & modes:",
            "what another userfaultfd has is EBUSY, whatever the modes",
        ),
        (
            "register-read-only-share",
            "if not vma.flags & VM_MAYWRITE:",
            "if not vma.flags & VM_MAYWRITE and vma.anonymous:",
            "a shared mapping of a file opened read-only is EPERM",
        ),
        (
            "minor-mode-of-anonymous",
            "return vma.is_shmem or (vma.anonymous and not modes & VM_UFFD_MINOR)",
            "return vma.is_shmem or vma.anonymous",
            "minor mode is for shared memory",
        ),
        (
            "register-droppable",
            "if vma.flags & VM_DROPPABLE and UFFD_REJECTS_DROPPABLE in space.changes:",
            "if vma.flags & VM_DROPPABLE and UFFD_REJECTS_DROPPABLE not in space.changes:",
            "MAP_DROPPABLE is not registered",
        ),
        (
            "unregister-of-another",
            "if vma.uffd and vma.uffd != fd and UFFD_UNREGISTER_CHECKS_OWNER in space.changes:",
            "if vma.uffd and vma.uffd != fd and UFFD_UNREGISTER_CHECKS_OWNER not in space.changes:",
            "what another userfaultfd has is not unregistered",
        ),
        (
            "unregister-keeps-other-modes",
            "vma.flags & ~VM_UFFD, 0,",
            "vma.flags & ~VM_UFFD_MISSING, 0,",
            "unregistering ends every mode",
        ),
        (
            "writeprotect-no-markers",
            "marks = not vma.anonymous or unpopulated",
            "marks = unpopulated",
            "pages of a file that are not there are write-protected too",
        ),
        (
            "writeprotect-of-own-only",
            "if not vma.flags & VM_UFFD_WP:",
            "if not vma.flags & VM_UFFD_WP or vma.uffd != call.fd:",
            "any userfaultfd write-protects what another one has registered",
        ),
        (
            "writeprotect-takes-guards",
            "if ptes[page] & PTE_KIND != PTE_GUARD:",
            "if ptes[page]:",
            "guard regions are not write-protected",
        ),
        (
            "unregister-keeps-protection",
            "            if vma.flags & VM_UFFD_WP:\n",
            "            if vma.flags & VM_UFFD_MINOR:\n",
            "unregistering ends the write protection of pages",
        ),
    ),
    *_in(
        "model/ftruncate.py",
        (
            "truncation-keeps-copies",
            "1 << 64 - PAGE_SHIFT, even_cows=True)",
            "1 << 64 - PAGE_SHIFT)",
            "private copies of pages that are cut off go too",
        ),
        (
            "truncation-keeps-pages",
            "if inode.pages < pages:",
            "if inode.pages < pages - 64:",
            "mappings lose the pages that are cut off",
        ),
        (
            "truncation-of-read-only",
            "if not (file.regular and file.writable):",
            "if not file.regular:",
            "a descriptor that only reads cannot truncate",
        ),
    ),
    *_in(
        "model/vma.py",
        (
            "end-of-file-a-page-late",
            "index >= self.inode.pages and not",
            "index > self.inode.pages and not",
            "the first page behind the end of a file is SIGBUS",
        ),
        (
            "grown-file-shows-old-data",
            "            self.drop(pages, self.pages)\n",
            "            pass\n",
            "what was cut off is zero when the file grows again",
        ),
        (
            "last-page-rounded-down",
            "pages, tail = size + PAGE - 1 >> PAGE_SHIFT, size & PAGE - 1",
            "pages, tail = size >> PAGE_SHIFT, size & PAGE - 1",
            "the page that a file ends in belongs to it",
        ),
    ),
    *_in(
        "model/msync.py",
        (
            "msync-stops-at-hole",
            "if flags == MS_ASYNC:",
            "if flags:",
            "msync goes on behind a hole unless it is MS_ASYNC alone",
        ),
        (
            "msync-of-locked",
            "raise SyscallError(EBUSY)",
            "break",
            "MS_INVALIDATE of locked memory is EBUSY",
        ),
        (
            "msync-forgets-hole",
            "            hole = True\n",
            "",
            "a hole is reported at the end",
        ),
    ),
    *_in(
        "model/remap_file_pages.py",
        (
            "remap-of-private",
            "if vma is None or not vma.flags & VM_SHARED:",
            "if vma is None or vma.file is None:",
            "remap_file_pages is for shared mappings",
        ),
        (
            "remap-unlocks",
            "        flags |= MAP_LOCKED\n",
            "        pass\n",
            "locked memory is locked when it is remapped",
        ),
        (
            "remap-of-one-mapping",
            "    while at < end:",
            "    if at < end:\n        raise SyscallError(EINVAL)\n    while at < end:",
            "several mappings alike are remapped at once",
        ),
        (
            "remap-keeps-advice",
            "    map_object(space, vma.file,",
            "    vma.pgoff, vma.record = call.pgoff, None\n    if vma.end - vma.start == size:\n"
            "        return 0\n    map_object(space, vma.file,",
            "a remapped VMA has no advice any more",
        ),
    ),
    *_in(
        "model/kernfs.py",
        (
            "proc-mapped-late",
            "raise SyscallError(EIO)",
            "raise SyscallError(EINVAL)",
            "a file of /proc cannot be mapped: EIO",
        ),
        (
            "sysfs-may-be-written",
            "return vm_flags & ~(VM_MAYEXEC | VM_MAYWRITE) | special",
            "return vm_flags & ~VM_MAYEXEC | special",
            "a mapping of the kernel's memory never becomes writable",
        ),
        (
            "sysfs-from-anywhere",
            "    if pgoff:",
            "    if pgoff > 1:",
            "a file of /sys is mapped from its start",
        ),
    ),
    *_in(
        "model/mmap.py",
        (
            "overlay-merges-at-once",
            "mapped = None if stacked else space.merge_new(addr, end, vma, mapped=True)",
            "mapped = space.merge_new(addr, end, vma, mapped=True)",
            "a new mapping on overlayfs does not merge",
        ),
    ),
    *_in(
        "model/madvise.py",
        (
            "ramfs-punches-holes",
            "    if vma.file.own_area or vma.is_secret:",
            "    if vma.file.zero or vma.is_secret:",
            "ramfs cannot punch holes",
        ),
    ),
    *_in(
        "model/mremap.py",
        (
            "move-keeps-write-protection",
            "unprotect=forgets)",
            "unprotect=False)",
            "pages that leave their registration are not write-protected any more",
        ),
        (
            "move-forgets-event-uffd",
            "forgets = new.uffd not in (0, EVENT_UFFD)",
            "forgets = new.uffd != 0",
            "a userfaultfd that hears of moves keeps what moves registered",
        ),
        (
            "remap-event-before-target",
            "space.events.insert(reported, event)",
            "space.events.insert(0, event)",
            "a move is reported after the unmapping of its target",
        ),
    ),
    *_in(
        "model/space.py",
        (
            "unmap-event-per-vma",
            "                notify = False\n",
            "",
            "one event tells of an unmapping, however many VMAs it takes",
        ),
        (
            "unmap-event-of-the-vma",
            "(UFFD_EVENT_UNMAP, vma.uffd, start, end, 0)",
            "(UFFD_EVENT_UNMAP, vma.uffd, vma.start, vma.end, 0)",
            "the event of an unmapping tells the whole range",
        ),
        (
            "zap-drops-write-protection",
            "if held & PTE_WP and armed and not vma.anonymous:",
            "if held & PTE_WP and armed and vma.anonymous:",
            "pages of a file stay write-protected when they are dropped",
        ),
    ),
    *_in(
        "model/madvise.py",
        (
            "free-reports-nothing",
            "    if not vma.flags & VM_HUGETLB:\n",
            "    if vma.flags & VM_HUGETLB:\n",
            "MADV_FREE is reported as MADV_DONTNEED is, even where it then fails",
        ),
    ),
    *_in(
        "model/fault.py",
        (
            "marker-written-through",
            "return TOUCH_SIGBUS if write else outcome",
            "return outcome",
            "a page that was write-protected before it was there cannot be written to",
        ),
        (
            "zero-page-stays-protected",
            "    elif held & PTE_ZERO:\n        space.ptes[page] = PTE_ANON\n    else",
            "    else",
            "the copy of a zero page loses the mark of a write protection that is over",
        ),
    ),
    *_in(
        "model/fork.py",
        (
            "child-locked",
            "        vma.flags &= ~VM_LOCKED_MASK\n",
            "",
            "nothing is locked in a child",
        ),
        (
            "child-gets-all",
            "if not vma.flags & VM_DONTCOPY]",
            "if vma.end]",
            "a child does not get memory advised MADV_DONTFORK",
        ),
        (
            "child-sees-wiped",
            "if not vma.flags & VM_WIPEONFORK and",
            "if",
            "a child finds memory advised MADV_WIPEONFORK empty",
        ),
        (
            "child-registered",
            "            vma.uffd = 0\n",
            "            vma.flags |= VM_UFFD\n",
            "a child's memory is not registered",
        ),
        (
            "child-leaves-cache",
            "            inodes[ident].cached.add(index)\n",
            "            pass\n",
            "what a child reads of shared memory is in the page cache",
        ),
    ),
    *_in(
        "model/prctl.py",
        (
            "merge-any-forgets-new-mappings",
            "return flags | VM_MERGEABLE if space.merge_any and not flags & KSM_LEAVES else flags",
            "return flags",
            "PR_SET_MEMORY_MERGE marks later mappings too",
        ),
        (
            "merge-any-marks-all",
            "elif not vma.flags & KSM_LEAVES:",
            "else:",
            "PR_SET_MEMORY_MERGE leaves shared memory as it is",
        ),
        (
            "merge-any-stays",
            "            vma.flags &= ~VM_MERGEABLE",
            "            pass",
            "PR_SET_MEMORY_MERGE with 0 takes all marks away",
        ),
        (
            "mdwe-writable-executable",
            "if new & VM_WRITE:",
            "if new & VM_WRITE and not old & VM_EXEC:",
            "PR_SET_MDWE refuses memory both writable and executable",
        ),
        (
            "mdwe-gain",
            "if not old & VM_EXEC:",
            "if old == new:",
            "PR_SET_MDWE: what is mapped does not become executable",
        ),
        (
            "mdwe-taken-back",
            "if space.mdwe and space.mdwe != bits:",
            "if space.mdwe and bits and space.mdwe != bits:",
            "PR_SET_MDWE is not taken back",
        ),
    ),
    *_in(
        "model/mbind.py",
        (
            "default-policy-needs-no-holes",
            "if policy and vma.start > at:",
            "if vma.start > at:",
            "mbind() with MPOL_DEFAULT goes over holes",
        ),
        (
            "policy-over-holes",
            "if policy and at < end and space.lookup(at) is None:",
            "if policy and at < end and space.lookup(at) is None and False:",
            "mbind() of a range that ends with a hole is EFAULT",
        ),
        (
            "strict-counts-zeros",
            "if kind in (0, PTE_GUARD) or held & PTE_ZERO:",
            "if kind in (0, PTE_GUARD):",
            "MPOL_MF_STRICT does not count the page of zeros",
        ),
        (
            "strict-moves-nothing",
            "movable = flags & _MOVING and",
            "movable = flags & MPOL_MF_MOVE_ALL and",
            "MPOL_MF_MOVE makes a page follow the policy",
        ),
        (
            "preferred-nowhere",
            "        mode = MPOL_LOCAL\n    elif",
            "        pass\n    elif",
            "MPOL_PREFERRED without a node is MPOL_LOCAL",
        ),
    ),
    *_in(
        "model/space.py",
        (
            "policies-merge",
            "        and a.policy == b.policy\n",
            "",
            "VMAs with different memory policies do not merge",
        ),
    ),
    *_in(
        "model/mincore.py",
        (
            "mincore-sees-tables-only",
            "return kind == PTE_FILE or (not vma.anonymous and index in inode.cached)",
            "return kind == PTE_FILE",
            "mincore() tells which pages of shared memory are cached, mapped or not",
        ),
        (
            "mincore-over-holes",
            "        if vma.start > at:\n            break\n",
            "",
            "mincore() of a range with a hole is ENOMEM",
        ),
    ),
    *_in(
        "model/process_madvise.py",
        (
            "process-madvise-rounds",
            "    return length\n",
            "    return length + 0xFFF & -0x1000\n",
            "process_madvise() returns the bytes as they were given",
        ),
    ),
    *_in(
        "model/mprotect.py",
        (
            "any-key",
            "if key != _NO_KEY and (key",
            "if key == _NO_KEY and (key + 1",
            "pkey_mprotect() with a key that was not allocated is EINVAL",
        ),
    ),
    *_in(
        "model/madvise.py",
        (
            "pageout-keeps-freed",
            "if held & PTE_LAZY or vma.flags & VM_DROPPABLE:",
            "if vma.flags & VM_DROPPABLE:",
            "MADV_PAGEOUT drops what MADV_FREE let go",
        ),
        (
            "pageout-keeps-droppable",
            "if held & PTE_LAZY or vma.flags & VM_DROPPABLE:",
            "if held & PTE_LAZY:",
            "MADV_PAGEOUT drops pages of MAP_DROPPABLE memory",
        ),
        (
            "free-drops-at-once",
            "            space.ptes[page] = held | PTE_LAZY",
            "            del space.ptes[page]",
            "after MADV_FREE the contents stay for a while",
        ),
    ),
    *_in(
        "model/mlock.py",
        (
            "locked-address-not-rounded-down",
            "return addr & -PAGE, length + (addr & PAGE - 1) + PAGE - 1 & WORD & -PAGE",
            "return addr & -PAGE, length + PAGE - 1 & WORD & -PAGE",
            "all pages that the range touches are locked",
        ),
        (
            "lock-on-fault-is-a-lock",
            "VM_LOCKED_MASK if flags else VM_LOCKED)",
            "VM_LOCKED)",
            "MLOCK_ONFAULT faults nothing in",
        ),
        (
            "locked-twice-counts-twice",
            "pages * (bool(new & VM_LOCKED) - bool(old & VM_LOCKED))",
            "pages * (1 if new & VM_LOCKED else -1)",
            "VmLck counts a page once, however often it is locked",
        ),
        (
            "lock-limit-counts-again",
            "if locked > limit and locked - _locked_already(space, start, length) > limit:",
            "if locked > limit:",
            "RLIMIT_MEMLOCK does not count what is locked already",
        ),
        (
            "future-locks-kept",
            "space.def_flags &= ~VM_LOCKED_MASK",
            "pass",
            "MCL_FUTURE is forgotten by a later call without it",
        ),
        (
            "future-locks-current",
            "if not flags & MCL_CURRENT:\n            return",
            "if not flags & MCL_CURRENT:\n            pass",
            "MCL_FUTURE alone changes nothing that is mapped",
        ),
        (
            "lock-of-missing-pages-succeeds",
            "if not populated:",
            "if not populated and not length:",
            "a page that cannot be faulted in makes mlock() ENOMEM",
        ),
        (
            "unlocking-leaves-on-fault",
            "new = old & ~VM_LOCKED_MASK | flags",
            "new = old & ~VM_LOCKED | flags",
            "unlocking clears VM_LOCKONFAULT too",
        ),
    ),
    *_in(
        "model/fault.py",
        (
            "locking-reads-private-memory",
            "write = flags & (VM_WRITE | VM_SHARED) == VM_WRITE",
            "write = False",
            "populating private writable memory writes to it, so it is faulted",
        ),
    ),
    *_in(
        "model/space.py",
        (
            "droppable-memory-locked",
            "return not vma.flags & (VM_SPECIAL | VM_DROPPABLE | VM_HUGETLB)",
            "return not vma.flags & (VM_SPECIAL | VM_HUGETLB)",
            "droppable memory is not locked",
        ),
        (
            "no-data-means-none",
            "(self.limits[RLIMIT_DATA] or self.environment.rlimit_data_max)",
            "self.limits[RLIMIT_DATA]",
            "a soft RLIMIT_DATA of 0 means the hard limit",
        ),
        (
            "heap-merges-whatever-is-below",
            "if not self._merges_after(below, new, new.pgoff, new.anon_vma):",
            "if below.file:",
            "the heap grows a VMA that is like it, and no other",
        ),
    ),
    *_in(
        "model/mseal.py",
        (
            "sealed-length-wraps-to-nothing",
            "if call.length and not length:",
            "if call.length > WORD and not length:",
            "a length that wraps when it is rounded up is EINVAL",
        ),
        (
            "sealed-never-merges",
            "vma = space.modify(vma, start, stop, vma.flags | VM_SEALED, vma.uffd)",
            "vma = space.cut_out(vma, start, stop)\n                vma.flags |= VM_SEALED",
            "what is sealed merges with sealed neighbours",
        ),
        (
            "seal-flags-ignored",
            "if call.seal_flags:",
            "if call.seal_flags & 1 << 40:",
            "mseal() knows no flag",
        ),
    ),
    *_in(
        "model/madvise.py",
        (
            "sealed-writable-memory-kept",
            "flags & VM_SEALED and not flags & VM_WRITE and _seal_keeps(space, vma)",
            "flags & VM_SEALED and _seal_keeps(space, vma)",
            "sealed memory that can be written may be discarded",
        ),
    ),
    *_in(
        "model/brk.py",
        (
            "break-touches-mapping",
            "if end + PAGE > guard_start(",
            "if end > guard_start(",
            "a page stays free between the break and the next mapping",
        ),
        (
            "break-shrinks-over-nothing",
            "if not space.intersects(new_end, old_end):",
            "if not space.intersects(0, old_end):",
            "the break moves down only where something is mapped",
        ),
        (
            "heap-limit-in-pages",
            "data = addr - now.start_brk + space.environment.data_segment",
            "data = addr - now.start_brk & -PAGE",
            "RLIMIT_DATA bounds the heap to the byte",
        ),
        (
            "later-heap-not-locked",
            "flags = end - start & WORD, _DATA | space.def_flags",
            "flags = end - start & WORD, _DATA",
            "MCL_FUTURE locks the heap as it grows",
        ),
    ),
    *_in(
        "model/rlimit.py",
        (
            "limits-remain",
            "space.limits = {**space.limits, resource: call.limit}",
            "pass",
            "a soft limit counts from then on",
        ),
        (
            "hard-limit-excluded",
            "if call.limit > hard_limit(space.environment, resource):",
            "if call.limit >= hard_limit(space.environment, resource):",
            "a soft limit may be the hard one",
        ),
    ),
    *_in(
        "model/kinds.py",
        (
            "secretmem-private",
            "if not vma.flags & (VM_SHARED | VM_MAYSHARE):",
            "if not vma.flags:",
            "secret memory is mapped shared only",
        ),
        (
            "secretmem-unlocked",
            "if SECRETMEM_LOCKED in space.changes:",
            "if SECRETMEM_LOCKED not in space.changes:",
            "secret memory is locked memory",
        ),
        (
            "secretmem-populated",
            "secret=True",
            "secret=False",
            "the kernel does not reach secret memory on behalf of a program",
        ),
        (
            "iouring-takes-hints",
            "    if addr:\n        raise SyscallError(EINVAL)",
            "    if addr >> 63:\n        raise SyscallError(EINVAL)",
            "an io_uring chooses its address itself",
        ),
        (
            "iouring-grows",
            "vma.flags |= VM_DONTEXPAND\n",
            "vma.flags |= 0\n",
            "an io_uring does not grow",
        ),
        (
            "iouring-parts-of-sqes",
            "_PARTS == _SQES and",
            "_PARTS == -1 and",
            "the submission queue's entries are mapped whole",
        ),
        (
            "perf-any-size",
            "if data & data - 1:",
            "if data < 0:",
            "a perf buffer has 1 + 2^n pages",
        ),
        (
            "perf-other-size",
            "if any(_pages(other) != data + 1 for other in buffers):",
            "if any(_pages(other) > data + 1 for other in buffers):",
            "a perf buffer that is mapped already has its size",
        ),
        (
            "perf-data-writable",
            "        read_only_data=True,\n",
            "",
            "only the first page of a perf buffer can be written to",
        ),
        (
            "perf-cut",
            "        whole=True,\n",
            "",
            "a perf buffer cannot be cut",
        ),
        (
            "tcp-writable",
            "if vma.flags & (VM_WRITE | VM_EXEC):",
            "if vma.flags & VM_EXEC:",
            "what a TCP socket maps is read only",
        ),
        (
            "tcp-becomes-writable",
            "~(VM_MAYWRITE | VM_MAYEXEC) | VM_MIXEDMAP",
            "~VM_MAYEXEC | VM_MIXEDMAP",
            "what a TCP socket maps does not become writable",
        ),
        (
            "segment-is-shmem",
            '"sysv": Kind(own_area=True,',
            '"sysv": Kind(',
            "a SysV segment is not one of several in a move",
        ),
        (
            "segment-removed-by-merge",
            '"sysv": Kind(own_area=True, has_close=True,',
            '"sysv": Kind(own_area=True,',
            "a merge removes no VMA of a SysV segment",
        ),
    ),
    *_in(
        "model/shm.py",
        (
            "shmat-over-mappings",
            "if addr and not flags & SHM_REMAP:",
            "if addr and flags & SHM_EXEC:",
            "shmat replaces nothing without SHM_REMAP",
        ),
        (
            "shmat-unaligned",
            "if not flags & SHM_RND:",
            "if flags & SHM_RDONLY:",
            "shmat takes unaligned addresses with SHM_RND only",
        ),
        (
            "shmat-remap-anywhere",
            "elif flags & SHM_REMAP:",
            "elif flags & SHM_REMAP and flags & SHM_RND:",
            "SHM_REMAP takes an address",
        ),
        (
            "shmat-writable",
            "writable=not flags & SHM_RDONLY",
            "writable=True",
            "what was attached read-only stays so",
        ),
        (
            "shmdt-of-other-attaches",
            "if vma.file is first.file and _is_attached(vma, addr):",
            "if _is_attached(vma, addr):",
            "shmdt takes the pieces of one attach",
        ),
        (
            "shmdt-of-moved",
            "if vma.file is first.file and _is_attached(vma, addr):",
            "if vma.file is first.file:",
            "shmdt leaves the pieces that were moved",
        ),
        (
            "shmdt-of-one-piece",
            "if vma.end > end:",
            "if vma.end > addr:",
            "shmdt takes all pieces of an attach",
        ),
        (
            "shmdt-at-start-only",
            "vmas = space.vmas[space.find(addr) :]",
            "vmas = space.vmas[space.find(addr) :][:1]",
            "shmdt looks for its attach above the address",
        ),
    ),
)

#: Where the packages are.
_ROOT: Final = Path(__file__).resolve().parent.parent


def find(name: str) -> Mistake:
    """The mistake called `name`.

    Raises:
        KeyError: there is none.
    """
    for mistake in MISTAKES:
        if mistake.name == name:
            return mistake
    raise KeyError(name)


def check(mistake: Mistake) -> None:
    """See that the mistake can be planted and is still Python.

    Raises:
        ValueError: its text does not occur exactly once; the message names it.
        SyntaxError: what it makes of the file is no Python.
    """
    path = _ROOT / mistake.file
    source = substitute(
        path.read_text(), mistake.before, mistake.after, f"mistake {mistake.name}: {mistake.file}"
    )
    compile(source, str(path), "exec")
