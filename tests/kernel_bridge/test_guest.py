"""Guests without a kernel: the agent as a process of this machine, started, lost and started again as a guest is."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from kernel_bridge import BridgeError
from kernel_bridge.build import AGENT, build
from kernel_bridge.guest import Console, Guest, Running, Stream, last_words
from tests.kernel_bridge.test_remote import CHANNEL

PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs"


@dataclass
class Shell:
    """Starts a shell with a channel; `scripts` are for one start each, the last for all that follow."""

    scripts: list[str]
    name: str = "shell"
    slow: float = 1.0
    started: list[Running] = field(default_factory=list)

    def launch(self) -> Running:
        script = self.scripts[min(len(self.started), len(self.scripts) - 1)]
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        with theirs:
            process = subprocess.Popen(
                ["sh", "-c", script],
                pass_fds=[CHANNEL],
                preexec_fn=lambda: os.dup2(theirs.fileno(), CHANNEL),
                stdout=write,
                start_new_session=True,
            )
        os.close(write)
        self.started.append(Running(process, Console(read), Stream(ours)))
        return self.started[-1]


class Bare(Guest):
    """A guest of which nothing is mounted: it is this machine."""

    def _prepare(self) -> None:
        pass


@pytest.fixture
def boots() -> str:
    """A script that becomes the agent."""
    return f"echo booted; exec {build(AGENT)}"


@pytest.fixture
def guest(boots: str) -> Iterator[Bare]:
    made = Bare(Shell([boots]), boot_seconds=10)
    yield made
    made.close()


def test_a_guest_that_dies_on_every_boot_is_one_clear_error() -> None:
    shell = Shell([f"echo 'VFS: Cannot open root device'; echo '{PANIC}'; echo Rebooting"])
    with pytest.raises(BridgeError) as caught:
        Guest(shell, boot_seconds=10)
    why = f"its channel is closed: VFS: Cannot open root device: {PANIC}"
    assert str(caught.value) == f"the guest does not boot ({why})"
    assert len(shell.started) == 3
    assert all(running.process.returncode is not None for running in shell.started)


def test_one_that_says_nothing_is_given_up(boots: str) -> None:
    shell = Shell(["exec sleep 60"])
    with pytest.raises(BridgeError, match=r"the guest does not boot \(no word from it in 0\.2 s\)"):
        Guest(shell, boot_seconds=0.2, attempts=1)
    assert shell.started[0].process.returncode == -signal.SIGTERM


def test_one_that_fails_once_is_tried_again(boots: str) -> None:
    shell = Shell([f"echo '{PANIC}'", boots])
    guest = Bare(shell, boot_seconds=10)
    assert guest.boots == 2
    assert PANIC in guest.console().decode()
    guest.close()


def test_what_is_printed_goes_on_over_a_death(guest: Bare) -> None:
    guest._state.running.process.kill()  # type: ignore[union-attr]
    guest._state.running.process.wait()  # type: ignore[union-attr]
    assert guest.revive()
    lines = guest.console().decode().split()
    assert " ".join(lines) == "booted [vmadiff: lost connection: it ended with status -9] booted"
    assert guest.console() == b""


def test_one_that_is_booted_anew_was_not_lost(guest: Bare) -> None:
    before = guest.pid
    guest.console()
    begin = time.monotonic()
    guest.renew()
    assert time.monotonic() - begin < 2, "a live one has no last words"
    assert guest.pid != before
    assert guest.console() == b"booted\n"
    assert guest.uname()[1] == os.uname().machine


def test_a_console_gives_what_was_written_until_now() -> None:
    read, write = os.pipe()
    console = Console(read)
    for number in range(300):
        line = b"%d\n" % number * 100
        os.write(write, line)
        assert console.take() == line
    assert console.take() == b""
    os.close(write)
    console.join(5)
    assert console.take() == b""
    assert console.tail().endswith("299\n")


@pytest.mark.parametrize(
    ("console", "told"),
    [
        ("", []),
        ("one\n\ntwo\n\n", ["two"]),
        (f"why\n{PANIC}\nCall Trace:\n f+0x1\n", ["why", PANIC]),
        (f"{PANIC}\n", [PANIC]),
    ],
)  # fmt: skip
def test_what_a_kernel_says_that_does_not_boot(console: str, told: list[str]) -> None:
    assert last_words(console) == told
