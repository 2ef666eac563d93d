"""Opens the objects whose mappings are special, and the SysV segments: memory of the kernel's own that user space maps
by a descriptor or an identifier. It knows how each is made, not what mapping it does.
"""

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
from kernel_bridge.machine import Machine

#: Sizes (bytes): of the secret memory; of each of the two regions of an io_uring; of a bpf array; of a bpf ring buffer
#: as it is mapped: two pages of positions, its data twice; of a packet socket's ring; of an XDP socket's.
SECRET_SIZE: Final = 64 * PAGE
RING_SIZE: Final = 2 * PAGE
ARRAY_SIZE: Final = 8 * PAGE
BPF_RING_SIZE: Final = (2 + 2 * 4) * PAGE
PACKET_SIZE: Final = 4 * PAGE
XDP_SIZE: Final = 2 * PAGE

_RING_ENTRIES: Final = RING_SIZE // 64  # of 64 bytes each; the other region is then as large
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


@dataclass(frozen=True, slots=True)
class Special:
    """One object: name and fs as in abi.environment.Object, its size (bytes), how it is opened (OSError if it cannot);
    memory: it is plain memory, whose contents are compared; shared_only: it can be mapped shared only."""

    name: str
    ident: int
    fs: str
    size: int
    open: Callable[[Machine], int]
    memory: bool = False
    shared_only: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A SysV segment, and where it is attached (address): that keeps it until the process ends, in any way."""

    identifier: int
    attached: int


def create_segment(machine: Machine) -> Segment:
    """A segment that nobody can find and that goes with the last process that has it attached.

    Raises:
        OSError: the kernel has none to give.
    """
    identifier = machine.syscall("shmget", _IPC_PRIVATE, SEGMENT_SIZE, _SEGMENT_MODE)
    try:
        return Segment(identifier, machine.syscall("shmat", identifier, 0, 0))
    finally:
        machine.syscall("shmctl", identifier, _IPC_RMID, 0)


def _secretmem(machine: Machine) -> int:
    """Secret memory, all of it there: what its owner may lock is counted when a page comes to be."""
    fd = machine.syscall("memfd_secret", os.O_CLOEXEC)
    try:
        machine.truncate(fd, SECRET_SIZE)
        machine.fchmod(fd, 0o666)  # mincore() tells the truth to those who may write
        at = machine.map(SECRET_SIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd)
        zero = machine.open("/dev/zero", os.O_RDONLY)
        # Nothing else than an access makes a page of it: neither write(2) nor MAP_POPULATE.
        machine.syscall("read", zero, at, SECRET_SIZE)
        machine.close_fd(zero)
        machine.syscall("munmap", at, SECRET_SIZE)
        return fd
    except BaseException:
        machine.close_fd(fd)
        raise


def _iouring(machine: Machine) -> int:
    return machine.syscall("io_uring_setup", _RING_ENTRIES, bytearray(120))


def _perf(machine: Machine) -> int:
    """A software event of this thread that never counts anything."""
    size = 136
    attributes = bytearray(size)
    struct.pack_into("<IIQ", attributes, 0, _PERF_TYPE_SOFTWARE, size, _PERF_COUNT_SW_DUMMY)
    struct.pack_into("<Q", attributes, 40, _PERF_DISABLED | _PERF_EXCLUDE_KERNEL)
    return machine.syscall("perf_event_open", attributes, 0, -1, -1, _PERF_FLAG_FD_CLOEXEC)


def _bpf_map(machine: Machine, kind: int, value: int, entries: int, flags: int) -> int:
    size = 128
    key = 4 if value else 0
    attributes = struct.pack("<5I", kind, key, value, entries, flags).ljust(size, b"\0")
    return machine.syscall("bpf", _BPF_MAP_CREATE, attributes, size)


def _bpf(machine: Machine) -> int:
    return _bpf_map(machine, _BPF_MAP_TYPE_ARRAY, PAGE, ARRAY_SIZE // PAGE, _BPF_F_MMAPABLE)


def _bpf_ring(machine: Machine) -> int:
    return _bpf_map(machine, _BPF_MAP_TYPE_RINGBUF, 0, 4 * PAGE, 0)


def _socket(
    machine: Machine, family: int, kind: int, option: tuple[int, int, bytes] | None = None
) -> int:
    """A socket, with an option set: level, name and value."""
    fd = machine.syscall("socket", family, kind | socket.SOCK_CLOEXEC, 0)
    if option is not None:
        level, name, value = option
        try:
            machine.syscall("setsockopt", fd, level, name, value, len(value))
        except OSError:
            machine.close_fd(fd)
            raise
    return fd


def _packet(machine: Machine) -> int:
    """A packet socket that no packet reaches, with a ring for those: blocks of a page, frames of half one."""
    blocks = PACKET_SIZE // PAGE
    ring = struct.pack("<4I", PAGE, blocks, PAGE // 2, 2 * blocks)
    return _socket(machine, socket.AF_PACKET, socket.SOCK_RAW, (_SOL_PACKET, _PACKET_RX_RING, ring))


def _xdp(machine: Machine) -> int:
    """An XDP socket that is bound to no device, with a ring for what it receives."""
    entries = struct.pack("<i", _XDP_ENTRIES)
    return _socket(machine, _AF_XDP, socket.SOCK_RAW, (_SOL_XDP, _XDP_RX_RING, entries))


def _tcp(machine: Machine) -> int:
    return _socket(machine, socket.AF_INET, socket.SOCK_STREAM)


def _unix(machine: Machine) -> int:
    return _socket(machine, socket.AF_UNIX, socket.SOCK_STREAM)


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
    Special("tcp", IDENT_TCP, "tcp", 0, _tcp),
    Special("unix", 0, "socket", 0, _unix),
)  # fmt: skip
