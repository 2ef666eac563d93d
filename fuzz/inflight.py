"""The programs a worker has handed to the kernel and has not heard of, kept where its death does not reach.

A file is a header, a line of JSON about where the programs come from, then per program its length and its byte
form. It is overwritten in place, before a batch goes out and after the last one came back: a torn one, which the
checksum tells, means that nothing was running.
"""

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final
from zlib import crc32

from abi.calls import Program
from abi.environment import Geometry
from fuzz.encode import decode
from fuzz.storage import write_atomically

_MAGIC: Final = b"vmadiff\0"
#: Magic, bytes that follow, their checksum.
_HEADER: Final = struct.Struct("<8sII")
_LENGTH: Final = struct.Struct("<I")
_PATTERN: Final = "inflight-*.bin"


class Inflight:
    """One worker's file."""

    def __init__(self, state: Path, session: int, worker: int, geometry: Geometry) -> None:
        self.path = state / _PATTERN.replace("*", f"{session}-{worker}")
        self._origin = json.dumps({"geometry": asdict(geometry)}).encode() + b"\n"
        self._descriptor = -1

    def record(self, batch: Sequence[bytes]) -> None:
        """Replace what is recorded by `batch`, byte forms. It outlives the process, not a power cut.

        Raises:
            OSError: it could not be written.
        """
        if self._descriptor < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o644)
        whole = _pack(self._origin, batch)
        written = 0
        try:
            while written < len(whole):
                written += os.pwrite(self._descriptor, whole[written:], written)
        except OSError as error:
            error.filename = str(self.path)
            raise

    def keep(self, path: Path, batch: Sequence[bytes]) -> None:
        """Have `batch` be what is recorded in the file `path`, another worker's.

        Raises:
            OSError: it could not be written.
        """
        write_atomically(path, _pack(self._origin, batch))

    def clear(self) -> None:
        """Forget the batch: its results are in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self.path.unlink(missing_ok=True)


def _pack(origin: bytes, batch: Sequence[bytes]) -> bytes:
    parts = [origin]
    for data in batch:
        parts += (_LENGTH.pack(len(data)), data)
    body = b"".join(parts)
    return _HEADER.pack(_MAGIC, len(body), crc32(body)) + body


def replay_path(path: Path) -> Path:
    """The name that a leftover has while its own worker's successor replays it."""
    return path.with_name(f"{path.stem}-replay{path.suffix}")


def leftovers(state: Path) -> list[Path]:
    """The files that workers left in the directory `state` when they died."""
    return sorted(state.glob(_PATTERN))


def orphans(state: Path) -> list[Path]:
    """Those of sessions that are dead."""
    return [path for path in leftovers(state) if not _is_running(path)]


def _is_running(path: Path) -> bool:
    """Whether the session that a file of running programs belongs to is alive."""
    session = path.stem.split("-")[1]
    try:
        os.kill(int(session), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def read(path: Path) -> list[Program]:
    """The programs recorded in the file `path`; none if it was being written.

    Raises:
        ValueError: it is not such a file.
        OSError: it cannot be read.
    """
    whole = path.read_bytes()
    if len(whole) < _HEADER.size or not whole.startswith(_MAGIC):
        raise ValueError(f"{path}: not a record of running programs")
    _, size, checksum = _HEADER.unpack_from(whole)
    body = whole[_HEADER.size : _HEADER.size + size]
    if crc32(body) != checksum:
        return []
    origin, _, rest = body.partition(b"\n")
    geometry = Geometry(**json.loads(origin)["geometry"])
    programs = []
    while rest:
        (length,) = _LENGTH.unpack_from(rest)
        programs.append(decode(rest[_LENGTH.size : _LENGTH.size + length], geometry))
        rest = rest[_LENGTH.size + length :]
    return programs
