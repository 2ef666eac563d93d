"""A machine that does not exist: what an executor reports on a common one, fixed, so that no kernel is needed."""

from dataclasses import replace
from typing import Any, Final

from abi.consts import FD_NAMES, PAGE, PMD_SIZE
from abi.environment import Environment, Geometry, InitialVma, Object
from abi.trace import (
    NAME_FILE,
    PERM_EXEC,
    PERM_READ,
    PERM_SHARED,
    PERM_WRITE,
    Layout,
    Mapping,
)
from abi.wire import (
    IDENT_ANON_INODE,
    IDENT_BTRFS,
    IDENT_DEVZERO,
    IDENT_EXT4,
    IDENT_FILE,
    IDENT_HUGETLB,
    IDENT_IMAGE,
    IDENT_IOURING,
    IDENT_MEMFD,
    IDENT_OVERLAY,
    IDENT_PACKET,
    IDENT_RAMFS,
    IDENT_SECRETMEM,
    IDENT_SHARED,
    IDENT_SHM0,
    IDENT_SHM1,
    IDENT_SYSFS,
    IDENT_TCP,
    IDENT_TMPFS,
    IDENT_XDP,
    IDENT_XFS,
    SEGMENT_SIZE,
)

#: Pages of the memfd and of the files, and what the latter begin with.
FILE_PAGES: Final = 64
_FILLED: Final = {"data": 48 * PAGE}
IMAGE: Final = InitialVma(
    0x1000_0000,
    0x1000_8000,
    0,
    IDENT_IMAGE,
    PERM_READ | PERM_EXEC,
    NAME_FILE,
    ("rd", "ex", "mr", "mw", "me", "lo", "sl"),
    "ext4",
)
SHARED: Final = InitialVma(
    0x2000_0000,
    0x2040_0000,
    0,
    IDENT_SHARED,
    PERM_READ | PERM_WRITE | PERM_SHARED,
    NAME_FILE,
    ("rd", "wr", "sh", "mr", "mw", "me", "ms", "lo", "sl"),
    "tmpfs",
)
_OWN_PAGES: Final = 8 + 1024


def _object(name: str, ident: int, fs: str, pages: int = 0, **more: Any) -> Object:
    return Object(FD_NAMES[name], name, ident, fs, pages * PAGE, **more)


def _special(name: str, ident: int, fs: str, pages: int = 0, **more: Any) -> Object:
    what = {"noexec": True, "contents": False, "shared_only": True, **more}
    return _object(name, ident, fs, pages, **what)


OBJECTS: Final = (
    _object("memfd", IDENT_MEMFD, "tmpfs", FILE_PAGES),
    _object("memfd_ro", IDENT_MEMFD, "tmpfs", FILE_PAGES, writable=False),
    _object("file", IDENT_FILE, "ext4", FILE_PAGES, max_bytes=1 << 44),
    _object("file_ro", IDENT_FILE, "ext4", FILE_PAGES, max_bytes=1 << 44, writable=False),
    _object("devzero", IDENT_DEVZERO, "devzero"),
    _object("tmpfs", IDENT_TMPFS, "tmpfs", FILE_PAGES, **_FILLED),
    _object("tmpfs_ro", IDENT_TMPFS, "tmpfs", FILE_PAGES, writable=False, **_FILLED),
    _object("ext4", IDENT_EXT4, "ext4", FILE_PAGES, max_bytes=1 << 44, **_FILLED),
    _object(
        "ext4_ro", IDENT_EXT4, "ext4", FILE_PAGES, max_bytes=1 << 44, writable=False, **_FILLED
    ),
    _object("xfs", IDENT_XFS, "xfs", FILE_PAGES, **_FILLED),
    _object("xfs_ro", IDENT_XFS, "xfs", FILE_PAGES, writable=False, **_FILLED),
    _object("btrfs", IDENT_BTRFS, "btrfs", FILE_PAGES, **_FILLED),
    _object("btrfs_ro", IDENT_BTRFS, "btrfs", FILE_PAGES, writable=False, **_FILLED),
    _object("overlay", IDENT_OVERLAY, "tmpfs", FILE_PAGES, stacked=True, **_FILLED),
    _object(
        "overlay_ro", IDENT_OVERLAY, "tmpfs", FILE_PAGES, stacked=True, writable=False, **_FILLED
    ),
    _object("ramfs", IDENT_RAMFS, "ramfs", FILE_PAGES, **_FILLED),
    _object("proc", 0, "proc", writable=False, noexec=True),
    _object("sysfs", IDENT_SYSFS, "sysfs", 1000, writable=False, noexec=True, contents=False),
    _object("hugetlb", IDENT_HUGETLB, "hugetlbfs", 4 * 512, huge=PMD_SIZE, resident=True),
    _object("pipe", 0, "pipe", writable=False, noexec=True),
    _object("uffd0", 0, "uffd", writable=False, noexec=True),
    _object("uffd1", 0, "uffd", writable=False, noexec=True),
    _object("uffd2", 0, "uffd", writable=False, noexec=True),
    _special("secretmem", IDENT_SECRETMEM, "secretmem", 64, contents=True, resident=True),
    _special("iouring", IDENT_IOURING, "iouring", 2, shared_only=False),
    _special("perf", IDENT_ANON_INODE, "perf"),
    _special("bpf", IDENT_ANON_INODE, "bpf", 8),
    _special("bpf_ring", IDENT_ANON_INODE, "bpf_ring", 10),
    _special("packet", IDENT_PACKET, "packet", 4, shared_only=False),
    _special("xdp", IDENT_XDP, "xdp", 2, shared_only=False),
    _special("tcp", IDENT_TCP, "tcp", shared_only=False),
    _special("unix", 0, "socket", shared_only=False),
)

#: The executor is an ordinary user's process with 256 MiB of address space; two VMAs are its own.
ENVIRONMENT: Final = Environment(
    geometry=Geometry(),
    initial=(IMAGE, SHARED),
    objects=OBJECTS,
    segments=tuple(
        Object(-1, f"shm{number}", ident, "sysv", SEGMENT_SIZE, resident=True)
        for number, ident in enumerate((IDENT_SHM0, IDENT_SHM1))
    ),
    dac_mmap_min_addr=PAGE,
    rlimit_as=256 << 20,
    rlimit_memlock=8 << 20,
    memory_pages=1 << 20,
    node_bits=64,
    total_pages=_OWN_PAGES,
    locked_pages=_OWN_PAGES,
    start_brk=IMAGE.end,
    brk=IMAGE.end,
    start_stack=0x7FFF_FFFF_EFF0,
    config=frozenset(
        (
            "ANON_VMA_NAME",
            "KSM",
            "THP",
            "SWAP",
            "HUGE_2MB",
            "HUGE_1GB",
            "PKEYS",
            "UFFD_WP",
            "UFFD_MINOR",
        )
    ),
    huge_pages=16,
    release="0.0.0-drawn",
    machine="x86_64",
)


def with_object(name: str, **changes: Any) -> Environment:
    """The machine, with one of its objects otherwise."""
    objects = tuple(replace(o, **changes) if o.name == name else o for o in OBJECTS)
    return replace(ENVIRONMENT, objects=objects)


def initial_layout(environment: Environment) -> Layout:
    """The layout before a program."""
    return tuple(
        Mapping(v.start, v.end, v.offset, v.ident, v.perms, v.name) for v in environment.initial
    )
