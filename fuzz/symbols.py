"""Where in the source the functions of a report are: `vma_merge+0x12/0x340` becomes `vma_merge+0x12/0x340 mm/vma.c:12`.

The kernel's image with its debug information (vmlinux) is read by binutils: nm for symbols, addr2line for lines. What
cannot be found, for whatever reason, stays as it is.
"""

import os.path
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from shutil import which
from typing import Final

from fuzz.console import strip
from fuzz.frames import is_frame

#: An entry that is not in a module and says no place yet.
_ENTRY: Final = re.compile(
    r"(?P<name>[A-Za-z_][\w.$]*)\+(?P<offset>0x[0-9a-f]+)/(?P<size>0x[0-9a-f]+)(?! \S+:\d| \[)"
)
#: What stands before an address that is the running one, not one to return to.
_EXACT: Final = re.compile(r"\b(?:R?IP|EIP|pc ?): ?\S*\s*$")
#: In which files of the tree functions are that every kernel has: so its root is found. Kernels that are built here
#: have lines for mm/ alone (kernels/build.py).
_LANDMARKS: Final = {"start_kernel": "init/main.c", "move_page_tables": "mm/mremap.c"}
_SECONDS: Final = 120.0

#: Programs that are needed, of Debian's package of that name.
_BINUTILS: Final = ("nm", "addr2line")

Place = str
#: function, offset, size, whether the address is exact
_Spot = tuple[str, int, int, bool]


def locate(text: str, vmlinux: Path | None) -> tuple[str, str]:
    """The text symbolised, and why none of its functions has file and line, "" if some have or there are none."""
    located = text if vmlinux is None else symbolise(text, vmlinux)
    if located != text or not _ENTRY.search(text):
        return located, ""
    if vmlinux is None:
        return text, "there is no vmlinux beside the kernel"
    if not all(map(which, _BINUTILS)):
        return text, "binutils are not installed (Debian: binutils)"
    return text, f"{vmlinux} has no debug information, or is another kernel's"


def symbolise(text: str, vmlinux: Path) -> str:
    """The text with file and line behind every function of the kernel `vmlinux`; in a stack, functions inlined there in
    lines of their own before it. As it is where binutils, the image or its debug information are missing."""
    spots = {_spot(match, line) for line in text.splitlines() for match in _ENTRY.finditer(line)}
    if not spots or not vmlinux.is_file():
        return text
    places = _look_up(sorted(spots), vmlinux)
    return "".join(_rewrite(line, places) for line in text.splitlines(keepends=True))


def _spot(match: re.Match[str], line: str) -> _Spot:
    exact = bool(_EXACT.search(line[: match.start()]))
    return match["name"], int(match["offset"], 16), int(match["size"], 16), exact


def _rewrite(line: str, places: dict[_Spot, list[tuple[str, Place]]]) -> str:
    inlined: list[str] = []

    def put(match: re.Match[str]) -> str:
        found = places.get(_spot(match, line))
        if not found:
            return match[0]
        if is_frame(strip(line)):
            start = line[: match.start()]
            inlined.extend(f"{start}{name} {place} [inline]\n" for name, place in found[:-1])
        return f"{match[0]} {found[-1][1]}"

    rewritten = _ENTRY.sub(put, line)
    return "".join(inlined) + rewritten


def _look_up(spots: Sequence[_Spot], vmlinux: Path) -> dict[_Spot, list[tuple[str, Place]]]:
    """For each spot that is found: functions and places, the innermost inlined one first."""
    symbols = read_symbols(_run("nm", "--print-size", "--defined-only", str(vmlinux)))
    landmarks = {name: at for name in _LANDMARKS for at, _ in symbols.get(name, [])}
    addresses: dict[_Spot, int] = {}
    for spot in spots:
        name, offset, size, exact = spot
        fits = [at for at, length in symbols.get(name, []) if not length or length <= size]
        if len(fits) == 1:
            # A return address is behind its call.
            addresses[spot] = fits[0] + offset - (0 if exact or not offset else 1)
    wanted = sorted({*addresses.values(), *landmarks.values()})
    if not addresses:
        return {}
    lines = _run(
        "addr2line",
        "-a",
        "-f",
        "-i",
        "-e",
        str(vmlinux),
        input_="".join(f"{at:#x}\n" for at in wanted),
    )
    places = read_places(lines)
    root = ""
    for name, at in landmarks.items():
        path = places.get(at, [("", "")])[-1][1].rpartition(":")[0]
        if path.endswith(_LANDMARKS[name]):
            root = path.removesuffix(_LANDMARKS[name])
    return {
        spot: [(name, place.removeprefix(root)) for name, place in places[at]]
        for spot, at in addresses.items()
        if at in places
    }


def read_symbols(lines: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
    """What nm says: by name the addresses and sizes of functions, several where names are not unique."""
    symbols: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[2] in "tTwW":
            symbols.setdefault(words[3], []).append((int(words[0], 16), int(words[1], 16)))
        elif len(words) == 3 and words[1] in "tTwW":
            symbols.setdefault(words[2], []).append((int(words[0], 16), 0))
    return symbols


def read_places(lines: Iterable[str]) -> dict[int, list[tuple[str, Place]]]:
    """What addr2line says: by address functions and places, the innermost first; none for what it does not know."""
    places: dict[int, list[tuple[str, Place]]] = {}
    address, name = 0, ""
    for line in lines:
        if line.startswith("0x"):
            address, name = int(line, 16), ""
        elif not name:
            name = line
        else:
            path, _, number = line.partition(" ")[0].rpartition(":")
            if path not in ("", "??") and number.isdigit() and number != "0":
                place = f"{os.path.normpath(path)}:{number}"
                places.setdefault(address, []).append((name, place))
            name = ""
    return places


def _run(*command: str, input_: str = "") -> list[str]:
    """The lines that a program prints; none if it is missing or fails."""
    try:
        done = subprocess.run(
            command, input=input_, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
    return done.stdout.splitlines()
