"""Commands whose processes die together: with the command, with who started it, and when asked to."""

import os
import signal
import subprocess
import sys
import time

import pytest

from kernel_bridge import pack
from tests.processes import state_of

#: Says its number and that of a process it started, then does nothing.
FAMILY = "sleep 1000 & echo $$ $!; wait"


def start(*command: str, parent: int | None = None) -> subprocess.Popen[str]:
    words = [sys.executable, "-I", "-S", str(pack.__file__), str(parent or os.getpid()), *command]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def family(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z")


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9)]
)
def test_the_commands_status(command: str, status: int) -> None:
    with start("sh", "-c", command) as process:
        assert process.wait(10) == status


def test_a_command_that_is_none() -> None:
    with start("/no/such/command") as process:
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors.strip()) == (
        1, "/no/such/command cannot be run: No such file or directory",
    )  # fmt: skip


def test_what_a_command_leaves_is_killed() -> None:
    with start("sh", "-c", "sleep 1000 & echo $!") as process:
        left = family(process)
        assert process.wait(10) == 0
    assert len(left) == 1
    assert not any(map(is_alive, left))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_they_die_with_the_command_and_when_asked_to(number: signal.Signals) -> None:
    with start("sh", "-c", FAMILY) as process:
        members = family(process)
        os.kill(members[0], number)
        if number == signal.SIGSTOP:
            process.terminate()
        assert process.wait(10) == 128 + 9
    assert len(members) == 2
    assert not any(map(is_alive, members))


def test_they_die_with_who_started_them() -> None:
    code = (
        "import os, subprocess, sys;"
        f"subprocess.Popen([sys.executable, {pack.__file__!r}, str(os.getpid()), 'sh', '-c', {FAMILY!r}]).wait()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        members = family(starter)
        assert all(map(is_alive, members))
        starter.kill()
        starter.wait()
        assert_gone(members)


def test_without_who_started_them_nothing_is_run() -> None:
    with start("sh", "-c", "echo run", parent=1 << 22) as process:
        assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 1
