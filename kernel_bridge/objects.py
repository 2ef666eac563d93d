"""Opens the objects that programs map by descriptor (`consts.FD_NAMES`), once for all of an executor's starts.

userfaultfds are not among them: they belong to an address space, so the executor makes its own.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from abi import wire
from abi.consts import FD_NAMES, PAGE
from abi.environment import Object
from abi.trace import file_tag
from abi.wire import IDENT_DEVZERO, IDENT_FILE, IDENT_MEMFD
from kernel_bridge.build import BuildError

#: Size of the memfd and of the file (bytes).
SIZE: Final = 64 * PAGE
#: How much of a file has data; a hole follows (bytes).
DATA: Final = 48 * PAGE
#: File systems whose files are mapped as they are opened; overlayfs, for one, maps another file instead.
FILE_SYSTEMS: Final = ("ext4", "xfs", "btrfs", "tmpfs")
#: Where a file is made if the state directory is on none of them.
SHARED_MEMORY: Final = Path("/dev/shm")
_MFD_EXEC: Final = 0x10
_SHMEM: Final = ("tmpfs",)


@dataclass(slots=True)
class Objects:
    """The open objects: descriptors of this process by the numbers they get in the executor."""

    descriptors: dict[int, int] = field(default_factory=dict)
    described: list[Object] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    #: The pipe's write end: without one the read end would be another object to poll, not to map. Kept open.
    other: list[int] = field(default_factory=list)

    def table(self) -> bytes:
        """The "objects" area of the shared memory: how the executor restores each (`abi.wire.OBJECT`)."""
        rows = [wire.OBJECT.pack(o.fd, o.ident, o.size, o.data, _flags(o)) for o in self.described]
        return b"".join(rows) + bytes(wire.OBJECT.size)

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (*self.descriptors.values(), *self.other):
            os.close(fd)
        self.descriptors.clear()
        self.other.clear()


def _flags(obj: Object) -> int:
    flags = wire.OBJECT_SHARED * obj.shared_only | wire.OBJECT_CONTENTS * obj.contents
    if obj.writable and obj.fs in _SHMEM:
        flags |= wire.OBJECT_PUNCH | wire.OBJECT_RESIZE
    elif obj.writable and obj.data:
        flags |= wire.OBJECT_REWRITE | wire.OBJECT_RESIZE
    return flags


def open_objects(state: Callable[[], Path]) -> Objects:
    """Open everything that can be; the rest is `missing`, with the reason. `state` gives the file's directory."""
    objects = Objects()
    _open_memfd(objects)
    _open_file(objects, state)
    _open_devzero(objects)
    _open_pipe(objects)
    return objects


def memfd_create(name: str, flags: int = 0) -> int:
    """An anonymous memory file that may be executed, on kernels before and after MFD_EXEC (6.3).

    Raises:
        OSError: the kernel has none to give.
    """
    try:
        return os.memfd_create(name, flags | os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        return os.memfd_create(name, flags | os.MFD_CLOEXEC)


def _add(
    objects: Objects, name: str, fd: int, ident: int, fs: str, size: int, data: int = 0
) -> None:
    readonly = name.endswith("_ro") or name == "pipe"
    objects.descriptors[FD_NAMES[name]] = fd
    objects.described.append(
        Object(
            fd=FD_NAMES[name],
            name=name,
            ident=ident,
            fs=fs,
            size=size,
            writable=not readonly,
            max_bytes=_max_bytes(fd) if size else (1 << 63) - 1,
            data=data,
            resident=fs in _SHMEM or fs == "devzero",
        )
    )


def _max_bytes(fd: int) -> int:
    """The largest offset of a file on its file system (sb->s_maxbytes), which lseek(2) tells (bytes)."""
    low, high = 0, (1 << 63) - 1
    while low < high:
        middle = (low + high + 1) // 2
        try:
            os.lseek(fd, middle, os.SEEK_SET)
            low = middle
        except OSError:
            high = middle - 1
    os.lseek(fd, 0, os.SEEK_SET)
    return low


def _open_memfd(objects: Objects) -> None:
    try:
        fd = memfd_create("vmadiff")
        os.ftruncate(fd, SIZE)
    except OSError as error:
        objects.missing["memfd"] = objects.missing["memfd_ro"] = f"memfd_create: {error.strerror}"
        return
    _add(objects, "memfd", fd, IDENT_MEMFD, "tmpfs", SIZE)
    try:
        readonly = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        objects.missing["memfd_ro"] = f"opening the memfd again: {error.strerror}"
        return
    _add(objects, "memfd_ro", readonly, IDENT_MEMFD, "tmpfs", SIZE)


def _open_file(objects: Objects, state: Callable[[], Path]) -> None:
    reasons = []
    for directory in (state, lambda: SHARED_MEMORY):
        try:
            fd, readonly, fs = _create(directory())
        except (OSError, BuildError) as error:
            reasons.append(getattr(error, "strerror", None) or str(error))
            continue
        if fs in FILE_SYSTEMS:
            data = 0 if fs == "tmpfs" else DATA
            _add(objects, "file", fd, IDENT_FILE, fs, SIZE, data)
            _add(objects, "file_ro", readonly, IDENT_FILE, fs, SIZE, data)
            return
        os.close(fd)
        os.close(readonly)
        reasons.append(f"a file on {fs} may be mapped as another one")
    reason = f"no file to map: {'; '.join(reasons)}"
    objects.missing["file"] = objects.missing["file_ro"] = reason


def _create(directory: Path) -> tuple[int, int, str]:
    """A new file without a name, opened twice, for both and for reading; and its file system."""
    path = directory / f"file-{os.getpid()}-{time.monotonic_ns():x}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # MADV_PAGEOUT of shared pages asks for the right to write, whoever the executor is.
        os.fchmod(fd, 0o666)
        fs = file_system(fd)
        os.ftruncate(fd, SIZE)
        if fs != "tmpfs":
            for index in range(DATA // PAGE):
                tag = file_tag(IDENT_FILE, index).to_bytes(8, "little")
                os.pwrite(fd, tag.ljust(PAGE, b"\0"), index * PAGE)
        return fd, os.open(path, os.O_RDONLY | os.O_CLOEXEC), fs
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.unlink(path)


def _open_devzero(objects: Objects) -> None:
    try:
        fd = os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        objects.missing["devzero"] = f"/dev/zero: {error.strerror}"
        return
    _add(objects, "devzero", fd, IDENT_DEVZERO, "devzero", 0)


def _open_pipe(objects: Objects) -> None:
    try:
        read, write = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        objects.missing["pipe"] = f"pipe: {error.strerror}"
        return
    objects.other.append(write)
    _add(objects, "pipe", read, 0, "pipe", 0)


def file_system(fd: int) -> str:
    """The name of the file system that an open file is on, as in /proc/mounts.

    Raises:
        OSError: /proc cannot be read.
    """
    info = _lines(f"/proc/self/fdinfo/{fd}")
    mount = next((line.split()[1] for line in info if line.startswith("mnt_id:")), "")
    for line in _lines("/proc/self/mountinfo"):
        words = line.split()
        if words[0] == mount:
            return words[words.index("-") + 1]
    return "unknown"


def _lines(path: str) -> Iterator[str]:
    yield from Path(path).read_text().splitlines()
