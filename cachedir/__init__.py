"""Where files are kept between runs: binaries, images, kernels. Knows nothing of what they are."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class CacheError(Exception):
    """There is no place to keep files in; the message is one line that says what to do."""


def cache_directories() -> Iterator[Path]:
    """Where built files and state may be kept, best first. They need not exist."""
    if os.environ.get("XDG_CACHE_HOME"):
        yield Path(os.environ["XDG_CACHE_HOME"]) / "vmadiff"
    if os.environ.get("HOME"):
        yield Path(os.environ["HOME"]) / ".cache" / "vmadiff"
    yield Path(tempfile.gettempdir()) / f"vmadiff-{os.getuid()}"


def writable_directory(name: str) -> Path:
    """A directory `name` in the first cache directory that can be written, made if needed.

    Raises:
        CacheError: there is none.
    """
    tried = []
    for base in cache_directories():
        path = base / name
        try:
            base.mkdir(parents=True, exist_ok=True, mode=0o755)
            # Another user's directory in a shared place is not to be trusted.
            if base.stat().st_uid != os.getuid():
                raise PermissionError(0, "belongs to another user", str(base))
            path.mkdir(exist_ok=True, mode=0o755)
            with tempfile.TemporaryFile(dir=path):
                return path
        except OSError as error:
            tried.append(f"{path}: {error.strerror}")
    raise CacheError(
        f"no directory to keep built files in ({'; '.join(tried)}); set XDG_CACHE_HOME"
    )


@contextmanager
def locked(path: Path, wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keep other processes that do the same out of a directory; `wait` is called before others are waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
