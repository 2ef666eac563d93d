"""Which behaviour a kernel has: named changes, and releases as sets of them.

Every behaviour that differs between kernels is one `Change` with its commit and a witness program
`corpus/witnesses/<name>.prog` whose trace differs with and without it. Semantics ask `CHANGE in space.changes`,
never for a version. `fuzz.probe` finds the running kernel's set by running the witnesses.

Profiles are the releases as published. Verified by running: the one that the probe finds on the running kernel.
Unverified until a target for them exists: see `Profile.verified`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, eq=False, slots=True)
class Change:
    """One behaviour that user space can see and that not every kernel has.

    name: also its witness's; commit, subject: where it came from (commit "": its hash is not known here);
    since: first release that has it, None if stable updates alone do; until: first release that has it no more, for a
    bug that was fixed, with `fix` the commit that did; stable: what stable updates did.
    """

    name: str
    commit: str
    subject: str
    since: tuple[int, int] | None
    until: tuple[int, int] | None = None
    fix: str = ""
    stable: str = ""


LOCKONFAULT_SHOWN: Final = Change(
    "lockonfault_shown",
    "8614d6c5eda0",
    "mm: do not show fs mm pc for VM_LOCKONFAULT pages",
    (6, 2),
)
UFFD_NOTHING_ABOVE: Final = Change(
    "uffd_nothing_above",
    "11a9b90274f6",
    "userfaultfd: use vma iterator",
    (6, 3),
)
IOURING_OFFSET_MASK: Final = Change(
    "iouring_offset_mask",
    "c56e022c0a27",
    "io_uring: add support for user mapped provided buffer ring",
    (6, 4),
)
PROCESS_MADVISE_CUT_FIRST: Final = Change(
    "process_madvise_cut_first",
    "3b2deb0e46da",
    "iov_iter: import single vector iovecs as ITER_UBUF",
    (6, 4),
)
HEAP_BOUNDS: Final = Change(
    "heap_bounds",
    "d3bb89ea9c13",
    "mm: fix VMA heap bounds checking",
    (6, 7),
)
MAP_STACK_NOHUGEPAGE: Final = Change(
    "map_stack_nohugepage",
    "c4608d1bf7c6",
    "mm: mmap: map MAP_STACK to VM_NOHUGEPAGE",
    (6, 7),
)
POPULATE_STOPS_AT_HOLE: Final = Change(
    "populate_stops_at_hole",
    "631426ba1d45",
    "mm/madvise: make MADV_POPULATE_(READ|WRITE) handle VM_FAULT_RETRY properly",
    (6, 9),
)
WEIGHTED_INTERLEAVE: Final = Change(
    "weighted_interleave",
    "fa3bea4e1f82",
    "mm/mempolicy: introduce MPOL_WEIGHTED_INTERLEAVE for weighted interleaving",
    (6, 9),
)
SHARED_MEMORY_NAMES: Final = Change(
    "shared_memory_names",
    "d09e8ca6cb93",
    "mm: anonymous shared memory naming",
    (6, 2),
)
MDWE: Final = Change(
    "mdwe",
    "b507808ebce2",
    "mm: implement memory-deny-write-execute as a prctl",
    (6, 3),
)
MEMORY_MERGE: Final = Change(
    "memory_merge",
    "d7597f59d1d3",
    "mm: add new api to enable ksm per process",
    (6, 4),
)
CLOSE_ALLOWS_MERGES: Final = Change(
    "close_allows_merges",
    "714965ca8252",
    "mm/mmap: start distinguishing if vma can be removed in mergeability test",
    (6, 4),
)
XDP_MIXEDMAP: Final = Change(
    "xdp_mixedmap",
    "9f78bf330a66",
    "xsk: support use vaddr as ring",
    (6, 4),
)
UFFD_WP_SEVERAL_VMAS: Final = Change(
    "uffd_wp_several_vmas",
    "a1b92a3f1498",
    "mm/userfaultfd: support WP on multiple VMAs",
    (6, 4),
)
UFFD_WP_UNPOPULATED: Final = Change(
    "uffd_wp_unpopulated",
    "2bad466cc9d9",
    "mm/uffd: UFFD_FEATURE_WP_UNPOPULATED",
    (6, 4),
)
UFFD_PARTS_MERGE: Final = Change(
    "uffd_parts_merge",
    "5543d3c43c41",
    "mm/uffd: allow vma to merge as much as possible",
    (6, 4),
)
MAP_ABOVE4G_KNOWN: Final = Change(
    "map_above4g_known",
    "29f890d1050f",
    "x86/mm: Introduce MAP_ABOVE4G",
    (6, 6),
)
MPROTECT_UNACCOUNTS: Final = Change(
    "mprotect_unaccounts",
    "9b9143298585",
    "mm/mprotect: allow unfaulted VMAs to be unaccounted on mprotect()",
    (6, 6),
)
ANONYMOUS_THP_AREA: Final = Change(
    "anonymous_thp_area",
    "efa7df3e3bb5",
    "mm: align larger anonymous mappings on THP boundaries",
    (6, 7),
)
THP_AREA_TOPDOWN: Final = Change(
    "thp_area_topdown",
    "96204e15310c",
    "mm: thp_get_unmapped_area must honour topdown preference",
    (6, 8),
)
NUMA_BALANCING_PREFERRED: Final = Change(
    "numa_balancing_preferred",
    "133d04b1eee9",
    "mm/numa_balancing: allow migrate on protnone reference with MPOL_PREFERRED_MANY policy",
    (6, 10),
)
MSEAL: Final = Change(
    "mseal",
    "8be7258aad44",
    "mseal: add mseal syscall",
    (6, 10),
)
PROCESS_MADVISE_OWN: Final = Change(
    "process_madvise_own",
    "22af8caff7d1",
    "mm/madvise: process_madvise() drop capability check if same mm",
    (6, 12),
)
NEW_RANGE_MERGES_BOTH: Final = Change(
    "new_range_merges_both",
    "cacded5e42b9",
    "mm: avoid using vma_merge() for new VMAs",
    (6, 12),
)
GATHER_BEFORE_LIMITS: Final = Change(
    "gather_before_limits",
    "224c1c702c08",
    "mm: move may_expand_vm() check in mmap_region()",
    (6, 12),
)
DROPPABLE: Final = Change(
    "droppable",
    "9651fcedf7b9",
    "mm: add MAP_DROPPABLE for designating always lazily freeable mappings",
    (6, 11),
)
GUARD: Final = Change(
    "guard",
    "662df3e5c376",
    "mm: madvise: implement lightweight guard page mechanism",
    (6, 13),
)
HUGETLB_AREA: Final = Change(
    "hugetlb_area",
    "7bd3f1e1a9ae",
    "mm: make hugetlb mappings go through mm_get_unmapped_area_vmflags",
    (6, 13),
)
FILES_NOT_ALIGNED: Final = Change(
    "files_not_aligned",
    "34d7cf637c43",
    "mm: don't try THP alignment for FS without get_unmapped_area",
    (6, 15),
)
GUARD_FILE: Final = Change(
    "guard_file",
    "f807123d578d",
    "mm: allow guard regions in file-backed and read-only mappings",
    (6, 15),
)
GUARD_INSTALL_LOOPS: Final = Change(
    "guard_install_loops",
    "f807123d578d",
    "mm: allow guard regions in file-backed and read-only mappings",
    (6, 15),
)
PARAMS_BEFORE_LOOKUP: Final = Change(
    "params_before_lookup",
    "85ea6bdd88a2",
    "mm/mremap: refactor mremap() system call implementation",
    (6, 15),
)
DONTUNMAP_CLEARS_ACCOUNT: Final = Change(
    "dontunmap_clears_account",
    "b714ccb02a76",
    "mm/mremap: complete refactor of move_vma()",
    (6, 15),
    until=(6, 18),
    fix="0e59f47c15ce",
    stable="fixed in 6.17.6",
)
DONTUNMAP_LEAKS_LOCKED: Final = Change(
    "dontunmap_leaks_locked",
    "b714ccb02a76",
    "mm/mremap: complete refactor of move_vma()",
    (6, 15),
    until=(7, 3),
    fix="397432cab17b",
    stable="fixed in 6.18.54 and 7.2.8",
)
SHRINK_MOVE_CHARGES_SHRUNK: Final = Change(
    "shrink_move_charges_shrunk",
    "d5c8aec0542e",
    "mm/mremap: initial refactor of move_vma()",
    (6, 15),
    until=(7, 4),
    stable='fixed in 7.3.4 by "populate calculated fields in vrm state correctly"',
)
MERGE_UNFAULTED_TARGET: Final = Change(
    "merge_unfaulted_target",
    "879bca0a2c4f",
    "mm/vma: fix incorrectly disallowed anonymous VMA merges",
    (6, 16),
)
MULTI_VMA_MOVE: Final = Change(
    "multi_vma_move",
    "d23cb648e365",
    "mm/mremap: permit mremap() move of multiple VMAs",
    (6, 17),
)
MULTI_VMA_THP_AREA: Final = Change(
    "multi_vma_thp_area",
    "7c91e0b91aaa",
    "mm/mremap: allow multi-VMA move when filesystem uses thp_get_unmapped_area",
    (6, 17),
)
MULTI_VMA_FIRST_ABORTS: Final = Change(
    "multi_vma_first_aborts",
    "d5f416c7c366",
    "mm/mremap: catch invalid multi VMA moves earlier",
    (6, 17),
)
VALIDATE_BEFORE_UNMAP: Final = Change(
    "validate_before_unmap",
    "a85dc37186a5",
    "mm/mremap: check remap conditions earlier",
    (6, 17),
)
OVERLAP_BEFORE_LOOKUP: Final = Change(
    "overlap_before_lookup",
    "3215eaceca87",
    "mm/mremap: refactor initial parameter sanity checks",
    (6, 17),
)
NEW_LEN_LIMIT: Final = Change(
    "new_len_limit",
    "3215eaceca87",
    "mm/mremap: refactor initial parameter sanity checks",
    (6, 17),
)
DONTUNMAP_ROUNDED_LENGTHS: Final = Change(
    "dontunmap_rounded_lengths",
    "3215eaceca87",
    "mm/mremap: refactor initial parameter sanity checks",
    (6, 17),
)
SEAL_KEEPS_ALL_ANONYMOUS: Final = Change(
    "seal_keeps_all_anonymous",
    "d0b47a6866f1",
    "mm/mseal: update madvise() logic",
    (6, 17),
)
MSEAL_MERGE_START: Final = Change(
    "mseal_merge_start",
    "6c2da14ae1e0",
    "mm/mseal: rework mseal apply logic",
    (6, 17),
    until=(7, 0),
    fix="2697dd8ae721",
    stable="fixed in 6.18.21",
)
UFFD_UNREGISTER_CHECKS_OWNER: Final = Change(
    "uffd_unregister_checks_owner",
    "23ec90eb122f",
    "userfaultfd: prevent unregistering VMAs through a different userfaultfd",
    (6, 17),
)
UFFD_REJECTS_DROPPABLE: Final = Change(
    "uffd_rejects_droppable",
    "7208cc6497c2",
    "userfaultfd: correctly prevent registering VM_DROPPABLE regions",
    (6, 17),
)
KSM_FLAG_BEFORE_MERGE: Final = Change(
    "ksm_flag_before_merge",
    "cf7e7a3503df",
    "mm: prevent KSM from breaking VMA merging for new VMAs",
    (6, 17),
)
PROCESS_MADVISE_SELF: Final = Change(
    "process_madvise_self",
    "021781b01275",
    "mm/madvise: unrestrict process_madvise() for current process",
    (6, 13),
)
THP_DISABLE_FLAGS: Final = Change(
    "thp_disable_flags",
    "9dc21bbd62ed",
    "prctl: extend PR_SET_THP_DISABLE to optionally exclude VM_HUGEPAGE",
    (6, 18),
)
DOFORK_REJECTS_SPECIAL: Final = Change(
    "dofork_rejects_special",
    "",
    "mm/madvise: MADV_DOFORK is refused on every special mapping, not on VM_IO alone",
    (7, 0),
)
DEVZERO_MMAP_PREPARE: Final = Change(
    "devzero_mmap_prepare",
    "ab04945f91bc",
    "mm: update mem char driver to use mmap_prepare",
    (6, 19),
)
PROCESS_MADVISE_ADVICE_FIRST: Final = Change(
    "process_madvise_advice_first",
    "",
    "mm/madvise: reject invalid process_madvise() advice for zero-length vectors",
    (7, 2),
)
COPIED_MERGE_KEEPS_ANON_VMA: Final = Change(
    "copied_merge_keeps_anon_vma",
    "61f67c230a5e",
    "mm/vma: fix anon_vma UAF on mremap() faulted, unfaulted merge",
    (6, 19),
    stable="also in 6.18.8",
)
GUARD_ANON_VMA_ONLY_ANONYMOUS: Final = Change(
    "guard_anon_vma_only_anonymous",
    "49e14dabed7a",
    "mm: set the VM_MAYBE_GUARD flag on guard region install",
    (6, 19),
    stable="also in 6.18.37",
)
GUARD_FLAG: Final = Change(
    "guard_flag",
    "49e14dabed7a",
    "mm: set the VM_MAYBE_GUARD flag on guard region install",
    (6, 19),
    stable="also in 6.18.37",
)
MAP_COUNT_EVERY_CALL: Final = Change(
    "map_count_every_call",
    "0289955fc548",
    "mm/mremap: check map count under mmap write lock and abstract",
    (7, 1),
)
MAP_COUNT_DONTUNMAP: Final = Change(
    "map_count_dontunmap",
    "597e4b9ab48a",
    "mm/mremap: fix locked_vm leak by splitting VMA for MREMAP_DONTUNMAP",
    (7, 3),
    stable="also in 6.12.114 and 7.2.11",
)
DONTUNMAP_SPLITS_LOCKED: Final = Change(
    "dontunmap_splits_locked",
    "597e4b9ab48a",
    "mm/mremap: fix locked_vm leak by splitting VMA for MREMAP_DONTUNMAP",
    (7, 3),
    stable="also in 6.12.114 and 7.2.11",
)
DONTUNMAP_NO_SELF_MERGE: Final = Change(
    "dontunmap_no_self_merge",
    "838bb60dc215",
    "mm/mremap: fix locked_vm leak from MREMAP_DONTUNMAP self-merge",
    (7, 3),
    stable="also in 6.12.114 and 7.2.11",
)
DONTUNMAP_ADJACENT_ALONE: Final = Change(
    "dontunmap_adjacent_alone",
    "",
    "mm/mremap: fix locked_vm leak from MREMAP_DONTUNMAP self-merge, as it is in stable updates",
    None,
    stable="6.1.192",
)
DONTUNMAP_RESETS_PGOFF: Final = Change(
    "dontunmap_resets_pgoff",
    "35b0fb391b0d",
    "mm/mremap: reset unfaulted VMA page offset for MREMAP_DONTUNMAP",
    (7, 3),
    stable="also in 6.12.112 and 7.2.6",
)
UFFD_WP_DROP_BUSY: Final = Change(
    "uffd_wp_drop_busy",
    "6eab8f2cc646",
    "userfaultfd: add UFFDIO_REGISTER_MODE_RWP and UFFDIO_RWPROTECT plumbing",
    (7, 3),
)
PRIVATE_FILE_ANON_PGOFF: Final = Change(
    "private_file_anon_pgoff",
    "6a993c7fbc3e",
    "mm: propagate VMA anonymous page offset on map, remap, split + merge",
    (7, 3),
)
UFFD_MOVE_NEVER_MERGES: Final = Change(
    "uffd_move_never_merges",
    "",
    "mm/vma: avoid broken uffd merge on mremap",
    (7, 4),
    stable="also in 7.3.4",
)

DROPPABLE_NEVER_LOCKED: Final = Change(
    "droppable_never_locked",
    "d239462787b0",
    "mm: prevent droppable mappings from being locked",
    (7, 1),
    stable="also in 6.12.117, 6.18.44 and 7.0.13",
)
DEVZERO_THP_AREA: Final = Change(
    "devzero_thp_area",
    "849d5cff4d48",
    "/dev/zero: try to align PMD_SIZE for private mapping",
    (6, 18),
)
LOOKUP_BEFORE_SHRINK: Final = Change(
    "lookup_before_shrink",
    "221bf5cac5c2",
    "mm/mremap: introduce and use vma_remap_struct threaded state",
    (6, 15),
)
UFFD_REMAP_SHRUNK: Final = Change(
    "uffd_remap_shrunk",
    "221bf5cac5c2",
    "mm/mremap: introduce and use vma_remap_struct threaded state",
    (6, 15),
)

UFFD_LOW_ADDRESSES: Final = Change(
    "uffd_low_addresses",
    "161ce69c2c89",
    "userfaultfd: allow registration of ranges below mmap_min_addr",
    (7, 1),
    stable="also in 6.12.117, 6.18.44 and 7.0.13",
)

UNMERGEABLE_DROPS_FLAGS: Final = Change(
    "unmergeable_drops_flags",
    "f8af4da3b4c1",
    "ksm: the mm interface to ksm",
    (2, 6),
    until=(6, 18),
    fix="f04aad36a07c",
    stable="no longer in 6.1.192, 6.12.117, 6.17.8",
)
SECRETMEM_LOCKED: Final = Change(
    "secretmem_locked",
    "1507f51255c9",
    'mm: introduce memfd_secret system call to create "secret" memory areas',
    (5, 14),
    until=(7, 2),
    stable="no longer in 6.12.117",
)
PERF_PFNMAP: Final = Change(
    "perf_pfnmap",
    "b709eb872e19",
    "perf: map pages in advance",
    (6, 14),
)
IOURING_AREA_EINVAL: Final = Change(
    "iouring_area_einval",
    "df645b745941",
    "io_uring/memmap: return -EINVAL from get_unmapped_area() on bad mmap",
    (7, 2),
)
BPF_ARRAY_FAULTS: Final = Change(
    "bpf_array_faults",
    "",
    "bpf: pages of a mapped array come when they are used",
    (7, 3),
)

#: Later than any release.
_NEVER: Final = (1000, 0)
#: The closed list, oldest first release first.
CHANGES: Final[tuple[Change, ...]] = tuple(
    sorted(
        (value for value in globals().values() if isinstance(value, Change)),
        key=lambda change: (change.since or _NEVER, change.name),
    )
)
BY_NAME: Final = {change.name: change for change in CHANGES}


@dataclass(frozen=True, slots=True)
class Profile:
    """A kernel's behaviour: a name and the changes it has. `verified`: confirmed on that very kernel."""

    name: str
    changes: frozenset[Change]
    verified: bool = False

    def difference(self, other: "Profile") -> tuple[str, ...]:
        """How this profile differs from `other`: `+name` and `-name`, sorted."""
        more = [f"+{change.name}" for change in self.changes - other.changes]
        less = [f"-{change.name}" for change in other.changes - self.changes]
        return tuple(sorted(more + less))


def release(major: int, minor: int) -> Profile:
    """The profile of a release as published, without what its stable updates brought."""
    has = frozenset(
        change
        for change in CHANGES
        if change.since is not None
        and change.since <= (major, minor)
        and (change.until is None or (major, minor) < change.until)
    )
    return Profile(f"{major}.{minor}", has)


#: Releases, what their stable updates brought left out: where a probe begins, and what it tells the difference from.
PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        *(release(6, minor) for minor in (1, 12, 16, 17, 18, 19)),
        *(release(7, minor) for minor in (0, 1, 2, 3)),
    )
}
