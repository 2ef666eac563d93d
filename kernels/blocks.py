"""The blocks of a kernel that KCOV tells of, and the lines of source that they are made of.

A block begins behind a call of `__sanitizer_cov_trace_pc` (Documentation/dev-tools/kcov.rst) and goes on to the next;
KCOV names it by the address behind that call. Files have lines where the kernel was built so (`kernels.build`).
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kernels.cache import KernelError

_TRACE: Final = "__sanitizer_cov_trace_pc"
_CALL: Final = b"\xe8"
_CALL_SIZE: Final = 5
_NEAR: Final = struct.Struct("<i")
_EXECUTABLE: Final = 4
#: struct elf64_sym, of which the name, the value and the size are wanted.
_SYMBOL: Final = struct.Struct("<I4xQQ")
#: Path within the tree, line.
Line = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """address: as KCOV has it; lines: all that any of its instructions are of."""

    address: int
    lines: frozenset[Line]


def blocks(vmlinux: Path, files: Collection[str]) -> list[Block]:
    """The blocks with a line of one of these files, which are paths within the tree, by address; none where the kernel
    has no code of them.

    Raises:
        KernelError: the image has code of them and tells KCOV of nothing, or cannot be read.
    """
    try:
        with vmlinux.open("rb") as file:
            elf = ELFFile(file)
            sites = _sites(elf)
            rows = sorted(_rows(elf, files))
    except (OSError, ELFError) as error:
        raise KernelError(f"{vmlinux}: {error}") from None
    if rows and not sites:
        raise KernelError(f"{vmlinux}: it was built without KCOV")
    return list(_join(sites, rows))


#: Address behind, line or None for code of other files or of none.
_Row = tuple[int, int, Line]


def _join(sites: list[int], rows: list[_Row]) -> Iterator[Block]:
    """rows: begin, end, line; those of one block may be anywhere between its site and the next."""
    found: dict[int, set[Line]] = {}
    for begin, end, line in rows:
        # All blocks with instructions in it: the one that it begins in, and those that begin in it.
        first = max(bisect_right(sites, begin) - 1, 0)
        last = bisect_left(sites, end)
        for site in sites[first:last]:
            found.setdefault(site, set()).add(line)
    for site in sorted(found):
        yield Block(site + _CALL_SIZE, frozenset(found[site]))


def _sites(elf: Any) -> list[int]:
    """The addresses of all calls that tell KCOV."""
    target = _address(elf, _TRACE)
    if target is None:
        return []
    found: list[int] = []
    for section in elf.iter_sections():
        if not section["sh_flags"] & _EXECUTABLE or section["sh_type"] != "SHT_PROGBITS":
            continue
        code = section.data()
        base = section["sh_addr"]
        at = code.find(_CALL)
        while 0 <= at <= len(code) - _CALL_SIZE:
            site = base + at
            (near,) = _NEAR.unpack_from(code, at + 1)
            if site + _CALL_SIZE + near == target:
                found.append(site)
            at = code.find(_CALL, at + 1)
    return sorted(found)


def _address(elf: Any, symbol: str) -> int | None:
    """Of a symbol, None if there is none of that name. A kernel has so many that they are not all made objects of."""
    table = elf.get_section_by_name(".symtab")
    if table is None:
        return None
    names = elf.get_section(table["sh_link"]).data()
    name = names.find(f"\0{symbol}\0".encode()) + 1
    entries = _SYMBOL.iter_unpack(table.data())
    return next((value for at, value, _ in entries if at == name > 0), None)


def _rows(elf: Any, files: Collection[str]) -> Iterator[_Row]:
    """Stretches of code that are of these files: begin, end, line."""
    if not elf.has_dwarf_info():
        return
    dwarf = elf.get_dwarf_info()
    sources = {each for each in files if each.endswith(".c")}
    only_sources = len(sources) == len(files)
    for unit in dwarf.iter_CUs():
        name = _text(unit.get_top_DIE().attributes["DW_AT_name"].value)
        if only_sources and not _within(name, sources):
            continue
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        paths = _paths(program, files)
        before = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if before is not None and before.address < state.address:
                path = paths.get(before.file)
                if path and before.line:
                    yield before.address, state.address, (path, before.line)
            before = None if state.end_sequence else state


def _paths(program: Any, files: Collection[str]) -> dict[int, str]:
    """Which of the numbers that the line program has for files are one of these."""
    header = program.header
    directories = [_text(each) for each in header["include_directory"]]
    dwarf5 = header["version"] >= 5
    found: dict[int, str] = {}
    for number, entry in enumerate(header["file_entry"], 0 if dwarf5 else 1):
        place = entry["dir_index"] - (0 if dwarf5 else 1)
        directory = directories[place] if 0 <= place < len(directories) else ""
        path = _within(f"{directory}/{_text(entry['name'])}", files)
        if path:
            found[number] = path
    return found


def _within(path: str, files: Collection[str]) -> str:
    """Which of these paths within the tree a path to it ends with; "" if none."""
    return next((each for each in files if f"/{path}".endswith(f"/{each}")), "")


def _text(value: Any) -> str:
    value = getattr(value, "DW_AT_name", value)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
