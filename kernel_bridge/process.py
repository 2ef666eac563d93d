"""One executor process: its shared memory, its doorbells, its start and its end.

It knows how to start one, ring it, wait for it and kill it. It does not know what a batch or an observation is.
"""

import errno
import fcntl
import mmap
import os
import select
import signal
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from abi import wire
from abi.header import abi_hash
from kernel_bridge.machine import BridgeError

#: Descriptors are moved up here before a start, out of the way of the numbers they get in the executor.
_FIRST_PARKED: Final = 100
_WORD: Final = struct.Struct("<Q")
_PLACES: Final = {name: place * _WORD.size for place, name in enumerate(wire.CONTROL)}
_SEALS: Final = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, SHRINK, GROW
_F_ADD_SEALS: Final = 1033


class Memory:
    """The shared memory: one memfd that this process and the executor map."""

    __slots__ = ("fd", "map")

    def __init__(self) -> None:
        try:
            self.fd = os.memfd_create("vmadiff-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.fd, wire.SHARED_SIZE)
            fcntl.fcntl(self.fd, _F_ADD_SEALS, _SEALS)
            self.map = mmap.mmap(self.fd, wire.SHARED_SIZE)
        except OSError as error:
            raise BridgeError(f"no shared memory for the executor: {error.strerror}") from None

    def get(self, name: str) -> int:
        """A word of the control page."""
        value: int = _WORD.unpack_from(self.map, _PLACES[name])[0]
        return value

    def set(self, name: str, value: int) -> None:
        """Write a word of the control page."""
        _WORD.pack_into(self.map, _PLACES[name], value)

    def read(self, area: str, start: int, size: int) -> bytes:
        """`size` bytes of an area, from `start` on."""
        offset = wire.AREAS[area][0] + start
        return self.map[offset : offset + size]

    def write(self, area: str, data: bytes) -> None:
        """Put `data` at the beginning of an area."""
        offset, size = wire.AREAS[area]
        assert len(data) <= size
        self.map[offset : offset + len(data)] = data

    def close(self) -> None:
        """Unmap and close it."""
        self.map.close()
        os.close(self.fd)


class Process:
    """A running executor. `start` makes one; `end` must be called once."""

    __slots__ = ("_bell", "_done", "_poll", "pid", "status")

    def __init__(self, pid: int, bell: int, done: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._bell = bell
        self._done = done
        self._poll = select.poll()
        self._poll.register(done, select.POLLIN)

    def ring(self) -> None:
        """Let it run the submitted request. That it is dead shows in `wait`."""
        with suppress(BrokenPipeError):
            os.write(self._bell, b"g")

    def wait(self, seconds: float) -> bool | None:
        """True when it has answered, None when it has died, False when `seconds` have passed."""
        if not self._poll.poll(seconds * 1000):
            return False
        return True if os.read(self._done, 1) else None

    def end(self) -> int:
        """Kill it if it lives, and reap it; returns its wait status."""
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                self.status = os.waitpid(self.pid, 0)[1]
            except (ProcessLookupError, ChildProcessError):
                self.status = 0
            os.close(self._bell)
            os.close(self._done)
        return self.status


def start(binary: Path, memory: Memory, descriptors: Mapping[int, int]) -> Process:
    """Start an executor whose control page is filled in; it does not wait for it to be ready.

    `descriptors`: number in the executor -> descriptor of this process.

    Raises:
        BridgeError: the process cannot be made.
    """
    bell_read, bell = os.pipe2(os.O_CLOEXEC)
    done, done_write = os.pipe2(os.O_CLOEXEC)
    parked: list[int] = []

    def park(fd: int) -> int:
        parked.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_PARKED))
        return parked[-1]

    try:
        image = os.open(binary, os.O_RDONLY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        own = {
            wire.FD_DOORBELL: bell_read,
            wire.FD_DONE: done_write,
            wire.FD_MEM: null,
            wire.FD_SHARED: memory.fd,
            wire.FD_IMAGE: image,
        }
        actions = [
            (os.POSIX_SPAWN_DUP2, park(fd), target) for target, fd in {**own, **descriptors}.items()
        ]
        os.close(image)
        os.close(null)
        memory.set("parent_hash", abi_hash())
        memory.set("parent_pid", os.getpid())
        pid = os.posix_spawn(
            binary,
            ["vmadiff"],
            {},
            file_actions=actions,
            setpgroup=0,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE],
        )
    except OSError as error:
        os.close(bell)
        os.close(done)
        hint = " (a noexec mount?)" if error.errno == errno.EACCES else ""
        raise BridgeError(f"cannot start {binary.name}: {error.strerror}{hint}") from None
    finally:
        for fd in (bell_read, done_write, *parked):
            os.close(fd)
    return Process(pid, bell, done)
