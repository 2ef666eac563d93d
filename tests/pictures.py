"""Layouts as pictures of the window: a letter is a page, `.` a hole, `|` a boundary between like VMAs.

    r w x n   private anonymous memory: r--, rw-, r-x, ---
    a         as w, with a flag that madvise set (gu among them)
    l         as w, locked (and so populated: always L)
    g d u     as w, growing down; droppable; registered with uffd0 for missing pages
    s t       shared anonymous memory: rw-, r--; each run is an object of its own
    m p i     the memfd, shared and rw-; private and rw-; shared and r--
    v         as m, registered with uffd0 for missing pages
    f q       the file, shared and private, rw-
    z         /dev/zero, private, rw-
    e b k     secret memory, shared, rw-; a bpf array, rw-, a packet ring, rw-, from their beginnings
    y c o     a perf buffer; what a TCP socket maps, r--; an io_uring; shared, from their beginnings
    j         an XDP socket's ring, shared, rw-, from its beginning
    h         a SysV segment, rw-, from its beginning, 16 pages

A capital is the same with an anon_vma: somebody wrote to it. Files are mapped at the offset that is the page's number
in the window, so that runs continue each other. Spaces mean nothing. `?` stands for what has no letter.

A drawing is made by calls, so every picture is a state that programs reach.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

import pytest

from abi.calls import Call, Program
from abi.consts import PAGE
from abi.environment import Environment
from abi.program import format_address, parse
from abi.trace import describe
from model.flags import (
    VM_ACCESS,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_MAYBE_GUARD,
    VM_MAYSHARE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_READ,
    VM_SEQ_READ,
    VM_UFFD,
    VM_UFFD_MISSING,
    VM_WIPEONFORK,
    VM_WRITE,
)
from model.kinds import KINDS
from model.profile import PROFILES, Profile
from model.run import Model, Run
from model.vma import Vma
from tests.environments import ENVIRONMENT

#: What tests run on unless they say otherwise.
PROFILE: Final = PROFILES["6.18"]
#: Pages of the window that pictures show.
WIDTH: Final = 128

_ADVISED: Final = (
    VM_SEQ_READ | VM_RAND_READ | VM_DONTCOPY | VM_DONTDUMP | VM_WIPEONFORK
    | VM_MERGEABLE | VM_HUGEPAGE | VM_NOHUGEPAGE | VM_MAYBE_GUARD
)  # fmt: skip
_RW: Final = VM_READ | VM_WRITE
#: How a run of each letter is mapped: protection, flags, descriptor.
_MAPPED: Final = {
    "r": ("PROT_READ", "MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    "w": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    "x": ("PROT_READ|PROT_EXEC", "MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    "n": ("PROT_NONE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    "a": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    "l": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS|MAP_LOCKED", "-1"),
    "g": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN", "-1"),
    "d": ("PROT_READ|PROT_WRITE", "MAP_DROPPABLE|MAP_ANONYMOUS", "-1"),
    "u": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1"),
    "s": ("PROT_READ|PROT_WRITE", "MAP_SHARED|MAP_ANONYMOUS", "-1"),
    "t": ("PROT_READ", "MAP_SHARED|MAP_ANONYMOUS", "-1"),
    "m": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "memfd"),
    "v": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "memfd"),
    "i": ("PROT_READ", "MAP_SHARED", "memfd"),
    "p": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE", "memfd"),
    "f": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "file"),
    "q": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE", "file"),
    "z": ("PROT_READ|PROT_WRITE", "MAP_PRIVATE", "devzero"),
    "e": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "secretmem"),
    "b": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "bpf"),
    "k": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "packet"),
    "y": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "perf"),
    "c": ("PROT_READ", "MAP_SHARED", "tcp"),
    "j": ("PROT_READ|PROT_WRITE", "MAP_SHARED", "xdp"),
}
_FROM_BEGINNING: Final = ("-1", "bpf", "packet", "perf", "tcp", "xdp")
#: What is done to a run after it was mapped.
_AFTER: Final = {
    "a": "madvise({at}, {n}p, MADV_RANDOM)",
    "u": "uffd_register(uffd0, {at}, {n}p, UFFDIO_REGISTER_MODE_MISSING)",
    "v": "uffd_register(uffd0, {at}, {n}p, UFFDIO_REGISTER_MODE_MISSING)",
}
#: Flags that tell letters of private anonymous memory apart, protection aside.
_SPECIAL: Final = {
    VM_LOCKED: "l",
    VM_GROWSDOWN: "g",
    VM_DROPPABLE: "d",
    VM_UFFD_MISSING: "u",
}
_PROTECTED: Final = {0: "n", VM_READ: "r", _RW: "w", VM_READ | 4: "x"}
_FILES: Final = {"memfd": ("m", "p", "i"), "file": ("f", "q", "?"), "devzero": ("?", "z", "?")}


#: Special kinds are shown whatever their protection and flags are.
_SPECIAL_FILES: Final = {
    KINDS[fs]: letter
    for fs, letter in (
        ("secretmem", "e"),
        ("bpf", "b"),
        ("packet", "k"),
        ("perf", "y"),
        ("tcp", "c"),
        ("xdp", "j"),
        ("iouring", "o"),
        ("sysv", "h"),
    )
}


class Drawing:
    """A run of the model whose window was drawn. `do` makes calls, `picture` shows what they made of it."""

    def __init__(
        self, picture: str, environment: Environment = ENVIRONMENT, profile: Profile = PROFILE
    ) -> None:
        self.environment = environment
        self.run: Run = Model(environment, profile).start()
        for line in lines(picture):
            results = self.do(line)
            assert all(r.startswith(("0", "W", "ok")) for r in results), (line, results)
        assert self.picture == normal(picture), "calls cannot make this picture"

    @property
    def space(self) -> Any:
        return self.run.space

    def do(self, text: str) -> list[str]:
        """Make the calls of `text`, a program with `;` between calls; their results in words."""
        return [self.make(call) for call in self.program(text)]

    def program(self, text: str) -> Program:
        """The calls of `text`."""
        return parse(text.replace(";", "\n"), self.environment.geometry)

    def vma(self, page: int) -> Vma:
        """The VMA at a page of the window."""
        vma = self.run.space.lookup(at(page))
        assert vma is not None
        return vma

    @property
    def picture(self) -> str:
        """The window as it is."""
        shown, below = "", None
        for page in range(WIDTH):
            vma = self.run.space.lookup(at(page))
            letter = "." if vma is None else _letter(self.run, vma)
            if vma is not below and shown.endswith(letter) and letter != ".":
                shown += "|"
            shown, below = shown + letter, vma
        return normal(shown)

    def make(self, call: Call) -> str:
        """Make one call; its result in words."""
        value = self.run.step(call)
        self.run.space.check()
        text = describe(call, value)
        if text.startswith("-1 "):
            return text[3:]
        return format_address(value, self.environment.geometry) if value >= PAGE else text


def at(page: int) -> int:
    """The address of a page of the window."""
    return ENVIRONMENT.geometry.window + page * PAGE


def normal(picture: str) -> str:
    """The picture without what means nothing; an empty window is a dot."""
    return picture.replace(" ", "").rstrip(".") or "."


def play(
    before: str,
    calls: str,
    results: str,
    after: str,
    environment: Environment = ENVIRONMENT,
    profile: Profile = PROFILE,
) -> None:
    """Assert what `calls` return (separated by commas) and what they make of a drawing."""
    drawing = Drawing(before, environment, profile)
    done = drawing.do(calls)
    assert (", ".join(done), drawing.picture) == (results, normal(after))


def scenes(table: Mapping[str, tuple[str, str, str, str]]) -> pytest.MarkDecorator:
    """Parametrizes a test by scenes: the behaviour in words -> picture, calls, results, picture."""
    return pytest.mark.parametrize(
        ("before", "calls", "results", "after"), table.values(), ids=table.keys()
    )


def _letter(run: Run, vma: Vma) -> str:
    letter = _file_letter(run, vma) if vma.file else _anonymous_letter(vma)
    return letter.upper() if vma.anon_vma else letter


def _anonymous_letter(vma: Vma) -> str:
    access = vma.flags & VM_ACCESS
    if vma.flags & VM_UFFD & ~VM_UFFD_MISSING:
        return "?"
    if vma.flags & VM_DROPPABLE:
        return "d" if access == _RW else "?"
    special = [letter for flag, letter in _SPECIAL.items() if vma.flags & flag]
    if special or vma.flags & _ADVISED:
        known = access == _RW and len(special) + bool(vma.flags & _ADVISED) == 1
        return (special or ["a"])[0] if known else "?"
    return _PROTECTED.get(access, "?")


def _file_letter(run: Run, vma: Vma) -> str:
    assert vma.file is not None
    access, shared = vma.flags & VM_ACCESS, bool(vma.flags & VM_MAYSHARE)
    if vma.file.kind:
        return _SPECIAL_FILES.get(vma.file.kind, "?")
    if vma.flags & VM_UFFD:
        return "v" if vma.flags & VM_UFFD == VM_UFFD_MISSING and access == _RW and shared else "?"
    if vma.flags & (_ADVISED | VM_LOCKED):
        return "?"
    names = [o.name for o in run.space.environment.objects if run.space.files[o.fd] is vma.file]
    if not names:
        return {_RW: "s", VM_READ: "t"}.get(access, "?")
    letters = _FILES.get(names[0], "???")
    if access == _RW:
        return letters[0] if shared else letters[1]
    return letters[2] if access == VM_READ and shared else "?"


def lines(picture: str) -> Iterator[str]:
    """Calls that make the picture, run by run."""
    page = 0
    for letter, group in groupby(picture.replace(" ", "")):
        pages = 0 if letter == "|" else len(list(group))
        if letter.isalpha():
            yield from _map(letter, page, pages)
        page += pages


def _map(letter: str, page: int, pages: int) -> Iterator[str]:
    if letter == "h":
        yield f"shmat(0, W+{page}, 0)"
        return
    prot, flags, fd = _MAPPED[letter.lower()]
    where = f"W+{page}, {pages}p"
    offset = "0" if fd in _FROM_BEGINNING else f"{page}p"
    rest = f"{flags}|MAP_FIXED, {fd}, {offset})"
    after = _AFTER.get(letter.lower(), "").format(at=f"W+{page}", n=pages)
    if letter == "L" or (letter.islower() and not after):
        yield f"mmap({where}, {prot}, {rest}"
        return
    if letter.islower():
        yield from (f"mmap({where}, PROT_EXEC, {rest}", after, f"mprotect({where}, {prot})")
        return
    # It is touched while no neighbour is like it, and made what it is to be afterwards.
    yield f"mmap({where}, PROT_EXEC, {rest}"
    yield f"madvise({where}, MADV_DONTFORK)"
    yield f"mprotect({where}, PROT_READ|PROT_WRITE)"
    yield f"touch(W+{page}, {pages}, write)"
    yield f"mprotect({where}, {prot})"
    yield after
    yield f"madvise({where}, MADV_DOFORK)"
