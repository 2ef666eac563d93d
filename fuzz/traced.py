"""The processes of a trace: which address space each call was about, and the call in our words, with traced addresses.

A process keeps what it has over fork(2) (a copy), clone(2) with CLONE_VM (shared) and execve(2) (a new, empty address
space). A call that our vocabulary does not have, or that cannot be said in it, is dropped and counted with its reason.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from abi import consts
from abi.calls import (
    Brk,
    Call,
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
    RemapFilePages,
    Setrlimit,
    SetVmaName,
    Shmat,
    Shmdt,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
    build,
)
from abi.consts import (
    FD_NAMES,
    MADV_HWPOISON,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_HUGETLB,
    MAP_SHARED,
    PRCTL_NAMES,
    PROT_WRITE,
    RESOURCE_NAMES,
    WORD,
)
from fuzz.descriptors import MADE_BY, Descriptors, Opened, kind_of
from fuzz.regions import Regions
from fuzz.strace import Syscall, annotation, fields, items, number, numbered

_CLONE_VM: Final = 0x100
_CLONE_FILES: Final = 0x400
_O_ACCMODE: Final = 3
_O_WRONLY: Final = 1
#: Names that strace writes and our tables do not have: single bits and numbers of the calls that are followed here.
_NAMES: Final[dict[str, int]] = {
    **{name: value for name, value in vars(consts).items() if isinstance(value, int)},
    "MAP_FILE": 0, "MAP_HUGE_SHIFT": 26, "MAP_UNINITIALIZED": 0x4000000,
    "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_CREAT": 0o100, "O_EXCL": 0o200, "O_NOCTTY": 0o400,
    "O_TRUNC": 0o1000, "O_APPEND": 0o2000, "O_NONBLOCK": 0o4000, "O_DSYNC": 0o10000, "O_ASYNC": 0o20000,
    "O_DIRECT": 0o40000, "O_LARGEFILE": 0o100000, "O_DIRECTORY": 0o200000, "O_NOFOLLOW": 0o400000,
    "O_NOATIME": 0o1000000, "O_CLOEXEC": 0o2000000, "O_SYNC": 0o4010000, "O_PATH": 0o10000000,
    "O_TMPFILE": 0o20200000, "__O_SYNC": 0o4000000, "__O_TMPFILE": 0o20000000,
    "CLONE_VM": _CLONE_VM, "CLONE_FILES": _CLONE_FILES,
    "MFD_CLOEXEC": 1, "MFD_ALLOW_SEALING": 2, "MFD_HUGETLB": 4, "MFD_NOEXEC_SEAL": 8, "MFD_EXEC": 0x10,
    "MFD_HUGE_SHIFT": 26,
    "PR_SET_VMA": 0x53564D41, "PR_SET_VMA_ANON_NAME": 0,
    "RLIM_INFINITY": WORD, "RLIM64_INFINITY": WORD,
    "IPC_PRIVATE": 0, "MPOL_WEIGHTED_INTERLEAVE": 6,
    "MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13,
}  # fmt: skip

#: Why a call is not in a program.
OUTSIDE: Final = "outside the vocabulary"
UNRETURNED: Final = "did not return"
UNREADABLE: Final = "an argument that cannot be read"
OTHER_DEVICE: Final = "a kind of file that nothing stands for"
UNMAPPED_FILE: Final = "of a file that is not mapped"
OTHER_PROCESS: Final = "of another process"
HARMFUL: Final = "takes memory from the machine for good"
NO_HUGE_PAGES: Final = "of huge pages that the traced machine did not have"


class Dropped(Exception):
    """The call cannot be said in our words; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call in traced addresses, and what it returned, None for an error; size: of the SysV segment (bytes); file: a
    number for the open file whose size it changes."""

    call: Call
    value: int | None
    size: int = consts.PAGE
    file: int = 0


@dataclass(slots=True)
class Space:
    """An address space of the trace: whose (the process that made it) and of which program, and what happened in it."""

    pid: int
    program: str
    start: Regions
    steps: list[Step] = field(default_factory=list)
    now: Regions = field(default_factory=Regions)


@dataclass(slots=True)
class _Process:
    space: Space
    descriptors: Descriptors


@dataclass(slots=True)
class Traced:
    """What a trace holds for us: its address spaces in the order of their beginning, and what was dropped."""

    spaces: list[Space] = field(default_factory=list)
    #: (system call, reason) -> how often.
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    processes: int = 0


def follow(calls: Iterable[Syscall]) -> Traced:
    """The address spaces of a trace."""
    follower = _Follower(numbered(calls))
    follower.run()
    return follower.traced


class _Follower:
    """The processes as far as the trace has come."""

    def __init__(self, calls: Iterable[Syscall]) -> None:
        self.calls = list(calls)
        self.traced = Traced()
        self.processes: dict[int, _Process] = {}
        self.serial = 0
        self.segments: dict[int, int] = {}
        #: Open files that are mapped somewhere in the trace: others may change their size unseen.
        self.mapped: set[int] = set()
        self.names: dict[str, int] = {}

    def run(self) -> None:
        """Follow all calls."""
        for call in self.calls:
            process = self.processes.get(call.pid) or self._new_process(call.pid)
            try:
                known = self._follow(process, call)
            except Dropped as reason:
                self._drop(call, str(reason))
                continue
            except (ValueError, IndexError, KeyError):
                self._drop(call, UNREADABLE)
                continue
            if not known:
                self._drop(call, OUTSIDE)
        for space in self.traced.spaces:
            self._forget_unmapped(space)
        self.traced.spaces = [space for space in self.traced.spaces if space.steps]
        self.traced.processes = len(self.processes)

    def _drop(self, call: Syscall, reason: str) -> None:
        self.traced.dropped[call.name, reason] += 1

    def _new_process(self, pid: int) -> _Process:
        process = _Process(self._new_space(pid, ""), Descriptors())
        self.processes[pid] = process
        return process

    def _new_space(self, pid: int, program: str, inherited: Regions | None = None) -> Space:
        start = Regions() if inherited is None else inherited.copy()
        space = Space(pid, program, start, now=start.copy())
        self.traced.spaces.append(space)
        return space

    def _forget_unmapped(self, space: Space) -> None:
        """Leave out size changes of files that no process of the trace maps."""
        kept = []
        for step in space.steps:
            if isinstance(step.call, Ftruncate) and step.file not in self.mapped:
                self.traced.dropped["ftruncate", UNMAPPED_FILE] += 1
            else:
                kept.append(step)
        space.steps = kept

    def _follow(self, process: _Process, call: Syscall) -> bool:
        """Take the call in; False if nothing here is about it."""
        if call.name in _PROCESSES:
            _PROCESSES[call.name](self, process, call)
            return True
        if call.name in MADE_BY or call.name in _FILES:
            if not call.failed:
                _FILES.get(call.name, _Follower._made)(self, process, call)
            return True
        say = _WORDS.get(call.name)
        if say is None:
            return False
        if call.value is None:
            raise Dropped(UNRETURNED)
        file = 0
        if call.name == "ftruncate":
            file = self._descriptor(process, call.arguments[0]).serial
        for each in say(self, process, call):
            self._add(process.space, each, None if call.failed else call.value, file)
        return True

    def _add(self, space: Space, call: Call, value: int | None, file: int = 0) -> None:
        size = consts.PAGE
        if isinstance(call, Shmat):
            size = self.segments.get(call.segment, size)
            call = Shmat(list(self.segments).index(call.segment) % 2, call.addr, call.shm_flags)
        space.steps.append(Step(call, value, size, file))
        if value is not None:
            space.now.apply(call, value, size)

    # Processes.

    def _clone(self, process: _Process, call: Syscall) -> None:
        flags = 0
        if call.name == "vfork":
            flags = _CLONE_VM
        elif call.name != "fork":
            text = next((a.partition("=")[2] for a in call.arguments if a.startswith("flags=")), "")
            if call.name == "clone3":
                text = fields(call.arguments[0]).get("flags", "0")
            elif not text:
                # -X raw, or a form without names: the first argument of the system call.
                text = call.arguments[0].rpartition("=")[2]
            flags = _bits(text)
        if call.failed and call.value is not None:
            return
        space = process.space
        if not flags & _CLONE_VM:
            self._add(process.space, Fork(), 0)
        if not call.value:
            return
        if not flags & _CLONE_VM:
            space = self._new_space(call.value, space.program, space.now)
        shared = flags & _CLONE_FILES
        descriptors = process.descriptors if shared else process.descriptors.copy()
        self.processes[call.value] = _Process(space, descriptors)

    def _execve(self, process: _Process, call: Syscall) -> None:
        if call.value == 0:
            path = call.arguments[1 if call.name == "execveat" else 0]
            program = path.strip('"').rpartition("/")[2]
            descriptors = process.descriptors.executed()
            self.processes[call.pid] = _Process(self._new_space(call.pid, program), descriptors)

    # Descriptors.

    def _open(self, process: _Process, call: Syscall, kind: str, flags: int) -> None:
        self._put(process, _result(call), kind, flags & _O_ACCMODE != 0, bool(flags & 0o2000000))

    def _put(
        self, process: _Process, new: int, kind: str, writable: bool, cloexec: bool, pid: int = 0
    ) -> None:
        self.serial += 1
        process.descriptors.opened[new] = Opened(kind, writable, self.serial, cloexec, pid)

    def _opened(self, process: _Process, call: Syscall) -> None:
        at = {"open": 0, "creat": 0}.get(call.name, 1)
        path = call.note or call.arguments[at].strip('"')
        if call.name == "creat":
            flags = _O_WRONLY
        elif call.name == "openat2":
            flags = _bits(fields(call.arguments[2])["flags"])
        else:
            flags = _bits(call.arguments[at + 1])
        self._open(process, call, kind_of(path), flags)
        if flags & _O_ACCMODE == _O_WRONLY:
            self._put(process, _result(call), "", False, bool(flags & 0o2000000))

    def _made(self, process: _Process, call: Syscall) -> None:
        kind = MADE_BY[call.name]
        cloexec = any("CLOEXEC" in argument for argument in call.arguments)
        pid = _number(call.arguments[0]) if kind == "pidfd" else 0
        if call.name == "socket" and "PACKET" in call.arguments[0]:
            kind = "packet"
        uffds = sum(o.kind == "uffd" for o in process.descriptors.opened.values())
        self._put(process, _result(call), kind, True, cloexec, pid)
        if kind == "uffd":
            process.descriptors.opened[_result(call)] = Opened(kind, True, uffds, cloexec)

    def _memfd(self, process: _Process, call: Syscall) -> None:
        flags = _bits(call.arguments[1])
        kind = "hugetlb" if flags & _NAMES["MFD_HUGETLB"] else "memfd"
        self._put(process, _result(call), kind, True, bool(flags & 1))

    def _pair(self, process: _Process, call: Syscall) -> None:
        listed = next((argument for argument in call.arguments if argument.startswith("[")), "")
        for each in items(listed):
            self._put(process, _number(each), "pipe", True, "CLOEXEC" in str(call.arguments))

    def _dup(self, process: _Process, call: Syscall) -> None:
        cloexec = call.name == "dup3" and "O_CLOEXEC" in call.arguments[2]
        process.descriptors.duplicate(_number(call.arguments[0]), _result(call), cloexec)

    def _fcntl(self, process: _Process, call: Syscall) -> None:
        command = call.arguments[1].strip()
        old = _number(call.arguments[0])
        if command in ("F_DUPFD", "F_DUPFD_CLOEXEC", "0", "0x406"):
            cloexec = command in ("F_DUPFD_CLOEXEC", "0x406")
            process.descriptors.duplicate(old, _result(call), cloexec)
        elif command in ("F_SETFD", "0x2") and old in process.descriptors.opened:
            was = process.descriptors.opened[old]
            cloexec = call.arguments[2] in ("FD_CLOEXEC", "0x1")
            process.descriptors.opened[old] = Opened(
                was.kind, was.writable, was.serial, cloexec, was.pid
            )

    def _close(self, process: _Process, call: Syscall) -> None:
        first = _number(call.arguments[0])
        last = _number(call.arguments[1]) if call.name == "close_range" else first
        process.descriptors.close(first, last)

    def _shmget(self, process: _Process, call: Syscall) -> None:
        self.segments[_result(call)] = _number(call.arguments[1])

    def _descriptor(self, process: _Process, text: str) -> Opened:
        """What is open there; what was opened before the trace is what its annotation says, else a file."""
        opened = process.descriptors.opened.get(_fd(text))
        if opened is None or (opened.kind == "" and annotation(text)):
            opened = Opened(kind_of(annotation(text) or "/"), True, -1 - _fd(text))
        return opened

    # Our words.

    def _mmap(self, process: _Process, call: Syscall) -> list[Call]:
        addr, length, prot, flags = (_number(text) for text in call.arguments[:4])
        fd = _fd(call.arguments[4])
        if flags & MAP_ANONYMOUS:
            fd = -1
        elif fd >= 0 and not (call.failed and call.error == "EBADF"):
            opened = self._descriptor(process, call.arguments[4])
            # A file that was opened before the trace: what it was used for says how.
            if opened.serial < 0 and not (flags & MAP_SHARED and prot & PROT_WRITE):
                opened = Opened(opened.kind, False, opened.serial)
            if opened.fd is None:
                raise Dropped(OTHER_DEVICE)
            self.mapped.add(opened.serial)
            fd = opened.fd
        elif 0 <= fd < consts.FIRST_OBJECT_FD:
            fd = _CLOSED
        if flags & MAP_ANONYMOUS and flags & MAP_HUGETLB and call.error == "ENOMEM":
            raise Dropped(NO_HUGE_PAGES)
        return [Mmap(addr, length, prot, flags, fd, _number(call.arguments[5]))]

    def _mremap(self, process: _Process, call: Syscall) -> list[Call]:
        # strace leaves the new address out where the flags do not ask for it.
        return [build(Mremap, [_number(text) for text in (*call.arguments, "0")[:5]])]

    def _madvise(self, process: _Process, call: Syscall) -> list[Call]:
        addr, length, advice = (_number(text) for text in call.arguments[:3])
        if advice & 0xFFFFFFFF in (MADV_HWPOISON, MADV_SOFT_OFFLINE):
            raise Dropped(HARMFUL)
        return [Madvise(addr, length, advice)]

    def _ftruncate(self, process: _Process, call: Syscall) -> list[Call]:
        opened = self._descriptor(process, call.arguments[0])
        if opened.fd is None:
            raise Dropped(OTHER_DEVICE)
        return [Ftruncate(opened.fd, _number(call.arguments[1]))]

    def _ioctl(self, process: _Process, call: Syscall) -> list[Call]:
        request = call.arguments[1]
        say = _UFFD.get(request)
        if say is None:
            raise Dropped(OUTSIDE)
        values = fields(call.arguments[2])
        start, length = _number(values["start"]), _number(values["len"])
        fd = self._descriptor(process, call.arguments[0]).fd
        if fd is None:
            raise Dropped(OTHER_DEVICE)
        mode = _bits(values.get("mode", "0"))
        if say is UffdUnregister:
            return [UffdUnregister(fd, start, length)]
        return [say(fd, start, length, mode)]

    def _prctl(self, process: _Process, call: Syscall) -> list[Call]:
        try:
            option = _number(call.arguments[0])
        except ValueError:
            raise Dropped(OUTSIDE) from None
        if option == _NAMES["PR_SET_VMA"]:
            text = call.arguments[4]
            name = (
                0 if text in ("NULL", "0") else 1 + self.names.setdefault(text, len(self.names)) % 2
            )
            return [SetVmaName(_number(call.arguments[2]), _number(call.arguments[3]), name)]
        if option not in PRCTL_NAMES.values():
            raise Dropped(OUTSIDE)
        value, extra = (_number(text) for text in (*call.arguments[1:3], "0", "0")[:2])
        return [Prctl(option, value, extra)]

    def _setrlimit(self, process: _Process, call: Syscall) -> list[Call]:
        resource, limit = call.arguments[0], call.arguments[1]
        if call.name == "prlimit64":
            if _number(call.arguments[0]) not in (0, call.pid):
                raise Dropped(OTHER_PROCESS)
            resource, limit = call.arguments[1], call.arguments[2]
        if resource not in RESOURCE_NAMES or limit == "NULL":
            raise Dropped(OUTSIDE)
        return [Setrlimit(RESOURCE_NAMES[resource], _number(fields(limit)["rlim_cur"]))]

    def _process_madvise(self, process: _Process, call: Syscall) -> list[Call]:
        opened = process.descriptors.opened.get(_fd(call.arguments[0]))
        if opened is None or opened.kind != "pidfd" or opened.pid != call.pid:
            raise Dropped(OTHER_PROCESS)
        advice, flags = _number(call.arguments[3]), _number(call.arguments[4])
        ranges = [fields(each) for each in items(call.arguments[1])]
        return [
            ProcessMadvise(_number(each["iov_base"]), _number(each["iov_len"]), advice, flags)
            for each in ranges
        ]

    def _mbind(self, process: _Process, call: Syscall) -> list[Call]:
        addr, length, policy = (_number(text) for text in call.arguments[:3])
        mask = 0 if call.arguments[3] == "NULL" else int(items(call.arguments[3])[0], 16)
        return [Mbind(addr, length, policy, mask, _number(call.arguments[5]))]

    def _shmat(self, process: _Process, call: Syscall) -> list[Call]:
        segment = _number(call.arguments[0])
        if segment not in self.segments:
            raise Dropped(OTHER_DEVICE)
        return [Shmat(segment, _number(call.arguments[1]), _number(call.arguments[2]))]

    def _mincore(self, process: _Process, call: Syscall) -> list[Call]:
        if call.error == "EFAULT":
            # Of the vector, which is the executor's here.
            raise Dropped(OUTSIDE)
        return [Mincore(_number(call.arguments[0]), _number(call.arguments[1]))]

    def _unnamed(self, process: _Process, call: Syscall) -> list[Call]:
        """A call that this strace has no name for: mseal(2) by its number."""
        return [build(Mseal, [_number(text) for text in call.arguments[:3]])]


#: A descriptor that is closed in the executor.
_CLOSED: Final = 999
assert _CLOSED not in FD_NAMES.values()


def _plain(cls: type[Call], count: int) -> Callable[[_Follower, _Process, Syscall], list[Call]]:
    """A call whose arguments are numbers, in our order."""

    def say(_follower: _Follower, _process: _Process, call: Syscall) -> list[Call]:
        return [build(cls, [_number(text) for text in call.arguments[:count]])]

    return say


_PROCESSES: Final[dict[str, Callable[[_Follower, _Process, Syscall], None]]] = {
    **dict.fromkeys(("clone", "clone3", "fork", "vfork"), _Follower._clone),
    **dict.fromkeys(("execve", "execveat"), _Follower._execve),
}
_FILES: Final[dict[str, Callable[[_Follower, _Process, Syscall], None]]] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), _Follower._opened),
    **dict.fromkeys(("pipe", "pipe2", "socketpair"), _Follower._pair),
    **dict.fromkeys(("dup", "dup2", "dup3"), _Follower._dup),
    **dict.fromkeys(("close", "close_range"), _Follower._close),
    "memfd_create": _Follower._memfd,
    "fcntl": _Follower._fcntl,
    "shmget": _Follower._shmget,
}
_WORDS: Final[dict[str, Callable[[_Follower, _Process, Syscall], list[Call]]]] = {
    "mmap": _Follower._mmap,
    "munmap": _plain(Munmap, 2),
    "mprotect": _plain(Mprotect, 3),
    "madvise": _Follower._madvise,
    "mremap": _Follower._mremap,
    "mlock": _plain(Mlock, 2),
    "mlock2": _plain(Mlock2, 3),
    "munlock": _plain(Munlock, 2),
    "mlockall": _plain(Mlockall, 1),
    "munlockall": _plain(Munlockall, 0),
    "mseal": _plain(Mseal, 3),
    "syscall_0x1ce": _Follower._unnamed,
    "msync": _plain(Msync, 3),
    "mincore": _Follower._mincore,
    "remap_file_pages": _plain(RemapFilePages, 5),
    "brk": _plain(Brk, 1),
    "prctl": _Follower._prctl,
    "pkey_mprotect": _plain(PkeyMprotect, 4),
    "process_madvise": _Follower._process_madvise,
    "ftruncate": _Follower._ftruncate,
    "setrlimit": _Follower._setrlimit,
    "prlimit64": _Follower._setrlimit,
    "mbind": _Follower._mbind,
    "shmat": _Follower._shmat,
    "shmdt": _plain(Shmdt, 1),
    "ioctl": _Follower._ioctl,
}
_UFFD: Final[dict[str, Callable[..., Call]]] = {
    "UFFDIO_REGISTER": UffdRegister,
    "UFFDIO_UNREGISTER": UffdUnregister,
    "UFFDIO_WRITEPROTECT": UffdWriteprotect,
}


def _number(text: str) -> int:
    return number(text, _NAMES) & WORD


def _bits(text: str) -> int:
    """Flags of which only known ones matter."""
    value = 0
    for name in text.split("/*")[0].split("|"):
        try:
            value |= _number(name)
        except ValueError:
            continue
    return value


def _fd(text: str) -> int:
    """A descriptor: an int, also where it is written as unsigned."""
    return ((number(text, _NAMES) & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _result(call: Syscall) -> int:
    assert call.value is not None
    return call.value
