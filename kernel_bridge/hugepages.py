"""A share of the machine's pool of huge pages (vm.nr_hugepages) for the executors of this process.

The pool belongs to the whole machine. Each process of ours that may enlarges it by a share and holds a locked file
that says how much; under one lock the pool is always set to what it was before the first of them, plus the shares whose
files are still locked. A small process waits for the death of ours, however it comes, and settles then; what even that
one does not live to do, the next start does. Run as a script it is that process. The pool of a guest is all ours.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # run as a script, this module stands alone
    from kernel_bridge.machine import Machine

#: Huge pages that a program may count on, and more for what only reading its contents takes.
PAGES: Final = 64
_MARGIN: Final = 8
_LEAST: Final = 16
#: At most this part of the machine's memory.
_PART: Final = 32
_HUGE_KIB: Final = 2048
_POOL: Final = Path("/proc/sys/vm/nr_hugepages")
_SIZES: Final = Path("/sys/kernel/mm/hugepages")
_DIRECTORIES: Final = (Path("/run"), Path("/dev/shm"))
_NAME: Final = "vmadiff-hugepages"
_BEFORE: Final = "before"
#: How long a guardian waits for what its dead parent held to be let go (seconds).
_PATIENCE: Final = 5.0


def share(machine: "Machine") -> int:
    """The huge pages of 2 MiB that a program may count on; 0: there are none to be had, -1: not known.

    What is taken is kept until this process ends.
    """
    if machine.local:
        return _share() or _unshared(machine)
    try:
        if default_size(machine) == _HUGE_KIB:
            machine.put(_POOL, str(PAGES + _MARGIN))
            pages = int(machine.text(_POOL))
            return pages - _MARGIN if pages >= _LEAST + _MARGIN else -1
    except OSError:
        return -1
    return _unshared(machine)


@cache
def _share() -> int:
    """This process's share of the running machine's pool, 0 for none."""
    try:
        if os.geteuid() == 0 and _meminfo().get("Hugepagesize", 0) == _HUGE_KIB:
            taken = _take(min(PAGES + _MARGIN, _memory_kib() // _PART // _HUGE_KIB))
            return taken - _MARGIN if taken else 0
    except OSError:
        pass
    return 0


def sizes(machine: "Machine") -> frozenset[int]:
    """The sizes of huge pages that the kernel has (KiB)."""
    try:
        names = machine.names(_SIZES)
    except OSError:
        return frozenset()
    return frozenset(int(n.removeprefix("hugepages-").removesuffix("kB")) for n in names)


def default_size(machine: "Machine") -> int:
    """The size of a huge page that nobody says the size of (KiB), 0 without huge pages."""
    return machine.meminfo().get("Hugepagesize", 0)


def _unshared(machine: "Machine") -> int:
    """0 if the pool has nothing to give and does not grow, else -1."""
    if _HUGE_KIB not in sizes(machine):
        return 0
    pool = _SIZES / f"hugepages-{_HUGE_KIB}kB"
    try:
        free, reserved, more = (
            int(machine.text(pool / name))
            for name in ("free_hugepages", "resv_hugepages", "nr_overcommit_hugepages")
        )
    except (OSError, ValueError):
        return -1
    return 0 if free <= reserved and not more else -1


def _take(pages: int) -> int:
    """Enlarge the pool by `pages`, all of them or none; how many.

    Raises:
        OSError: it cannot be done here.
    """
    if pages < _LEAST + _MARGIN:
        return 0
    directory = _directory()
    with _locked(directory):
        _settle(directory)
        held = os.open(directory / f"{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(held, str(pages).encode())
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        wanted = _settle(directory)
        if int(_POOL.read_text()) < wanted:
            os.close(held)
            _settle(directory)
            return 0
    _guard(directory)
    return pages


def _directory() -> Path:
    for base in _DIRECTORIES:
        path = base / _NAME
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        return path
    raise OSError("no directory for the record of huge pages")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _settle(directory: Path) -> int:
    """Set the pool to what it was before, plus the shares that are held; returns that. The lock is held.

    As long as there are shares, surplus pages of before count as pages of the pool: they may be reserved, for good too
    (see docs/architecture.md), and a share is to be free.
    """
    before = directory / _BEFORE
    shares = [_share_of(path) for path in directory.iterdir() if path.name.isdigit()]
    if not before.exists():
        if not any(shares):
            return int(_POOL.read_text())
        before.write_text(f"{int(_POOL.read_text())} {_total()}")
    size, total = map(int, before.read_text().split())
    wanted = total + sum(shares) if any(shares) else size
    _POOL.write_text(str(wanted))
    if not any(shares):
        before.unlink()
    return wanted


def _share_of(path: Path) -> int:
    """What the holder of a file has; 0, and the file is gone, if it is dead."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(fd, 32) or b"0")
    else:
        path.unlink()
        return 0
    finally:
        os.close(fd)


def _guard(directory: Path) -> None:
    """Start the process that settles when this one is dead: its end of a pipe is closed then."""
    read, write = os.pipe2(os.O_CLOEXEC)  # the write end stays open as long as we live
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", __file__, str(directory), str(os.getpid())],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(read)
        os.close(null)
    assert write >= 0


def _await_end(directory: Path, holder: Path) -> None:
    """Wait for the end of the process that started this one, then settle."""
    os.read(0, 1)
    deadline = time.monotonic() + _PATIENCE
    while True:
        with _locked(directory):
            _settle(directory)
        if not holder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _total() -> int:
    """The pages of the pool, surplus ones included."""
    return _meminfo()["HugePages_Total"]


def _memory_kib() -> int:
    return _meminfo()["MemTotal"]


def _meminfo() -> dict[str, int]:
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows}


if __name__ == "__main__":
    _await_end(Path(sys.argv[1]), Path(sys.argv[1], sys.argv[2]))
