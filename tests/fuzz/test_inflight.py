"""The record of programs under way."""

import os
import subprocess
from pathlib import Path

import pytest

from abi.environment import Geometry
from fuzz.encode import decode
from fuzz.inflight import Inflight, leftovers, orphans, read

GEOMETRY = Geometry()


def test_batches_come_back_in_order(tmp_path: Path) -> None:
    record = Inflight(tmp_path, 12, 3, GEOMETRY)
    record.record([b"\x01" * 50] * 9)
    record.record([b"\x00\x00", b"", b"\x05\x07"])
    (path,) = leftovers(tmp_path)
    assert read(path) == [decode(b"\x00\x00", GEOMETRY), (), decode(b"\x05\x07", GEOMETRY)]
    record.clear()
    assert leftovers(tmp_path) == []


def test_torn_record_means_nothing_was_running(tmp_path: Path) -> None:
    record = Inflight(tmp_path, 12, 3, GEOMETRY)
    record.record([bytes(range(100)), bytes(range(100))])
    whole = record.path.read_bytes()
    for length in range(16, len(whole)):
        record.path.write_bytes(whole[:length])
        assert read(record.path) == []
    record.path.write_bytes(whole)
    assert len(read(record.path)) == 2


def test_orphans_are_of_dead_sessions(tmp_path: Path) -> None:
    (gone,) = (subprocess.Popen(["true"]),)
    gone.wait()
    for session in (os.getpid(), gone.pid):
        Inflight(tmp_path, session, 0, GEOMETRY).record([b"\x01"])
    assert [path.name for path in orphans(tmp_path)] == [f"inflight-{gone.pid}-0.bin"]


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 100])
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "inflight-1-2.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a record"):
        read(path)
