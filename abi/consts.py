"""UAPI names and numbers (include/uapi/asm-generic/mman*.h, linux/mman.h, linux/userfaultfd.h).

Plain integers: they are compared and combined in the model's hot path. The `*_NAMES` tables serve the
text form. `kernel_bridge/native/abi.gen.h` makes the C compiler check every number here.
"""

from collections.abc import Mapping
from typing import Final

PAGE_SHIFT: Final = 12
PAGE: Final = 1 << PAGE_SHIFT
WORD: Final = (1 << 64) - 1
PMD_SIZE: Final = 2 << 20

PROT_NONE: Final = 0
PROT_READ: Final = 0x1
PROT_WRITE: Final = 0x2
PROT_EXEC: Final = 0x4
PROT_SEM: Final = 0x8
PROT_GROWSDOWN: Final = 0x01000000
PROT_GROWSUP: Final = 0x02000000

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_SHARED_VALIDATE: Final = 0x03
MAP_DROPPABLE: Final = 0x08
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_32BIT: Final = 0x40
MAP_ABOVE4G: Final = 0x80
MAP_GROWSDOWN: Final = 0x0100
MAP_DENYWRITE: Final = 0x0800
MAP_EXECUTABLE: Final = 0x1000
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x008000
MAP_NONBLOCK: Final = 0x010000
MAP_STACK: Final = 0x020000
MAP_HUGETLB: Final = 0x040000
MAP_SYNC: Final = 0x080000
MAP_FIXED_NOREPLACE: Final = 0x100000
MAP_HUGE_2MB: Final = 21 << 26
MAP_HUGE_1GB: Final = 30 << 26

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_WILLNEED: Final = 3
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_REMOVE: Final = 9
MADV_DONTFORK: Final = 10
MADV_DOFORK: Final = 11
MADV_MERGEABLE: Final = 12
MADV_UNMERGEABLE: Final = 13
MADV_HUGEPAGE: Final = 14
MADV_NOHUGEPAGE: Final = 15
MADV_DONTDUMP: Final = 16
MADV_DODUMP: Final = 17
MADV_WIPEONFORK: Final = 18
MADV_KEEPONFORK: Final = 19
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24
MADV_COLLAPSE: Final = 25
MADV_HWPOISON: Final = 100
MADV_SOFT_OFFLINE: Final = 101
MADV_GUARD_INSTALL: Final = 102
MADV_GUARD_REMOVE: Final = 103

UFFDIO_REGISTER_MODE_MISSING: Final = 1
UFFDIO_REGISTER_MODE_WP: Final = 2
UFFDIO_REGISTER_MODE_MINOR: Final = 4

UFFDIO_WRITEPROTECT_MODE_WP: Final = 1
UFFDIO_WRITEPROTECT_MODE_DONTWAKE: Final = 2

UFFD_EVENT_FORK: Final = 0x13
UFFD_EVENT_REMAP: Final = 0x14
UFFD_EVENT_REMOVE: Final = 0x15
UFFD_EVENT_UNMAP: Final = 0x16

MLOCK_ONFAULT: Final = 1
MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4

PR_SET_THP_DISABLE: Final = 41
PR_SET_MDWE: Final = 65
PR_SET_MEMORY_MERGE: Final = 67
PR_THP_DISABLE_EXCEPT_ADVISED: Final = 2
PR_MDWE_REFUSE_EXEC_GAIN: Final = 1
PR_MDWE_NO_INHERIT: Final = 2

RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_MEMLOCK: Final = 8
RLIMIT_AS: Final = 9

MPOL_DEFAULT: Final = 0
MPOL_PREFERRED: Final = 1
MPOL_BIND: Final = 2
MPOL_INTERLEAVE: Final = 3
MPOL_LOCAL: Final = 4
MPOL_PREFERRED_MANY: Final = 5
MPOL_WEIGHTED_INTERLEAVE: Final = 6
MPOL_F_NUMA_BALANCING: Final = 1 << 13
MPOL_F_RELATIVE_NODES: Final = 1 << 14
MPOL_F_STATIC_NODES: Final = 1 << 15
MPOL_MF_STRICT: Final = 1
MPOL_MF_MOVE: Final = 2
MPOL_MF_MOVE_ALL: Final = 4

SHM_RDONLY: Final = 0x1000
SHM_RND: Final = 0x2000
SHM_REMAP: Final = 0x4000
SHM_EXEC: Final = 0x8000

ACCESS_READ: Final = 0
ACCESS_WRITE: Final = 1

#: Most pages one `touch` reaches; the outcome has two bits a page.
TOUCH_PAGES: Final = 32
TOUCH_OK: Final = 0
TOUCH_SIGSEGV: Final = 1
TOUCH_SIGBUS: Final = 2
#: The access faults for ever.
TOUCH_ENDLESS: Final = 3


def _names(prefix: str, *leave_out: str) -> Mapping[str, int]:
    return {
        name: value
        for name, value in globals().items()
        if name.startswith(prefix) and name not in leave_out and isinstance(value, int)
    }


PROT_NAMES: Final = _names("PROT_", "PROT_NONE")
#: Single bits of the mmap flags, and sizes of huge pages; the type in the low four bits has names of its own.
MAP_NAMES: Final = _names(
    "MAP_", "MAP_SHARED", "MAP_PRIVATE", "MAP_SHARED_VALIDATE", "MAP_DROPPABLE", "MAP_TYPE"
)
MAP_TYPE_NAMES: Final = {
    "MAP_SHARED": MAP_SHARED,
    "MAP_PRIVATE": MAP_PRIVATE,
    "MAP_SHARED_VALIDATE": MAP_SHARED_VALIDATE,
    "MAP_DROPPABLE": MAP_DROPPABLE,
}
MREMAP_NAMES: Final = _names("MREMAP_")
MADV_NAMES: Final = _names("MADV_")
UFFD_MODE_NAMES: Final = _names("UFFDIO_REGISTER_MODE_")
ACCESS_NAMES: Final = {"read": ACCESS_READ, "write": ACCESS_WRITE}
MLOCK_NAMES: Final = _names("MLOCK_")
MCL_NAMES: Final = _names("MCL_")
MS_NAMES: Final = _names("MS_")
PRCTL_NAMES: Final = _names("PR_SET_")
RESOURCE_NAMES: Final = _names("RLIMIT_")
UFFD_WP_MODE_NAMES: Final = _names("UFFDIO_WRITEPROTECT_MODE_")
#: Modes of a memory policy, and the flags that are added to one.
POLICY_FLAG_NAMES: Final = _names("MPOL_F_")
POLICY_NAMES: Final = {
    name: value
    for name, value in _names("MPOL_").items()
    if not name.startswith(("MPOL_F_", "MPOL_MF_"))
}
UFFD_EVENT_NAMES: Final = _names("UFFD_EVENT_")
BIND_NAMES: Final = _names("MPOL_MF_")
SHM_NAMES: Final = _names("SHM_")
#: Names for set_vma_name: none, two good ones, one with a forbidden character, one that is too long.
VMA_NAMES: Final = {"NULL": 0, "a": 1, "b": 2, "bad[": 3, "long": 4}

#: Descriptors below are the executor's own; a program may not name them.
FIRST_OBJECT_FD: Final = 10
FD_NAMES: Final = {
    "memfd": 10,
    "memfd_ro": 11,
    "file": 12,
    "file_ro": 13,
    "devzero": 14,
    "pipe": 15,
    "uffd0": 16,
    "uffd1": 17,
    "uffd2": 18,
    "tmpfs": 19,
    "tmpfs_ro": 20,
    "ext4": 21,
    "ext4_ro": 22,
    "xfs": 23,
    "xfs_ro": 24,
    "btrfs": 25,
    "btrfs_ro": 26,
    "overlay": 27,
    "overlay_ro": 28,
    "ramfs": 29,
    "proc": 30,
    "sysfs": 31,
    "hugetlb": 32,
    "secretmem": 33,
    "iouring": 34,
    "perf": 35,
    "bpf": 36,
    "packet": 37,
    "bpf_ring": 38,
    "tcp": 39,
    "unix": 40,
    "xdp": 41,
}
