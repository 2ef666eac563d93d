"""The file system that a guest boots into: one static binary as /init, a console, and the modules without which it has
no channel. No disk."""

import gzip
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kernel_bridge.build import AGENT, build, writable_directory

_DIRECTORY: Final = 0o040755
_EXECUTABLE: Final = 0o100755
_CHARACTER: Final = 0o020600
_ALIGN: Final = 4


def initramfs(modules: Sequence[bytes] = ()) -> Path:
    """The path of the initramfs with the agent and modules that it inserts first, made now unless it was made before.

    Raises:
        BuildError: the agent cannot be built, or there is no directory for it.
    """
    data = archive(build(AGENT).read_bytes(), modules)
    path = writable_directory("build") / f"initramfs-{hashlib.sha256(data).hexdigest()[:16]}"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
            made.write(data)
        Path(made.name).rename(path)
    return path


def archive(init: bytes, modules: Sequence[bytes] = ()) -> bytes:
    """A compressed cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    early = [_entry(4 + i, f"module{i}", _EXECUTABLE, data) for i, data in enumerate(modules)]
    entries = [
        _entry(1, "dev", _DIRECTORY),
        _entry(2, "dev/console", _CHARACTER, device=(5, 1)),
        _entry(3, "init", _EXECUTABLE, init),
        *early,
        _entry(0, "TRAILER!!!", 0),
    ]
    return gzip.compress(b"".join(entries), mtime=0)


def _entry(
    number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    """A file in the "new ASCII" form: a magic, 13 numbers of eight hexadecimal digits, the name, the data."""
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
