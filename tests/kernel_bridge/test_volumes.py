"""File systems of an executor's own: what there is of them, and that nothing is left of them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from abi.consts import PAGE
from kernel_bridge import volumes
from kernel_bridge.build import writable_directory
from kernel_bridge.local import Local
from kernel_bridge.objects import file_system
from kernel_bridge.volumes import VolumeError


def images() -> Path:
    return writable_directory("images")


@pytest.fixture(params=volumes.KINDS)
def root(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    try:
        fd = volumes.mount(Local(), request.param, images)
    except VolumeError as error:
        pytest.skip(str(error))
    yield request.param, fd
    os.close(fd)


def busy_loops() -> int:
    return len(list(Path("/sys/block").glob("loop*/loop")))


def test_a_file_can_be_made(root: tuple[str, int]) -> None:
    kind, fd = root
    file = os.open("file", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=fd)
    try:
        os.pwrite(file, b"x" * PAGE, 7 * PAGE)
        assert os.pread(file, 1, 7 * PAGE) == b"x"
        assert os.pread(file, 1, 6 * PAGE) == b"\0"
    finally:
        os.close(file)
    assert kind not in Path("/proc/self/mounts").read_text().split("\n")[-1]
    assert file_system(Local(), fd) in (kind, "unknown")


def test_one_image_serves_several(root: tuple[str, int]) -> None:
    kind, fd = root
    other = volumes.mount(Local(), kind, images)
    try:
        os.close(os.open("file", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=other))
        with pytest.raises(FileNotFoundError):
            os.stat("file", dir_fd=fd)
    finally:
        os.close(other)


def test_a_killed_process_leaves_no_loop_device() -> None:
    if os.geteuid():
        pytest.skip("only root can mount an image")
    before = busy_loops()
    script = (
        "import os, sys; sys.path.insert(0, os.getcwd())\n"
        "from kernel_bridge import volumes\n"
        "from kernel_bridge.build import writable_directory\n"
        "from kernel_bridge.local import Local\n"
        "fd = volumes.mount(Local(), 'ext4', lambda: writable_directory('images'))\n"
        "print('mounted', flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    if not line:
        pytest.skip("ext4 cannot be mounted")
    until = time.monotonic() + 10
    while busy_loops() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert busy_loops() <= before


def test_an_unknown_file_system_says_why() -> None:
    with pytest.raises(VolumeError, match="mounting it: "):
        volumes.mount(Local(), "nofs", images)


def test_a_missing_mkfs_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "which", lambda *_, **__: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(VolumeError, match=r"mkfs\.xfs is not installed \(Debian: xfsprogs\)"):
        volumes.mount(Local(), "xfs", lambda: tmp_path)
