"""What kind of divergence it is: a signature that is the same for each program that shows the same thing.

Also which signatures are explained already: `corpus/divergences/*.json`, each an object with the `signature`,
the `kernels` it is seen on (patterns of `uname -r`) and its `cause` in the kernel's source. Entries of bugs that
the model follows have a `change` instead and mask nothing.
"""

import json
from collections.abc import Mapping as Names
from dataclasses import dataclass
from errno import errorcode
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from abi.calls import (
    NAMES,
    SIGNATURES,
    Call,
    Kind,
    Mincore,
    Mmap,
    Mremap,
    ProcessMadvise,
    Touch,
)
from abi.consts import (
    BIND_NAMES,
    FD_NAMES,
    MADV_NAMES,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NAMES,
    MAP_POPULATE,
    MAP_TYPE,
    MAP_TYPE_NAMES,
    MCL_NAMES,
    MLOCK_NAMES,
    MREMAP_NAMES,
    MS_NAMES,
    PAGE,
    POLICY_NAMES,
    PRCTL_NAMES,
    RESOURCE_NAMES,
    SHM_NAMES,
    UFFD_MODE_NAMES,
    UFFD_WP_MODE_NAMES,
    VMA_NAMES,
)
from abi.trace import Layout, Mapping
from fuzz.compare import Divergence, Field

#: The flags of mmap that a mapping or its place owes something to.
_LASTING: Final = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN | MAP_LOCKED | MAP_POPULATE

#: Arguments that choose what a call does: their names, and what these begin with.
_FLAGS: Final[Names[Kind, tuple[Names[str, int], str]]] = {
    Kind.UFFD_MODE: (UFFD_MODE_NAMES, "UFFDIO_REGISTER_MODE_"),
    Kind.UFFD_WP_MODE: (UFFD_WP_MODE_NAMES, "UFFDIO_WRITEPROTECT_MODE_"),
    Kind.LOCK_FLAGS: (MLOCK_NAMES, "MLOCK_"),
    Kind.MCL_FLAGS: (MCL_NAMES, "MCL_"),
    Kind.SYNC_FLAGS: (MS_NAMES, "MS_"),
    Kind.BIND_FLAGS: (BIND_NAMES, "MPOL_"),
    Kind.SHM_FLAGS: (SHM_NAMES, "SHM_"),
}
_ONES: Final[Names[Kind, tuple[Names[str, int], str]]] = {
    Kind.ADVICE: (MADV_NAMES, "MADV_"),
    Kind.NAME: (VMA_NAMES, ""),
    Kind.PRCTL: (PRCTL_NAMES, "PR_"),
    Kind.RESOURCE: (RESOURCE_NAMES, "RLIMIT_"),
    Kind.POLICY: (POLICY_NAMES, "MPOL_"),
}
#: What a successful result says, where it is not a 0 or an address.
_RESULTS: Final = {Mincore: "residency", ProcessMadvise: "bytes"}

_KERNEL_ONLY: Final = "extra mapping in kernel"
_MODEL_ONLY: Final = "extra mapping in model"


@dataclass(frozen=True, slots=True)
class Known:
    """An explained divergence."""

    signature: str
    kernels: tuple[str, ...]
    cause: str


def signature(call: Call, divergence: Divergence) -> str:
    """One line that names the kind of `divergence` at `call`: `mremap[MAYMOVE,grow] result: model 0, kernel EINVAL`."""
    if divergence.field == "result":
        ours = _result(call, divergence.our_value)
        theirs = _result(call, divergence.their_value)
        if ours == theirs:
            theirs = f"another {theirs}"
        what = f"result: model {ours}, kernel {theirs}"
    else:
        what = f"layout: {layout_difference(divergence.our_layout, divergence.their_layout)}"
    return f"{_shape(call, divergence.field)} {what}"


def _shape(call: Call, field: Field) -> str:
    """The call's name and what chooses its behaviour: of mmap's flags only those that matter to `field`."""
    traits: list[str]
    match call:
        case Mmap():
            traits = _mmap_traits(call, field)
        case Mremap():
            traits = _bits(MREMAP_NAMES, call.flags, "MREMAP_")
            old, new = -(-call.old_len // PAGE), -(-call.new_len // PAGE)
            size = "same" if old == new else "grow" if old < new else "shrink"
            traits.append("old0" if old == 0 else "new0" if new == 0 else size)
        case Touch():
            traits = ["write" if call.access & 1 else "read"]
        case _:
            traits = [
                trait
                for name, kind in SIGNATURES[type(call)]
                for trait in _traits(kind, getattr(call, name))
            ]
    return NAMES[type(call)] + (f"[{','.join(traits)}]" if traits else "")


def _traits(kind: Kind, value: int) -> list[str]:
    """What an argument says of the call's behaviour, by name."""
    if kind in _FLAGS:
        return _bits(_FLAGS[kind][0], value, _FLAGS[kind][1])
    if kind in _ONES:
        return [_name_of(_ONES[kind][0], value, _ONES[kind][1])]
    return []


def _mmap_traits(call: Mmap, field: Field) -> list[str]:
    what = "ANONYMOUS" if call.flags & MAP_ANONYMOUS else _name_of(FD_NAMES, call.fd, "")
    if field == "result":
        return [what]
    traits = [_name_of(MAP_TYPE_NAMES, call.flags & MAP_TYPE, "MAP_"), what]
    traits += _bits(MAP_NAMES, call.flags & _LASTING, "MAP_")
    return traits


def _bits(names: Names[str, int], value: int, prefix: str) -> list[str]:
    found = []
    for name, bit in names.items():
        if bit and value & bit == bit:
            found.append(name.removeprefix(prefix))
            value &= ~bit
    return [*found, "unknown"] if value else found


def _name_of(names: Names[str, int], value: int, prefix: str) -> str:
    return next((n.removeprefix(prefix) for n, v in names.items() if v == value), "unknown")


def _result(call: Call, value: int) -> str:
    if isinstance(call, Touch):
        kinds = {value >> 2 * i & 3 for i in range(min(call.pages, 32))}
        return "+".join(("ok", "SIGSEGV", "SIGBUS", "?")[kind] for kind in sorted(kinds)) or "0"
    if -4096 < value < 0:
        return errorcode.get(-value, str(-value))
    return _RESULTS.get(type(call)) or ("0" if value == 0 else "address")


def layout_difference(ours: Layout, theirs: Layout) -> str:
    """What the kernel's layout has that the model's has not, in a few words."""
    our_rest = [m for m in ours if m not in set(theirs)]
    their_rest = [m for m in theirs if m not in set(ours)]
    kinds = set()
    edges = sorted({at for m in our_rest + their_rest for at in (m.start, m.end)})
    for edge in edges:
        our, their = _at(our_rest, edge), _at(their_rest, edge)
        if our is None and their is not None:
            kinds.add(_KERNEL_ONLY)
        elif our is not None and their is None:
            kinds.add(_MODEL_ONLY)
        elif our is not None and their is not None:
            kinds |= _attributes(our, their)
    if {_MODEL_ONLY, _KERNEL_ONLY} <= kinds:
        # What else differs follows from where things are.
        return "mapped elsewhere"
    if kinds:
        return ", ".join(sorted(kinds))
    if len(their_rest) < len(our_rest):
        return "kernel merged"
    return "model merged" if len(our_rest) < len(their_rest) else "split elsewhere"


def _at(mappings: list[Mapping], address: int) -> Mapping | None:
    return next((m for m in mappings if m.start <= address < m.end), None)


def _attributes(our: Mapping, their: Mapping) -> set[str]:
    kinds = set()
    if our.perms != their.perms:
        kinds.add("perms")
    if our.ident != their.ident:
        kinds.add("object")
    if our.name != their.name:
        kinds.add("name")
    if our.offset - our.start != their.offset - their.start and (our.ident or their.ident):
        kinds.add("offset")
    return kinds


def load_known(directory: Path) -> list[Known]:
    """The explained divergences described in `directory`.

    Raises:
        ValueError: a file is not of the form; the message names it.
        OSError: a file cannot be read.
    """
    known = []
    for path in sorted(directory.glob("*.json")):
        try:
            entry = json.loads(path.read_text())
            if "change" in entry:
                continue  # a kernel bug that the model follows: nothing diverges, nothing is to be masked
            known.append(Known(entry["signature"], tuple(entry["kernels"]), entry["cause"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not an explained divergence: {error!r}") from None
    return known


def explanation(text: str, release: str, known: list[Known]) -> Known | None:
    """The entry that explains the signature `text` on the kernel `release`."""
    for entry in known:
        if entry.signature == text and any(fnmatch(release, kernel) for kernel in entry.kernels):
            return entry
    return None
