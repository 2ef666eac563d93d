"""File systems of an executor's own: each holds one file, which no directory shows and nobody else can open.

A mount is detached (fsopen(2), fsmount(2)): it is in no namespace, the open files alone keep it, and the kernel takes
it down with the last of them, however their process ends. What needs a disk gets a loop device over memory, a copy of
an image that mkfs makes once; it goes away with the mount. An ordinary user mounts what needs no disk in a user
namespace, where that is allowed.
"""

import os
import socket
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from errno import EBUSY, EPERM
from pathlib import Path
from shutil import which
from typing import Final, NoReturn

from abi.consts import PAGE
from kernel_bridge.machine import Machine

_SET_FLAG: Final = 0
_SET_STRING: Final = 1
_CREATE: Final = 6
_CLOEXEC: Final = 1
_CLONE_NEWNS: Final = 0x20000
_CLONE_NEWUSER: Final = 0x10000000
_LOOP_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
#: struct loop_config with a struct loop_info64 in it, of which only lo_flags is not zero.
_LOOP_CONFIG: Final = struct.Struct("<II 52x I 176x 64x")
_LOOP_AUTOCLEAR: Final = 4
#: Others take loop devices too.
_LOOP_ATTEMPTS: Final = 20
#: Where a guest has the layers of overlayfs.
_LAYERS: Final = "/layers"
_BLOCK: Final = 16 * PAGE


class VolumeError(Exception):
    """The file system cannot be had; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class _Image:
    """How the image of a file system is made and mounted.

    size: bytes; options: of its mkfs; package: what Debian calls the package of that; flags: mount options.
    """

    size: int
    options: tuple[str, ...]
    package: str
    flags: tuple[str, ...] = ()


_IMAGES: Final = {
    "ext4": _Image(64 << 20, ("-q", "-F", "-b", "4096", "-O", "^has_journal"), "e2fsprogs"),
    # Every executor's copy has the UUID of the image, which XFS minds unless told otherwise.
    "xfs": _Image(320 << 20, ("-q", "-f"), "xfsprogs", ("nouuid",)),
    "btrfs": _Image(256 << 20, ("-q", "-f", "-d", "single", "-m", "single"), "btrfs-progs"),
}
#: The file systems that `mount` knows.
KINDS: Final = ("tmpfs", "ext4", "xfs", "btrfs", "overlay", "ramfs")


def mount(machine: Machine, kind: str, images: Callable[[], Path]) -> int:
    """A descriptor of the root of a new, empty file system of this kind. `images`: the directory images are kept in.

    Raises:
        VolumeError: this user, machine or kernel cannot.
    """
    try:
        if kind in _IMAGES:
            return _mount_image(machine, kind, images())
        return _mount_memory(machine, kind)
    except OSError as error:
        if error.errno != EPERM or kind in _IMAGES or not machine.local:
            raise VolumeError(f"mounting it: {error.strerror}") from None
    try:
        return _mount_as_user(machine, kind)
    except OSError as error:
        raise VolumeError(f"mounting it in a user namespace: {error.strerror}") from None


def _mount(machine: Machine, kind: str, flags: tuple[str, ...] = (), **options: str) -> int:
    context = machine.syscall("fsopen", kind, _CLOEXEC)
    try:
        for name, value in options.items():
            machine.syscall("fsconfig", context, _SET_STRING, name, value, 0)
        for name in flags:
            machine.syscall("fsconfig", context, _SET_FLAG, name, 0, 0)
        machine.syscall("fsconfig", context, _CREATE, 0, 0, 0)
        return machine.syscall("fsmount", context, _CLOEXEC, 0)
    finally:
        machine.close_fd(context)


def _mount_memory(machine: Machine, kind: str, flags: tuple[str, ...] = ()) -> int:
    """A file system that needs no disk. The layers of overlayfs are directories of one tmpfs, so that the files that it
    really maps are shared memory; `flags` are for it alone."""
    if kind != "overlay":
        return _mount(machine, kind)
    if machine.local:
        below = _mount(machine, "tmpfs")
        root = f"/proc/self/fd/{below}"
    else:
        # Before 6.15 the layers may not be on a detached mount (fs/namespace.c: clone_private_mount()).
        root = _LAYERS
        with suppress(FileExistsError):
            machine.mkdir(root)
        machine.syscall("mount", "tmpfs", root, "tmpfs", 0, 0)
        below = machine.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in ("lower", "upper", "work"):
            machine.mkdir(name, at=below)
        return _mount(
            machine,
            "overlay",
            flags,
            lowerdir=f"{root}/lower",
            upperdir=f"{root}/upper",
            workdir=f"{root}/work",
        )
    finally:
        machine.close_fd(below)


def _mount_as_user(machine: Machine, kind: str) -> int:
    """The same as an ordinary user, who is root in a user namespace: a child makes one, mounts and hands over."""
    ours, theirs = socket.socketpair()
    with ours, theirs, warnings.catch_warnings():
        # Python warns of a fork where there are threads; the child makes system calls and nothing else.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if not child:
            _hand_over(machine, kind, theirs)
        os.waitpid(child, 0)
        theirs.close()
        message, descriptors, _, _ = socket.recv_fds(ours, 8, 1)
    if not descriptors:
        error = int.from_bytes(message, "little") or EPERM
        raise OSError(error, os.strerror(error))
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _hand_over(machine: Machine, kind: str, to: socket.socket) -> NoReturn:
    """In the child: mount, send the descriptor or the errno, and end."""
    try:
        maps = {
            "uid_map": f"0 {os.getuid()} 1",
            "setgroups": "deny",
            "gid_map": f"0 {os.getgid()} 1",
        }
        machine.syscall("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        for name, text in maps.items():
            Path("/proc/self", name).write_text(text)
        socket.send_fds(to, [bytes(8)], [_mount_memory(machine, kind, ("userxattr",))])
    except OSError as error:
        to.send((error.errno or EPERM).to_bytes(8, "little"))
    finally:
        os._exit(0)


def _mount_image(machine: Machine, kind: str, directory: Path) -> int:
    if machine.local and os.geteuid():
        raise VolumeError("only root can mount an image")
    memory = machine.syscall("memfd_create", f"vmadiff-{kind}", os.MFD_CLOEXEC)
    try:
        _copy(_image(kind, directory), lambda block, at: machine.pwrite(memory, block, at))
        machine.truncate(memory, _IMAGES[kind].size)
        device = _loop(machine, memory)
    finally:
        machine.close_fd(memory)
    try:
        source = machine.link(f"/proc/self/fd/{device}")
        return _mount(machine, kind, _IMAGES[kind].flags, source=source)
    finally:
        machine.close_fd(device)


def _image(kind: str, directory: Path) -> Path:
    """The image with an empty file system, made now unless it was made before."""
    image = _IMAGES[kind]
    path = directory / f"{kind}-{image.size}"
    if path.exists():
        return path
    command = f"mkfs.{kind}"
    program = which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise VolumeError(f"{command} is not installed (Debian: {image.package})")
    with (
        tempfile.NamedTemporaryFile(dir=directory) as scratch,
        tempfile.NamedTemporaryFile(dir=directory, delete=False) as made,
    ):
        os.ftruncate(scratch.fileno(), image.size)
        done = subprocess.run(
            [program, *image.options, scratch.name], capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            os.unlink(made.name)
            raise VolumeError(f"{command}: {(done.stderr.strip() or 'it failed').splitlines()[-1]}")
        _copy(Path(scratch.name), lambda block, at: os.pwrite(made.fileno(), block, at))
        os.ftruncate(made.fileno(), image.size)
        os.rename(made.name, path)
    return path


def _copy(path: Path, write: Callable[[bytes, int], object]) -> None:
    """Write an image block by block; what is zero is passed over."""
    image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(image).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(image, at, os.SEEK_DATA) & -_BLOCK
            except OSError:  # ENXIO: only a hole is left
                return
            block = os.pread(image, _BLOCK, at)
            if block.strip(b"\0"):
                write(block, at)
            at += _BLOCK
    finally:
        os.close(image)


def _loop(machine: Machine, memory: int) -> int:
    """A descriptor of a loop device over a file, which the kernel frees when nobody uses it any more."""
    control = machine.open("/dev/loop-control", os.O_RDWR)
    try:
        for _ in range(_LOOP_ATTEMPTS):
            number = machine.syscall("ioctl", control, _LOOP_GET_FREE, 0)
            device = machine.open(f"/dev/loop{number}", os.O_RDWR)
            try:
                setup = _LOOP_CONFIG.pack(memory, 0, _LOOP_AUTOCLEAR)
                machine.syscall("ioctl", device, _LOOP_CONFIGURE, setup)
                return device
            except OSError as error:
                machine.close_fd(device)
                if error.errno != EBUSY:
                    raise
        raise VolumeError("every loop device is busy")
    finally:
        machine.close_fd(control)
