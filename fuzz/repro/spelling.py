"""Arguments and results as C: symbolic constants, addresses as names plus pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from errno import errorcode
from typing import Final

from abi.calls import Kind
from abi.consts import (
    MADV_NAMES,
    MAP_NAMES,
    MAP_TYPE_NAMES,
    MREMAP_NAMES,
    PAGE,
    POLICY_FLAG_NAMES,
    POLICY_NAMES,
    PRCTL_NAMES,
    PROT_NAMES,
    UFFD_MODE_NAMES,
    WORD,
)
from abi.environment import Geometry
from abi.program import format_word

#: How far names of places reach (pages).
REACHES: Final = {"W": (-(1 << 18), 1 << 18), "T": (-(1 << 18), 1 << 18), "B": (0, 1 << 12)}
#: Kinds of arguments that are written by name.
_SYMBOLIC: Final = frozenset(
    {
        Kind.PROT,
        Kind.MAP_FLAGS,
        Kind.MREMAP_FLAGS,
        Kind.ADVICE,
        Kind.UFFD_MODE,
        Kind.LOCK_FLAGS,
        Kind.MCL_FLAGS,
        Kind.SYNC_FLAGS,
        Kind.PRCTL,
        Kind.RESOURCE,
        Kind.UFFD_WP_MODE,
        Kind.POLICY,
        Kind.BIND_FLAGS,
        Kind.SHM_FLAGS,
    }
)
_RECENT: Final = frozenset(
    {
        "MAP_ABOVE4G",
        "MAP_DROPPABLE",
        "MAP_FIXED_NOREPLACE",
        "MAP_HUGE_1GB",
        "MAP_HUGE_2MB",
        "MAP_SHARED_VALIDATE",
        "MAP_SYNC",
        "MREMAP_DONTUNMAP",
        "PROT_SEM",
    }
)
#: Constants that headers of recent years may lack.
RECENT: Final[Mapping[str, int]] = {
    name: value
    for names in (MADV_NAMES, MAP_NAMES, MAP_TYPE_NAMES, MREMAP_NAMES, PRCTL_NAMES, PROT_NAMES)
    for name, value in names.items()
    if name in _RECENT or name.startswith(("PR_", "MADV_"))
} | {
    name: value
    for names in (POLICY_NAMES, POLICY_FLAG_NAMES, UFFD_MODE_NAMES)
    for name, value in names.items()
}


@dataclass(frozen=True, slots=True)
class Spelling:
    """How addresses are written: relative to those of the names W, T and B that are in `names`."""

    geometry: Geometry
    names: str

    def _anchored(self, value: int) -> tuple[str, int, int] | None:
        places = {"W": self.geometry.window, "T": self.geometry.top, "B": self.geometry.heap}
        for name in self.names:
            pages, rest = divmod(value - places[name], PAGE)
            low, high = REACHES[name]
            if low <= pages <= high:
                return name, pages, rest
        return None

    def address(self, value: int) -> str:
        """As a C expression."""
        anchored = self._anchored(value)
        if anchored is None:
            return f"{value:#x}UL" if value else "0"
        name, pages, rest = anchored
        count = "PAGE" if abs(pages) == 1 else f"{abs(pages)} * PAGE"
        text = name if not pages else f"{name} {'+' if pages > 0 else '-'} {count}"
        return f"{text} + {rest:#x}" if rest else text

    def pointer(self, value: int) -> str:
        """As a C expression of a pointer."""
        return f"at({self.address(value)})" if value else "NULL"

    def label(self, value: int) -> str:
        """As the texts that a reproducer compares have it."""
        anchored = self._anchored(value)
        if anchored is None:
            return f"{value:#x}" if value else "0"
        name, pages, rest = anchored
        return f"{name}{pages:+d}" + (f"+{rest:#x}" if rest else "")


def size(value: int) -> str:
    """A length or offset as a C expression."""
    pages, rest = divmod(value, PAGE)
    if not pages or pages > 1 << 18:
        return number(value)
    text = "PAGE" if pages == 1 else f"{pages} * PAGE"
    return f"{text} + {rest:#x}" if rest else text


def number(value: int) -> str:
    """A number as a C expression."""
    if value < 0:
        return str(value)
    if value > 0x7FFFFFFF:
        return f"{value & WORD:#x}UL"
    return str(value) if value < 1 << 16 else f"{value:#x}"


def symbols(value: int, kind: Kind) -> str:
    """A word of flags, or a choice, as a C expression."""
    assert kind in _SYMBOLIC
    parts = format_word(value, kind, Geometry()).split("|")
    return " | ".join(number(int(part, 0)) if part[0].isdigit() else part for part in parts)


def error(value: int) -> str:
    """A raw result that is an error, as a C expression."""
    return f"-{errorcode.get(-value, str(-value))}"


def string(text: str) -> list[str]:
    """A text of lines as C string literals, a line each."""
    return [f'"{line}\\n"' for line in text.splitlines()] or ['""']
