"""What a Python user would write first: mm calls by ctypes in this very process, in a window of 64 pages, and the
layout out of /proc/self/maps."""

import ctypes
from typing import Final

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, arguments
from abi.consts import PAGE
from abi.trace import PERM_EXEC, PERM_READ, PERM_SHARED, PERM_WRITE

WINDOW: Final = 0x2_0000_0000
PAGES: Final = 64
#: Calls in a sequence.
STEPS: Final = 8
#: x86_64's.
NUMBERS: Final[dict[type[Call], int]] = {Mmap: 9, Mprotect: 10, Munmap: 11, Mremap: 25, Madvise: 28}

#: start, end, permissions, offset, device and inode, name.
Line = tuple[int, int, int, int, str, str]

_PERMS: Final = {"r": PERM_READ, "w": PERM_WRITE, "x": PERM_EXEC, "s": PERM_SHARED}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def do(call: Call) -> int:
    """Make the system call here; its raw result."""
    value = _libc.syscall(NUMBERS[type(call)], *map(ctypes.c_ulong, arguments(call)))
    return -ctypes.get_errno() if value == -1 else int(value)


def clear() -> None:
    """Unmap the window."""
    do(Munmap(WINDOW, PAGES * PAGE))


def read_layout() -> list[Line]:
    """The whole layout as /proc/self/maps shows it."""
    layout = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, letters, offset, device, inode, *name = line.split(maxsplit=5)
            start, end = (int(word, 16) for word in addresses.split("-"))
            perms = sum(_PERMS.get(letter, 0) for letter in letters)
            where = f"{device}:{inode}"
            layout.append((start, end, perms, int(offset, 16), where, name[0] if name else ""))
    return layout


def read_window() -> list[Line]:
    """The lines of the window, out of all."""
    return [line for line in read_layout() if WINDOW <= line[0] < WINDOW + PAGES * PAGE]
