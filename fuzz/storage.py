"""Writing files so that a reader, a crash or a full disk never meets half of one."""

import os
from pathlib import Path
from typing import Final

#: Beginning of the names of files and directories that are still being written.
UNFINISHED: Final = ".new-"


def write_atomically(path: Path, data: bytes, durable: bool = False) -> None:
    """Put `data` at `path`, whole or not at all; `durable` also waits until it would survive a power cut. Into what is
    no file, a device or a pipe, it is written as it is; a symbolic link stays one.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        _write(unfinished, data, durable)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def write_directory(path: Path, files: dict[str, bytes]) -> bool:
    """Make the directory `path` with `files` in it, whole and durable; False when it exists already.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    if path.exists():
        return False
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            _write(unfinished / name, data, durable=True)
        sync_directory(unfinished)
        os.rename(unfinished, path)
    except BaseException as error:
        remove_directory(unfinished)
        if isinstance(error, OSError) and path.exists():
            return False
        raise
    sync_directory(path.parent)
    return True


def _write(path: Path, data: bytes, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if durable:
            os.fsync(descriptor)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove what was being written in `directory`, if it is one, by processes that are no more.

    Raises:
        OSError: it could not be removed.
    """
    for path in directory.glob(f"{UNFINISHED}*"):
        pid = path.name.removeprefix(UNFINISHED).partition("-")[0]
        if not Path("/proc", pid).exists():
            remove_directory(path)
            path.unlink(missing_ok=True)


def remove_directory(path: Path) -> None:
    """Remove a directory of plain files, if it is there."""
    if not path.is_dir():
        return
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
