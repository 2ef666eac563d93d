"""Runs a command whose process group dies as one: with the command, with the process that started it, and when it is
asked to by SIGTERM: `python pack.py PARENT COMMAND...`. Stands alone.

User-Mode-Linux has a process for each address space of its guest and traces them. Traced processes outlive one that
dies unasked, and what they were about to ask of their kernel they then ask of this one.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None).prctl


def _die_with_parent(number: int, parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def _become(command: list[str], parent: int) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # It ends its processes itself when it is asked to; if it were killed, they would stay.
    _die_with_parent(signal.SIGTERM, parent)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)
    os._exit(1)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _reap_all() -> None:
    """Wait until nothing is left; orphans are ours."""
    with suppress(ChildProcessError):
        while True:
            os.wait()


def main(arguments: list[str]) -> int:
    """Run the command to its end, and what it leaves; its exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    _die_with_parent(signal.SIGTERM, int(arguments[0]))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    own = os.getpid()
    group = os.fork()
    if not group:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        _become(arguments[1:], own)
    with suppress(OSError):  # it may have done so itself, and have become the command
        os.setpgid(group, group)
    signal.signal(signal.SIGTERM, lambda *_: _kill(group))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    # Not reaped, it keeps its number and its group's.
    os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT)
    _kill(group)
    status = os.waitstatus_to_exitcode(os.waitpid(group, 0)[1])
    _reap_all()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
