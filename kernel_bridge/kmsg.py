"""The log of the running kernel, from now on: /dev/kmsg, where it may be read.

Records that user space wrote into it are left out: whoever may write there could pretend anything. Knows nothing of
what a record means.
"""

import errno
import os
import re
from pathlib import Path
from typing import Final

#: Longer than any record.
_RECORD: Final = 16384
_RESTRICTED: Final = Path("/proc/sys/kernel/dmesg_restrict")
#: What stands in the log where records were overwritten before they were read.
OVERRUN: Final = b"[vmadiff: the kernel's log was faster than we; records are missing here]\n"
#: How what cannot be printed is written, line ends within a record among it.
_ESCAPED: Final = re.compile(rb"\\x([0-9a-f]{2})")
#: Records at one time, so that a kernel which writes without end does not hold up its reader.
_MOST: Final = 5000


class KmsgError(Exception):
    """The log cannot be watched; the message is one line that says why."""


class Kmsg:
    """What the kernel has printed since this was made.

    own: with what user space wrote (for tests).

    Raises:
        KmsgError: it may not be read here, or there is none.
    """

    def __init__(self, path: str | Path = "/dev/kmsg", *, own: bool = False) -> None:
        self._own = own
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KmsgError(_refusal(path, error)) from None
        try:
            os.lseek(self._descriptor, 0, os.SEEK_END)
            self.read()
        except OSError as error:
            self.close()
            raise KmsgError(_refusal(path, error)) from None

    def read(self) -> bytes:
        """The lines that came since the last time, as a console shows them; one system call if there are none.

        Raises:
            OSError: the log can no longer be read.
        """
        lines: list[bytes] = []
        for _ in range(_MOST):
            try:
                record = os.read(self._descriptor, _RECORD)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                lines.append(OVERRUN)
                continue
            if not record:
                break
            lines.append(text(record, self._own))
        return b"".join(lines)

    def close(self) -> None:
        """Let go of it. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def text(record: bytes, own: bool = False) -> bytes:
    """The line of a record, `[    1.234567] text`; nothing for what user space wrote, unless `own`.

    Documentation/ABI/testing/dev-kmsg: `PRIORITY,NUMBER,MICROSECONDS,FLAGS[,...];TEXT`, then lines of properties that
    begin with a space. Of user space's records the priority is never below 8.
    """
    head, semicolon, rest = record.partition(b";")
    fields = head.split(b",")
    if not semicolon or len(fields) < 3 or not (fields[0].isdigit() and fields[2].isdigit()):
        return b""
    if int(fields[0]) >= 8 and not own:
        return b""
    seconds, micros = divmod(int(fields[2]), 1_000_000)
    line = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), rest.partition(b"\n")[0])
    stamp = b"[%5d.%06d] " % (seconds, micros)
    return b"".join(stamp + part + b"\n" for part in line.split(b"\n"))


def _refusal(path: str | Path, error: OSError) -> str:
    """Why the log is not watched, in one line."""
    why = f"the kernel's log is not watched: {path}: {error.strerror}"
    if error.errno in (errno.EPERM, errno.EACCES) and _restricts():
        return f"{why} (kernel.dmesg_restrict is 1: it takes CAP_SYSLOG)"
    return why


def _restricts() -> bool:
    try:
        return _RESTRICTED.read_text().strip() != "0"
    except OSError:
        return False
