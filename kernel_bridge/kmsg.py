"""The running kernel's messages (/dev/kmsg), from now on, where this user may read them."""

import os
from typing import Final

_PATH: Final = "/dev/kmsg"
_RECORD: Final = 8192
#: Records that are read at once: what others print must not keep us.
_MOST: Final = 1000


class Kmsg:
    """Raises OSError if they cannot be read."""

    def __init__(self) -> None:
        self._fd = os.open(_PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def read(self) -> bytes:
        """The records since this was last called; of what was overwritten meanwhile, a line says so."""
        parts: list[bytes] = []
        for _ in range(_MOST):
            try:
                parts.append(os.read(self._fd, _RECORD))
            except BlockingIOError:
                break
            except BrokenPipeError:
                parts.append(b"vmadiff: messages were lost\n")
        return b"".join(parts)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
