"""Running programs on the model: one call after the other, giving the trace that a kernel should give."""

from collections.abc import Callable
from typing import Any, Final

from abi.calls import (
    Call,
    Madvise,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Program,
    Touch,
    UffdRegister,
    UffdUnregister,
)
from abi.consts import PAGE_SHIFT
from abi.environment import Environment, InitialVma, Object
from abi.trace import FIRST_NEW_IDENT, PERM_SHARED, RECORD, STEP, UNCHANGED
from model.errors import SyscallError
from model.fault import touch
from model.flags import CODES, VM_ACCESS, VM_MAYACCESS, VM_MAYSHARE, VM_SHARED
from model.madvise import madvise
from model.mmap import mmap
from model.mprotect import mprotect
from model.mremap import mremap
from model.munmap import munmap
from model.profile import Profile
from model.space import AddressSpace
from model.uffd import uffd_register, uffd_unregister
from model.vma import File, Inode, Vma

#: What each call does; `tests/model` compares the keys with abi.calls.CALLS.
SEMANTICS: Final[dict[type[Call], Callable[[AddressSpace, Any], int]]] = {
    Mmap: mmap,
    Munmap: munmap,
    Mprotect: mprotect,
    Madvise: madvise,
    Mremap: mremap,
    Touch: touch,
    UffdRegister: uffd_register,
    UffdUnregister: uffd_unregister,
}

#: File systems whose files are placed by thp_get_unmapped_area(), those that know MAP_SYNC (fs/*/file.c), and those
#: whose files are shmem.
THP_AREA_FILE_SYSTEMS: Final = frozenset(("ext4", "xfs", "btrfs"))
SYNC_FILE_SYSTEMS: Final = frozenset(("ext4", "xfs"))
SHMEM_FILE_SYSTEMS: Final = frozenset(("tmpfs",))


class Model:
    """A machine as a program finds it: an environment, and a profile of its kernel."""

    def __init__(self, environment: Environment, profile: Profile) -> None:
        self.environment = environment
        self.profile = profile
        self._initial = _initial_space(environment, profile)
        self._layout = self._initial.layout()
        self._inodes = {file.inode for file in self._initial.files.values()}

    def start(self) -> "Run":
        """A run of a program from its beginning. A model has one run at a time: files are shared between them."""
        for inode in self._inodes:
            inode.cached.clear()
            inode.dirty.clear()
        return Run(self._initial.copy(), self._layout)

    def run(self, program: Program) -> bytes:
        """The packed trace of a whole program (see abi.trace).

        Raises:
            Unmodelled: the program leaves the domain of the model.
        """
        run = self.start()
        for call in program:
            run.step(call)
        return run.trace()


class Run:
    """The state of one program: its address space so far and its trace."""

    __slots__ = ("_layout", "_parts", "space")

    def __init__(self, space: AddressSpace, layout: bytes) -> None:
        self.space = space
        self._layout = layout
        self._parts: list[bytes] = []

    def step(self, call: Call) -> int:
        """Do one call; its raw result.

        Raises:
            Unmodelled: the call leaves the domain of the model.
        """
        space = self.space
        try:
            value = SEMANTICS[type(call)](space, call)
        except SyscallError as error:
            value = -error.errno
        layout = space.layout()
        if layout == self._layout:
            self._parts.append(STEP.pack(value, UNCHANGED, 0))
        else:
            self._layout = layout
            self._parts.append(STEP.pack(value, len(layout) // RECORD.size, 0))
            self._parts.append(layout)
        return value

    def trace(self) -> bytes:
        """The packed trace of the calls so far."""
        return b"".join(self._parts)


def _initial_space(environment: Environment, profile: Profile) -> AddressSpace:
    space = AddressSpace(environment, profile.changes)
    inodes: dict[int, Inode] = {}
    space.files = {obj.fd: _file(obj, inodes) for obj in environment.objects}
    space.uffds = frozenset(obj.fd for obj in environment.objects if obj.fs == "uffd")
    for vma in environment.initial:
        space.insert(_own_vma(space, vma, inodes))
    space.next_ident = FIRST_NEW_IDENT
    return space


def _file(obj: Object, inodes: dict[int, Inode]) -> File:
    """The open file behind a descriptor; descriptors of one object share its inode."""
    shmem = obj.fs in SHMEM_FILE_SYSTEMS
    inode = Inode(obj.ident, obj.size + 4095 >> PAGE_SHIFT, shmem=shmem, max_bytes=obj.max_bytes)
    if obj.ident:
        inode = inodes.setdefault(obj.ident, inode)
    return File(
        inode,
        zero=obj.fs == "devzero",
        thp_area=obj.fs in THP_AREA_FILE_SYSTEMS,
        sync=obj.fs in SYNC_FILE_SYSTEMS,
        readable=obj.readable,
        writable=obj.writable,
        noexec=obj.noexec,
        mappable=obj.fs not in ("pipe", "uffd"),
        regular=obj.fs not in ("devzero", "pipe", "uffd"),
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
        file = File(inode)
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
