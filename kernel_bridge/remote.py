"""A machine behind an agent: the messages of `native/agent.h`, over any channel that carries them.

System calls are made there one by one; the shared memory is there too, and here is a mirror of what the executor last
said. Knows nothing of how the machine is started (`kernel_bridge.guest`).
"""

import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from abi import wire
from abi.header import abi_hash
from kernel_bridge.machine import Argument, BridgeError, Machine, MachineLost, Memory, encode
from kernel_bridge.objects import memfd_create

HELLO, CALL, WRITE, RING, LOOK, START, END, ANSWER, DIED, TAKEN, FETCHED = range(1, 12)
#: On a terminal line, the bytes for which the agent says TAKEN once, and those that it need not have taken yet: the
#: kernel stops a line with a page unread, and User-Mode-Linux then does not go on (arch/um/drivers/line.c:
#: line_throttle()).
BLOCK: Final = 1024
WINDOW: Final = 3 * BLOCK
#: Beside a kind: the message's body is in the store, in the first half on its way to the agent, in the second from it.
#: Smaller bodies go through the line.
STORED: Final = 1 << 31
STORE_HALF: Final = 8 << 20
SMALL: Final = 2048
HEADER: Final = struct.Struct("<II")
_CALL: Final = struct.Struct("<7QII")
_PIECE: Final = struct.Struct("<II")
_SIZES: Final = struct.Struct("<4Q")
_START: Final = struct.Struct("<II")
_WORD: Final = struct.Struct("<Q")
_SIGNED: Final = struct.Struct("<q")
_PLACES: Final = {name: place * _WORD.size for place, name in enumerate(wire.CONTROL)}
_ALIGN: Final = 8
_WORD_MASK: Final = (1 << 64) - 1
#: Of the agent's patience, the share in which an executor that was killed has to be dead.
_DYING: Final = 0.25


class Channel(Protocol):
    """Carries messages. Both raise MachineLost when the other end is gone."""

    def send(self, message: bytes, seconds: float) -> None:
        """Send all of it; MachineLost too if the other end takes nothing for so long."""
        ...

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """A message's kind and body; None if none came in time."""
        ...

    def close(self) -> None: ...


class Mirror:
    """The shared memory of an executor elsewhere: what is written goes there with the next doorbell, what is read is
    what came with the last answer."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._control = bytearray(wire.AREAS["control"][1])
        self._areas: dict[str, bytes] = {}
        self._pieces: list[bytes] = []

    def get(self, name: str) -> int:
        value: int = _WORD.unpack_from(self._control, _PLACES[name])[0]
        return value

    def set(self, name: str, value: int) -> None:
        _WORD.pack_into(self._control, _PLACES[name], value)
        self._put(wire.AREAS["control"][0] + _PLACES[name], _WORD.pack(value))

    def read(self, area: str, start: int, size: int) -> bytes:
        return self._areas.get(area, b"")[start : start + size]

    def write(self, area: str, data: bytes) -> None:
        offset, size = wire.AREAS[area]
        assert len(data) <= size
        if area == "control":
            self._control[: len(data)] = data
        self._put(offset, data)

    def close(self) -> None:
        """Nothing is here; what is there goes with the machine, or with the next executor."""

    def take_pieces(self) -> bytes:
        """What was written since this was last asked: the body of a WRITE."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def reflect(self, snapshot: bytes) -> None:
        """Take over what the agent says of the memory."""
        sizes = _SIZES.unpack_from(snapshot)
        at = _SIZES.size
        control = len(self._control)
        self._control[:] = snapshot[at : at + control]
        at += control
        for area, size in zip(("index", "results", "baseline", "reached"), sizes, strict=True):
            self._areas[area] = snapshot[at : at + size]
            at += size

    def _put(self, offset: int, data: bytes) -> None:
        padding = bytes(-len(data) % _ALIGN)
        self._pieces += (_PIECE.pack(offset, len(data)), data, padding)


class Remote(Machine):
    """What an agent does for the bridge. One executor at a time."""

    def __init__(self, binary: Path) -> None:
        """`binary`: the executor's, as a file here."""
        self._binary = binary
        self._channel: Channel | None = None
        self._answers: deque[tuple[int, bytes]] = deque()
        self._image = -1
        #: Seconds in which the agent has to answer.
        self.patience = 20.0
        self._given_up = False

    def attach(self, channel: Channel) -> None:
        """Use a channel whose agent has said hello, and give it the executor."""
        self._channel = channel
        self._given_up = False
        self._answers.clear()
        self._image = self._bring_image()

    @property
    def answers(self) -> bool:
        return not self._given_up

    @property
    def dying(self) -> float:
        """Seconds in which an executor that was killed has to be dead."""
        return self.patience * _DYING

    def call(self, number: int, *arguments: Argument) -> int:
        words, buffers, reply, size = [0] * 6, 0, 0, 0
        parts: list[bytes] = []
        values = encode(arguments)
        # What comes back is first.
        order = sorted(range(len(values)), key=lambda i: not isinstance(values[i], bytearray))
        for place in order:
            value = values[place]
            if isinstance(value, int):
                words[place] = value & _WORD_MASK
                continue
            words[place] = size
            buffers |= 1 << place
            parts += (bytes(value), bytes(-len(value) % _ALIGN))
            size += len(value) + -len(value) % _ALIGN
            if isinstance(value, bytearray):
                reply = size
        body = b"".join((_CALL.pack(number, *words, buffers, reply), *parts))
        answer = self._ask(CALL, body)
        result: int = _SIGNED.unpack_from(answer)[0]
        for place in order:
            value = values[place]
            if isinstance(value, bytearray):
                at = _SIGNED.size + words[place]
                value[:] = answer[at : at + len(value)]
        return result

    def share(self) -> Mirror:
        try:
            fd = memfd_create(self, "vmadiff-shared", os.MFD_ALLOW_SEALING)
            self.truncate(fd, wire.SHARED_SIZE)
            self.map(
                wire.SHARED_SIZE,
                mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_SHARED | 0x10,  # MAP_FIXED
                fd,
                wire.SHARED_BASE,
            )
        except OSError as error:
            raise BridgeError(f"no shared memory for the executor: {error.strerror}") from None
        return Mirror(fd)

    def start(
        self, memory: Memory, descriptors: Mapping[int, int], cpu: int | None
    ) -> "RemoteProcess":
        assert isinstance(memory, Mirror), "memory of another machine"
        try:
            null = self.open("/dev/null", os.O_RDWR)
        except OSError as error:
            raise BridgeError(f"/dev/null there: {error.strerror}") from None
        memory.set("parent_hash", abi_hash())
        memory.set("parent_pid", self.syscall("getpid"))
        own = {wire.FD_MEM: null, wire.FD_SHARED: memory.fd, wire.FD_IMAGE: self._image}
        pairs = [_START.pack(there, here) for there, here in {**own, **descriptors}.items()]
        self.tell(WRITE, memory.take_pieces())
        answer = self._ask(START, _START.pack(self._image, len(pairs)) + b"".join(pairs))
        pid = _SIGNED.unpack(answer)[0]
        self.close_fd(null)
        if pid < 0:
            raise BridgeError(f"no process for the executor: {os.strerror(-pid)}")
        return RemoteProcess(self, memory, pid)

    def tell(self, kind: int, body: bytes = b"") -> None:
        """Send a message that has no answer."""
        self._connected().send(HEADER.pack(kind, len(body)) + body, self.patience)

    def look(self, memory: Mirror) -> None:
        """Have the mirror show what is there now."""
        memory.reflect(self._ask(LOOK))

    def end_executor(self) -> int:
        """Kill the executor; its wait status. What it answered and nobody heard is forgotten.

        Raises:
            MachineLost: the machine is gone, or a call holds the executor for ever. It is given up: nothing more is
            asked of it.
        """
        try:
            status: int = _SIGNED.unpack(self._ask(END, seconds=self.dying))[0]
        except MachineLost:
            self._given_up = True
            raise
        self._answers.clear()
        return status

    def answer(self, seconds: float) -> tuple[int, bytes] | None:
        """ANSWER or DIED with a snapshot, None if neither comes in time."""
        if not self._answers:
            message = self._connected().receive(seconds)
            if message is None:
                return None
            self._answers.append(message)
        return self._answers.popleft()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None

    def _ask(self, kind: int, body: bytes = b"", seconds: float | None = None) -> bytes:
        """The agent's answer, which has to come in so many seconds, by default in its patience."""
        patience = self.patience if seconds is None else seconds
        self.tell(kind, body)
        while True:
            message = self._connected().receive(patience)
            if message is None:
                raise MachineLost(f"it has not answered for {patience:g} s")
            if message[0] == kind:
                return message[1]
            self._answers.append(message)

    def _connected(self) -> Channel:
        if self._channel is None or self._given_up:
            raise MachineLost("it is not running")
        return self._channel

    def _bring_image(self) -> int:
        """A descriptor there of the executor's image. In a memfd it could be mistaken for a SysV segment: they are on
        one file system, and a segment's inode number is its identifier (ipc/shm.c: newseg())."""
        path = f"/tmp/vmadiff-{time.monotonic_ns():x}"
        with suppress(FileExistsError):
            self.mkdir("/tmp", 0o1777)
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
        self.pwrite(fd, self._binary.read_bytes())
        self.close_fd(fd)
        image = self.open(path, os.O_RDONLY)
        self.unlink(path)
        return image


class RemoteProcess:
    """A running executor elsewhere."""

    def __init__(self, machine: Remote, memory: Mirror, pid: int) -> None:
        self._machine = machine
        self._memory = memory
        self._ended: int | None = None
        self.pid = pid

    def ring(self) -> None:
        """Let it run the submitted request. That the machine is gone shows in `wait`."""
        pieces = self._memory.take_pieces()
        try:
            self._machine.tell(WRITE, pieces)
            self._machine.tell(RING)
        except MachineLost:
            return

    def wait(self, seconds: float) -> bool | None:
        """True when it has answered, None when it has died, False when `seconds` have passed.

        Raises:
            MachineLost: the machine is gone, or does not say.
        """
        answer = self._machine.answer(seconds)
        if answer is None:
            self._machine.look(self._memory)
            return False
        kind, snapshot = answer
        self._memory.reflect(snapshot)
        return True if kind == ANSWER else None

    def end(self) -> int:
        """Kill it and reap it; its wait status, 0 if its machine is gone with it."""
        if self._ended is None:
            try:
                self._ended = self._machine.end_executor()
            except MachineLost:
                self._ended = 0
        return self._ended
