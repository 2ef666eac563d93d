"""One frozen value per call a program can make; `CALLS` is the closed list.

Every field is a 64-bit word as the kernel receives it: addresses, lengths and offsets in bytes. The wire, the
text form, the byte form, the generator and the reports follow from the fields and their `kind`.
"""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

from abi.consts import WORD


class Kind(Enum):
    """What an argument is: how it is written, generated and mutated."""

    ADDRESS = "address"
    LENGTH = "length"
    PAGES = "pages"
    OFFSET = "offset"
    PROT = "prot"
    MAP_FLAGS = "map flags"
    MREMAP_FLAGS = "mremap flags"
    ADVICE = "advice"
    UFFD_MODE = "uffd mode"
    ACCESS = "access"
    FD = "fd"
    LOCK_FLAGS = "mlock2 flags"
    MCL_FLAGS = "mlockall flags"
    SYNC_FLAGS = "msync flags"
    NUMBER = "number"
    NAME = "name"
    PRCTL = "prctl option"
    RESOURCE = "resource"
    UFFD_WP_MODE = "uffd writeprotect mode"
    POLICY = "memory policy"
    BIND_FLAGS = "mbind flags"
    SHM_FLAGS = "shmat flags"


@dataclass(frozen=True, slots=True)
class Mmap:
    """mmap(2). `fd` is a descriptor of the executor's object table (`consts.FD_NAMES`) or a bad one."""

    addr: int
    length: int
    prot: int
    flags: int
    fd: int
    offset: int


@dataclass(frozen=True, slots=True)
class Munmap:
    """munmap(2)."""

    addr: int
    length: int


@dataclass(frozen=True, slots=True)
class Mprotect:
    """mprotect(2)."""

    addr: int
    length: int
    prot: int


@dataclass(frozen=True, slots=True)
class Madvise:
    """madvise(2)."""

    addr: int
    length: int
    advice: int


@dataclass(frozen=True, slots=True)
class Mremap:
    """mremap(2)."""

    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Access the first word of the page of `addr`, of the next page, ... for min(pages, 32) pages.

    The outcome has two bits a page, lowest first: 0 done, 1 SIGSEGV, 2 SIGBUS, 3 it never ended. Only bit 0 of `access`
    counts: 0 reads, 1 writes the page's tag (`abi.trace.written_tag`), to the executor's own pages what is there.
    """

    addr: int
    pages: int
    access: int


@dataclass(frozen=True, slots=True)
class UffdRegister:
    """ioctl(fd, UFFDIO_REGISTER) with `addr`, `length` and `mode`; the outcome is 0 or an errno."""

    fd: int
    addr: int
    length: int
    mode: int


@dataclass(frozen=True, slots=True)
class UffdUnregister:
    """ioctl(fd, UFFDIO_UNREGISTER) with `addr` and `length`."""

    fd: int
    addr: int
    length: int


@dataclass(frozen=True, slots=True)
class Mlock:
    """mlock(2)."""

    addr: int
    length: int


@dataclass(frozen=True, slots=True)
class Mlock2:
    """mlock2(2)."""

    addr: int
    length: int
    lock_flags: int


@dataclass(frozen=True, slots=True)
class Munlock:
    """munlock(2)."""

    addr: int
    length: int


@dataclass(frozen=True, slots=True)
class Mlockall:
    """mlockall(2)."""

    mcl_flags: int


@dataclass(frozen=True, slots=True)
class Munlockall:
    """munlockall(2)."""


@dataclass(frozen=True, slots=True)
class Mseal:
    """mseal(2). `seal_flags` has to be 0."""

    addr: int
    length: int
    seal_flags: int


@dataclass(frozen=True, slots=True)
class Msync:
    """msync(2)."""

    addr: int
    length: int
    sync_flags: int


@dataclass(frozen=True, slots=True)
class Mincore:
    """mincore(2). The outcome is an errno, or the residency of the first 62 pages, a bit each, lowest first."""

    addr: int
    length: int


@dataclass(frozen=True, slots=True)
class RemapFilePages:
    """remap_file_pages(2). `pgoff` in pages."""

    addr: int
    length: int
    prot: int
    pgoff: int
    flags: int


@dataclass(frozen=True, slots=True)
class Brk:
    """brk(2), the system call: its outcome is the break afterwards, as an address."""

    addr: int


@dataclass(frozen=True, slots=True)
class SetVmaName:
    """prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME) with one of the names of `consts.VMA_NAMES`."""

    addr: int
    length: int
    name: int


@dataclass(frozen=True, slots=True)
class Prctl:
    """prctl(2) with an option of `consts.PRCTL_NAMES`, its two arguments and zeros; no other option is sent."""

    option: int
    value: int
    extra: int


@dataclass(frozen=True, slots=True)
class PkeyMprotect:
    """pkey_mprotect(2)."""

    addr: int
    length: int
    prot: int
    pkey: int


@dataclass(frozen=True, slots=True)
class ProcessMadvise:
    """process_madvise(2) of the executor itself, with one range; the outcome is an errno or bytes."""

    addr: int
    length: int
    advice: int
    pm_flags: int


@dataclass(frozen=True, slots=True)
class UffdWriteprotect:
    """ioctl(fd, UFFDIO_WRITEPROTECT) with `addr`, `length` and `wp_mode`; the outcome is 0 or an errno."""

    fd: int
    addr: int
    length: int
    wp_mode: int


@dataclass(frozen=True, slots=True)
class Ftruncate:
    """ftruncate(2) of an object; `size` in bytes."""

    fd: int
    size: int


@dataclass(frozen=True, slots=True)
class Setrlimit:
    """setrlimit(2) of the soft limit of a resource of `consts.RESOURCE_NAMES`; no other resource is sent."""

    resource: int
    limit: int


@dataclass(frozen=True, slots=True)
class Fork:
    """fork(2). The child reports its layout and contents and ends; the outcome is 0 or an errno."""


@dataclass(frozen=True, slots=True)
class Mbind:
    """mbind(2) with a node mask of one word (64 nodes)."""

    addr: int
    length: int
    policy: int
    nodes: int
    bind_flags: int


@dataclass(frozen=True, slots=True)
class Shmat:
    """shmat(2) of the executor's SysV segment number `segment`."""

    segment: int
    addr: int
    shm_flags: int


@dataclass(frozen=True, slots=True)
class Shmdt:
    """shmdt(2)."""

    addr: int


@dataclass(frozen=True, slots=True)
class Fill:
    """Map single pages without access from `addr` on, a VMA each, until `spare` mappings are left below
    vm.max_map_count; RLIMIT_AS is raised by as much. Once in a program, with nothing next to it.

    The outcome is 0 or an errno: EINVAL if fewer than two would be mapped, or beyond the address space; EEXIST if
    something is in the way, or filled already; else what mmap(2) says. A layout shows one record (`trace.NAME_FILLER`).
    """

    addr: int
    spare: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Have allocation number `nth` of the next call fail, counted from 1 (/proc/self/fail-nth; Linux,
    Documentation/fault-injection/fault-injection.rst). Of mincore and process_madvise it is one of that system call,
    of a touch one of its faults. Nothing happens before a fill, a mincore of more than 256 MiB, nor before what a file
    system on a disk may not survive: ftruncate of its files, msync and MADV_REMOVE of shared mappings of them.

    The outcome is 0 or an errno: ENOENT on kernels without fault injection, EINVAL beyond 1 to 2**31 - 1. What the next
    call may then do is a set of outcomes; where an allocation did fail, its step says so (`trace.FAILED`).
    """

    nth: int


Call = (
    Mmap
    | Munmap
    | Mprotect
    | Madvise
    | Mremap
    | Touch
    | UffdRegister
    | UffdUnregister
    | Mlock
    | Mlock2
    | Munlock
    | Mlockall
    | Munlockall
    | Mseal
    | Msync
    | Mincore
    | RemapFilePages
    | Brk
    | SetVmaName
    | Prctl
    | PkeyMprotect
    | ProcessMadvise
    | UffdWriteprotect
    | Ftruncate
    | Setrlimit
    | Fork
    | Mbind
    | Shmat
    | Shmdt
    | Fill
    | Fail
)
Program = tuple[Call, ...]

#: The closed list. A call's place is its opcode on the wire and in the byte form: add at the end.
CALLS: Final[tuple[type[Call], ...]] = (
    Mmap,
    Munmap,
    Mprotect,
    Madvise,
    Mremap,
    Touch,
    UffdRegister,
    UffdUnregister,
    Mlock,
    Mlock2,
    Munlock,
    Mlockall,
    Munlockall,
    Mseal,
    Msync,
    Mincore,
    RemapFilePages,
    Brk,
    SetVmaName,
    Prctl,
    PkeyMprotect,
    ProcessMadvise,
    UffdWriteprotect,
    Ftruncate,
    Setrlimit,
    Fork,
    Mbind,
    Shmat,
    Shmdt,
    Fill,
    Fail,
)
OPCODES: Final[dict[type[Call], int]] = {cls: opcode for opcode, cls in enumerate(CALLS)}
NAMES: Final[dict[type[Call], str]] = {
    Mmap: "mmap",
    Munmap: "munmap",
    Mprotect: "mprotect",
    Madvise: "madvise",
    Mremap: "mremap",
    Touch: "touch",
    UffdRegister: "uffd_register",
    UffdUnregister: "uffd_unregister",
    Mlock: "mlock",
    Mlock2: "mlock2",
    Munlock: "munlock",
    Mlockall: "mlockall",
    Munlockall: "munlockall",
    Mseal: "mseal",
    Msync: "msync",
    Mincore: "mincore",
    RemapFilePages: "remap_file_pages",
    Brk: "brk",
    SetVmaName: "set_vma_name",
    Prctl: "prctl",
    PkeyMprotect: "pkey_mprotect",
    ProcessMadvise: "process_madvise",
    UffdWriteprotect: "uffd_writeprotect",
    Ftruncate: "ftruncate",
    Setrlimit: "setrlimit",
    Fork: "fork",
    Mbind: "mbind",
    Shmat: "shmat",
    Shmdt: "shmdt",
    Fill: "fill",
    Fail: "fail",
}

_FIELD_KINDS: Final = {
    "addr": Kind.ADDRESS,
    "new_addr": Kind.ADDRESS,
    "length": Kind.LENGTH,
    "old_len": Kind.LENGTH,
    "new_len": Kind.LENGTH,
    "offset": Kind.OFFSET,
    "pages": Kind.PAGES,
    "prot": Kind.PROT,
    "advice": Kind.ADVICE,
    "mode": Kind.UFFD_MODE,
    "access": Kind.ACCESS,
    "fd": Kind.FD,
    "lock_flags": Kind.LOCK_FLAGS,
    "mcl_flags": Kind.MCL_FLAGS,
    "seal_flags": Kind.NUMBER,
    "sync_flags": Kind.SYNC_FLAGS,
    "pgoff": Kind.NUMBER,
    "name": Kind.NAME,
    "option": Kind.PRCTL,
    "value": Kind.NUMBER,
    "extra": Kind.NUMBER,
    "pkey": Kind.NUMBER,
    "pm_flags": Kind.NUMBER,
    "wp_mode": Kind.UFFD_WP_MODE,
    "size": Kind.OFFSET,
    "resource": Kind.RESOURCE,
    "limit": Kind.OFFSET,
    "policy": Kind.POLICY,
    "nodes": Kind.NUMBER,
    "bind_flags": Kind.BIND_FLAGS,
    "segment": Kind.NUMBER,
    "shm_flags": Kind.SHM_FLAGS,
    "spare": Kind.NUMBER,
    "nth": Kind.NUMBER,
}


def _signature(cls: type[Call]) -> tuple[tuple[str, Kind], ...]:
    flags = Kind.MREMAP_FLAGS if cls is Mremap else Kind.MAP_FLAGS
    return tuple(
        (f.name, flags if f.name == "flags" else _FIELD_KINDS[f.name]) for f in fields(cls)
    )


#: Field names and kinds of each call, in argument order.
SIGNATURES: Final[dict[type[Call], tuple[tuple[str, Kind], ...]]] = {
    cls: _signature(cls) for cls in CALLS
}


def arguments(call: Call) -> tuple[int, ...]:
    """The call's arguments as 64-bit words, in order."""
    return tuple(getattr(call, name) & WORD for name, _ in SIGNATURES[type(call)])


def build(cls: type[Call], words: tuple[int, ...] | list[int]) -> Call:
    """A call from its arguments. Words are kept as unsigned 64-bit numbers; `fd` as a signed 32-bit one."""
    signature = SIGNATURES[cls]
    values = [
        signed32(word) if kind is Kind.FD else word & WORD
        for word, (_, kind) in zip(words, signature, strict=True)
    ]
    return cls(*values)


def signed32(word: int) -> int:
    """The low 32 bits of a word as a signed number, as the kernel reads an `int` argument."""
    return ((word & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
