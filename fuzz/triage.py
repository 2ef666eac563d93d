"""What kind of divergence it is: a signature that is the same for each program that shows the same thing.

Also which signatures are explained already: `corpus/divergences/*.json`, each an object with the `signatures`,
the `kernels` it is seen on (patterns of `uname -r`) and its `cause` in the kernel's source. Entries of bugs that the
model follows have a `change`, and signatures only for how the kernel contradicts itself; else they mask nothing. What a
kernel reports about itself has signatures too; its entry has its evidence beside it, programs of the same name.
"""

import json
from collections.abc import Callable, Sequence
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
    TOUCH_SIGBUS,
    TOUCH_SIGSEGV,
    UFFD_EVENT_NAMES,
    UFFD_MODE_NAMES,
    UFFD_WP_MODE_NAMES,
    VMA_NAMES,
)
from abi.trace import (
    CODES,
    COUNTER_NAMES,
    INCONSISTENT_TEXTS,
    PAGE_NAMES,
    PAGE_PRESENT,
    Child,
    Layout,
    Mapping,
    Step,
)
from fuzz.compare import Divergence, Field
from fuzz.headlines import KERNEL

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

#: The form of programs (fuzz.corpus).
_PROGRAMS: Final = ".prog"
_KERNEL_ONLY: Final = "extra mapping in kernel"
_MODEL_ONLY: Final = "extra mapping in model"


@dataclass(frozen=True, slots=True)
class Known:
    """An explained divergence. name: that of its entry."""

    signatures: tuple[str, ...]
    kernels: tuple[str, ...]
    cause: str
    name: str = ""

    def covers(self, release: str) -> bool:
        """Whether it is seen on the kernel `release`."""
        return any(fnmatch(release, kernel) for kernel in self.kernels)


def signature(call: Call, divergence: Divergence) -> str:
    """One line that names the kind of `divergence` at `call`: `mremap[MAYMOVE,grow] result: model 0, kernel EINVAL`."""
    return f"{_shape(call, divergence.field)} {_difference(call, divergence)}"


def _difference(call: Call, divergence: Divergence) -> str:
    our, their = divergence.ours, divergence.theirs
    field = divergence.field
    if field == "result":
        ours, theirs = _result(call, our.value), _result(call, their.value)
        if ours == theirs:
            theirs = f"another {theirs}"
        return f"result: model {ours}, kernel {theirs}"
    if field == "layout":
        return f"layout: {layout_difference(our.layout, their.layout)}"
    if field == "counters":
        return f"counters: {_counters_difference(our, their)}"
    if field == "flags":
        return f"flags: {_flags_difference(our.flags or (), their.flags or ())}"
    if field == "pages":
        return f"pages: {_pages_difference(our.pages or (), their.pages or (), _page)}"
    if field == "contents":
        return f"contents: {_pages_difference(our.contents or (), their.contents or (), _reading)}"
    if field == "events":
        ours, theirs = _events(our), _events(their)
        return f"events: model {ours}, kernel {theirs if theirs != ours else 'other arguments'}"
    if field == "child":
        return f"child: {_child_difference(our.child, their.child)}"
    return f"consistency: {inconsistencies(their.inconsistent)}"


def inconsistencies(bits: int) -> str:
    """How the kernel contradicts itself, in words."""
    return "; ".join(text for bit, text in INCONSISTENT_TEXTS.items() if bits & bit)


def named_counters(step: Step) -> dict[str, int]:
    """The counters of a step by name (pages)."""
    named = {"VmSize": step.size, "VmData + VmStk": step.data}
    named.update(zip(COUNTER_NAMES, step.counters or (), strict=False))
    return named


def _counters_difference(our: Step, their: Step) -> str:
    ours, theirs = named_counters(our), named_counters(their)
    return ", ".join(
        f"{name} {'more' if theirs[name] > ours[name] else 'less'} in kernel"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    )


def flag_names(word: int) -> list[str]:
    """The codes of a word of SECTION_FLAGS."""
    return [code for bit, code in enumerate(CODES) if word >> bit & 1]


def _flags_difference(ours: tuple[int, ...], theirs: tuple[int, ...]) -> str:
    model_only = kernel_only = 0
    for our, their in zip(ours, theirs, strict=False):
        model_only |= our & ~their
        kernel_only |= their & ~our
    texts = (("model", model_only), ("kernel", kernel_only))
    return ", ".join(f"{side} only {' '.join(flag_names(word))}" for side, word in texts if word)


def page_word(entry: int) -> str:
    """What the first word of a page is, of an entry of SECTION_PAGES or SECTION_CONTENTS."""
    word = entry >> 8
    return "zero" if not word else "file data" if word >> 52 == 0xF else "written"


def _page(entry: int) -> str:
    """What an entry of SECTION_PAGES says."""
    names = [name for bit, name in PAGE_NAMES.items() if entry & bit]
    return " ".join([*names, page_word(entry)] if entry & PAGE_PRESENT else names) or "none"


def _reading(entry: int) -> str:
    """What an entry of SECTION_CONTENTS says."""
    return {TOUCH_SIGSEGV: "SIGSEGV", TOUCH_SIGBUS: "SIGBUS"}.get(entry & 0xFF, page_word(entry))


def _pages_difference(
    ours: Sequence[tuple[int, int]],
    theirs: Sequence[tuple[int, int]],
    describe: Callable[[int], str],
) -> str:
    """The first page that differs."""
    our, their = dict(ours), dict(theirs)
    for page in sorted(our.keys() | their.keys()):
        one, other = our.get(page, 0), their.get(page, 0)
        if one != other:
            names = describe(one), describe(other)
            kernel = names[1] if names[0] != names[1] else f"another {names[1]}"
            return f"model {names[0]}, kernel {kernel}"
    return "another order"


def _events(step: Step) -> str:
    return " ".join(event_name(event[0]) for event in step.events) or "none"


def event_name(kind: int) -> str:
    """As in userfaultfd(2), without the prefix."""
    names = (name for name, value in UFFD_EVENT_NAMES.items() if value == kind)
    return next(names, f"{kind:#x}").removeprefix("UFFD_EVENT_")


def _child_difference(ours: Child | None, theirs: Child | None) -> str:
    if ours is None or theirs is None:
        return "seen on one side only"
    if ours.layout != theirs.layout:
        return f"layout: {layout_difference(ours.layout, theirs.layout)}"
    if ours.flags != theirs.flags:
        return f"flags: {_flags_difference(ours.flags or (), theirs.flags or ())}"
    if ours.counters != theirs.counters:
        pairs = zip(COUNTER_NAMES, ours.counters, theirs.counters, strict=True)
        return f"counters: {', '.join(name for name, our, their in pairs if our != their)}"
    return f"contents: {_pages_difference(ours.contents, theirs.contents, _reading)}"


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
        return (
            "+".join(("ok", "SIGSEGV", "SIGBUS", "endless")[kind] for kind in sorted(kinds)) or "0"
        )
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
            if "signatures" not in entry:
                continue  # a kernel bug that the model follows: nothing diverges, nothing is to be masked
            kernels = tuple(entry["kernels"])
            known.append(Known(tuple(entry["signatures"]), kernels, entry["cause"], path.stem))
            if any(text.startswith(KERNEL) for text in entry["signatures"]):
                _check_evidence(path, entry)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not an explained divergence: {error!r}") from None
    return known


def _check_evidence(path: Path, entry: Names[str, object]) -> None:
    """A kernel's report is not masked on anyone's word."""
    evidence = path.with_suffix(_PROGRAMS)
    if not evidence.is_file():
        raise ValueError(f"{evidence.name} is missing, the programs that bring it about")
    if not isinstance(entry["fixed"], str):
        raise TypeError("`fixed` says in which releases")


def explanations(text: str, release: str, known: Sequence[Known]) -> list[Known]:
    """The entries that explain the signature `text` on the kernel `release`."""
    return [entry for entry in known if text in entry.signatures and entry.covers(release)]


def explanation(text: str, release: str, known: Sequence[Known]) -> Known | None:
    """The first of them."""
    return next(iter(explanations(text, release, known)), None)
