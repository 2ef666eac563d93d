"""The byte form of programs: what Atheris keeps, splices and deletes from.

A program is its records, one after the other; a record is an opcode byte, then one tag byte an argument in the
order of the call's fields. Most tags are a value themselves; the highest announce a little-endian payload, the last of
them a whole 64-bit word. Hence every argument of every call has a form, and the usual call has 4 to 9 bytes.

Decoding is total: any bytes are a program, all zero bytes are the plainest call (mmap of one private writable
page at the window), and what is missing at the end is zero. Removing a record leaves the others as they are. The
form knows the geometry (addresses are relative to its anchors) and nothing of the space or the kernel; it is
private to the corpus directory of a run: what is kept for people is the text form of `abi.program`.

Decoding gives whatever the bytes say, harmful advice included: see `fuzz.restraint`.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from abi.calls import CALLS, OPCODES, SIGNATURES, Call, Kind, Program
from abi.consts import (
    FD_NAMES,
    FIRST_OBJECT_FD,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MLOCK_ONFAULT,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PAGE,
    PRCTL_NAMES,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    RESOURCE_NAMES,
    SHM_EXEC,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    UFFDIO_REGISTER_MODE_MISSING,
    VMA_NAMES,
    WORD,
)
from abi.environment import Geometry

#: Most calls a program has; bytes behind them mean nothing.
MAX_CALLS: Final = 64

#: Tags below are values; from here on a kind may give them a payload.
_FIRST_PAYLOAD: Final = 0xF0
#: Address tags with a payload: pages, or pages and bytes, from an anchor; NULL has none.
_WINDOW_PAGES, _WINDOW_BYTES, _TOP_PAGES, _TOP_BYTES, _NULL, _WINDOW_NEAR = range(0xF0, 0xF6)
#: Length and offset tags with a payload.
_NEAR, _PAGES, _BYTES, _NOTHING = range(0xF0, 0xF4)
#: Tags of any other kind: a 32-bit and a 64-bit word.
_SHORT, _LITERAL = 0xFE, 0xFF

_NEAR_PAGE: Final = struct.Struct("<Bb")
_FEW_PAGES: Final = struct.Struct("<H")
_MANY_BYTES: Final = struct.Struct("<IH")
_ANCHOR_PAGES: Final = struct.Struct("<h")
_ANCHOR_BYTES: Final = struct.Struct("<hH")
_WORD32: Final = struct.Struct("<I")
_WORD64: Final = struct.Struct("<Q")
_NUMBER32: Final = struct.Struct("<i")

#: The longest record is an opcode and six 64-bit words with their tags.
_PAST_THE_END: Final = bytes(1 + 6 * 9)

#: What a tag with a payload says: how many bytes follow, and how they are read.
Payload = tuple[int, Callable[[bytes, int], int]]
#: One entry a tag: the value itself, or its payload.
Table = tuple[int | Payload, ...]

_FIXED: Final = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
#: Flags with a tag of their own; zero means the first. Add at the end.
_MAP_FLAGS: Final = (
    _FIXED,
    MAP_PRIVATE | MAP_ANONYMOUS,
    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
    MAP_SHARED | MAP_ANONYMOUS,
    MAP_PRIVATE | MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED | MAP_FIXED,
    MAP_SHARED,
    MAP_SHARED_VALIDATE | MAP_FIXED,
    MAP_SHARED_VALIDATE,
    MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED,
    MAP_DROPPABLE | MAP_ANONYMOUS,
    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
    MAP_PRIVATE | MAP_FIXED_NOREPLACE,
    MAP_SHARED | MAP_FIXED_NOREPLACE,
    _FIXED | MAP_POPULATE,
    _FIXED | MAP_LOCKED,
    _FIXED | MAP_NORESERVE,
    _FIXED | MAP_GROWSDOWN,
    _FIXED | MAP_STACK,
    0,
)
#: -1, the object table, and numbers that are no descriptor. Add at the end.
_FDS: Final = (-1, *FD_NAMES.values(), 999, -2, 1 << 20)
#: Kinds of arguments that are mostly one of a few values; zero means the first. Other kinds are small numbers.
_CHOICES: Final[dict[Kind, tuple[int, ...]]] = {
    Kind.LOCK_FLAGS: (0, MLOCK_ONFAULT, 2),
    Kind.MCL_FLAGS: (*range(1, 8), 0, 8),
    Kind.SYNC_FLAGS: (MS_SYNC, 0, MS_ASYNC, MS_INVALIDATE, 3, 5, 6, 7, 8),
    Kind.NAME: tuple(VMA_NAMES.values()),
    Kind.PRCTL: tuple(PRCTL_NAMES.values()),
    Kind.RESOURCE: tuple(RESOURCE_NAMES.values()),
    Kind.UFFD_WP_MODE: (0, 1, 2, 3, 4),
    Kind.POLICY: tuple(range(8)),
    Kind.BIND_FLAGS: tuple(range(9)),
    Kind.SHM_FLAGS: (0, SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC, SHM_RND | SHM_REMAP),
}
#: Six bits of a tag as a protection; zero is read and write.
_PROTS: Final = tuple(
    (tag & 7 ^ (PROT_READ | PROT_WRITE))
    | (tag >> 3 & 1) * PROT_SEM
    | (tag >> 4 & 1) * PROT_GROWSDOWN
    | (tag >> 5 & 1) * PROT_GROWSUP
    for tag in range(64)
)


def decode(data: bytes, geometry: Geometry) -> Program:
    """The program that `data` is; every byte string is one."""
    operations = _operations(geometry)
    size = len(data)
    data = bytes(data) + _PAST_THE_END
    calls: list[Call] = []
    at = 0
    while at < size and len(calls) < MAX_CALLS:
        make, tables = operations[data[at]]
        at += 1
        arguments = []
        for table in tables:
            value = table[data[at]]
            at += 1
            if isinstance(value, tuple):
                width, read = value
                value = read(data, at)
                at += width
            arguments.append(value)
        calls.append(make(*arguments))
    return tuple(calls)


def encode(program: Program, geometry: Geometry) -> bytes:
    """The byte form of `program`: `decode` gives it back.

    Raises:
        ValueError: it has more than MAX_CALLS calls, or names a descriptor of the executor.
    """
    if len(program) > MAX_CALLS:
        raise ValueError(f"{len(program)} calls, more than {MAX_CALLS}")
    forms = _forms(geometry)
    out = bytearray()
    for call in program:
        opcode, arguments = forms[type(call)]
        out.append(opcode)
        for name, kind, written in arguments:
            value = getattr(call, name)
            piece = written.get(value)
            if piece is None:
                piece = _with_payload(value, kind, geometry)
                if len(written) < _REMEMBERED:
                    written[value] = piece
            out += piece
    return bytes(out)


@lru_cache(maxsize=8)
def _operations(geometry: Geometry) -> tuple[tuple[Callable[..., Call], tuple[Table, ...]], ...]:
    """Per opcode byte: what builds the call, and the table of each argument."""
    tables = {kind: _table(kind, geometry) for kind in Kind}
    rows = [(cls, tuple(tables[kind] for _, kind in SIGNATURES[cls])) for cls in CALLS]
    return tuple(rows[byte % len(rows)] for byte in range(256))


#: Per argument: its field, its kind, and how values are written: those that a tag is enough for, and some that were
#: written before.
_Arguments = tuple[tuple[str, Kind, dict[int, bytes]], ...]
_REMEMBERED: Final = 1 << 14


@lru_cache(maxsize=8)
def _forms(geometry: Geometry) -> dict[type[Call], tuple[int, _Arguments]]:
    """Per call: its opcode, and how its arguments are written."""
    tags = {kind: _tags(_table(kind, geometry)) for kind in Kind}
    return {
        cls: (OPCODES[cls], tuple((name, kind, tags[kind]) for name, kind in SIGNATURES[cls]))
        for cls in CALLS
    }


def _tags(table: Table) -> dict[int, bytes]:
    """The lowest tag that is each value."""
    tags: dict[int, bytes] = {}
    for tag, value in enumerate(table):
        if isinstance(value, int):
            tags.setdefault(value, bytes((tag,)))
    return tags


def _table(kind: Kind, geometry: Geometry) -> Table:
    payloads = _payloads(kind, geometry)
    return tuple(payloads.get(tag) or _value(tag, kind, geometry) for tag in range(256))


def _value(tag: int, kind: Kind, geometry: Geometry) -> int:
    """What a tag without payload means."""
    if kind is Kind.ADDRESS:
        return (geometry.window + tag * PAGE) & WORD
    if kind is Kind.LENGTH:
        return (tag + 1) * PAGE
    if kind is Kind.PAGES:
        return tag + 1
    if kind is Kind.OFFSET:
        return tag * PAGE
    if kind is Kind.PROT:
        return _PROTS[tag % len(_PROTS)]
    if kind is Kind.MAP_FLAGS:
        return _MAP_FLAGS[tag % len(_MAP_FLAGS)]
    if kind is Kind.MREMAP_FLAGS:
        return tag % 8
    if kind is Kind.ADVICE:
        return tag
    if kind is Kind.UFFD_MODE:
        return tag % 8 ^ UFFDIO_REGISTER_MODE_MISSING
    if kind is Kind.ACCESS:
        return tag % 2
    if kind is Kind.FD:
        return _FDS[tag % len(_FDS)]
    choices = _CHOICES.get(kind)
    return choices[tag % len(choices)] if choices else tag


def _payloads(kind: Kind, geometry: Geometry) -> dict[int, Payload]:
    """The tags of `kind` that have a payload, and how it is read."""
    if kind is Kind.ADDRESS:
        return {
            _WINDOW_PAGES: (_ANCHOR_PAGES.size, _pages_from(geometry.window)),
            _WINDOW_BYTES: (_ANCHOR_BYTES.size, _bytes_from(geometry.window, _ANCHOR_BYTES)),
            _TOP_PAGES: (_ANCHOR_PAGES.size, _pages_from(geometry.top)),
            _TOP_BYTES: (_ANCHOR_BYTES.size, _bytes_from(geometry.top, _ANCHOR_BYTES)),
            _NULL: (0, _read_zero),
            _WINDOW_NEAR: (_NEAR_PAGE.size, _bytes_from(geometry.window, _NEAR_PAGE)),
            _LITERAL: (_WORD64.size, _read_word64),
        }
    if kind is Kind.LENGTH or kind is Kind.OFFSET:
        return {
            _NEAR: (_NEAR_PAGE.size, _bytes_from(0, _NEAR_PAGE)),
            _PAGES: (_FEW_PAGES.size, _read_pages),
            _BYTES: (_MANY_BYTES.size, _bytes_from(0, _MANY_BYTES)),
            _NOTHING: (0, _read_zero),
            _LITERAL: (_WORD64.size, _read_word64),
        }
    if kind is Kind.FD:
        return {_LITERAL: (_NUMBER32.size, _read_fd)}
    return {_SHORT: (_WORD32.size, _read_word32), _LITERAL: (_WORD64.size, _read_word64)}


def _pages_from(base: int) -> Callable[[bytes, int], int]:
    def read(data: bytes, at: int) -> int:
        (pages,) = _ANCHOR_PAGES.unpack_from(data, at)
        return (base + pages * PAGE) & WORD  # type: ignore[no-any-return]  # struct is untyped

    return read


def _bytes_from(base: int, form: struct.Struct) -> Callable[[bytes, int], int]:
    def read(data: bytes, at: int) -> int:
        pages, rest = form.unpack_from(data, at)
        return (base + pages * PAGE + rest) & WORD  # type: ignore[no-any-return]  # likewise

    return read


def _read_zero(_data: bytes, _at: int) -> int:
    return 0


def _read_pages(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little") * PAGE


def _read_word32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _read_word64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _read_fd(data: bytes, at: int) -> int:
    number = int.from_bytes(data[at : at + 4], "little", signed=True)
    return number if not 0 <= number < FIRST_OBJECT_FD else number + FIRST_OBJECT_FD


def _with_payload(value: int, kind: Kind, geometry: Geometry) -> bytes:
    """A tag and its payload, the shortest that gives `value`."""
    if kind is Kind.ADDRESS:
        return _encode_address(value, geometry)
    if kind is Kind.LENGTH or kind is Kind.OFFSET:
        return _encode_extent(value)
    if kind is Kind.FD:
        if 0 <= value < FIRST_OBJECT_FD:
            raise ValueError(f"descriptor {value} belongs to the executor")
        return bytes((_LITERAL,)) + _NUMBER32.pack(value)
    if value >> 32 == 0:
        return bytes((_SHORT,)) + _WORD32.pack(value)
    return bytes((_LITERAL,)) + _WORD64.pack(value)


def _encode_address(value: int, geometry: Geometry) -> bytes:
    if value == 0:
        return bytes((_NULL,))
    pages, rest = _nearest_page(value - geometry.window)
    if 0 <= pages < 256 and -128 <= rest < 128 and rest:
        return bytes((_WINDOW_NEAR,)) + _NEAR_PAGE.pack(pages, rest)
    for base, whole, part in (
        (geometry.window, _WINDOW_PAGES, _WINDOW_BYTES),
        (geometry.top, _TOP_PAGES, _TOP_BYTES),
    ):
        pages, rest = divmod(value - base, PAGE)
        if -(1 << 15) <= pages < 1 << 15:
            if rest:
                return bytes((part,)) + _ANCHOR_BYTES.pack(pages, rest)
            return bytes((whole,)) + _ANCHOR_PAGES.pack(pages)
    return bytes((_LITERAL,)) + _WORD64.pack(value)


def _encode_extent(value: int) -> bytes:
    if value == 0:
        return bytes((_NOTHING,))
    pages, rest = _nearest_page(value)
    if pages < 256 and -128 <= rest < 128:
        return bytes((_NEAR,)) + _NEAR_PAGE.pack(pages, rest)
    pages, rest = divmod(value, PAGE)
    if pages < 1 << 16 and not rest:
        return bytes((_PAGES,)) + _FEW_PAGES.pack(pages)
    if pages < 1 << 32:
        return bytes((_BYTES,)) + _MANY_BYTES.pack(pages, rest)
    return bytes((_LITERAL,)) + _WORD64.pack(value)


def _nearest_page(value: int) -> tuple[int, int]:
    """Pages and the bytes from there, from -2048 to 2047."""
    pages = (value + PAGE // 2) // PAGE
    return pages, value - pages * PAGE
