"""Parses the text of /proc/PID/maps and /proc/PID/smaps. Pure: it is given text and opens nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from abi.trace import (
    NAME_ANON,
    NAME_FILE,
    NAME_HEAP,
    NAME_NONE,
    NAME_OTHER,
    NAME_STACK,
    NAME_VDSO,
    NAME_VVAR,
    PERM_EXEC,
    PERM_READ,
    PERM_SHARED,
    PERM_WRITE,
    Layout,
    Mapping,
)

_LINE: Final = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$"
)
_PREFIXES: Final = (
    ("/", NAME_FILE),
    ("[heap]", NAME_HEAP),
    ("[stack]", NAME_STACK),
    ("[vdso]", NAME_VDSO),
    ("[vvar", NAME_VVAR),
    ("[anon:", NAME_ANON),
)
_BITS: Final = {"r": PERM_READ, "w": PERM_WRITE, "x": PERM_EXEC, "s": PERM_SHARED, "p": 0, "-": 0}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of maps; with smaps also its VmFlags codes and its `Anonymous:` bytes."""

    start: int
    end: int
    perms: int
    offset: int
    device: tuple[int, int]
    inode: int
    name: str
    flags: tuple[str, ...] = ()
    anonymous: int = 0


def name_class(name: str) -> int:
    """The NAME_* class of a mapping's name as maps shows it."""
    if not name:
        return NAME_NONE
    return next((value for prefix, value in _PREFIXES if name.startswith(prefix)), NAME_OTHER)


def parse(text: str) -> tuple[Entry, ...]:
    """The entries of maps or smaps text, in order, without [vsyscall], which is in no address space.

    Raises:
        ValueError: a line is of neither form.
    """
    entries: list[Entry] = []
    fields: dict[str, str] = {}

    def finish() -> None:
        if entries and fields:
            last = entries[-1]
            entries[-1] = Entry(
                last.start, last.end, last.perms, last.offset, last.device, last.inode, last.name,
                tuple(fields.get("VmFlags", "").split()),
                int(fields.get("Anonymous", "0 kB").split()[0]) * 1024,
            )  # fmt: skip
        fields.clear()

    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            finish()
            start, end, perms, offset, major, minor, inode, name = match.groups()
            entries.append(
                Entry(
                    start=int(start, 16),
                    end=int(end, 16),
                    perms=sum(_BITS[letter] for letter in perms),
                    offset=int(offset, 16),
                    device=(int(major, 16), int(minor, 16)),
                    inode=int(inode),
                    name=name,
                )
            )
        elif ":" in line and entries:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
        else:
            raise ValueError(f"not a line of maps or smaps: {line!r}")
    finish()
    return tuple(entry for entry in entries if entry.start >> 63 == 0)


def layout(entries: tuple[Entry, ...], ident: Callable[[tuple[int, int], int], int]) -> Layout:
    """The layout that entries show; `ident` gives an object's ident from device and inode."""
    return tuple(
        Mapping(
            e.start,
            e.end,
            e.offset,
            ident(e.device, e.inode) if e.inode or e.device != (0, 0) else 0,
            e.perms,
            name_class(e.name),
        )
        for e in entries
    )
