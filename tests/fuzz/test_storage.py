"""Files are whole or not there, whatever interrupts the writing."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz.storage import UNFINISHED, write_atomically, write_directory


def fail_writing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the disk be full after so many bytes."""
    written = 0
    write = os.write

    def limited(descriptor: int, data: Any) -> int:
        nonlocal written
        if written >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = write(descriptor, bytes(data)[: after - written])
        written += count
        return count

    monkeypatch.setattr(os, "write", limited)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    write_atomically(tmp_path / "file", b"0123456789", durable=True)
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    fail_writing(monkeypatch, after=2)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new contents")
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_full_disk_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_writing(monkeypatch, after=5)
    with pytest.raises(OSError, match="No space left"):
        write_directory(tmp_path / "dir", {"a": b"1234", "b": b"5678"})
    assert os.listdir(tmp_path) == []


def test_file_size_limit_of_the_process(tmp_path: Path) -> None:
    """The real thing, for once: the kernel refuses the write."""
    code = (
        "import sys, pathlib\n"
        "from fuzz.storage import write_directory\n"
        "try:\n"
        "    write_directory(pathlib.Path(sys.argv[1]) / 'dir', {'a': bytes(100), 'b': bytes(9000)})\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=limit,
    )
    assert done.stdout == "File too large\n"
    assert os.listdir(tmp_path) == []


def test_directory_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "below" / "dir"
    assert write_directory(path, {"a": b"1"})
    assert not write_directory(path, {"a": b"2"})
    assert (path / "a").read_bytes() == b"1"
    assert not [p for p in path.parent.iterdir() if p.name.startswith(UNFINISHED)]


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """`--json /dev/null` as root would else put a file in the device's place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, b"data")
    assert os.read(reader, 16) == b"data"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"data"
