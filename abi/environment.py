"""What the model is told of the machine before a program starts: the executor's report, as one value.

The executor reports it once; it is part of every trace, finding and report, and has a JSON form. The model
predicts everything from it and the program.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from abi.consts import PAGE

#: All that `Environment.config` may hold, which says what each means.
CONFIGURATION: Final = (
    *("ANON_VMA_NAME", "BLIND", "BOTTOM_UP", "EXEC_BRK", "FAULT_INJECTION", "HOSTED", "HUGE_1GB"),
    *("HUGE_2MB", "KSM", "MEMORY_FAILURE", "PKEYS", "PKU", "SHMEM_HUGE", "SOFT_DIRTY"),
    *("STALE_TABLES", "STRICT_READ", "SWAP", "SWAP_SPACE", "THP", "THP_ALWAYS", "THP_NEVER"),
    *("UFFD_FORK", "UFFD_MINOR", "UFFD_WP"),
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The addresses that the text form and the generator write relative to (bytes).

    window: first byte of the window that programs aim at; window_pages: its size;
    top: the end of the highest gap an unhinted mapping is placed in, or with "BOTTOM_UP" the start of the lowest
    (mm->mmap_base); heap: mm->start_brk.
    """

    window: int = 0x2_0000_0000
    window_pages: int = 4096
    top: int = 0x7FFF_F7FF_F000
    heap: int = 0x1000_8000


@dataclass(frozen=True, slots=True)
class Object:
    """What a descriptor of the object table refers to.

    fd: its number; name: as in consts.FD_NAMES; ident: its index in layout records (descriptors of one inode
    share it; 0 for what cannot appear in a layout); fs: the file system's name ("tmpfs", "ext4", ...), for a
    device "devzero", else "pipe" or "uffd"; size: bytes; readable, writable: its open mode; noexec: a private PROT_EXEC
    mapping of it is EPERM; max_bytes: the file system's largest file offset; data: how much of it has data, a tag
    (`abi.trace.file_tag`) at the start of each page, the rest reads as zero (bytes); contents: whether its contents
    are compared; resident: whether it is memory, so that the presence of its pages is compared too; shared_only:
    whether it can be mapped shared only; stacked: what is mapped is a file of another file system, `fs`, below the one
    opened; huge: the size of its pages where they are huge pages (bytes), else 0.
    """

    fd: int
    name: str
    ident: int
    fs: str
    size: int
    readable: bool = True
    writable: bool = True
    noexec: bool = False
    max_bytes: int = (1 << 63) - 1
    data: int = 0
    contents: bool = True
    resident: bool = False
    shared_only: bool = False
    stacked: bool = False
    huge: int = 0


@dataclass(frozen=True, slots=True)
class InitialVma:
    """A VMA that exists before the program: the executor's own (bytes).

    perms: PERM_* bits; name: a name class; offset: bytes into the object; flags: its two-letter smaps VmFlags
    codes; fs: the file system of its file, "" without one; faulted: whether it has an anon_vma (a private VMA with
    anonymous pages in smaps).
    """

    start: int
    end: int
    offset: int
    ident: int
    perms: int
    name: int
    flags: tuple[str, ...]
    fs: str = ""
    faulted: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and process as a program finds them. Sizes in bytes unless a field says pages."""

    geometry: Geometry
    initial: tuple[InitialVma, ...]
    objects: tuple[Object, ...]
    #: Why a descriptor of the table is missing: name -> one line.
    missing: dict[str, str] = field(default_factory=dict)
    #: SysV shared memory segments, by the number that shmat is given; they have no descriptor (-1).
    segments: tuple[Object, ...] = ()
    task_size: int = 0x7FFF_FFFF_F000
    #: Lowest address mmap may give without CAP_SYS_RAWIO (sysctl vm.mmap_min_addr).
    dac_mmap_min_addr: int = 65536
    #: Lowest address a hint is raised to and the search stops at: the larger of sysctl and LSM minimum.
    mmap_min_addr: int = 65536
    stack_guard_gap: int = 256 * PAGE
    rlimit_as: int = (1 << 64) - 1
    rlimit_data: int = (1 << 64) - 1
    rlimit_memlock: int = (1 << 64) - 1
    rlimit_stack: int = 8 << 20
    #: The hard limits: how far a program may raise the soft ones above.
    rlimit_as_max: int = (1 << 64) - 1
    rlimit_data_max: int = (1 << 64) - 1
    rlimit_memlock_max: int = (1 << 64) - 1
    rlimit_stack_max: int = (1 << 64) - 1
    max_map_count: int = 65530
    #: Memory and swap of the machine (pages): more is never promised in one go where overcommit is 0.
    memory_pages: int = 1 << 40
    #: Pages before the program: VmSize and VmLck as the kernel counts them.
    total_pages: int = 0
    locked_pages: int = 0
    start_brk: int = 0
    brk: int = 0
    #: mm->end_data - mm->start_data: RLIMIT_DATA counts it with the heap.
    data_segment: int = 0
    start_stack: int = 0
    #: Nodes of memory: how many the kernel was built for, up to 64 (0: it knows of none), and a mask of those that the
    #: executor may use.
    node_bits: int = 0
    nodes: int = 1
    #: Capabilities the executor holds, by name without CAP_: "IPC_LOCK", "SYS_RAWIO", "SYS_ADMIN", "SYS_NICE".
    capabilities: frozenset[str] = frozenset()
    #: What the kernel was configured with and the processor has, found by asking it: "KSM", "THP",
    #: "MEMORY_FAILURE" (each: madvise(0, 0, advice) is not EINVAL), "ANON_VMA_NAME", "PKU" (protection keys),
    #: "SHMEM_HUGE" (shared memory may have huge pages), "SWAP" (the kernel knows it), "SWAP_SPACE" (there
    #: is some), "THP_ALWAYS" and "THP_NEVER" (anonymous memory has huge pages without advice, not even with it),
    #: "HUGE_2MB" and "HUGE_1GB" (hugetlb pages of that size; the first is the default), "UFFD_FORK"
    #: (uffd2 reports forks), "UFFD_WP" and "UFFD_MINOR" (userfaultfds have these modes), "PKEYS" (the kernel has
    #: pkey_mprotect), "SOFT_DIRTY" (the kernel tracks what was written to), "BLIND" (memory that may not be
    #: read cannot be read through /proc/self/mem either), "BOTTOM_UP" (unhinted mappings are placed from
    #: `Geometry.top` upwards), "STRICT_READ" (a page comes for a read only where PROT_READ or PROT_EXEC is: elsewhere a
    #: mapping that may be written to may be read), "EXEC_BRK" (the heap is executable), "HOSTED" (the kernel is a
    #: program: User-Mode-Linux), "STALE_TABLES" (pages can still be seen where a call frees a page table and
    #: makes another), "FAULT_INJECTION" (allocations can be made to fail).
    config: frozenset[str] = frozenset()
    #: vm.overcommit_memory.
    overcommit: int = 0
    #: The huge pages of 2 MiB that a program may count on; 0: there are none to be had, -1: that is not known.
    huge_pages: int = 0
    #: uname -r and -m, for people.
    release: str = ""
    machine: str = ""

    def object(self, fd: int) -> Object | None:
        """The object behind a descriptor, or None."""
        return next((o for o in self.objects if o.fd == fd), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` is its inverse."""
        data = asdict(self)
        data["capabilities"] = sorted(self.capabilities)
        data["config"] = sorted(self.config)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Environment":
        """The environment that `to_json` described.

        Raises:
            TypeError, KeyError: `data` is not of that form.
        """
        data = dict(data)
        data["geometry"] = Geometry(**data["geometry"])
        data["initial"] = tuple(
            InitialVma(**{**vma, "flags": tuple(vma["flags"])}) for vma in data["initial"]
        )
        data["objects"] = tuple(Object(**obj) for obj in data["objects"])
        data["segments"] = tuple(Object(**obj) for obj in data.get("segments", ()))
        data["capabilities"] = frozenset(data["capabilities"])
        data["config"] = frozenset(data["config"])
        return cls(**data)
