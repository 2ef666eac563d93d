"""One frozen value per call a program can make; `CALLS` is the closed list.

Every field is a 64-bit word as the kernel receives it: addresses, lengths and offsets in bytes. The wire, the
text form, the byte form, the generator and the reports follow from the fields and their `kind`.
"""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

from abi.consts import WORD


class Kind(Enum):
    """What an argument is: how it is written, generated and mutated."""

    ADDRESS = "address"
    LENGTH = "length"
    PAGES = "pages"
    OFFSET = "offset"
    PROT = "prot"
    MAP_FLAGS = "map flags"
    MREMAP_FLAGS = "mremap flags"
    ADVICE = "advice"
    UFFD_MODE = "uffd mode"
    ACCESS = "access"
    FD = "fd"


@dataclass(frozen=True, slots=True)
class Mmap:
    """mmap(2). `fd` is a descriptor of the executor's object table (`consts.FD_NAMES`) or a bad one."""

    addr: int
    length: int
    prot: int
    flags: int
    fd: int
    offset: int


@dataclass(frozen=True, slots=True)
class Munmap:
    """munmap(2)."""

    addr: int
    length: int


@dataclass(frozen=True, slots=True)
class Mprotect:
    """mprotect(2)."""

    addr: int
    length: int
    prot: int


@dataclass(frozen=True, slots=True)
class Madvise:
    """madvise(2)."""

    addr: int
    length: int
    advice: int


@dataclass(frozen=True, slots=True)
class Mremap:
    """mremap(2)."""

    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Access one byte at `addr`, `addr` + 1 page, ... for min(pages, 32) pages, reading or writing.

    The outcome has two bits a page, lowest first: 0 done, 1 SIGSEGV, 2 SIGBUS. Contents never change.
    Only bit 0 of `access` counts: 0 reads, 1 writes.
    """

    addr: int
    pages: int
    access: int


@dataclass(frozen=True, slots=True)
class UffdRegister:
    """ioctl(fd, UFFDIO_REGISTER) with `addr`, `length` and `mode`; the outcome is 0 or an errno."""

    fd: int
    addr: int
    length: int
    mode: int


@dataclass(frozen=True, slots=True)
class UffdUnregister:
    """ioctl(fd, UFFDIO_UNREGISTER) with `addr` and `length`."""

    fd: int
    addr: int
    length: int


Call = Mmap | Munmap | Mprotect | Madvise | Mremap | Touch | UffdRegister | UffdUnregister
Program = tuple[Call, ...]

#: The closed list. A call's place is its opcode on the wire and in the byte form: add at the end.
CALLS: Final[tuple[type[Call], ...]] = (
    Mmap,
    Munmap,
    Mprotect,
    Madvise,
    Mremap,
    Touch,
    UffdRegister,
    UffdUnregister,
)
OPCODES: Final[dict[type[Call], int]] = {cls: opcode for opcode, cls in enumerate(CALLS)}
NAMES: Final[dict[type[Call], str]] = {
    Mmap: "mmap",
    Munmap: "munmap",
    Mprotect: "mprotect",
    Madvise: "madvise",
    Mremap: "mremap",
    Touch: "touch",
    UffdRegister: "uffd_register",
    UffdUnregister: "uffd_unregister",
}

_FIELD_KINDS: Final = {
    "addr": Kind.ADDRESS,
    "new_addr": Kind.ADDRESS,
    "length": Kind.LENGTH,
    "old_len": Kind.LENGTH,
    "new_len": Kind.LENGTH,
    "offset": Kind.OFFSET,
    "pages": Kind.PAGES,
    "prot": Kind.PROT,
    "advice": Kind.ADVICE,
    "mode": Kind.UFFD_MODE,
    "access": Kind.ACCESS,
    "fd": Kind.FD,
}


def _signature(cls: type[Call]) -> tuple[tuple[str, Kind], ...]:
    flags = Kind.MREMAP_FLAGS if cls is Mremap else Kind.MAP_FLAGS
    return tuple(
        (f.name, flags if f.name == "flags" else _FIELD_KINDS[f.name]) for f in fields(cls)
    )


#: Field names and kinds of each call, in argument order.
SIGNATURES: Final[dict[type[Call], tuple[tuple[str, Kind], ...]]] = {
    cls: _signature(cls) for cls in CALLS
}


def arguments(call: Call) -> tuple[int, ...]:
    """The call's arguments as 64-bit words, in order."""
    return tuple(getattr(call, name) & WORD for name, _ in SIGNATURES[type(call)])


def build(cls: type[Call], words: tuple[int, ...] | list[int]) -> Call:
    """A call from its arguments. Words are kept as unsigned 64-bit numbers; `fd` as a signed 32-bit one."""
    signature = SIGNATURES[cls]
    values = [
        signed32(word) if kind is Kind.FD else word & WORD
        for word, (_, kind) in zip(words, signature, strict=True)
    ]
    return cls(*values)


def signed32(word: int) -> int:
    """The low 32 bits of a word as a signed number, as the kernel reads an `int` argument."""
    return ((word & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
