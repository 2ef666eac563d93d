"""Running programs on the model: one call after the other, giving the trace that a kernel should give."""

from collections.abc import Callable
from typing import Any, Final

from abi.calls import (
    Brk,
    Call,
    Fail,
    Fill,
    Fork,
    Ftruncate,
    Madvise,
    Mbind,
    Mincore,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mprotect,
    Mremap,
    Mseal,
    Msync,
    Munlock,
    Munlockall,
    Munmap,
    PkeyMprotect,
    Prctl,
    ProcessMadvise,
    Program,
    RemapFilePages,
    Setrlimit,
    SetVmaName,
    Shmat,
    Shmdt,
    Touch,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
)
from abi.consts import MAP_POPULATE, PAGE_SHIFT
from abi.environment import Environment, InitialVma, Object
from abi.trace import (
    COUNT,
    EVENT,
    FAILED,
    FIRST_NEW_IDENT,
    PERM_SHARED,
    RECORD,
    SECTION_CHILD,
    SECTION_CONTENTS,
    SECTION_COUNTERS,
    SECTION_EVENTS,
    SECTION_FLAGS,
    SECTION_PAGES,
    STEP,
    UNCHANGED,
)
from model.brk import brk
from model.errors import SyscallError
from model.fail import fail
from model.fault import touch
from model.filler import fill
from model.flags import CODES, VM_ACCESS, VM_MAYACCESS, VM_MAYSHARE, VM_SHARED
from model.fork import fork
from model.ftruncate import ftruncate
from model.hosted import check_left_behind
from model.kinds import KINDS
from model.madvise import madvise
from model.mbind import mbind
from model.mincore import mincore
from model.mlock import mlock, mlock2, mlockall, munlock, munlockall
from model.mmap import mmap
from model.mprotect import mprotect, pkey_mprotect
from model.mremap import mremap
from model.mseal import mseal
from model.msync import msync
from model.munmap import munmap
from model.observe import (
    contents_section,
    counters_section,
    data_and_stack,
    flags_section,
    pages_section,
)
from model.prctl import prctl
from model.process_madvise import process_madvise
from model.profile import Profile
from model.remap_file_pages import remap_file_pages
from model.rlimit import setrlimit
from model.set_vma_name import set_vma_name
from model.shm import shmat, shmdt
from model.space import AddressSpace
from model.thp import note_tables
from model.uffd import uffd_register, uffd_unregister, uffd_writeprotect
from model.vma import File, Inode, Vma

#: What each call does; `tests/model` compares the keys with abi.calls.CALLS.
SEMANTICS: Final[dict[type[Call], Callable[[AddressSpace, Any], int]]] = {
    Mmap: mmap,
    Munmap: munmap,
    Mprotect: mprotect,
    Madvise: madvise,
    Mremap: mremap,
    Touch: touch,
    Msync: msync,
    RemapFilePages: remap_file_pages,
    Ftruncate: ftruncate,
    UffdRegister: uffd_register,
    UffdUnregister: uffd_unregister,
    Mlock: mlock,
    Mlock2: mlock2,
    Munlock: munlock,
    Mlockall: mlockall,
    Munlockall: munlockall,
    Mseal: mseal,
    Brk: brk,
    Setrlimit: setrlimit,
    Mincore: mincore,
    SetVmaName: set_vma_name,
    Prctl: prctl,
    PkeyMprotect: pkey_mprotect,
    ProcessMadvise: process_madvise,
    Mbind: mbind,
    UffdWriteprotect: uffd_writeprotect,
    Fork: fork,
    Shmat: shmat,
    Shmdt: shmdt,
    Fill: fill,
    Fail: fail,
}

#: File systems whose files are placed by thp_get_unmapped_area(), those that know MAP_SYNC (fs/*/file.c), and those
#: whose files are shmem.
THP_AREA_FILE_SYSTEMS: Final = frozenset(("ext4", "xfs", "btrfs"))
SYNC_FILE_SYSTEMS: Final = frozenset(("ext4", "xfs"))
SHMEM_FILE_SYSTEMS: Final = frozenset(("tmpfs",))
#: Kinds of files with a get_unmapped_area of their own (fs/ramfs/file-mmu.c, fs/proc/inode.c, drivers/char/mem.c), and
#: those whose files are the kernel's and know no fsync(2).
OWN_AREA_KINDS: Final = frozenset(("ramfs", "proc", "devzero"))
KERNEL_FILE_SYSTEMS: Final = frozenset(("proc", "sysfs"))
#: Those of disks.
DISK_FILE_SYSTEMS: Final = frozenset(("ext4", "xfs", "btrfs"))
#: Those whose files are mapped by mmap_prepare, /dev/zero among them on newer kernels.
PREPARING_FILE_SYSTEMS: Final = frozenset(
    ("ext4", "xfs", "btrfs", "tmpfs", "ramfs", "secretmem", "devzero")
)


class Model:
    """A machine as a program finds it: an environment, and a profile of its kernel."""

    def __init__(self, environment: Environment, profile: Profile) -> None:
        self.environment = environment
        self.profile = profile
        self._initial = _initial_space(environment, profile)
        self._layout = self._initial.layout()
        files = self._initial.files.values()
        self._inodes = {*self._initial.segments, *(file.inode for file in files)}

    def start(self, *, full: bool = False) -> "Run":
        """A run of a program from its beginning, observed in full or not. A model has one run at a time: files are
        shared between them."""
        for inode in self._inodes:
            inode.reset()
        return Run(self._initial.copy(), self._layout, full=full)

    def run(self, program: Program, *, full: bool = False) -> bytes:
        """The packed trace of a whole program (see abi.trace); `full`: as it is observed in full.

        Raises:
            Unmodelled: the program leaves the domain of the model.
        """
        run = self.start(full=full)
        for call in program:
            run.step(call)
        return run.trace()


class Run:
    """The state of one program: its address space so far and its trace."""

    __slots__ = ("_full", "_last", "_layout", "_parts", "space")

    def __init__(self, space: AddressSpace, layout: bytes, *, full: bool = False) -> None:
        self.space = space
        self._layout = layout
        self._full = full
        self._parts: list[bytes] = []
        #: Places of the last step's header in the parts and of what follows its pages, and the header's fields.
        self._last: tuple[int, int, tuple[int, int, int, int, int]] | None = None

    def step(self, call: Call, failing: int | None = None) -> int:
        """Do one call; its raw result. failing: an allocation of it was made to fail, and that is felt where the model
        allocates for so many times, counted from 1; 0: nowhere (`space.failing` is 0 if it was felt).

        Raises:
            Unmodelled: the call leaves the domain of the model.
        """
        space, parts = self.space, self._parts
        space.failing = failing or 0
        try:
            value = SEMANTICS[type(call)](space, call)
        except SyscallError as error:
            value = -error.errno
        space.clock += 1
        if space.left_behind:
            check_left_behind(space, makes_tables=_makes_tables(call))
        note_tables(space)
        layout = space.layout()
        place = len(parts)
        parts.append(b"")
        count = UNCHANGED
        if layout != self._layout:
            self._layout = layout
            count = len(layout) // RECORD.size
            parts.append(layout)
        size = data = 0
        sections = 0 if failing is None else FAILED
        if self._full:
            size, data = space.total_vm, data_and_stack(space)
            sections |= SECTION_COUNTERS | SECTION_PAGES
            if not space.filled:
                sections |= SECTION_FLAGS
                parts.append(flags_section(space))
            parts += (counters_section(space), pages_section(space))
        tail = len(parts)
        if space.events:
            sections |= SECTION_EVENTS
            parts.append(COUNT.pack(len(space.events)))
            parts += [EVENT.pack(*event) for event in space.events]
            space.events.clear()
        if space.child:
            sections |= SECTION_CHILD
            records, flags, rest = space.child
            parts += (records, flags, rest) if self._full else (records, rest)
            space.child = None
        fields = (value, count, sections, size, data)
        parts[place] = STEP.pack(*fields)
        self._last = place, tail, fields
        return value

    def trace(self, *, whole: bool = True) -> bytes:
        """The packed trace of the calls so far; `whole`: they are the whole program, and its last step shows more."""
        parts = self._parts
        if self._last is None or not whole:
            return b"".join(parts)
        space = self.space
        place, tail, (value, count, sections, _, _) = self._last
        body = parts[place + 1 : tail]
        if self._full:
            if not sections & SECTION_FLAGS:
                body.insert(int(count != UNCHANGED), flags_section(space))
            sections |= SECTION_FLAGS | SECTION_CONTENTS
            pages, contents = b"", contents_section(space)[0]
        else:
            sections |= SECTION_PAGES
            pages, contents = pages_section(space), b""
        header = STEP.pack(value, count, sections, space.total_vm, data_and_stack(space))
        return b"".join([*parts[:place], header, *body, pages, *parts[tail:], contents])


def _makes_tables(call: Call) -> bool:
    """It moves or populates memory."""
    if isinstance(call, Mmap):
        return bool(call.flags & MAP_POPULATE)
    return isinstance(call, (Mremap, RemapFilePages))


def _initial_space(environment: Environment, profile: Profile) -> AddressSpace:
    space = AddressSpace(environment, profile.changes)
    inodes: dict[int, Inode] = {}
    has_thp = "THP" in environment.config
    space.files = {obj.fd: _file(obj, inodes, has_thp) for obj in environment.objects}
    space.segments = tuple(_file(obj, inodes, has_thp).inode for obj in environment.segments)
    space.uffds = frozenset(obj.fd for obj in environment.objects if obj.fs == "uffd")
    for vma in environment.initial:
        space.insert(_own_vma(space, vma, inodes))
    space.next_ident = FIRST_NEW_IDENT
    return space


def _file(obj: Object, inodes: dict[int, Inode], has_thp: bool) -> File:
    """The open file behind a descriptor; descriptors of one object share its inode. `has_thp`: the kernel was built
    with transparent huge pages, without which thp_get_unmapped_area() is none (include/linux/huge_mm.h)."""
    shmem = obj.fs in SHMEM_FILE_SYSTEMS or obj.fs == "sysv"
    kind = KINDS.get(obj.fs)
    inode = Inode(
        obj.ident,
        obj.size + 4095 >> PAGE_SHIFT,
        shmem=shmem,
        max_bytes=obj.max_bytes,
        data_pages=obj.data >> PAGE_SHIFT,
        contents=obj.contents,
        huge=obj.huge,
    )
    inode.resident |= obj.resident
    if obj.ident:
        inode = inodes.setdefault(obj.ident, inode)
    file = File(
        inode,
        zero=obj.fs == "devzero",
        thp_area=has_thp and obj.fs in THP_AREA_FILE_SYSTEMS,
        own_area=obj.fs in OWN_AREA_KINDS,
        sync=obj.fs in SYNC_FILE_SYSTEMS,
        disk=obj.fs in DISK_FILE_SYSTEMS,
        fsync=obj.fs not in KERNEL_FILE_SYSTEMS and (kind is None or obj.fs == "sysv"),
        kernel=obj.fs if obj.fs in KERNEL_FILE_SYSTEMS else "",
        readable=obj.readable,
        writable=obj.writable,
        noexec=obj.noexec,
        late=obj.fs not in PREPARING_FILE_SYSTEMS,
        mappable=obj.fs not in ("pipe", "uffd"),
        regular=obj.fs not in ("devzero", "pipe", "uffd", "iouring", "perf", "bpf", "bpf_ring"),
        kind=kind,
        pages=obj.size >> PAGE_SHIFT,
    )
    if not obj.stacked:
        return file
    return File(
        inode,
        below=file,
        readable=obj.readable,
        writable=obj.writable,
        noexec=obj.noexec,
    )


def _own_vma(space: AddressSpace, initial: InitialVma, inodes: dict[int, Inode]) -> Vma:
    """A VMA of the executor. Its file is none that a program can open, so nothing merges with it."""
    flags = initial.perms & VM_ACCESS | VM_MAYACCESS
    if initial.perms & PERM_SHARED:
        flags |= VM_SHARED | VM_MAYSHARE
    if initial.flags:
        flags = 0
        for code in initial.flags:
            flags |= CODES.get(code, 0)
    file = None
    if initial.ident:
        inode = inodes.get(initial.ident)
        if inode is None:
            shmem = initial.fs in SHMEM_FILE_SYSTEMS
            inode = Inode(initial.ident, 1 << 20, shmem=shmem, max_bytes=(1 << 63) - 1)
            inodes[initial.ident] = inode
        file = File(
            inode,
            thp_area="THP" in space.environment.config and initial.fs in THP_AREA_FILE_SYSTEMS,
            own_area=initial.fs in OWN_AREA_KINDS,
        )
    return Vma(
        initial.start,
        initial.end,
        flags,
        file,
        initial.offset >> PAGE_SHIFT,
        anonymous=file is None,
        anon_vma=space.new_anon_vma() if initial.faulted else 0,
        name=initial.name,
    )
