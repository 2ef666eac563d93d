"""Opens the objects that programs map by descriptor (`consts.FD_NAMES`), once for all of an executor's starts.

userfaultfds are not among them: they belong to an address space, so the executor makes its own.
"""

import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from abi import wire
from abi.consts import FD_NAMES, PAGE, PMD_SIZE
from abi.environment import Object
from abi.trace import file_tag
from abi.wire import (
    IDENT_BTRFS,
    IDENT_DEVZERO,
    IDENT_EXT4,
    IDENT_FILE,
    IDENT_HUGETLB,
    IDENT_MEMFD,
    IDENT_OVERLAY,
    IDENT_RAMFS,
    IDENT_SYSFS,
    IDENT_TMPFS,
    IDENT_XFS,
)
from kernel_bridge import volumes
from kernel_bridge.build import BuildError, writable_directory
from kernel_bridge.special import SPECIAL, Segment, create_segment
from kernel_bridge.volumes import VolumeError

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
#: Size of the object of huge pages (bytes).
HUGE_SIZE: Final = 4 * PMD_SIZE
_MFD_HUGETLB: Final = 0x4 | 21 << 26
#: Objects on a file system of their own: name -> ident. Each but ramfs has a second descriptor that only reads.
_VOLUMES: Final = {
    "tmpfs": IDENT_TMPFS,
    "ext4": IDENT_EXT4,
    "xfs": IDENT_XFS,
    "btrfs": IDENT_BTRFS,
    "overlay": IDENT_OVERLAY,
    "ramfs": IDENT_RAMFS,
}
#: A file of /proc that anybody may read. None of its files can be mapped but those of devices, each in its own way.
PROC_FILE: Final = Path("/proc/version")
#: Memory of the kernel that anybody may map to read, as page frames without pages (from Linux 6.16 on).
SYSFS_FILE: Final = Path("/sys/kernel/btf/vmlinux")


@dataclass(slots=True)
class Objects:
    """The open objects: descriptors of this process by the numbers they get in the executor."""

    descriptors: dict[int, int] = field(default_factory=dict)
    described: list[Object] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    #: The SysV segments and what the model is told of them.
    segments: list[Segment] = field(default_factory=list)
    segments_described: list[Object] = field(default_factory=list)
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
        for segment in self.segments:
            segment.close()
        self.descriptors.clear()
        self.other.clear()
        self.segments.clear()


def _flags(obj: Object) -> int:
    flags = wire.OBJECT_SHARED * obj.shared_only | wire.OBJECT_CONTENTS * obj.contents
    if obj.huge:
        flags |= wire.OBJECT_EMPTY | wire.OBJECT_RESIZE
    elif obj.fs == "secretmem":
        flags |= wire.OBJECT_UNWRITTEN
    elif obj.writable and obj.fs in _SHMEM:
        flags |= wire.OBJECT_PUNCH | wire.OBJECT_RESIZE
    if obj.writable and obj.data:
        flags |= wire.OBJECT_REWRITE | wire.OBJECT_RESIZE
    return flags


def open_objects(state: Callable[[], Path]) -> Objects:
    """Open everything that can be; the rest is `missing`, with the reason. `state` gives the file's directory."""
    objects = Objects()
    _open_memfd(objects)
    _open_file(objects, state)
    _open_devzero(objects)
    _open_pipe(objects)
    _open_volumes(objects)
    _open_proc(objects)
    _open_sysfs(objects)
    _open_hugetlb(objects)
    _open_special(objects)
    _create_segments(objects)
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
    objects: Objects,
    name: str,
    fd: int,
    ident: int,
    fs: str,
    size: int,
    data: int = 0,
    *,
    stacked: bool = False,
    contents: bool = True,
) -> None:
    readonly = name.endswith("_ro") or name in ("pipe", "proc", "sysfs")
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
            contents=contents,
            resident=fs in _SHMEM or fs in ("devzero", "hugetlbfs"),
            stacked=stacked,
            huge=PMD_SIZE if fs == "hugetlbfs" else 0,
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
    name = f"file-{os.getpid()}-{time.monotonic_ns():x}"
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd, readonly = _create_in(root, name)
    finally:
        os.close(root)
    fs = file_system(fd)
    if fs != "tmpfs":
        _fill(fd, IDENT_FILE)
    return fd, readonly, fs


def _create_in(root: int, name: str) -> tuple[int, int]:
    """A new file in the directory behind a descriptor, opened twice, for both and for reading; its name is gone."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root)
    try:
        # MADV_PAGEOUT of shared pages asks for the right to write, whoever the executor is.
        os.fchmod(fd, 0o666)
        os.ftruncate(fd, SIZE)
        return fd, os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.unlink(name, dir_fd=root)


def _fill(fd: int, ident: int) -> None:
    """Give a file its data: a tag at the start of each page."""
    for index in range(DATA // PAGE):
        tag = file_tag(ident, index).to_bytes(8, "little")
        os.pwrite(fd, tag.ljust(PAGE, b"\0"), index * PAGE)


def _open_volumes(objects: Objects) -> None:
    for kind, ident in _VOLUMES.items():
        names = [name for name in (kind, f"{kind}_ro") if name in FD_NAMES]
        try:
            root = volumes.mount(kind, lambda: writable_directory("images"))
            try:
                fd, readonly = _create_in(root, "file")
                _fill(fd, ident)
            finally:
                os.close(root)
        except (VolumeError, BuildError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            objects.missing.update(dict.fromkeys(names, f"no {kind}: {reason}"))
            continue
        stacked = kind == "overlay"
        fs = "tmpfs" if stacked else kind
        _add(objects, kind, fd, ident, fs, SIZE, DATA, stacked=stacked)
        if len(names) == 1:
            os.close(readonly)
        else:
            _add(objects, names[1], readonly, ident, fs, SIZE, DATA, stacked=stacked)


def _open_proc(objects: Objects) -> None:
    try:
        fd = os.open(PROC_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        objects.missing["proc"] = f"{PROC_FILE}: {error.strerror}"
        return
    _add(objects, "proc", fd, 0, "proc", 0)


def _open_sysfs(objects: Objects) -> None:
    try:
        fd = os.open(SYSFS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        objects.missing["sysfs"] = f"{SYSFS_FILE}: {error.strerror}"
        return
    try:
        size = os.fstat(fd).st_size
        mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ).close()
    except OSError as error:
        os.close(fd)
        objects.missing["sysfs"] = f"{SYSFS_FILE} cannot be mapped: {error.strerror}"
        return
    _add(objects, "sysfs", fd, IDENT_SYSFS, "sysfs", size, contents=False)


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


def _open_hugetlb(objects: Objects) -> None:
    try:
        fd = memfd_create("vmadiff-huge", _MFD_HUGETLB)
        os.ftruncate(fd, HUGE_SIZE)
    except OSError as error:
        objects.missing["hugetlb"] = f"memfd_create(MFD_HUGETLB): {error.strerror}"
        return
    _add(objects, "hugetlb", fd, IDENT_HUGETLB, "hugetlbfs", HUGE_SIZE)


def _open_special(objects: Objects) -> None:
    idents: dict[tuple[int, int], int] = {}
    for row in SPECIAL:
        try:
            fd = row.open()
        except OSError as error:
            objects.missing[row.name] = f"{row.name}: {error.strerror}"
            continue
        status = os.fstat(fd)
        objects.descriptors[FD_NAMES[row.name]] = fd
        objects.described.append(
            Object(
                fd=FD_NAMES[row.name],
                name=row.name,
                ident=row.ident and idents.setdefault((status.st_dev, status.st_ino), row.ident),
                fs=row.fs,
                size=row.size,
                contents=row.memory,
                resident=row.memory,
                shared_only=row.shared_only,
            )
        )


def _create_segments(objects: Objects) -> None:
    for number in range(wire.SEGMENTS):
        name = f"shm{number}"
        try:
            objects.segments.append(create_segment())
        except OSError as error:
            objects.missing[name] = f"shmget: {error.strerror}"
            return
        ident = wire.IDENT_SHM0 + number
        objects.segments_described.append(
            Object(-1, name, ident, "sysv", wire.SEGMENT_SIZE, resident=True)
        )


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
