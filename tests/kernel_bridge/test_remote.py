"""An executor behind an agent: the agent of guests, run as a process of this machine, with a socket for its channel."""

import fcntl
import os
import random
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from abi import wire
from abi.calls import Munmap
from abi.program import parse
from kernel_bridge import BridgeError, ExecutorConfig, KernelExecutor
from kernel_bridge.build import AGENT, build
from kernel_bridge.guest import Line, Stream
from kernel_bridge.machine import Machine, MachineLost
from kernel_bridge.remote import END, HELLO, WINDOW, Mirror, Remote
from tests.kernel_bridge.programs import program
from tests.processes import state_of

#: Where the agent looks for its channel (native/agent.c).
CHANNEL = 3


class Here(Remote):
    """The running machine behind an agent; `kills` is how often that died."""

    local = True  # its huge pages are not ours

    def __init__(self) -> None:
        super().__init__(build())
        self.kills = 0
        self._begin()

    def _begin(self) -> None:
        self.ours, theirs = socket.socketpair()
        channel = self._start(theirs)
        message = channel.receive(10)
        assert message is not None and message[0] == HELLO
        self.attach(channel)

    def _start(self, theirs: socket.socket) -> Stream:
        with theirs:
            self.process = start_agent(theirs.fileno())
        return Stream(self.ours)

    def revive(self) -> bool:
        self.kills += 1
        self.end()
        self._begin()
        return True

    def cut(self) -> None:
        """Cut the channel, at both ends."""
        self.ours.shutdown(socket.SHUT_RDWR)

    @property
    def cause(self) -> str:
        return "its agent was killed"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close()


def start_agent(channel: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [build(AGENT)],
        pass_fds=[CHANNEL],
        preexec_fn=lambda: os.dup2(channel, CHANNEL),
        start_new_session=True,
    )


class OnALine(Here):
    """The same with a terminal line for its channel, as User-Mode-Linux has; `unread`: the most that lay in it after
    something was written."""

    def _start(self, theirs: socket.socket) -> Stream:
        self.unread = 0
        ours, line = os.openpty()
        self.process = start_agent(line)
        self.line = os.ttyname(line)
        os.close(line)
        threading.Thread(target=self._pump, args=(theirs, ours), daemon=True).start()
        return Line(self.ours)

    def _pump(self, theirs: socket.socket, ours: int) -> None:
        with suppress(OSError), theirs:
            while True:
                ready = select.select([theirs, ours], [], [])[0]
                if ours in ready:
                    theirs.sendall(os.read(ours, 1 << 16))
                if theirs in ready:
                    data = theirs.recv(1 << 16)
                    if not data:
                        break
                    os.write(ours, data)
                    self.unread = max(self.unread, count_unread(self.line))
        os.close(ours)


def count_unread(line: str) -> int:
    fd = os.open(line, os.O_RDONLY | os.O_NOCTTY)
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
    finally:
        os.close(fd)


@pytest.fixture(params=[Here, OnALine])
def machine(request: pytest.FixtureRequest) -> Iterator[Here]:
    here = request.param()
    yield here
    here.end()


@pytest.fixture
def remote(machine: Here) -> Iterator[KernelExecutor]:
    try:
        with KernelExecutor(ExecutorConfig(drop_privileges=False), machine) as executor:
            yield executor
    except BridgeError as error:
        pytest.skip(f"no executor here: {error}")


def test_system_calls_and_files(machine: Here) -> None:
    assert machine.uname() == (os.uname().release, os.uname().machine)
    assert machine.syscall("getpid") == machine.process.pid
    with pytest.raises(FileNotFoundError):
        machine.text("/no/such/file")
    fd = machine.syscall("memfd_create", "x", 0)
    machine.pwrite(fd, b"ab" * 400_000, 5)
    assert machine.stat(fd).size == 800_005
    assert machine.pread(fd, 4, 4) == b"\0aba"
    assert machine.link(f"/proc/self/fd/{fd}").startswith("/memfd:x")
    assert str(fd) in machine.names("/proc/self/fd")
    machine.close_fd(fd)
    assert not machine.exists(f"/proc/self/fd/{fd}")


def test_the_same_programs_give_the_same_traces(remote: KernelExecutor) -> None:
    """What a program does does not depend on the way it came."""
    rng = random.Random(5)
    with KernelExecutor(ExecutorConfig(drop_privileges=False)) as direct:
        programs = [program(rng, direct.environment, wild=0.02) for _ in range(150)]
        assert direct.environment.objects == remote.environment.objects
        assert remote.run(programs) == direct.run(programs)
        assert remote.run(programs[:20], full=True) == direct.run(programs[:20], full=True)


def test_a_killed_executor_is_replaced(remote: KernelExecutor) -> None:
    geometry = remote.environment.geometry
    good = parse("mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)", geometry)
    want = remote.run([good])
    os.kill(remote.pid, signal.SIGKILL)
    got = remote.run([good, good])
    assert [observation.data for observation in got] == [want[0].data] * 2
    assert remote.restarts == 1


def test_a_program_that_ends_the_executor_is_named(remote: KernelExecutor) -> None:
    programs = [(Munmap(0x1000_0000, 0x8000),)]
    config = ExecutorConfig(drop_privileges=False, protect=False)
    remote.close()
    with KernelExecutor(config, remote.machine) as bare:
        (observation,) = bare.run(programs)
    assert observation.loss is not None
    assert (observation.loss.kind, observation.loss.call) == ("signal", 0)


def kill(machine: Here) -> None:
    machine.process.kill()


def wedge(machine: Here) -> None:
    machine.process.send_signal(signal.SIGSTOP)


def cut(machine: Here) -> None:
    machine.cut()


def lose_often(machine: Here, remote: KernelExecutor, times: int) -> None:
    """Lose the machine in the middle of batches, in turn in every way."""
    rng = random.Random(3)
    machine.patience = 0.4
    programs = [program(rng, remote.environment, wild=0.0) for _ in range(40)]
    want = remote.run(programs)
    begin = time.perf_counter()
    remote.run(programs)
    usual = time.perf_counter() - begin
    for turn in range(times):
        remote.submit(programs)
        time.sleep(rng.uniform(0, usual))
        (kill, wedge, cut)[turn % 3](machine)
        got = remote.collect()
        assert len(got) == len(programs)
        for observation, undisturbed in zip(got, want, strict=True):
            assert observation == undisturbed or (
                observation.loss is not None and observation.loss.kind == "crash"
            )
    assert machine.kills >= times // 3


def test_a_lost_machine_loses_no_program(machine: Here, remote: KernelExecutor) -> None:
    """Killed, wedged and cut off: every program has its observation, or the loss of the machine, and none twice."""
    lose_often(machine, remote, 9)


def test_an_executor_that_cannot_be_ended_is_a_lost_machine(
    machine: Here, remote: KernelExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call holds it for ever, while the agent still shows which. The programs after it are not run unless asked."""
    geometry = remote.environment.geometry
    first = parse("munmap(W+0, 1p)", geometry)
    slow = parse(
        "mmap(W+0, 25600p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_POPULATE|MAP_FIXED, -1, 0)",
        geometry,
    )
    remote.close()
    tell = machine.tell
    ends: list[int] = []

    def ignore(kind: int, body: bytes = b"") -> None:
        if kind == END and not ends:
            ends.append(kind)
        else:
            tell(kind, body)

    with KernelExecutor(
        ExecutorConfig(drop_privileges=False, call_seconds=0.6), machine
    ) as executor:
        (want,) = executor.run([first])
        monkeypatch.setattr(machine, "tell", ignore)
        machine.patience = 10.0
        executor.submit([first, *[slow] * 300])
        stop_in_a_call(machine, executor)
        got = executor.collect(until_lost=True)
        assert (ends, machine.kills) == ([END], 1)
        assert 1 < len(got) < 301
        assert got[0] == want
        assert all(observation.loss is None for observation in got[:-1])
        assert got[-1].loss is not None
        assert got[-1].loss.kind == "crash"
        assert executor.run([first]) == [want]


def stop_in_a_call(machine: Here, executor: KernelExecutor) -> None:
    """Stop the executor in a call of a program after the first: between programs it would not say which to blame."""
    memory = executor._memory
    assert isinstance(memory, Mirror)
    for _ in range(1000):
        os.kill(executor.pid, signal.SIGSTOP)
        while state_of(executor.pid) != "T":
            time.sleep(0.001)
        machine.look(memory)
        if memory.get("finished") and memory.get("phase") == wire.PHASE_CALL:
            return
        os.kill(executor.pid, signal.SIGCONT)
        time.sleep(0.01)
    pytest.fail("it was never in a call of a program after the first")


@pytest.mark.slow
def test_a_hundred_losses_leave_nothing(machine: Here, remote: KernelExecutor) -> None:
    before = set(os.listdir("/proc/self/fd"))
    lose_often(machine, remote, 100)
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 2
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    children = [line for line in listed if not line.endswith(" ps")]
    assert len(children) == 1, "one agent, and no dead ones"


def test_a_line_never_holds_more_than_it_can() -> None:
    machine = OnALine()
    try:
        fd = machine.syscall("memfd_create", "x", 0)
        data = random.Random(1).randbytes(1 << 20)
        # Without it the agent may have read everything before it is counted.
        os.kill(machine.process.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(machine.pwrite, fd, data)
            while not (unread := count_unread(machine.line)) and not written.done():
                time.sleep(0.01)
            os.kill(machine.process.pid, signal.SIGCONT)
            written.result()
        assert b"".join(machine.pread(fd, 1 << 18, at << 18) for at in range(4)) == data
        assert 0 < max(unread, machine.unread) <= WINDOW
    finally:
        machine.end()


def test_a_machine_that_takes_nothing_is_lost(machine: Here) -> None:
    machine.patience = 0.3
    fd = machine.syscall("memfd_create", "x", 0)
    os.kill(machine.process.pid, signal.SIGSTOP)
    with pytest.raises(MachineLost, match="has taken nothing"):
        machine.pwrite(fd, bytes(4 << 20))
    os.kill(machine.process.pid, signal.SIGCONT)


def test_silence_is_a_loss(machine: Here) -> None:
    machine.patience = 0.3
    os.kill(machine.process.pid, signal.SIGSTOP)
    with pytest.raises(MachineLost, match="has not answered"):
        machine.uname()
    os.kill(machine.process.pid, signal.SIGCONT)


def test_the_agent_ends_with_its_channel(machine: Machine) -> None:
    assert isinstance(machine, Here)
    machine.close()
    assert machine.process.wait(5) == 0
