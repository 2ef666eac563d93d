"""Classes of input: into which parts the arguments, results, kinds and places of calls fall, and which cannot occur.

A class is a name within an aspect of a call: `mremap`, `destination`, `overlaps the source`. `universe` lists all
classes of a call, `of_call` those that one call is in. `UNREACHABLE` is the one table of what no program can reach,
with the reasons; a test holds that nothing in it is reached, and that everything else is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from errno import EOPNOTSUPP, errorcode
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Final

from abi.calls import (
    NAMES,
    SIGNATURES,
    Call,
    Kind,
    Mlockall,
    Mmap,
    Mremap,
    Munlockall,
    Prctl,
    Setrlimit,
    Shmat,
    Shmdt,
    Touch,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
)
from abi.consts import (
    BIND_NAMES,
    FD_NAMES,
    MADV_NAMES,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NAMES,
    MAP_TYPE,
    MAP_TYPE_NAMES,
    MCL_NAMES,
    MLOCK_NAMES,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MREMAP_NAMES,
    MS_NAMES,
    PAGE,
    PMD_SIZE,
    POLICY_NAMES,
    PRCTL_NAMES,
    PROT_NAMES,
    RESOURCE_NAMES,
    SHM_NAMES,
    TOUCH_PAGES,
    UFFD_MODE_NAMES,
    UFFD_WP_MODE_NAMES,
    VMA_NAMES,
    WORD,
)
from abi.wire import SEGMENT_SIZE
from fuzz import kinds
from fuzz.refusals import errnos
from model.mremap import multi_allowed
from model.space import AddressSpace
from model.vma import Vma

#: An aspect of a call, and a class of it.
Class = tuple[str, str]

RESULT: Final = "result"
KIND: Final = "kind"
STATE: Final = "state"
START: Final = "range starts"
END: Final = "range ends"
SPAN: Final = "range spans"
HOLES: Final = "range has"
TARGET: Final = "target"
BESIDE: Final = "target has"
SIZE: Final = "size"
DESTINATION: Final = "destination"
INELIGIBLE: Final = "ineligible VMA"
ROOM: Final = "room behind"

_TASK_SIZE: Final = 0x7FFF_FFFF_F000

# Arguments.

#: Kinds whose bits are named. A class is a name, `none` or `unknown bits`.
_BITS: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.UFFD_MODE: UFFD_MODE_NAMES,
    Kind.LOCK_FLAGS: MLOCK_NAMES,
    Kind.MCL_FLAGS: MCL_NAMES,
    Kind.SYNC_FLAGS: MS_NAMES,
    Kind.UFFD_WP_MODE: UFFD_WP_MODE_NAMES,
    Kind.BIND_FLAGS: BIND_NAMES,
    Kind.SHM_FLAGS: SHM_NAMES,
}
#: Kinds whose values are named. A class is a name, or `unknown`.
_ONES: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.ADVICE: MADV_NAMES,
    Kind.NAME: VMA_NAMES,
    Kind.PRCTL: PRCTL_NAMES,
    Kind.RESOURCE: RESOURCE_NAMES,
    Kind.POLICY: POLICY_NAMES,
}
#: Of these no other value is sent (`kernel_bridge/policy.py`), or known to the executor.
_CLOSED: Final = (Kind.NAME, Kind.PRCTL, Kind.RESOURCE)
#: Calls that want a userfaultfd; of all others a file stands for the rest.
_OF_UFFDS: Final = (UffdRegister, UffdUnregister, UffdWriteprotect)
_UFFDS: Final = ("uffd0", "uffd1", "uffd2", "memfd", "pipe")
_RWX: Final = ("---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx")
_PROT_EXTRA: Final = ("PROT_SEM", "PROT_GROWSDOWN", "PROT_GROWSUP")
_MREMAP_COMBINED: Final = tuple(
    "|".join(name.removeprefix("MREMAP_") for name, bit in MREMAP_NAMES.items() if n & bit)
    or "none"
    for n in range(8)
)
_UNKNOWN: Final[Mapping[str, int]] = {"unknown bits": 1 << 20}
#: Numbers whose ranges mean something; else they are 0, 1 or more.
_NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "pkey": ("-1", "0", "1 to 15", "more"),
    "seal_flags": ("0", "not 0"),
    "pm_flags": ("0", "not 0"),
    "extra": ("0", "not 0"),
    "segment": ("0", "1", "none"),
}


def argument_classes(cls: type[Call], name: str, kind: Kind) -> tuple[str, ...]:
    """The classes of a call's argument `name` of this kind."""
    if kind is Kind.ADDRESS:
        return ("NULL", "low", "in reach", "unaligned", "at the end of user space", "beyond it")
    if kind is Kind.LENGTH:
        return ("0", "pages", "unaligned", "2 MiB or more", "beyond user space", "wraps to 0")
    if kind is Kind.PAGES:
        return ("0", "1", "several", f"more than {TOUCH_PAGES}")
    if kind is Kind.OFFSET:
        return ("0", "pages", "unaligned", "2^40 or more")
    if kind is Kind.PROT:
        return (*_RWX, *_PROT_EXTRA, "unknown bits")
    if kind is Kind.MAP_FLAGS:
        return (*MAP_TYPE_NAMES, "no type", *MAP_NAMES, "unknown bits")
    if kind is Kind.MREMAP_FLAGS:
        return (*_MREMAP_COMBINED, "unknown bits")
    if kind is Kind.ACCESS:
        return ("read", "write")
    if kind is Kind.FD:
        names = _UFFDS if cls in _OF_UFFDS else FD_NAMES
        return (*names, "-1", "closed")
    if kind in _BITS:
        return ("none", *_BITS[kind], "unknown bits")
    if kind in _ONES:
        return (*_ONES[kind], *(() if kind in _CLOSED else ("unknown",)))
    return _NUMBERS.get(name, ("0", "1", "more"))


def named_values(name: str, kind: Kind) -> Mapping[str, int]:
    """A value for each class of an argument whose classes are names and small numbers."""
    if kind is Kind.PROT:
        values = {text: bits for bits, text in enumerate(_RWX)}
        return {**values, **{each: PROT_NAMES[each] | 1 for each in _PROT_EXTRA}, **_UNKNOWN}
    if kind is Kind.MAP_FLAGS:
        return {"no type": 0, **MAP_TYPE_NAMES, **MAP_NAMES, "unknown bits": 1 << 22}
    if kind is Kind.MREMAP_FLAGS:
        return {**{text: bits for bits, text in enumerate(_MREMAP_COMBINED)}, **_UNKNOWN}
    if kind is Kind.ACCESS:
        return {"read": 0, "write": 1}
    if kind in _BITS:
        return {"none": 0, **_BITS[kind], **_UNKNOWN}
    if kind in _ONES:
        return {**_ONES[kind], "unknown": 99}
    if name == "pkey":
        return {"-1": WORD, "0": 0, "1 to 15": 3, "more": 16}
    return {"0": 0, "1": 1, "not 0": 1, "more": 5, "none": 7}


def _argument(name: str, kind: Kind, value: int) -> Iterator[str]:
    """The classes that the argument `value` is in."""
    if kind is Kind.ADDRESS:
        yield from _address(value)
    elif kind is Kind.LENGTH:
        yield from _length(value)
    elif kind is Kind.PAGES:
        few = "0" if value == 0 else "1" if value == 1 else "several"
        yield few if value <= TOUCH_PAGES else f"more than {TOUCH_PAGES}"
    elif kind is Kind.OFFSET:
        if value % PAGE:
            yield "unaligned"
        yield "0" if value == 0 else "2^40 or more" if value >= 1 << 40 else "pages"
    elif kind is Kind.PROT:
        yield _RWX[value & 7]
        yield from _bits({name: PROT_NAMES[name] for name in _PROT_EXTRA}, value & ~7)
    elif kind is Kind.MAP_FLAGS:
        type_ = next((n for n, v in MAP_TYPE_NAMES.items() if v == value & MAP_TYPE), "no type")
        yield type_
        yield from _bits(MAP_NAMES, value & ~MAP_TYPE)
    elif kind is Kind.MREMAP_FLAGS:
        yield "unknown bits" if value & ~7 else _MREMAP_COMBINED[value]
    elif kind is Kind.ACCESS:
        yield "write" if value & 1 else "read"
    elif kind is Kind.FD:
        names = (n for n, fd in FD_NAMES.items() if fd == value)
        yield next(names, "-1" if value == -1 else "closed")
    elif kind in _BITS:
        yield from ("none",) if not value else _bits(_BITS[kind], value)
    elif kind in _ONES:
        yield next((n for n, v in _ONES[kind].items() if v == value), "unknown")
    else:
        yield _number(name, value)


def _address(value: int) -> Iterator[str]:
    if value % PAGE:
        yield "unaligned"
    if value == 0:
        yield "NULL"
    elif value < 1 << 16:
        yield "low"
    elif value < _TASK_SIZE - PAGE:
        yield "in reach"
    else:
        yield "beyond it" if value > _TASK_SIZE else "at the end of user space"


def _length(value: int) -> Iterator[str]:
    if value % PAGE:
        yield "unaligned"
    if value == 0:
        yield "0"
    elif value > WORD - PAGE + 1:
        yield "wraps to 0"
    elif value > _TASK_SIZE:
        yield "beyond user space"
    else:
        yield "2 MiB or more" if value >= PMD_SIZE else "pages"


def _bits(names: Mapping[str, int], value: int) -> Iterator[str]:
    for name, bit in names.items():
        if bit and value & bit == bit:
            yield name
            value &= ~bit
    if value:
        yield "unknown bits"


def _number(name: str, value: int) -> str:
    if name == "pkey":
        key = value & 0xFFFFFFFF
        if key == 0xFFFFFFFF:
            return "-1"
        return "0" if key == 0 else "1 to 15" if key < 16 else "more"
    if name == "segment":
        return str(value) if value < 2 else "none"
    classes = _NUMBERS.get(name)
    if classes == ("0", "not 0"):
        return "not 0" if value else "0"
    return str(value) if value < 2 else "more"


# Ranges and targets.

_STARTS: Final = ("at a VMA's start", "inside a VMA", "in a gap below VMAs", "above all VMAs")
_ENDS: Final = ("at a VMA's end", "inside a VMA", "in a gap")
_SPANS: Final = ("no VMA", "one VMA", "two VMAs", "three or more", "VMAs of several kinds")
_HOLES: Final = ("no gap", "a gap", "several gaps")
_TARGETS: Final = (
    "free",
    "the head of a VMA",
    "the tail of a VMA",
    "the middle of a VMA",
    "a whole VMA",
    "several VMAs",
    "VMAs and gaps",
)
_BESIDE: Final = (
    "no neighbour",
    "a neighbour below",
    "a neighbour above",
    "neighbours on both sides",
)
_SIZES: Final = ("same", "grows", "shrinks", "old length 0")
_DESTINATIONS: Final = (
    "not given",
    "a hint",
    "below the source",
    "right below the source",
    "above the source",
    "right above the source",
    "overlaps the source",
    "the source",
)
_INELIGIBLE: Final = ("none", "alone", "first", "in the middle", "last")
_ROOM: Final = ("enough", "too little", "none")

#: Calls about a range of existing memory: the fields of its start and length.
_RANGED: Final = {
    cls: names
    for cls, signature in SIGNATURES.items()
    for names in (dict(signature).keys(),)
    if {"addr", "length"} <= names and cls is not Mmap
}


def range_of(call: Call) -> tuple[int, int] | None:
    """The existing memory [start, end) that a call is about; None if its arguments mean none."""
    cls = type(call)
    if cls in _RANGED:
        start, length = call.addr, call.length  # type: ignore[union-attr]
    elif isinstance(call, Mremap):
        start, length = call.addr, call.old_len
    elif isinstance(call, Touch):
        start, length = call.addr & -PAGE, min(call.pages, TOUCH_PAGES) * PAGE
    elif isinstance(call, Shmdt):
        start, length = call.addr, SEGMENT_SIZE
    else:
        return None
    end = start + (length + PAGE - 1 & -PAGE)
    return None if start % PAGE or end <= start or end > _TASK_SIZE else (start, end)


def target_of(call: Call) -> tuple[int, int] | None:
    """Where a call would put a mapping, if it says so."""
    if isinstance(call, Mmap):
        start, length = call.addr, call.length
        if not call.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
            return None
    elif isinstance(call, Mremap):
        start, length = call.new_addr, call.new_len
        if not call.flags & MREMAP_FIXED:
            return None
    elif isinstance(call, Shmat):
        start, length = call.addr, SEGMENT_SIZE
    else:
        return None
    end = start + (length + PAGE - 1 & -PAGE)
    return None if start % PAGE or end <= start or end > _TASK_SIZE or not start else (start, end)


def _spanned(space: AddressSpace, start: int, end: int) -> list[Vma]:
    return [vma for vma in space.vmas if vma.start < end and start < vma.end]


def _range(space: AddressSpace, start: int, end: int) -> Iterator[Class]:
    vmas = _spanned(space, start, end)
    first = space.lookup(start)
    if first is not None:
        yield START, _STARTS[0] if first.start == start else _STARTS[1]
    else:
        above = any(vma.start > start for vma in space.vmas)
        yield START, _STARTS[2] if above else _STARTS[3]
    last = space.lookup(end - 1)
    yield END, _ENDS[2] if last is None else _ENDS[0] if last.end == end else _ENDS[1]
    yield SPAN, _SPANS[min(len(vmas), 3)]
    if len({kinds.backing(space, vma) for vma in vmas}) > 1:
        yield SPAN, _SPANS[4]
    if len(vmas) > 1:
        holes = sum(low.end < high.start for low, high in pairwise(vmas))
        yield HOLES, _HOLES[min(holes, 2)]


def _target(space: AddressSpace, start: int, end: int) -> Iterator[Class]:
    vmas = _spanned(space, start, end)
    if not vmas:
        yield TARGET, _TARGETS[0]
    elif len(vmas) == 1 and vmas[0].start <= start and end <= vmas[0].end:
        head, tail = vmas[0].start == start, vmas[0].end == end
        yield TARGET, _TARGETS[4 if head and tail else 1 if head else 2 if tail else 3]
    else:
        holes = (
            vmas[0].start > start
            or vmas[-1].end < end
            or any(low.end < high.start for low, high in pairwise(vmas))
        )
        yield TARGET, _TARGETS[6 if holes else 5]
    below = start > 0 and space.lookup(start - 1) is not None
    above = space.lookup(end) is not None
    yield BESIDE, _BESIDE[below + 2 * above]


def _movement(space: AddressSpace, call: Mremap) -> Iterator[Class]:
    old = call.old_len + PAGE - 1 & WORD & -PAGE
    new = call.new_len + PAGE - 1 & WORD & -PAGE
    yield SIZE, _SIZES[3 if not old else 0 if old == new else 1 if old < new else 2]
    start, to = call.addr, call.new_addr
    if not call.flags & MREMAP_FIXED:
        yield DESTINATION, _DESTINATIONS[1 if call.flags & MREMAP_DONTUNMAP and to else 0]
    elif to == start:
        yield DESTINATION, _DESTINATIONS[7]
    elif to < start + max(old, PAGE) and start < to + new:
        yield DESTINATION, _DESTINATIONS[6]
    elif to < start:
        yield DESTINATION, _DESTINATIONS[3 if to + new == start else 2]
    else:
        yield DESTINATION, _DESTINATIONS[5 if to == start + old else 4]
    vma = space.lookup(start)
    if vma and new > old and start + old == vma.end and not call.flags & MREMAP_FIXED:
        behind = next((v.start for v in space.vmas if v.start >= vma.end), _TASK_SIZE)
        yield ROOM, _ROOM[0 if behind >= start + new else 1 if behind > vma.end else 2]
    if call.flags & MREMAP_FIXED and call.flags & MREMAP_MAYMOVE and old == new:
        yield from _ineligible(space, _spanned(space, start, start + old))


def _ineligible(space: AddressSpace, vmas: list[Vma]) -> Iterator[Class]:
    """Where the VMAs stand that may only move alone."""
    places = [i for i, vma in enumerate(vmas) if not multi_allowed(space, vma)]
    if not places:
        yield INELIGIBLE, _INELIGIBLE[0]
    for place in places:
        if len(vmas) == 1:
            yield INELIGIBLE, _INELIGIBLE[1]
        else:
            yield INELIGIBLE, _INELIGIBLE[2 if not place else 4 if place == len(vmas) - 1 else 3]


# Calls.

_WHOLE_SPACE: Final = (Mlockall, Munlockall, Prctl, Setrlimit)


def universe(cls: type[Call]) -> tuple[Class, ...]:
    """All classes of a call, in the order in which they are shown."""
    return tuple(_universe(cls))


def _universe(cls: type[Call]) -> Iterator[Class]:
    for name, kind in SIGNATURES[cls]:
        for each in argument_classes(cls, name, kind):
            yield name, each
    results = ("ok", "SIGSEGV", "SIGBUS", "endless") if cls is Touch else ("ok", *errnos(cls))
    for each in results:
        yield RESULT, each
    if cls in _RANGED or cls in (Mremap, Touch, Shmdt):
        for aspect, classes in (
            (KIND, [sample.kind for sample in kinds.BACKINGS]),
            (STATE, [sample.kind for sample in kinds.STATES]),
            (START, _STARTS),
            (END, _ENDS),
            (SPAN, _SPANS),
            (HOLES, _HOLES),
        ):
            yield from ((aspect, each) for each in classes)
    if cls in (Mmap, Mremap, Shmat):
        yield from ((TARGET, each) for each in _TARGETS)
        yield from ((BESIDE, each) for each in _BESIDE)
    if cls is Mremap:
        yield from ((SIZE, each) for each in _SIZES)
        yield from ((DESTINATION, each) for each in _DESTINATIONS)
        yield from ((INELIGIBLE, each) for each in _INELIGIBLE)
        yield from ((ROOM, each) for each in _ROOM)
    if cls is Mmap:
        yield from ((KIND, sample.kind) for sample in kinds.BACKINGS)


def of_call(space: AddressSpace, call: Call) -> Iterator[Class]:
    """The classes that a call is in, in the space as it is before it; a class may come twice."""
    cls = type(call)
    for name, kind in SIGNATURES[cls]:
        for each in _argument(name, kind, getattr(call, name)):
            if each in FD_NAMES and cls in _OF_UFFDS and each not in _UFFDS:
                each = "memfd"
            yield name, each
    source = range_of(call)
    if source:
        yield from _range(space, *source)
        for vma in _spanned(space, *source):
            if kinds.is_own(space, vma):
                continue
            yield KIND, kinds.backing(space, vma)
            yield from ((STATE, each) for each in kinds.states(space, vma))
    target = target_of(call)
    if target:
        yield from _target(space, *target)
    if isinstance(call, Mremap):
        yield from _movement(space, call)


def of_result(space: AddressSpace, call: Call, value: int) -> Iterator[Class]:
    """The classes that a call's raw result is in, in the space as it is after it."""
    if isinstance(call, Touch):
        pages = min(call.pages, TOUCH_PAGES)
        for outcome in {value >> 2 * page & 3 for page in range(pages)}:
            yield RESULT, ("ok", "SIGSEGV", "SIGBUS", "endless")[outcome]
        return
    failed = -4096 < value < 0
    yield RESULT, _errno_name(-value) if failed else "ok"
    if isinstance(call, Mmap) and not failed:
        vma = space.lookup(value)
        if vma:
            yield KIND, kinds.backing(space, vma)


def _errno_name(number: int) -> str:
    """As in manual pages: one number has two names."""
    return "EOPNOTSUPP" if number == EOPNOTSUPP else errorcode.get(number, str(number))


# What cannot be.


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Classes that no program reaches: patterns (fnmatch) of the call's name, the aspect and the class."""

    call: str
    aspect: str
    of: str
    reason: str

    def matches(self, call: str, each: Class) -> bool:
        return (
            fnmatchcase(call, self.call)
            and fnmatchcase(each[0], self.aspect)
            and fnmatchcase(each[1], self.of)
        )


_BY_MMAP: Final = "a check of mmap(2) that no argument of this call comes near"
_WHOLE: Final = "whole mappings are changed, so that none is cut"
UNREACHABLE: Final[tuple[Unreachable, ...]] = (
    *(
        Unreachable(
            call,
            "advice",
            name,
            "takes memory from the machine, so that it is sent by executors without rights alone (fuzz --user)",
        )
        for call in ("madvise", "process_madvise")
        for name in ("MADV_HWPOISON", "MADV_SOFT_OFFLINE")
    ),
    Unreachable("mmap", KIND, "SysV shared", "a segment is mapped by shmat(2)"),
    *(
        Unreachable(
            call, RESULT, errno, "an allocation has to fail, and only a kernel can say which did"
        )
        for call, errno in (
            ("mlock", "EAGAIN"),
            ("mlock2", "EAGAIN"),
            ("uffd_writeprotect", "ENOMEM"),
        )
    ),
    Unreachable("munlockall", RESULT, "E*", _WHOLE),
    Unreachable(
        "mremap", RESULT, "ENODEV", "what cannot be mapped is not there to be moved or to grow"
    ),
    Unreachable("brk", RESULT, "E*", "brk(2) gives the break, never an errno"),
    Unreachable("fork", RESULT, "ENOMEM", "RLIMIT_AS keeps a mapping below the machine's memory"),
    Unreachable(
        "process_madvise", RESULT, "ETIME", "the call never returns there, which is `Unmodelled`"
    ),
    *(
        Unreachable("remap_file_pages", RESULT, name, _BY_MMAP)
        for name in ("EEXIST", "EFAULT", "EIO", "ENODEV", "EOPNOTSUPP")
    ),
    *(
        Unreachable("shmat", RESULT, name, _BY_MMAP)
        for name in ("EEXIST", "EFAULT", "EIO", "ENODEV", "EOPNOTSUPP", "EOVERFLOW")
    ),
    *(
        Unreachable("shmdt", RESULT, name, "what cannot be unmapped stays, and the call succeeds")
        for name in ("EAGAIN", "EFAULT", "ENODEV", "ENOMEM", "EPERM")
    ),
    *(
        Unreachable("fill", RESULT, name, _BY_MMAP)
        for name in (
            "EACCES",
            "EAGAIN",
            "EBADF",
            "EFAULT",
            "EIO",
            "ENODEV",
            "EOPNOTSUPP",
            "EOVERFLOW",
        )
    ),
)


def why_unreachable(call: str, each: Class) -> str:
    """The reason why no program reaches a class; "" if one can."""
    return next((entry.reason for entry in UNREACHABLE if entry.matches(call, each)), "")


def name_of(cls: type[Call]) -> str:
    """The call's name, as in programs."""
    return NAMES[cls]
