"""A machine that executors run on: its system calls, its files, its processes.

Everything the bridge does to prepare executors is a system call of one process of that machine: of this one for the
running kernel (`Local`), of a small agent for a guest (`kernel_bridge.guest`). So objects, file systems and the
environment are made and read by the same code, whichever kernel it is. x86_64 only, as the executor is.
"""

import ctypes
import mmap
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from abi.consts import PAGE

#: Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl).
NUMBERS: Final[Mapping[str, int]] = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "munmap": 11,
    "ioctl": 16, "pread64": 17, "pwrite64": 18, "shmget": 29, "shmat": 30, "shmctl": 31, "getpid": 39,
    "socket": 41, "setsockopt": 54, "uname": 63, "shmdt": 67, "ftruncate": 77, "fchmod": 91,
    "fstatfs": 138, "mount": 165, "getdents64": 217, "openat": 257, "mkdirat": 258,
    "unlinkat": 263, "readlinkat": 267, "unshare": 272, "pipe2": 293, "perf_event_open": 298,
    "finit_module": 313, "memfd_create": 319, "bpf": 321, "io_uring_setup": 425, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "memfd_secret": 447,
}  # fmt: skip
#: Bytes that one call reads or writes at most.
CHUNK: Final = 1 << 18
_AT_FDCWD: Final = -100
#: struct utsname: six texts of this length.
_UTS: Final = 65
#: struct stat, as far as st_size.
_STAT: Final = struct.Struct("<QQQIIIIQq")
_STAT_SIZE: Final = 144
_STATFS_SIZE: Final = 120
_DIRENT: Final = struct.Struct("<QqHB")

Argument = int | str | bytes | bytearray


class BridgeError(Exception):
    """The executor cannot be started; the message is one line that says why."""


class MachineLost(BridgeError):
    """The machine is gone or does not answer; the message is one line that says how."""


class Memory(Protocol):
    """The memory that the bridge shares with an executor: words of its control page by name, areas by name."""

    def get(self, name: str) -> int: ...
    def set(self, name: str, value: int) -> None: ...
    def read(self, area: str, start: int, size: int) -> bytes: ...
    def write(self, area: str, data: bytes) -> None: ...
    def close(self) -> None: ...


class Process(Protocol):
    """A running executor. `end` must be called once; it gives the wait status."""

    @property
    def pid(self) -> int: ...
    def ring(self) -> None: ...
    def wait(self, seconds: float) -> bool | None: ...
    def end(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Status:
    """What fstat(2) says: device, inode, and size (bytes)."""

    device: int
    inode: int
    size: int


class Machine(ABC):
    """A process of the machine that makes system calls. Errors are OSError, descriptors are that process's own.

    local: it is this process, and what only the running machine has (its other users) matters.
    """

    local: bool = False

    @abstractmethod
    def call(self, number: int, *arguments: Argument) -> int:
        """A raw system call: its result, -errno for an error. Texts and bytes go in, bytearrays in and out."""

    @abstractmethod
    def share(self) -> Memory:
        """New memory to share with an executor.

        Raises:
            BridgeError: there is none.
        """

    @abstractmethod
    def start(self, memory: Memory, descriptors: Mapping[int, int], cpu: int | None) -> Process:
        """Start an executor whose control page is filled in. `descriptors`: number there -> descriptor here.

        Raises:
            BridgeError: it cannot be started.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @property
    def answers(self) -> bool:
        """It has not been given up."""
        return True

    def revive(self) -> bool:
        """Bring a dead machine back, as it was at first; whether all that was made on it is gone."""
        return False

    def console(self) -> bytes:
        """What the kernel printed since this was last asked, over deaths and boots."""
        return b""

    @property
    def cause(self) -> str:
        """Why it is dead, in one line."""
        return ""

    def syscall(self, name: str, *arguments: Argument) -> int:
        """A system call by its name.

        Raises:
            OSError: it failed.
        """
        value = self.call(NUMBERS[name], *arguments)
        if -4096 < value < 0:
            raise OSError(-value, os.strerror(-value))
        return value

    # --- files

    def open(self, path: str | Path, flags: int, mode: int = 0, *, at: int = _AT_FDCWD) -> int:
        """openat(2), closed on exec."""
        return self.syscall("openat", at, str(path), flags | os.O_CLOEXEC, mode)

    def mkdir(self, path: str, mode: int = 0o777, *, at: int = _AT_FDCWD) -> None:
        """mkdirat(2)."""
        self.syscall("mkdirat", at, path, mode)

    def unlink(self, path: str, *, at: int = _AT_FDCWD) -> None:
        """unlinkat(2) of a file."""
        self.syscall("unlinkat", at, path, 0)

    def close_fd(self, fd: int) -> None:
        """close(2)."""
        self.syscall("close", fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """pread(2): up to `size` bytes."""
        data = bytearray(size)
        return bytes(data[: self.syscall("pread64", fd, data, size, offset)])

    def pwrite(self, fd: int, data: bytes, offset: int = 0) -> None:
        """pwrite(2), all of it."""
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            self.syscall("pwrite64", fd, part, len(part), offset + at)

    def truncate(self, fd: int, size: int) -> None:
        """ftruncate(2)."""
        self.syscall("ftruncate", fd, size)

    def fchmod(self, fd: int, mode: int) -> None:
        """fchmod(2)."""
        self.syscall("fchmod", fd, mode)

    def stat(self, fd: int) -> Status:
        """fstat(2)."""
        data = bytearray(_STAT_SIZE)
        self.syscall("fstat", fd, data)
        device, inode, *_, size = _STAT.unpack_from(data)
        return Status(device, inode, size)

    def file_system_magic(self, fd: int) -> int:
        """fstatfs(2): the number of the file system's kind."""
        data = bytearray(_STATFS_SIZE)
        self.syscall("fstatfs", fd, data)
        return int.from_bytes(data[:8], "little")

    def read(self, path: str | Path) -> bytes:
        """All of a file, which may be one of /proc."""
        fd = self.open(path, os.O_RDONLY)
        try:
            parts: list[bytes] = []
            while not parts or parts[-1]:
                data = bytearray(CHUNK)
                parts.append(bytes(data[: self.syscall("read", fd, data, CHUNK)]))
            return b"".join(parts)
        finally:
            self.close_fd(fd)

    def text(self, path: str | Path) -> str:
        """All of a file, as text."""
        return self.read(path).decode(errors="replace")

    def put(self, path: str | Path, text: str) -> None:
        """Write to a file that is there."""
        fd = self.open(path, os.O_WRONLY)
        try:
            self.syscall("write", fd, text, len(text))
        finally:
            self.close_fd(fd)

    def exists(self, path: str | Path) -> bool:
        """Whether there is such a file."""
        try:
            self.close_fd(self.open(path, os.O_PATH))
        except OSError:
            return False
        return True

    def names(self, path: str | Path) -> list[str]:
        """The names in a directory."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        found = []
        try:
            data = bytearray(CHUNK)
            while size := self.syscall("getdents64", fd, data, CHUNK):
                at = 0
                while at < size:
                    _, _, length, _ = _DIRENT.unpack_from(data, at)
                    found.append(
                        bytes(data[at + _DIRENT.size : at + length]).split(b"\0")[0].decode()
                    )
                    at += length
        finally:
            self.close_fd(fd)
        return [name for name in found if name not in (".", "..")]

    def link(self, path: str) -> str:
        """readlink(2)."""
        data = bytearray(PAGE)
        return bytes(data[: self.syscall("readlinkat", _AT_FDCWD, path, data, PAGE)]).decode()

    def pipe(self) -> tuple[int, int]:
        """pipe2(2): the ends to read and to write."""
        data = bytearray(8)
        self.syscall("pipe2", data, os.O_CLOEXEC)
        read, write = struct.unpack("<ii", data)
        return read, write

    def map(self, size: int, prot: int, flags: int, fd: int, addr: int = 0) -> int:
        """mmap(2), from the file's beginning."""
        return self.syscall("mmap", addr, size, prot, flags, fd, 0)

    def can_map(self, fd: int) -> None:
        """Map a page to read, and unmap it.

        Raises:
            OSError: that cannot be done.
        """
        at = self.map(PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE, fd)
        self.syscall("munmap", at, PAGE)

    def uname(self) -> tuple[str, str]:
        """The kernel's release and machine."""
        data = bytearray(6 * _UTS)
        self.syscall("uname", data)
        texts = [
            bytes(data[i : i + _UTS]).split(b"\0")[0].decode() for i in range(0, 6 * _UTS, _UTS)
        ]
        return texts[2], texts[4]

    def meminfo(self) -> dict[str, int]:
        """/proc/meminfo: sizes in KiB, counts as they are."""
        rows = (line.split() for line in self.text("/proc/meminfo").splitlines())
        return {row[0].rstrip(":"): int(row[1]) for row in rows}


def encode(arguments: Sequence[Argument]) -> list[int | bytes | bytearray]:
    """Arguments with texts as they are in C."""
    return [a.encode() + b"\0" if isinstance(a, str) else a for a in arguments]


_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def local_call(number: int, *arguments: Argument) -> int:
    """A raw system call of this process: its result, or -errno."""
    words: list[object] = []
    for argument in encode(arguments):
        if isinstance(argument, bytearray):
            words.append((ctypes.c_char * len(argument)).from_buffer(argument))
        elif isinstance(argument, bytes):
            words.append(ctypes.c_char_p(argument))
        else:
            words.append(ctypes.c_long(argument))
    words += [ctypes.c_long(0)] * (6 - len(words))
    value: int = _libc.syscall(ctypes.c_long(number), *words)
    return -ctypes.get_errno() if value == -1 else value
