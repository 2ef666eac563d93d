"""Opens the objects whose mappings are special, and the SysV segments: memory of the kernel's own that user space maps
by a descriptor or an identifier. It knows how each is made, not what mapping it does.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from abi.consts import PAGE
from abi.wire import (
    IDENT_ANON_INODE,
    IDENT_IOURING,
    IDENT_PACKET,
    IDENT_SECRETMEM,
    IDENT_TCP,
    IDENT_XDP,
    SEGMENT_SIZE,
)

#: Sizes (bytes): of the secret memory; of each of the two regions of an io_uring; of a bpf array; of a bpf ring buffer
#: as it is mapped: two pages of positions, its data twice; of a packet socket's ring; of an XDP socket's.
SECRET_SIZE: Final = 64 * PAGE
RING_SIZE: Final = 2 * PAGE
ARRAY_SIZE: Final = 8 * PAGE
BPF_RING_SIZE: Final = (2 + 2 * 4) * PAGE
PACKET_SIZE: Final = 4 * PAGE
XDP_SIZE: Final = 2 * PAGE

_RING_ENTRIES: Final = RING_SIZE // 64  # of 64 bytes each; the other region is then as large
_NR_PERF_EVENT_OPEN: Final = 298
_NR_BPF: Final = 321
_NR_IO_URING_SETUP: Final = 425
_NR_MEMFD_SECRET: Final = 447
_BPF_MAP_CREATE: Final = 0
_BPF_MAP_TYPE_ARRAY: Final = 2
_BPF_MAP_TYPE_RINGBUF: Final = 27
_BPF_F_MMAPABLE: Final = 1 << 10
_PERF_TYPE_SOFTWARE: Final = 1
_PERF_COUNT_SW_DUMMY: Final = 9
_PERF_DISABLED: Final = 1 << 0
_PERF_EXCLUDE_KERNEL: Final = 1 << 5 | 1 << 6
_PERF_FLAG_FD_CLOEXEC: Final = 8
_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_AF_XDP: Final = 44
_SOL_XDP: Final = 283
_XDP_RX_RING: Final = 2
_XDP_ENTRIES: Final = 256
_IPC_PRIVATE: Final = 0
_IPC_RMID: Final = 0
_SEGMENT_MODE: Final = 0o777

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.shmat.restype = ctypes.c_void_p
_LIBC.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_LIBC.shmdt.argtypes = (ctypes.c_void_p,)
_FAILED: Final = ctypes.c_void_p(-1).value


@dataclass(frozen=True, slots=True)
class Special:
    """One object: name and fs as in abi.environment.Object, its size (bytes), how it is opened (OSError if it cannot);
    memory: it is plain memory, whose contents are compared; shared_only: it can be mapped shared only."""

    name: str
    ident: int
    fs: str
    size: int
    open: Callable[[], int]
    memory: bool = False
    shared_only: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A SysV segment, and where it is attached here (address): that keeps it until this process ends, in any way."""

    identifier: int
    attached: int

    def close(self) -> None:
        """Detach it; the last to do so frees it."""
        _LIBC.shmdt(self.attached)


def create_segment() -> Segment:
    """A segment that nobody can find and that goes with the last process that has it attached.

    Raises:
        OSError: the kernel has none to give.
    """
    identifier = _checked(_LIBC.shmget(_IPC_PRIVATE, SEGMENT_SIZE, _SEGMENT_MODE))
    attached = _LIBC.shmat(identifier, None, 0)
    failed = ctypes.get_errno() if attached in (None, _FAILED) else 0
    _LIBC.shmctl(identifier, _IPC_RMID, None)
    if failed:
        raise OSError(failed, os.strerror(failed))
    return Segment(identifier, attached)


def _secretmem() -> int:
    """Secret memory, all of it there: what its owner may lock is counted when a page comes to be."""
    fd = _system_call(_NR_MEMFD_SECRET, os.O_CLOEXEC)
    try:
        os.ftruncate(fd, SECRET_SIZE)
        os.fchmod(fd, 0o666)  # mincore() tells the truth to those who may write
        with mmap.mmap(fd, SECRET_SIZE) as memory:
            for at in range(0, SECRET_SIZE, PAGE):
                memory[at] = 0
        return fd
    except BaseException:
        os.close(fd)
        raise


def _iouring() -> int:
    parameters = ctypes.create_string_buffer(120)
    return _system_call(_NR_IO_URING_SETUP, _RING_ENTRIES, parameters)


def _perf() -> int:
    """A software event of this thread that never counts anything."""
    size = 136
    attributes = bytearray(size)
    struct.pack_into("<IIQ", attributes, 0, _PERF_TYPE_SOFTWARE, size, _PERF_COUNT_SW_DUMMY)
    struct.pack_into("<Q", attributes, 40, _PERF_DISABLED | _PERF_EXCLUDE_KERNEL)
    buffer = ctypes.create_string_buffer(bytes(attributes), size)
    return _system_call(_NR_PERF_EVENT_OPEN, buffer, 0, -1, -1, _PERF_FLAG_FD_CLOEXEC)


def _bpf_map(kind: int, value: int, entries: int, flags: int) -> int:
    size = 128
    key = 4 if value else 0
    attributes = struct.pack("<5I", kind, key, value, entries, flags).ljust(size, b"\0")
    return _system_call(
        _NR_BPF, _BPF_MAP_CREATE, ctypes.create_string_buffer(attributes, size), size
    )


def _bpf() -> int:
    return _bpf_map(_BPF_MAP_TYPE_ARRAY, PAGE, ARRAY_SIZE // PAGE, _BPF_F_MMAPABLE)


def _bpf_ring() -> int:
    return _bpf_map(_BPF_MAP_TYPE_RINGBUF, 0, 4 * PAGE, 0)


def _packet() -> int:
    """A packet socket that no packet reaches, with a ring for those: blocks of a page, frames of half one."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as one:
        blocks = PACKET_SIZE // PAGE
        ring = struct.pack("<4I", PAGE, blocks, PAGE // 2, 2 * blocks)
        one.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
        return one.detach()


def _xdp() -> int:
    """An XDP socket that is bound to no device, with a ring for what it receives."""
    with socket.socket(_AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as one:
        one.setsockopt(_SOL_XDP, _XDP_RX_RING, _XDP_ENTRIES)
        return one.detach()


def _stream(family: socket.AddressFamily) -> int:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC).detach()


SPECIAL: Final = (
    Special(
        "secretmem", IDENT_SECRETMEM, "secretmem", SECRET_SIZE, _secretmem, memory=True,
        shared_only=True,
    ),
    Special("iouring", IDENT_IOURING, "iouring", RING_SIZE, _iouring),
    Special("perf", IDENT_ANON_INODE, "perf", 0, _perf, shared_only=True),
    Special("bpf", IDENT_ANON_INODE, "bpf", ARRAY_SIZE, _bpf, shared_only=True),
    Special(
        "bpf_ring", IDENT_ANON_INODE, "bpf_ring", BPF_RING_SIZE, _bpf_ring, shared_only=True
    ),
    Special("packet", IDENT_PACKET, "packet", PACKET_SIZE, _packet),
    Special("xdp", IDENT_XDP, "xdp", XDP_SIZE, _xdp),
    Special("tcp", IDENT_TCP, "tcp", 0, lambda: _stream(socket.AF_INET)),
    Special("unix", 0, "socket", 0, lambda: _stream(socket.AF_UNIX)),
)  # fmt: skip


def _system_call(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(int(_LIBC.syscall(ctypes.c_long(number), *words)))


def _checked(value: int) -> int:
    if value < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return value
