"""VM_* flags of a VMA (include/linux/mm.h) and their codes in smaps (fs/proc/task_mmu.c: show_smap_vma_flags())."""

from typing import Final

VM_READ: Final = 0x1
VM_WRITE: Final = 0x2
VM_EXEC: Final = 0x4
VM_SHARED: Final = 0x8
VM_MAYREAD: Final = 0x10
VM_MAYWRITE: Final = 0x20
VM_MAYEXEC: Final = 0x40
VM_MAYSHARE: Final = 0x80
VM_GROWSDOWN: Final = 0x100
VM_UFFD_MISSING: Final = 0x200
VM_PFNMAP: Final = 0x400
VM_UFFD_WP: Final = 0x1000
VM_LOCKED: Final = 0x2000
VM_IO: Final = 0x4000
VM_SEQ_READ: Final = 0x8000
VM_RAND_READ: Final = 0x10000
VM_DONTCOPY: Final = 0x20000
VM_DONTEXPAND: Final = 0x40000
VM_LOCKONFAULT: Final = 0x80000
VM_ACCOUNT: Final = 0x100000
VM_NORESERVE: Final = 0x200000
VM_HUGETLB: Final = 0x400000
VM_SYNC: Final = 0x800000
#: Page frames that the kernel was told of as one range (x86: VM_PAT).
VM_ARCH_1: Final = 0x1000000
VM_WIPEONFORK: Final = 0x2000000
VM_DONTDUMP: Final = 0x4000000
VM_SOFTDIRTY: Final = 0x8000000
VM_MIXEDMAP: Final = 0x10000000
VM_HUGEPAGE: Final = 0x20000000
VM_NOHUGEPAGE: Final = 0x40000000
VM_MERGEABLE: Final = 0x80000000
VM_UFFD_MINOR: Final = 1 << 41
VM_SEALED: Final = 1 << 42
VM_DROPPABLE: Final = 1 << 40
#: The protection key that execute-only mappings take where the processor has keys
#: (arch/x86/mm/pkeys.c: __execute_only_pkey()).
VM_PKEY_EXEC_ONLY: Final = 1 << 50

VM_ACCESS: Final = VM_READ | VM_WRITE | VM_EXEC
VM_MAYACCESS: Final = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_UFFD: Final = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR
VM_LOCKED_MASK: Final = VM_LOCKED | VM_LOCKONFAULT
#: The processor's shadow stack, and that guard regions were installed (from 6.19 on).
VM_SHADOW_STACK: Final = 1 << 51
VM_MAYBE_GUARD: Final = 1 << 52
#: Not the kernel's: the mappings of one `fill`, kept as one VMA.
VM_FILLER: Final = 1 << 60
#: VMAs that never merge and that some calls refuse.
VM_SPECIAL: Final = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
#: Flags that a merged VMA has if one of its parts had them (include/linux/mm.h: VM_STICKY; commit 64212ba02e66).
VM_STICKY: Final = VM_MAYBE_GUARD
#: Flags in which two VMAs may differ and still merge.
VM_IGNORE_MERGE: Final = VM_SOFTDIRTY | VM_STICKY

#: Those of 32 bits: what is left where the complement of a flag was taken as a number of so many (commit f04aad36a07c).
LOW_FLAGS: Final = 0xFFFFFFFF

#: smaps' VmFlags codes.
CODES: Final = {
    "rd": VM_READ,
    "wr": VM_WRITE,
    "ex": VM_EXEC,
    "sh": VM_SHARED,
    "mr": VM_MAYREAD,
    "mw": VM_MAYWRITE,
    "me": VM_MAYEXEC,
    "ms": VM_MAYSHARE,
    "gd": VM_GROWSDOWN,
    "pf": VM_PFNMAP,
    "lo": VM_LOCKED,
    "io": VM_IO,
    "sr": VM_SEQ_READ,
    "rr": VM_RAND_READ,
    "dc": VM_DONTCOPY,
    "de": VM_DONTEXPAND,
    "lf": VM_LOCKONFAULT,
    "ac": VM_ACCOUNT,
    "nr": VM_NORESERVE,
    "ht": VM_HUGETLB,
    "sf": VM_SYNC,
    "ar": VM_ARCH_1,
    "wf": VM_WIPEONFORK,
    "dd": VM_DONTDUMP,
    "sd": VM_SOFTDIRTY,
    "mm": VM_MIXEDMAP,
    "hg": VM_HUGEPAGE,
    "nh": VM_NOHUGEPAGE,
    "mg": VM_MERGEABLE,
    "um": VM_UFFD_MISSING,
    "uw": VM_UFFD_WP,
    "ui": VM_UFFD_MINOR,
    "sl": VM_SEALED,
    "dp": VM_DROPPABLE,
    "ss": VM_SHADOW_STACK,
    "gu": VM_MAYBE_GUARD,
}
