"""The share of the machine's huge pages: taken, counted and given back, on a pool that is a file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernel_bridge import hugepages

_HOLD = """
import sys, time
from pathlib import Path
from kernel_bridge import hugepages
hugepages._POOL = Path(sys.argv[1], "pool")
hugepages._DIRECTORIES = (Path(sys.argv[1]),)
hugepages._guard = lambda directory: None
hugepages._total = lambda: int(sys.argv[3])
print(hugepages._take(int(sys.argv[2])), flush=True)
time.sleep(60)
"""


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pool"
    path.write_text("5\n")
    monkeypatch.setattr(hugepages, "_POOL", path)
    monkeypatch.setattr(hugepages, "_total", lambda: 5)
    return path


def _holder(directory: Path, pages: int, total: int = 5) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(directory), str(pages), str(total)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert int(holder.stdout.readline()) == pages
    return holder


def _end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def test_shares_add_up_and_dead_ones_are_given_back(pool: Path) -> None:
    first, second = _holder(pool.parent, 30), _holder(pool.parent, 40)
    assert int(pool.read_text()) == 75
    _end(first)
    directory = pool.parent / "vmadiff-hugepages"
    assert hugepages._settle(directory) == int(pool.read_text()) == 45
    _end(second)
    assert hugepages._settle(directory) == int(pool.read_text()) == 5
    assert [path.name for path in directory.iterdir()] == ["lock"]


def test_surplus_pages_of_before_are_not_counted_on(pool: Path) -> None:
    """Others have reserved 100 pages beyond the pool: a share comes on top of these."""
    holder = _holder(pool.parent, 30, total=105)
    assert int(pool.read_text()) == 135
    _end(holder)
    assert hugepages._settle(pool.parent / "vmadiff-hugepages") == int(pool.read_text()) == 5


def test_the_next_start_heals(pool: Path) -> None:
    _end(_holder(pool.parent, 30))
    assert int(pool.read_text()) == 35
    _end(_holder(pool.parent, 40))
    assert int(pool.read_text()) == 45


def test_too_little_memory_takes_nothing(pool: Path) -> None:
    assert hugepages._take(10) == 0
    assert int(pool.read_text()) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may enlarge the pool")
def test_given_back_after_a_kill() -> None:
    code = (
        "from kernel_bridge import hugepages as h; from kernel_bridge.local import Local\n"
        "print(h.share(Local()), flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if int(process.stdout.readline()) <= 0:
        process.kill()
        process.communicate()
        pytest.skip("no huge pages to be had here")
    held = hugepages._directory() / str(process.pid)
    assert held.exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 5
    while held.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not held.exists()
