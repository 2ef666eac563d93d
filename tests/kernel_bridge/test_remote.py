"""An executor behind an agent: the agent of guests, run as a process of this machine, with a socket for its channel."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from abi.calls import Munmap
from abi.program import parse
from kernel_bridge import BridgeError, ExecutorConfig, KernelExecutor
from kernel_bridge.build import AGENT, build
from kernel_bridge.guest import Stream
from kernel_bridge.machine import Machine, MachineLost
from kernel_bridge.remote import HELLO, Remote
from tests.kernel_bridge.programs import program

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
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [build(AGENT)],
                pass_fds=[CHANNEL],
                preexec_fn=lambda: os.dup2(theirs.fileno(), CHANNEL),
                start_new_session=True,
            )
        self.ours = ours
        channel = Stream(ours)
        message = channel.receive(10)
        assert message is not None and message[0] == HELLO
        self.attach(channel)

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


@pytest.fixture
def machine() -> Iterator[Here]:
    here = Here()
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


@pytest.mark.slow
def test_a_hundred_losses_leave_nothing(machine: Here, remote: KernelExecutor) -> None:
    before = set(os.listdir("/proc/self/fd"))
    lose_often(machine, remote, 100)
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 2
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    children = [line for line in listed if not line.endswith(" ps")]
    assert len(children) == 1, "one agent, and no dead ones"


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
