"""Guests: kernels that are started for executors, watched, and started again when they die.

It knows how they are run, and their consoles. What goes through the channel is `remote`'s
business, where kernels come from that of others.
"""

import contextlib
import mmap
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from types import ModuleType
from typing import Final, Protocol

from kernel_bridge import leash, pack
from kernel_bridge.build import BuildError, build
from kernel_bridge.initramfs import initramfs
from kernel_bridge.machine import BridgeError, MachineLost
from kernel_bridge.objects import memfd_create
from kernel_bridge.remote import (
    BLOCK,
    FETCHED,
    HEADER,
    HELLO,
    SMALL,
    STORE_HALF,
    STORED,
    TAKEN,
    WINDOW,
    Channel,
    Remote,
)

_CHUNK: Final = 1 << 20
_PANIC: Final = "Kernel panic"
#: How much of a console is kept (bytes).
_CONSOLE: Final = 1 << 20
#: What a dying kernel still has to say (seconds).
_LAST_WORDS: Final = 2.0
#: What stands in what is printed where a guest was lost and another booted.
_LOST: Final = "\n[vmadiff: lost connection: {}]\n"
#: The limit of mappings, and what makes it cheap to reach.
_MAPPINGS: Final = "/proc/sys/vm/max_map_count"
_FEW: Final = "1000"
_SHM: Final = "/dev/shm"
_DEBUG: Final = "/sys/kernel/debug"
#: Allocations that may wait, and single pages, are not made to fail unless that is asked for; and each failure would be
#: written down (Documentation/fault-injection/fault-injection.rst).
_FAILING: Final = {
    "failslab": {"ignore-gfp-wait": "N", "verbose": "0"},
    "fail_page_alloc": {
        "ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "min-order": "0", "verbose": "0",
    },
}  # fmt: skip
_COMMON: Final = (
    "loglevel=5", "panic=-1", "oops=panic", "norandmaps", "mitigations=off", "audit=0",
)  # fmt: skip


class Console:
    """What a guest printed: read by a thread of its own, so that the guest never waits for us."""

    def __init__(self, source: int) -> None:
        os.set_blocking(source, False)
        self._source = source
        self._lock = threading.Lock()
        self._open = True
        self._new = bytearray()
        self._all = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def take(self) -> bytes:
        """What the guest wrote until now since this was last asked."""
        with self._lock:
            self._pull()
            new, self._new = bytes(self._new), bytearray()
        return new

    def tail(self) -> str:
        """The last of all that came."""
        with self._lock:
            return self._all.decode(errors="replace")

    def join(self, seconds: float) -> None:
        """Wait until there is no more to come."""
        self._thread.join(seconds)

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            while self._open:
                selector.select()
                with self._lock:
                    self._pull()
        os.close(self._source)

    def _pull(self) -> None:
        """Take over what is there."""
        while self._open:
            try:
                data = os.read(self._source, 1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self._open = bool(data)
            self._new += data
            self._all += data
            del self._new[:-_CONSOLE], self._all[:-_CONSOLE]


class Stream:
    """A channel over a stream socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(end, selectors.EVENT_READ)

    def send(self, message: bytes, seconds: float) -> None:
        self._end.settimeout(seconds)
        try:
            self._end.sendall(message)
        except TimeoutError:
            raise MachineLost(f"it has taken nothing for {seconds:g} s") from None
        except OSError as error:
            raise MachineLost(f"its channel is cut: {error.strerror}") from None

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        deadline = time.monotonic() + seconds
        while True:
            message = self._complete()
            if message is not None:
                return message
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            try:
                data = self._end.recv(_CHUNK)
            except OSError as error:
                raise MachineLost(f"its channel is cut: {error.strerror}") from None
            if not data:
                raise MachineLost("its channel is closed")
            self._buffer += data

    def close(self) -> None:
        self._selector.close()
        self._end.close()

    def _complete(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < HEADER.size:
            return None
        kind, size = HEADER.unpack_from(self._buffer)
        end = HEADER.size + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return kind, body


class Line(Stream):
    """A channel that is a terminal line at the other end: there is never more on its way than the line holds. What is
    large goes through `store`, memory that is shared with the guest, if the agent finds it."""

    def __init__(self, end: socket.socket, store: mmap.mmap | None = None) -> None:
        super().__init__(end)
        self._store = store
        self._uses_store = False
        self._is_stored = False
        self._owes_word = False
        self._room = WINDOW
        #: Came while room was waited for.
        self._messages: deque[tuple[int, bytes]] = deque()

    def send(self, message: bytes, seconds: float) -> None:
        if self._uses_store and len(message) - HEADER.size >= SMALL:
            message = self._put_away(message, seconds)
        self._push(message, seconds)
        self._say_fetched(seconds)

    def _push(self, message: bytes, seconds: float) -> None:
        at = 0
        while at < len(message):
            self._wait_until(lambda: self._room > 0, seconds)
            part = message[at : at + self._room]
            super().send(part, seconds)
            self._room -= len(part)
            at += len(part)

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        if self._messages:
            return self._messages.popleft()
        deadline = time.monotonic() + seconds
        while message := super().receive(max(0.0, deadline - time.monotonic())):
            if self._is_word_of_room(message[0]):
                continue
            if message[0] == HELLO:
                self._uses_store = any(message[1])
            self._say_fetched(seconds)
            return message
        return None

    def close(self) -> None:
        super().close()
        if self._store is not None:
            self._store.close()

    def _complete(self) -> tuple[int, bytes] | None:
        """A message, its body taken out of the store."""
        if len(self._buffer) >= HEADER.size:
            kind, size = HEADER.unpack_from(self._buffer)
            if kind & STORED:
                assert self._store is not None
                del self._buffer[: HEADER.size]
                self._owes_word = True
                return kind & ~STORED, self._store[STORE_HALF : STORE_HALF + size]
        return super()._complete()

    def _say_fetched(self, seconds: float) -> None:
        """Between messages: the agent may store the next."""
        if self._owes_word:
            self._owes_word = False
            self._push(HEADER.pack(FETCHED, 0), seconds)

    def _is_word_of_room(self, kind: int) -> bool:
        if kind == TAKEN:
            self._room += BLOCK
        elif kind == FETCHED:
            self._is_stored = False
        else:
            return False
        return True

    def _put_away(self, message: bytes, seconds: float) -> bytes:
        """Put a message's body into the store; what is left to send."""
        assert self._store is not None
        self._wait_until(lambda: not self._is_stored, seconds)
        body = memoryview(message)[HEADER.size :]
        self._store[: len(body)] = body
        self._is_stored = True
        kind, size = HEADER.unpack_from(message)
        return HEADER.pack(kind | STORED, size)

    def _wait_until(self, is_free: Callable[[], bool], seconds: float) -> None:
        while not is_free():
            message = super().receive(seconds)
            if message is None:
                raise MachineLost(f"it has taken nothing for {seconds:g} s")
            if not self._is_word_of_room(message[0]):
                self._messages.append(message)


@dataclass(slots=True)
class Running:
    """A started guest: its process, console and channel, which its agent has not used yet."""

    process: subprocess.Popen[bytes]
    console: Console
    channel: Channel

    def end(self) -> None:
        """Kill it, and all processes that it consists of."""
        self.channel.close()
        self.process.terminate()
        try:
            self.process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.console.join(_LAST_WORDS)


class Launcher(Protocol):
    """How a kind of guest is started. slow: how much longer all takes there than on the running kernel; reader: how
    layouts are best read there (`executor.ExecutorConfig`)."""

    @property
    def name(self) -> str: ...
    @property
    def slow(self) -> float: ...
    @property
    def reader(self) -> str: ...
    def launch(self) -> Running:
        """Start it.

        Raises:
            BridgeError: it cannot be started.
        """
        ...


@dataclass(slots=True)
class Qemu:
    """An x86_64 kernel under QEMU: `image` is a bzImage or an ELF vmlinux; memory in MiB; modules: what it
    needs for its channel, in order; accel: "kvm" or "tcg"."""

    image: Path
    accel: str = "tcg"
    memory: int = 1024
    modules: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        return f"QEMU ({self.accel.upper()})"

    @property
    def slow(self) -> float:
        return 1.0 if self.accel == "kvm" else 4.0

    @property
    def reader(self) -> str:
        return "auto"

    def launch(self) -> Running:
        program = which("qemu-system-x86_64")
        if program is None:
            raise BridgeError("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
        if not self.image.is_file():
            raise BridgeError(f"{self.image}: no such kernel image")
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (theirs.fileno(),)
            return _run(self._command(program, theirs.fileno()), leash, Stream(ours), pass_fds=fds)

    def _command(self, program: str, channel: int) -> list[str]:
        cpu = "host" if self.accel == "kvm" else "max,cx16=off,la57=off"
        # Emulated, a timer may be late enough for the kernel to give up on it.
        words = ("console=ttyS0", "reboot=t", "rdinit=/init", "no_timer_check", *_COMMON)
        accel = "tcg,thread=multi" if self.accel == "tcg" else self.accel
        return [
            program, "-accel", accel, "-M", "q35", "-cpu", cpu,
            "-m", str(self.memory), "-smp", "1", "-nodefaults", "-display", "none",
            "-no-reboot", "-serial", "stdio", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=channel,fd={channel}",
            "-device", "virtserialport,chardev=channel,name=vmadiff,nr=1",
            "-kernel", str(self.image), "-initrd", str(_initramfs(self.modules)),
            "-append", " ".join(words),
        ]  # fmt: skip


@dataclass(slots=True)
class Uml:
    """A User-Mode-Linux: `image` is the program that it is; memory in MiB."""

    image: Path
    memory: int = 1024

    @property
    def name(self) -> str:
        return "User-Mode-Linux"

    @property
    def slow(self) -> float:
        return 4.0

    @property
    def reader(self) -> str:
        return "maps"  # a system call costs much more than what it does

    def launch(self) -> Running:
        if not os.access(self.image, os.X_OK):
            raise BridgeError(f"{self.image}: no such program")
        ours, theirs = socket.socketpair()
        with theirs, os.fdopen(os.memfd_create("vmadiff-store"), "r+b") as store:
            store.truncate(2 * STORE_HALF)
            line = Line(ours, mmap.mmap(store.fileno(), 2 * STORE_HALF))
            fds = (theirs.fileno(), store.fileno())
            return _run(self._command(*fds), pack, line, pass_fds=fds)

    def _command(self, channel: int, store: int) -> list[str]:
        return [
            str(self.image.absolute()), f"mem={self.memory}M", f"initrd={_initramfs(())}", "rdinit=/init",
            "con=null", "con0=null,fd:1", f"con1=fd:{channel}", "vmadiff_channel=/dev/tty1",
            f"ubd0cd=/proc/self/fd/{store}", "vmadiff_store=/dev/ubda",
            # Where it would leave a directory when it is killed; it does without.
            "uml_dir=/dev/null/",
            # From 6.16 on, processes that are not traced, at about twice the speed.
            "seccomp=auto",
            *_COMMON,
        ]  # fmt: skip


def _initramfs(modules: Sequence[bytes]) -> Path:
    try:
        return initramfs(modules)
    except BuildError as error:
        raise BridgeError(str(error)) from None


def last_words(console: str) -> list[str]:
    """Of what a kernel printed that did not boot, what says most: its panic and the line before that, or its last
    line."""
    lines = [line.strip() for line in console.splitlines() if line.strip()]
    panics = [place for place, line in enumerate(lines) if _PANIC in line]
    return lines[max(panics[-1] - 1, 0) : panics[-1] + 1] if panics else lines[-1:]


def _run(
    command: Sequence[str], keeper: ModuleType, channel: Channel, pass_fds: tuple[int, ...]
) -> Running:
    """Start a command that does not outlive this process, which `keeper` sees to."""
    assert keeper.__file__
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            pass_fds=pass_fds,
        )
    except OSError as error:
        os.close(read)
        channel.close()
        raise BridgeError(f"{command[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(write)
    return Running(process, Console(read), channel)


@dataclass(slots=True)
class _State:
    running: Running | None = None
    cause: str = ""
    #: Printed by guests that are no more.
    printed: bytearray = field(default_factory=bytearray)


class Guest(Remote):
    """A guest, running from its construction to `close`.

    Raises:
        BridgeError: it does not boot.
    """

    def __init__(
        self,
        launcher: Launcher,
        modules: Sequence[tuple[str, bytes]] = (),
        boot_seconds: float = 60.0,
        attempts: int = 3,
    ) -> None:
        """`modules`: names and contents, to be inserted in this order; attempts: how often in a row it may fail to
        boot."""
        try:
            super().__init__(build())
        except BuildError as error:
            raise BridgeError(str(error)) from None
        self._launcher = launcher
        self._modules = modules
        self._boot_seconds = boot_seconds
        self.attempts = attempts
        self.patience *= launcher.slow
        self._state = _State()
        self.boots = 0
        #: Modules that could not be inserted, and why.
        self.refused: dict[str, str] = {}
        self._boot_or_give_up()

    @property
    def name(self) -> str:
        """What runs it."""
        return self._launcher.name

    @property
    def slow(self) -> float:
        """How much longer all takes there than on the running kernel."""
        return self._launcher.slow

    @property
    def reader(self) -> str:
        """How layouts are best read there."""
        return self._launcher.reader

    @property
    def pid(self) -> int:
        """The process that is the guest here."""
        assert self._state.running is not None, "it is closed"
        return self._state.running.process.pid

    @property
    def cause(self) -> str:
        return self._state.cause

    def console(self) -> bytes:
        running, printed = self._state.running, bytes(self._state.printed)
        self._state.printed.clear()
        return printed + (running.console.take() if running else b"")

    def revive(self) -> bool:
        self._bury(_LAST_WORDS)
        self._state.printed += _LOST.format(self._state.cause).encode()
        self._boot_or_give_up()
        return True

    def renew(self) -> None:
        """Boot it anew, whatever it does.

        Raises:
            BridgeError: it does not boot.
        """
        self._bury()
        self._boot_or_give_up()

    def close(self) -> None:
        self._bury()

    def _bury(self, seconds: float = 0.0) -> None:
        """End it; so long is waited for what a dying one has still to say."""
        running, self._state.running = self._state.running, None
        if running is None:
            return
        status = running.process.poll()
        if status is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = running.process.wait(seconds if self._channel else 0)
        self._state.cause = (
            "it had to be killed" if status is None else f"it ended with status {status}"
        )
        self._channel = None
        running.end()
        self._state.printed += running.console.take()

    def _boot_or_give_up(self) -> None:
        problem = ""
        for _ in range(self.attempts):
            try:
                self._boot()
                return
            except MachineLost as error:
                running = self._state.running
                self._bury(_LAST_WORDS)
                problem = ": ".join(
                    [str(error), *(last_words(running.console.tail()) if running else ())]
                )
        raise BridgeError(f"the guest does not boot ({problem})")

    def _boot(self) -> None:
        self.boots += 1
        running = self._state.running = self._launcher.launch()
        deadline = time.monotonic() + self._boot_seconds
        message = running.channel.receive(self._boot_seconds)
        if message is None or message[0] != HELLO:
            raise MachineLost(f"no word from it in {self._boot_seconds:g} s")
        # Inserting a module may take as long as all else.
        usual, self.patience = self.patience, self._boot_seconds
        try:
            self.attach(running.channel)
            self._prepare()
        finally:
            self.patience = usual
        if time.monotonic() > deadline:
            raise MachineLost(f"it took more than {self._boot_seconds:g} s to boot")

    def _prepare(self) -> None:
        """What a distribution's start would have done."""
        self.refused.clear()
        for name, content in self._modules:
            file = memfd_create(self, name)
            try:
                self.pwrite(file, content)
                self.syscall("finit_module", file, "", 0)
            except OSError as error:
                self.refused[name] = error.strerror or str(error)
            finally:
                self.close_fd(file)
        with contextlib.suppress(FileExistsError):
            self.mkdir(_SHM, 0o1777)
        self.syscall("mount", "tmpfs", _SHM, "tmpfs", 0, 0)
        self.put(_MAPPINGS, _FEW)
        with contextlib.suppress(OSError):
            self.syscall("mount", "debugfs", _DEBUG, "debugfs", 0, 0)
        self._let_allocations_fail()

    def _let_allocations_fail(self) -> None:
        """Where the kernel has fault injection, any allocation can be made to fail."""
        for kind, settings in _FAILING.items():
            for name, value in settings.items():
                with contextlib.suppress(FileNotFoundError):
                    self.put(f"{_DEBUG}/{kind}/{name}", value)
