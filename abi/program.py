"""The text form of programs: strace-like, one call a line, symbolic, addresses relative to anchors.

    # a comment, kept out of the semantics
    mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
    mremap(W+1, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)

An address is `W` (the window), `T` (mmap_base, top of the search area) or `B` (where the heap starts) plus or minus
pages, `W+12`, or plus bytes, `W+12+0x10`; or a number. A length or offset is in pages, `4p`, pages
and bytes, `4p+0x10`, or a number. A trailing `= result` is ignored: traces are programs too. This is the form of
corpus/, reports and replay. A line `# next program` stands between programs that ran one after the other. The comment
at the top of a file may state how it fares, `# expect: ...`; what that means is known to `fuzz/expectation.py`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from abi.calls import CALLS, NAMES, SIGNATURES, Call, Kind, Program, build, signed32
from abi.consts import (
    ACCESS_NAMES,
    BIND_NAMES,
    FD_NAMES,
    FIRST_OBJECT_FD,
    MADV_NAMES,
    MAP_NAMES,
    MAP_TYPE,
    MAP_TYPE_NAMES,
    MCL_NAMES,
    MLOCK_NAMES,
    MREMAP_NAMES,
    MS_NAMES,
    PAGE,
    POLICY_FLAG_NAMES,
    POLICY_NAMES,
    PRCTL_NAMES,
    PROT_NAMES,
    RESOURCE_NAMES,
    SHM_NAMES,
    UFFD_MODE_NAMES,
    UFFD_WP_MODE_NAMES,
    VMA_NAMES,
    WORD,
)
from abi.environment import Geometry

_BY_NAME = {name: cls for cls, name in NAMES.items()}
_LINE = re.compile(r"(\w+)\s*\((.*)\)\s*(?:=.*)?$")
_ANCHORED = re.compile(r"([WTB])(?:([+-])(\d+))?(?:\+(0x[0-9a-fA-F]+))?$")
_PAGES = re.compile(r"(\d+)p(?:\+(0x[0-9a-fA-F]+))?$")
#: Anchored addresses are written for what is within this many pages of the anchor.
_REACH = 1 << 18
_REACHES = {"W": (-_REACH, _REACH), "T": (-_REACH, _REACH), "B": (0, 1 << 12)}

_BITS: Mapping[Kind, Mapping[str, int]] = {
    Kind.PROT: {"PROT_NONE": 0, **PROT_NAMES},
    Kind.MAP_FLAGS: {**MAP_TYPE_NAMES, **MAP_NAMES},
    Kind.MREMAP_FLAGS: MREMAP_NAMES,
    Kind.UFFD_MODE: UFFD_MODE_NAMES,
    Kind.LOCK_FLAGS: MLOCK_NAMES,
    Kind.MCL_FLAGS: MCL_NAMES,
    Kind.SYNC_FLAGS: MS_NAMES,
    Kind.UFFD_WP_MODE: UFFD_WP_MODE_NAMES,
    Kind.BIND_FLAGS: BIND_NAMES,
    Kind.SHM_FLAGS: SHM_NAMES,
    Kind.POLICY: {**POLICY_NAMES, **POLICY_FLAG_NAMES},
}
_WHOLE: Mapping[Kind, Mapping[str, int]] = {
    Kind.ADVICE: MADV_NAMES,
    Kind.ACCESS: ACCESS_NAMES,
    Kind.FD: FD_NAMES,
    Kind.NAME: VMA_NAMES,
    Kind.PRCTL: PRCTL_NAMES,
    Kind.RESOURCE: RESOURCE_NAMES,
}


#: Between the programs of a text that holds several.
SEPARATOR = "# next program"


class ProgramError(ValueError):
    """The text is not a program; the message says which line and why."""


def parse(text: str, geometry: Geometry, name: str = "program") -> Program:
    """The program that `text` describes, its anchors resolved in `geometry`.

    Raises:
        ProgramError: a line is not a call of the vocabulary.
    """
    return tuple(_parse_lines(text, geometry, name))


def parse_all(text: str, geometry: Geometry, name: str = "program") -> list[Program]:
    """The programs of a text that holds several, or one.

    Raises:
        ProgramError: a line is not a call of the vocabulary.
    """
    parts: list[list[str]] = [[]]
    for number, line in enumerate(text.splitlines()):
        if line.strip() == SEPARATOR:
            parts.append([""] * number)  # so that errors name the line in the whole text
        parts[-1].append(line)
    return [parse("\n".join(part), geometry, name) for part in parts]


def _parse_lines(text: str, geometry: Geometry, name: str) -> Iterator[Call]:
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        try:
            yield parse_call(line, geometry)
        except ProgramError as error:
            raise ProgramError(f"{name}:{number}: {error}") from None


def calls_only(text: str) -> str:
    """The calls of a text as they are written, one a line, without comments and results; of a text of several programs
    with what stands between these. What `format_program` gives stays as it is."""
    lines = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        match = _LINE.match(line)
        if match:
            lines.append(f"{match[1]}({', '.join(word.strip() for word in match[2].split(','))})\n")
        elif line or (raw.strip() == SEPARATOR):
            lines.append(f"{line or SEPARATOR}\n")
    return "".join(lines)


def call_lines(text: str) -> list[int]:
    """The numbers of the lines that are calls, from 1; of a text of several programs those of all."""
    numbered = enumerate(text.splitlines(), start=1)
    return [number for number, line in numbered if line.split("#", 1)[0].strip()]


def parse_call(line: str, geometry: Geometry) -> Call:
    """The call that one line describes.

    Raises:
        ProgramError: it is none.
    """
    match = _LINE.match(line)
    if not match:
        raise ProgramError(f"not a call: {line[:60]!r}")
    cls = _BY_NAME.get(match[1])
    if cls is None:
        raise ProgramError(f"unknown call {match[1]!r}; known are {', '.join(_BY_NAME)}")
    signature = SIGNATURES[cls]
    words = [word.strip() for word in match[2].split(",")] if match[2].strip() else []
    if len(words) != len(signature):
        raise ProgramError(f"{match[1]} takes {len(signature)} arguments, here are {len(words)}")
    values = [
        _parse_word(word, kind, geometry) for word, (_, kind) in zip(words, signature, strict=True)
    ]
    return build(cls, values)


def _parse_word(word: str, kind: Kind, geometry: Geometry) -> int:
    if kind is Kind.ADDRESS:
        match = _ANCHORED.match(word)
        if match:
            base = _anchors(geometry)[match[1]]
            pages = int(match[3] or 0) * (-1 if match[2] == "-" else 1)
            return (base + pages * PAGE + int(match[4] or "0", 16)) & WORD
    elif kind is Kind.LENGTH or kind is Kind.OFFSET:
        match = _PAGES.match(word)
        if match:
            return (int(match[1]) * PAGE + int(match[2] or "0", 16)) & WORD
    elif kind in _BITS:
        return _parse_bits(word, _BITS[kind])
    elif kind in _WHOLE and word in _WHOLE[kind]:
        return _WHOLE[kind][word]
    value = _parse_number(word)
    if kind is Kind.FD and 0 <= signed32(value) < FIRST_OBJECT_FD:
        raise ProgramError(f"descriptors 0 to {FIRST_OBJECT_FD - 1} belong to the executor")
    return value


def _parse_bits(word: str, names: Mapping[str, int]) -> int:
    value = 0
    for part in word.split("|"):
        value |= names[part.strip()] if part.strip() in names else _parse_number(part.strip())
    return value


def _parse_number(word: str) -> int:
    if word == "NULL":
        return 0
    try:
        value = int(word, 0)
    except ValueError:
        raise ProgramError(f"cannot read {word!r}") from None
    if not -(1 << 63) <= value <= WORD:
        raise ProgramError(f"{word} does not fit in 64 bits")
    return value & WORD


def format_program(program: Iterable[Call], geometry: Geometry) -> str:
    """The text form, one call a line; `parse` is its inverse."""
    return "".join(f"{format_call(call, geometry)}\n" for call in program)


def format_all(programs: Iterable[Iterable[Call]], geometry: Geometry) -> str:
    """Several programs as one text; `parse_all` is its inverse."""
    return f"{SEPARATOR}\n".join(format_program(program, geometry) for program in programs)


def format_call(call: Call, geometry: Geometry) -> str:
    """One call as one line, without newline."""
    cls = type(call)
    words = (format_word(getattr(call, name), kind, geometry) for name, kind in SIGNATURES[cls])
    return f"{NAMES[cls]}({', '.join(words)})"


def format_word(value: int, kind: Kind, geometry: Geometry) -> str:
    """One argument in its symbolic form."""
    if kind is Kind.ADDRESS:
        return format_address(value, geometry)
    if kind is Kind.LENGTH or kind is Kind.OFFSET:
        pages, rest = divmod(value, PAGE)
        if value == 0 or pages > _REACH:
            return hex(value) if value else "0"
        if pages == 0:
            return hex(value)
        return f"{pages}p" + (f"+{rest:#x}" if rest else "")
    if kind is Kind.MAP_FLAGS:
        return _format_map_flags(value)
    if kind is Kind.POLICY:
        return _format_policy(value)
    if kind in _BITS:
        return _format_bits(value, _BITS[kind], zero="PROT_NONE" if kind is Kind.PROT else "0")
    if kind in _WHOLE:
        for name, known in _WHOLE[kind].items():
            if known == value:
                return name
    return str(value) if value < 1 << 20 else hex(value)


def format_address(value: int, geometry: Geometry) -> str:
    """An address relative to the nearest anchor within reach, else as a number."""
    if value == 0:
        return "NULL"
    for anchor, base in _anchors(geometry).items():
        pages, rest = divmod(value - base, PAGE)
        low, high = _REACHES[anchor]
        if low <= pages <= high:
            sign = "+" if pages >= 0 else "-"
            return f"{anchor}{sign}{abs(pages)}" + (f"+{rest:#x}" if rest else "")
    return hex(value)


def _anchors(geometry: Geometry) -> dict[str, int]:
    return {"W": geometry.window, "T": geometry.top, "B": geometry.heap}


def _format_bits(value: int, names: Mapping[str, int], zero: str) -> str:
    parts = []
    for name, bit in names.items():
        if bit and value & bit == bit:
            parts.append(name)
            value &= ~bit
    if value:
        parts.append(hex(value))
    return "|".join(parts) or zero


def _format_map_flags(value: int) -> str:
    kind = next((n for n, v in MAP_TYPE_NAMES.items() if v == value & MAP_TYPE), None)
    rest = value & ~MAP_TYPE if kind else value
    text = _format_bits(rest, MAP_NAMES, zero="")
    return "|".join(part for part in (kind, text) if part) or "0"


def _format_policy(value: int) -> str:
    mode = value & ~sum(POLICY_FLAG_NAMES.values())
    name = next((n for n, v in POLICY_NAMES.items() if v == mode), hex(mode))
    return "|".join([name, *(n for n, v in POLICY_FLAG_NAMES.items() if value & v)])


assert set(_BY_NAME.values()) == set(CALLS)
