"""Kinds of mapping, by the names that people use: how to make each, and which of them a VMA is.

What is mapped (`memfd shared`) and what state it is in (`locked`, `faulted`) are told apart: a VMA has one of the first
and any number of the second. Only looks at the model's space; knows no rule of the kernel.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from abi.consts import FD_NAMES, PAGE, PAGE_SHIFT
from abi.wire import IDENT_SHM0, IDENT_SHM1
from model import flags as vm
from model.space import PTE_GUARD, PTE_KIND, AddressSpace
from model.vma import File, Vma

_RW: Final = "PROT_READ|PROT_WRITE"
_ANON: Final = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"


@dataclass(frozen=True, slots=True)
class Sample:
    """How a mapping of a kind is made: calls in text form, `{at}` the address and `{n}` its pages.

    kind: the name of the kind; pages: its length, to which its address is aligned too if `aligned`; place: where it is,
    if the kernel says so.
    """

    kind: str
    text: str
    pages: int = 4
    aligned: bool = False
    place: str = ""

    @property
    def objects(self) -> tuple[str, ...]:
        """The descriptors that it needs."""
        return tuple(name for name in FD_NAMES if re.search(rf"\b{name}\b", self.text))

    def calls(self, at: str) -> str:
        """The calls that make it at `at`, one a line."""
        return self.text.format(at=at, n=self.pages)


def _mapped(
    kind: str, prot: str, flags: str, fd: str = "-1", pages: int = 4, aligned: bool = False
) -> Sample:
    return Sample(kind, f"mmap({{at}}, {{n}}p, {prot}, {flags}, {fd}, 0)\n", pages, aligned)


def _private(kind: str, fd: str, prot: str = _RW) -> Sample:
    return _mapped(f"{kind} private", prot, "MAP_PRIVATE|MAP_FIXED", fd)


def _shared(kind: str, fd: str, prot: str = _RW) -> Sample:
    return _mapped(f"{kind} shared", prot, "MAP_SHARED|MAP_FIXED", fd)


def _anonymous(kind: str, *then: str, pages: int = 4, aligned: bool = False) -> Sample:
    lines = [f"mmap({{at}}, {{n}}p, {_RW}, {_ANON}, -1, 0)", *then]
    return Sample(kind, "".join(f"{line}\n" for line in lines), pages, aligned)


def _files() -> Iterator[Sample]:
    for name in ("memfd", "file", "tmpfs", "ext4", "xfs", "btrfs", "overlay", "ramfs"):
        yield _private(name, name)
        yield _shared(name, name)


#: What is mapped. The names are those of `backing`.
BACKINGS: Final[tuple[Sample, ...]] = (
    _anonymous("anonymous private"),
    _mapped("anonymous shared", _RW, "MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED"),
    _mapped("droppable", _RW, "MAP_DROPPABLE|MAP_ANONYMOUS|MAP_FIXED"),
    Sample("heap", f"brk(B+4)\nmprotect({{at}}, {{n}}p, {_RW})\n", place="B+0"),
    _private("devzero", "devzero"),
    *_files(),
    _private("sysfs", "sysfs", "PROT_READ"),
    # Without a reservation: one that is moved may leak it, so that no program moves it.
    _mapped(
        "hugetlb anonymous",
        _RW,
        f"{_ANON}|MAP_HUGETLB|MAP_NORESERVE",
        pages=512,
        aligned=True,
    ),
    _mapped(
        "hugetlb private",
        _RW,
        "MAP_PRIVATE|MAP_FIXED|MAP_NORESERVE",
        "hugetlb",
        pages=512,
        aligned=True,
    ),
    _mapped("hugetlb shared", _RW, "MAP_SHARED|MAP_FIXED", "hugetlb", pages=512, aligned=True),
    _shared("secretmem", "secretmem"),
    Sample("iouring", f"mmap(NULL, {{n}}p, {_RW}, MAP_SHARED, iouring, 0)\n", 2, place="T-2"),
    _mapped("perf shared", _RW, "MAP_SHARED|MAP_FIXED", "perf", pages=5),
    _shared("bpf", "bpf", "PROT_READ"),
    _shared("bpf_ring", "bpf_ring", "PROT_READ"),
    _private("packet", "packet"),
    _shared("packet", "packet"),
    _mapped("xdp private", _RW, "MAP_PRIVATE|MAP_FIXED", "xdp", pages=2),
    _mapped("xdp shared", _RW, "MAP_SHARED|MAP_FIXED", "xdp", pages=2),
    _private("tcp", "tcp", "PROT_READ"),
    _shared("tcp", "tcp", "PROT_READ"),
    Sample("SysV shared", "shmat(0, {at}, SHM_REMAP)\n"),
)
#: What has no mapping, and what asking for one gives.
UNMAPPABLE: Final[tuple[Sample, ...]] = (_private("proc", "proc", "PROT_READ"),)
#: States that a mapping can be in. The names are those of `states`.
STATES: Final[tuple[Sample, ...]] = (
    _anonymous("faulted", "touch({at}, 1, write)"),
    _mapped("read-only", "PROT_READ", _ANON),
    _mapped("executable", "PROT_READ|PROT_EXEC", _ANON),
    _mapped("inaccessible", "PROT_NONE", _ANON),
    _mapped("growsdown", _RW, f"{_ANON}|MAP_GROWSDOWN"),
    _mapped("noreserve", _RW, f"{_ANON}|MAP_NORESERVE"),
    _mapped("locked", _RW, f"{_ANON}|MAP_LOCKED"),
    _anonymous("locked on fault", "mlock2({at}, {n}p, MLOCK_ONFAULT)"),
    _anonymous("sealed", "mseal({at}, {n}p, 0)"),
    _anonymous("guarded", "madvise({at}, 1p, MADV_GUARD_INSTALL)"),
    _anonymous("uffd missing", "uffd_register(uffd0, {at}, {n}p, UFFDIO_REGISTER_MODE_MISSING)"),
    _anonymous("uffd wp", "uffd_register(uffd0, {at}, {n}p, UFFDIO_REGISTER_MODE_WP)"),
    Sample(
        "uffd minor",
        f"mmap({{at}}, {{n}}p, {_RW}, MAP_SHARED|MAP_FIXED, memfd, 0)\n"
        "uffd_register(uffd0, {at}, {n}p, UFFDIO_REGISTER_MODE_MINOR)\n",
    ),
    _anonymous(
        "uffd with events", "uffd_register(uffd2, {at}, {n}p, UFFDIO_REGISTER_MODE_MISSING)"
    ),
    _anonymous("dontfork", "madvise({at}, {n}p, MADV_DONTFORK)"),
    _anonymous("wipeonfork", "madvise({at}, {n}p, MADV_WIPEONFORK)"),
    _anonymous("dontdump", "madvise({at}, {n}p, MADV_DONTDUMP)"),
    _anonymous("mergeable", "madvise({at}, {n}p, MADV_MERGEABLE)"),
    _anonymous("nohugepage", "madvise({at}, {n}p, MADV_NOHUGEPAGE)"),
    _anonymous("hugepage", "madvise({at}, {n}p, MADV_HUGEPAGE)", pages=512, aligned=True),
    _anonymous("random access", "madvise({at}, {n}p, MADV_RANDOM)"),
    _anonymous("sequential access", "madvise({at}, {n}p, MADV_SEQUENTIAL)"),
)
SAMPLES: Final = (*BACKINGS, *STATES)

_STATE_FLAGS: Final = (
    ("growsdown", vm.VM_GROWSDOWN),
    ("noreserve", vm.VM_NORESERVE),
    ("sealed", vm.VM_SEALED),
    ("uffd missing", vm.VM_UFFD_MISSING),
    ("uffd wp", vm.VM_UFFD_WP),
    ("uffd minor", vm.VM_UFFD_MINOR),
    ("dontfork", vm.VM_DONTCOPY),
    ("wipeonfork", vm.VM_WIPEONFORK),
    ("dontdump", vm.VM_DONTDUMP),
    ("mergeable", vm.VM_MERGEABLE),
    ("nohugepage", vm.VM_NOHUGEPAGE),
    ("hugepage", vm.VM_HUGEPAGE),
    ("random access", vm.VM_RAND_READ),
    ("sequential access", vm.VM_SEQ_READ),
)


def _name_of(space: AddressSpace, file: File) -> str:
    """The object that an open file is; a read-only descriptor of an object is the object. "" for one without."""
    for fd, known in space.files.items():
        if file is known or file is known.below:
            return _NAMES[fd].removesuffix("_ro")
    return "SysV" if file.inode.ident in (IDENT_SHM0, IDENT_SHM1) else ""


def backing(space: AddressSpace, vma: Vma) -> str:
    """What `vma` maps."""
    if vma.flags & vm.VM_DROPPABLE:
        return "droppable"
    file = vma.file
    if file is None:
        if vma.start < space.brk.brk and vma.end > space.brk.start_brk:
            return "heap"
        return "anonymous private"
    name = _name_of(space, file)
    if vma.flags & vm.VM_HUGETLB and name != "hugetlb":
        return "hugetlb anonymous"
    if not name:
        return "anonymous shared"
    if name == "iouring":
        return name
    return f"{name} {'shared' if vma.flags & vm.VM_MAYSHARE else 'private'}"


def states(space: AddressSpace, vma: Vma) -> Iterator[str]:
    """The states that `vma` is in."""
    flags = vma.flags
    for name, flag in _STATE_FLAGS:
        if flags & flag:
            yield name
    if flags & vm.VM_LOCKED:
        yield "locked on fault" if flags & vm.VM_LOCKONFAULT else "locked"
    if vma.anon_vma:
        yield "faulted"
    if flags & vm.VM_EXEC:
        yield "executable"
    elif not flags & vm.VM_ACCESS:
        yield "inaccessible"
    elif not flags & vm.VM_WRITE:
        yield "read-only"
    if flags & vm.VM_UFFD and vma.uffd == _EVENT_UFFD:
        yield "uffd with events"
    if is_guarded(space, vma.start, vma.end):
        yield "guarded"


def is_own(space: AddressSpace, vma: Vma) -> bool:
    """It is one of the executor's own, or a piece of it where it was."""
    return any(own.start <= vma.start and vma.end <= own.end for own in space.environment.initial)


def is_guarded(space: AddressSpace, start: int, end: int) -> bool:
    """A page of [start, end) is a guard."""
    ptes = space.ptes
    if len(ptes) < (end - start) // PAGE:
        pages = (page for page in ptes if start >> PAGE_SHIFT <= page < end >> PAGE_SHIFT)
        return any(ptes[page] & PTE_KIND == PTE_GUARD for page in pages)
    pages_all = range(start >> PAGE_SHIFT, end >> PAGE_SHIFT)
    return any(ptes.get(page, 0) & PTE_KIND == PTE_GUARD for page in pages_all)


_NAMES: Final = {fd: name for name, fd in FD_NAMES.items()}
#: The userfaultfd whose events are read.
_EVENT_UFFD: Final = FD_NAMES["uffd2"]
