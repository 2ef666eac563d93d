"""How likely each argument is: tables to draw from, in which an entry is as likely as it is frequent.

Usual values come first; the WILD ones and the BITS are what an argument is spoiled with. Knows no space.
"""

from collections.abc import Mapping
from typing import Final

from abi.calls import Kind
from abi.consts import (
    FD_NAMES,
    MADV_NAMES,
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_ANONYMOUS,
    MAP_DENYWRITE,
    MAP_DROPPABLE,
    MAP_EXECUTABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_SYNC,
    MLOCK_ONFAULT,
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
    MPOL_PREFERRED,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PAGE,
    PRCTL_NAMES,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_NONE,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    RESOURCE_NAMES,
    SHM_EXEC,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
    UFFDIO_WRITEPROTECT_MODE_WP,
    VMA_NAMES,
    WORD,
)

_TASK_SIZE: Final = 0x7FFF_FFFF_F000
_RW: Final = PROT_READ | PROT_WRITE
_FIXED_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED

#: Pages of a small length.
PAGES: Final = (1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 6, 7, 8, 8)
#: Pages of a piece of a layout.
SMALL: Final = (1, 1, 1, 2, 2, 2, 3, 3, 4, 5)
PROTS: Final = (
    *(_RW,) * 26,
    *(PROT_READ,) * 10,
    *(PROT_NONE,) * 5,
    *(PROT_READ | PROT_EXEC,) * 3,
    *(_RW | PROT_EXEC,) * 3,
    *(PROT_WRITE,) * 2,
    PROT_EXEC,
    _RW | PROT_SEM,
)
#: (type and origin, whose descriptor). The descriptor of an anonymous mapping is -1.
ANON, FILE, ZERO, ANY = range(4)
KINDS: Final = (
    *((MAP_PRIVATE | MAP_ANONYMOUS, ANON),) * 22,
    *((MAP_SHARED | MAP_ANONYMOUS, ANON),) * 5,
    *((MAP_SHARED, FILE),) * 7,
    *((MAP_PRIVATE, FILE),) * 7,
    *((MAP_PRIVATE, ZERO),) * 5,
    (MAP_SHARED, ZERO),
    (MAP_SHARED_VALIDATE, FILE),
    (MAP_DROPPABLE | MAP_ANONYMOUS, ANON),
    (MAP_PRIVATE, ANY),
)
#: Objects that are files; those that the machine lacks are left out.
FILES: Final = (
    *("memfd", "file") * 3,
    *("memfd_ro", "file_ro"),
    *("tmpfs", "ext4", "xfs", "btrfs", "overlay") * 2,
    *("tmpfs_ro", "ext4_ro", "xfs_ro", "btrfs_ro", "overlay_ro", "ramfs", "ramfs"),
)
#: Objects whose private mappings are not one of several in a move.
OBSTACLES: Final = (*("devzero",) * 3, "ramfs")
EXTRA_FLAGS: Final = (
    *(0,) * 56,
    MAP_NORESERVE,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_POPULATE,
    MAP_LOCKED,
    MAP_LOCKED,
    MAP_GROWSDOWN,
    MAP_GROWSDOWN,
    MAP_STACK,
    MAP_32BIT,
    MAP_POPULATE | MAP_NONBLOCK,
    MAP_DENYWRITE | MAP_EXECUTABLE,
    MAP_ABOVE4G,
)
#: One that is not none.
SPECIAL_FLAGS: Final = (
    MAP_NORESERVE,
    MAP_NORESERVE,
    MAP_LOCKED,
    MAP_GROWSDOWN,
    MAP_STACK,
    MAP_POPULATE,
    MAP_SYNC,
)
#: Bits of the mmap flags that are toggled.
FLAG_BITS: Final = (
    MAP_FIXED,
    MAP_ANONYMOUS,
    MAP_SHARED,
    MAP_PRIVATE,
    MAP_32BIT,
    MAP_GROWSDOWN,
    MAP_DENYWRITE,
    MAP_EXECUTABLE,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_NONBLOCK,
    MAP_STACK,
    MAP_SYNC,
    MAP_ABOVE4G,
    MAP_DROPPABLE,
    MAP_FIXED_NOREPLACE,
    1 << 2,
    1 << 9,
    1 << 18,
    1 << 21,
    1 << 26,
    1 << 31,
    1 << 32,
)
PROT_BITS: Final = (
    *(PROT_READ, PROT_WRITE, PROT_EXEC) * 3,
    PROT_SEM,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_GROWSDOWN | PROT_GROWSUP,
    1 << 4,
    1 << 31,
    1 << 32,
)
ADVICE: Final = (
    *(1, 0, 2, 10, 11, 16, 17, 18, 19, 14, 15, 12, 13, 4, 8, 22, 22, 23) * 2,
    *(MADV_NAMES[name] for name in sorted(MADV_NAMES) if MADV_NAMES[name] not in (100, 101)),
)
MREMAP_FLAGS: Final = (
    *(_FIXED_MOVE,) * 12,
    *(_FIXED_MOVE | MREMAP_DONTUNMAP,) * 3,
    *(MREMAP_MAYMOVE,) * 4,
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
    0,
    MREMAP_FIXED,
)
UFFD_MODES: Final = (
    *(UFFDIO_REGISTER_MODE_MISSING,) * 5,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
    UFFDIO_REGISTER_MODE_MINOR,
)
#: What an argument of a kind is usually; kinds whose usual values depend on the space are drawn by `fuzz.aim`.
USUAL: Final[Mapping[Kind, tuple[int, ...]]] = {
    Kind.PROT: PROTS,
    Kind.ADVICE: ADVICE,
    Kind.MREMAP_FLAGS: MREMAP_FLAGS,
    Kind.UFFD_MODE: UFFD_MODES,
    Kind.LOCK_FLAGS: (0, MLOCK_ONFAULT, MLOCK_ONFAULT),
    Kind.MCL_FLAGS: (1, 1, 2, 2, 3, 5, 6, 7),
    Kind.SYNC_FLAGS: (MS_SYNC, MS_SYNC, MS_ASYNC, 0, MS_INVALIDATE, MS_SYNC | MS_INVALIDATE),
    Kind.NAME: (1, 1, 1, 2, 2, 0, 0),
    Kind.PRCTL: tuple(PRCTL_NAMES.values()),
    Kind.RESOURCE: tuple(RESOURCE_NAMES.values()),
    Kind.UFFD_WP_MODE: (
        *(UFFDIO_WRITEPROTECT_MODE_WP,) * 3,
        0,
        0,
        UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
    ),
    Kind.POLICY: (
        *(MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL),
        *(MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE),
    ),
    Kind.BIND_FLAGS: (0, 0, 0, MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_STRICT | MPOL_MF_MOVE),
    Kind.SHM_FLAGS: (0, 0, SHM_RDONLY, SHM_RND, SHM_EXEC, SHM_REMAP, SHM_REMAP | SHM_RND),
}
#: Bits that are toggled in an argument of a kind; the last ones mean nothing to the kernel.
BITS: Final[Mapping[Kind, tuple[int, ...]]] = {
    Kind.PROT: PROT_BITS,
    Kind.MAP_FLAGS: FLAG_BITS,
    Kind.MREMAP_FLAGS: (*(1, 2) * 2, *(4,) * 3, 8, 1 << 31, 1 << 32),
    Kind.UFFD_MODE: (1, 1, 2, 2, 4, 8, 16, 1 << 63),
    Kind.LOCK_FLAGS: (*(MLOCK_ONFAULT,) * 3, 2, 1 << 31, 1 << 32),
    Kind.MCL_FLAGS: (*(1, 2, 4) * 2, 8, 1 << 31, 1 << 32),
    Kind.SYNC_FLAGS: (*(MS_ASYNC, MS_INVALIDATE, MS_SYNC) * 2, 8, 1 << 31, 1 << 32),
    Kind.UFFD_WP_MODE: (*(1, 2) * 2, 4, 1 << 63),
    Kind.BIND_FLAGS: (*(MPOL_MF_STRICT, MPOL_MF_MOVE) * 2, MPOL_MF_MOVE_ALL, 8, 1 << 31, 1 << 32),
    Kind.SHM_FLAGS: (*(SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC) * 2, 1, 0x800, 1 << 31),
}
#: Other values of arguments that are one of a few. The last policies have a mode flag (linux/mempolicy.h: MPOL_F_*).
OTHERS: Final[Mapping[Kind, tuple[int, ...]]] = {
    Kind.NAME: tuple(VMA_NAMES.values()),
    Kind.PRCTL: tuple(PRCTL_NAMES.values()),
    Kind.RESOURCE: tuple(RESOURCE_NAMES.values()),
    Kind.POLICY: (
        *(*range(8), 8, 1 << 31, 1 << 32),
        *(MPOL_BIND | 1 << 15, MPOL_BIND | 1 << 14, MPOL_BIND | 1 << 13, MPOL_BIND | 3 << 14),
        *(MPOL_PREFERRED | 1 << 15, MPOL_LOCAL | 1 << 14, MPOL_PREFERRED_MANY | 1 << 13),
    ),
}
#: Small numbers: pages, nodes, keys, switches, reserved flags; and some with high bits.
WILD_NUMBERS: Final = (
    *(0, 1) * 2,
    2,
    3,
    4,
    8,
    16,
    63,
    64,
    1 << 31,
    1 << 32,
    1 << 52,
    1 << 63,
    WORD,
)
#: How many VMAs a span covers.
SPANS: Final = (1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5)
#: How many VMAs further a length ends.
EDGES: Final = (0, 0, 0, 0, 0, 1, 1, 2, 3, 4)
#: By how many bytes an argument is unaligned.
BYTES: Final = (1, -1, 8, 0x10, 0x7FF, 0x800, -0x10, PAGE - 1, 1 - PAGE)
WILD_ADDRESSES: Final = (
    0,
    0,
    PAGE,
    0xF000,
    0x10000,
    _TASK_SIZE,
    _TASK_SIZE - PAGE,
    _TASK_SIZE + PAGE,
    1 << 47,
    1 << 63,
    WORD,
    WORD - PAGE + 1,
    0xDEAD_0000_0000_0000,
)
WILD_LENGTHS: Final = (
    0,
    0,
    0,
    WORD,
    WORD - PAGE + 1,
    WORD - PAGE + 2,
    1 << 63,
    *(_TASK_SIZE,) * 3,
    _TASK_SIZE - PAGE,
    _TASK_SIZE + 1,
    1 << 47,
    1 << 32,
)
#: Lengths (bytes) beyond all that is mapped, and beyond the memory that a machine may have.
BEYOND: Final = (1 << 28, 1 << 32, 1 << 36, 1 << 40, 1 << 44, 1 << 46)
WILD_OFFSETS: Final = (
    1,
    PAGE // 2,
    WORD - PAGE + 1,
    1 << 63,
    (1 << 63) - PAGE,
    (1 << 63) - 2 * PAGE,
    WORD,
    1 << 44,
)
WILD_PAGES: Final = (0, 9, 31, 32, 33, 64, 1 << 32, WORD)
BAD_FDS: Final = (-1, -1, 999, -2, FD_NAMES["pipe"], 47)
