"""Opens the objects that programs map by descriptor (`consts.FD_NAMES`), once for all of an executor's starts.

userfaultfds are not among them: they belong to an address space, so the executor makes its own.
"""

import errno
import os
import time
from collections.abc import Callable
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
from kernel_bridge.machine import NUMBERS, Machine
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
#: include/uapi/linux/magic.h
_MAGIC: Final = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
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
_KCOV: Final = Path("/sys/kernel/debug/kcov")
#: include/uapi/linux/kcov.h
_KCOV_INIT_TRACE: Final = 0x80086301


@dataclass(slots=True)
class Objects:
    """The open objects: descriptors of the machine's process by the numbers they get in the executor."""

    machine: Machine
    descriptors: dict[int, int] = field(default_factory=dict)
    described: list[Object] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    #: The SysV segments and what the model is told of them.
    segments: list[Segment] = field(default_factory=list)
    segments_described: list[Object] = field(default_factory=list)
    #: The pipe's write end: without one the read end would be another object to poll, not to map. Kept open.
    other: list[int] = field(default_factory=list)
    #: What writes down which blocks of the kernel an executor reaches, None without it.
    kcov: int | None = None

    def table(self) -> bytes:
        """The "objects" area of the shared memory: how the executor restores each (`abi.wire.OBJECT`)."""
        rows = [wire.OBJECT.pack(o.fd, o.ident, o.size, o.data, _flags(o)) for o in self.described]
        return b"".join(rows) + bytes(wire.OBJECT.size)

    def close(self) -> None:
        """Close every descriptor, and let go of the segments."""
        for fd in (*self.descriptors.values(), *self.other):
            self.machine.close_fd(fd)
        for segment in self.segments:
            self.machine.syscall("shmdt", segment.attached)
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


def open_objects(machine: Machine, state: Callable[[], Path]) -> Objects:
    """Open everything that can be; the rest is `missing`, with the reason. `state` gives the file's directory; a guest
    has none, and gets one on ext4 where it can."""
    objects = Objects(machine)
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
    _open_kcov(objects)
    return objects


def _open_kcov(objects: Objects) -> None:
    """Kernels that can tell what was reached are few (Documentation/dev-tools/kcov.rst)."""
    machine = objects.machine
    try:
        fd = machine.open(_KCOV, os.O_RDWR)
    except OSError:
        return
    objects.other.append(fd)
    machine.syscall("ioctl", fd, _KCOV_INIT_TRACE, wire.KCOV_WORDS)
    objects.kcov = fd


def memfd_create(machine: Machine, name: str, flags: int = 0) -> int:
    """An anonymous memory file that may be executed, on kernels before and after MFD_EXEC (6.3).

    Raises:
        OSError: the kernel has none to give.
    """
    try:
        return machine.syscall("memfd_create", name, flags | os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        return machine.syscall("memfd_create", name, flags | os.MFD_CLOEXEC)


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
            max_bytes=_max_bytes(objects.machine, fd) if size else (1 << 63) - 1,
            data=data,
            contents=contents,
            resident=fs in _SHMEM or fs in ("devzero", "hugetlbfs"),
            stacked=stacked,
            huge=PMD_SIZE if fs == "hugetlbfs" else 0,
        )
    )


def _max_bytes(machine: Machine, fd: int) -> int:
    """The largest offset of a file on its file system (sb->s_maxbytes), which lseek(2) tells (bytes)."""
    low, high = 0, (1 << 63) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if machine.call(NUMBERS["lseek"], fd, middle, os.SEEK_SET) == middle:
            low = middle
        else:
            high = middle - 1
    machine.syscall("lseek", fd, 0, os.SEEK_SET)
    return low


def _open_memfd(objects: Objects) -> None:
    machine = objects.machine
    try:
        fd = memfd_create(machine, "vmadiff")
        machine.truncate(fd, SIZE)
    except OSError as error:
        objects.missing["memfd"] = objects.missing["memfd_ro"] = f"memfd_create: {error.strerror}"
        return
    _add(objects, "memfd", fd, IDENT_MEMFD, "tmpfs", SIZE)
    try:
        readonly = machine.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    except OSError as error:
        objects.missing["memfd_ro"] = f"opening the memfd again: {error.strerror}"
        return
    _add(objects, "memfd_ro", readonly, IDENT_MEMFD, "tmpfs", SIZE)


def _open_file(objects: Objects, state: Callable[[], Path]) -> None:
    machine, reasons = objects.machine, []
    places: list[tuple[str, Callable[[], int]]] = [
        ("", lambda: machine.open(SHARED_MEMORY, os.O_PATH | os.O_DIRECTORY)),
    ]
    if machine.local:
        places.insert(0, ("", lambda: machine.open(state(), os.O_PATH | os.O_DIRECTORY)))
    else:
        places.insert(0, ("ext4", lambda: volumes.mount(machine, "ext4", _images)))
    for known, place in places:
        try:
            fd, readonly, fs = _create(machine, place(), known)
        except (OSError, BuildError, VolumeError) as error:
            reasons.append(getattr(error, "strerror", None) or str(error))
            continue
        if fs in FILE_SYSTEMS:
            data = 0 if fs == "tmpfs" else DATA
            _add(objects, "file", fd, IDENT_FILE, fs, SIZE, data)
            _add(objects, "file_ro", readonly, IDENT_FILE, fs, SIZE, data)
            return
        machine.close_fd(fd)
        machine.close_fd(readonly)
        reasons.append(f"a file on {fs} may be mapped as another one")
    reason = f"no file to map: {'; '.join(reasons)}"
    objects.missing["file"] = objects.missing["file_ro"] = reason


def _create(machine: Machine, root: int, known: str) -> tuple[int, int, str]:
    """A new file without a name in the directory behind a descriptor, which is closed: opened twice, for both and for
    reading; and its file system, which is `known` where no mount table shows it."""
    name = f"file-{os.getpid()}-{time.monotonic_ns():x}"
    try:
        fd, readonly = _create_in(machine, root, name)
    finally:
        machine.close_fd(root)
    fs = known or file_system(machine, fd)
    if fs != "tmpfs":
        _fill(machine, fd, IDENT_FILE)
    return fd, readonly, fs


def _create_in(machine: Machine, root: int, name: str) -> tuple[int, int]:
    """A new file in the directory behind a descriptor, opened twice, for both and for reading; its name is gone."""
    fd = machine.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, at=root)
    try:
        # MADV_PAGEOUT of shared pages asks for the right to write, whoever the executor is.
        machine.fchmod(fd, 0o666)
        machine.truncate(fd, SIZE)
        return fd, machine.open(name, os.O_RDONLY, at=root)
    except BaseException:
        machine.close_fd(fd)
        raise
    finally:
        machine.unlink(name, at=root)


def _fill(machine: Machine, fd: int, ident: int) -> None:
    """Give a file its data: a tag at the start of each page."""
    tags = (file_tag(ident, index).to_bytes(8, "little") for index in range(DATA // PAGE))
    machine.pwrite(fd, b"".join(tag.ljust(PAGE, b"\0") for tag in tags))


def _images() -> Path:
    return writable_directory("images")


def _open_volumes(objects: Objects) -> None:
    machine = objects.machine
    for kind, ident in _VOLUMES.items():
        names = [name for name in (kind, f"{kind}_ro") if name in FD_NAMES]
        try:
            root = volumes.mount(machine, kind, _images)
            try:
                fd, readonly = _create_in(machine, root, "file")
                _fill(machine, fd, ident)
            finally:
                machine.close_fd(root)
        except (VolumeError, BuildError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            objects.missing.update(dict.fromkeys(names, f"no {kind}: {reason}"))
            continue
        stacked = kind == "overlay"
        fs = "tmpfs" if stacked else kind
        _add(objects, kind, fd, ident, fs, SIZE, DATA, stacked=stacked)
        if len(names) == 1:
            machine.close_fd(readonly)
        else:
            _add(objects, names[1], readonly, ident, fs, SIZE, DATA, stacked=stacked)


def _open_proc(objects: Objects) -> None:
    try:
        fd = objects.machine.open(PROC_FILE, os.O_RDONLY)
    except OSError as error:
        objects.missing["proc"] = f"{PROC_FILE}: {error.strerror}"
        return
    _add(objects, "proc", fd, 0, "proc", 0)


def _open_sysfs(objects: Objects) -> None:
    machine = objects.machine
    try:
        fd = machine.open(SYSFS_FILE, os.O_RDONLY)
    except OSError as error:
        objects.missing["sysfs"] = f"{SYSFS_FILE}: {error.strerror}"
        return
    try:
        size = machine.stat(fd).size
        machine.can_map(fd)
    except OSError as error:
        machine.close_fd(fd)
        objects.missing["sysfs"] = f"{SYSFS_FILE} cannot be mapped: {error.strerror}"
        return
    _add(objects, "sysfs", fd, IDENT_SYSFS, "sysfs", size, contents=False)


def _open_devzero(objects: Objects) -> None:
    try:
        fd = objects.machine.open("/dev/zero", os.O_RDWR)
    except OSError as error:
        objects.missing["devzero"] = f"/dev/zero: {error.strerror}"
        return
    _add(objects, "devzero", fd, IDENT_DEVZERO, "devzero", 0)


def _open_pipe(objects: Objects) -> None:
    try:
        read, write = objects.machine.pipe()
    except OSError as error:
        objects.missing["pipe"] = f"pipe: {error.strerror}"
        return
    objects.other.append(write)
    _add(objects, "pipe", read, 0, "pipe", 0)


def _open_hugetlb(objects: Objects) -> None:
    try:
        fd = memfd_create(objects.machine, "vmadiff-huge", _MFD_HUGETLB)
        objects.machine.truncate(fd, HUGE_SIZE)
    except OSError as error:
        objects.missing["hugetlb"] = f"memfd_create(MFD_HUGETLB): {error.strerror}"
        return
    _add(objects, "hugetlb", fd, IDENT_HUGETLB, "hugetlbfs", HUGE_SIZE)


def _open_special(objects: Objects) -> None:
    idents: dict[tuple[int, int], int] = {}
    for row in SPECIAL:
        try:
            fd = row.open(objects.machine)
        except OSError as error:
            objects.missing[row.name] = f"{row.name}: {error.strerror}"
            continue
        status = objects.machine.stat(fd)
        objects.descriptors[FD_NAMES[row.name]] = fd
        objects.described.append(
            Object(
                fd=FD_NAMES[row.name],
                name=row.name,
                ident=row.ident and idents.setdefault((status.device, status.inode), row.ident),
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
            objects.segments.append(create_segment(objects.machine))
        except OSError as error:
            objects.missing[name] = f"shmget: {error.strerror}"
            return
        ident = wire.IDENT_SHM0 + number
        objects.segments_described.append(
            Object(-1, name, ident, "sysv", wire.SEGMENT_SIZE, resident=True)
        )


def file_system(machine: Machine, fd: int) -> str:
    """The name of the file system that an open file is on: by its magic number where a mount table may call it
    otherwise (a guest's first one is "rootfs") or not know it, else as in /proc/mounts.

    Raises:
        OSError: /proc cannot be read.
    """
    magic = machine.file_system_magic(fd)
    if magic in _MAGIC:
        return _MAGIC[magic]
    info = machine.text(f"/proc/self/fdinfo/{fd}").splitlines()
    mount = next((line.split()[1] for line in info if line.startswith("mnt_id:")), "")
    for line in machine.text("/proc/self/mountinfo").splitlines():
        words = line.split()
        if words[0] == mount:
            return words[words.index("-") + 1]
    return "unknown"
