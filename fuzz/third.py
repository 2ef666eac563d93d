"""A third opinion on merges: a kernel's own mm/vma.c, which its tools/testing/vma builds for user space.

The VMAs around a range are made there as the model has them before a call, and the function is asked that the call
comes to: mm/vma.c: vma_merge_new_range(), vma_modify_flags(). It applies to calls that map, copy or change one range of
anonymous memory or of a file, where nothing else takes part; of other calls it says so. Trees of 7.3 have the form that
is asked.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, which
from typing import Final

from abi.calls import (
    Call,
    Fill,
    Fork,
    Madvise,
    Mlock,
    Mlock2,
    Mmap,
    Mprotect,
    Mremap,
    Munlock,
    Program,
)
from abi.consts import PAGE, PAGE_SHIFT, PROT_GROWSDOWN, PROT_GROWSUP
from abi.program import format_address
from fuzz.replay import Replay
from fuzz.status import UnusableError, UsageError
from model.flags import VM_SPECIAL
from model.run import Model
from model.vma import Vma

#: What changes the flags of a range.
_CHANGES: Final = (Mprotect, Madvise, Mlock, Mlock2, Munlock)
#: Parts of a tree that the build reads; what it writes to is copied.
_READ: Final = (
    "mm", "include", "lib", "arch", "tools/include", "tools/lib", "tools/arch", "tools/scripts",
)  # fmt: skip
_WRITTEN: Final = ("tools/testing/vma", "tools/testing/shared")
_OWN: Final = Path(__file__).with_name("third.c")
#: What is the same bit in the model and in 7.3's kernels.
_FLAGS: Final = (1 << 32) - 1
_ERROR: Final = "error"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as lines that `third.c` reads; start: of the range; span: the VMA that the model says the range is
    part of afterwards (bytes)."""

    lines: tuple[str, ...]
    start: int
    span: tuple[int, int]


class DoesNotApplyError(Exception):
    """There is nothing to ask of a call; the message is one line."""


def question(program: Program, index: int, model: Model) -> Question:
    """What call `index` of the program comes to.

    Raises:
        DoesNotApplyError: it comes to nothing that can be asked.
        Unmodelled: the model does not get there.
    """
    call = program[index]
    if any(isinstance(each, (Fill, Fork)) for each in program[:index]):
        raise DoesNotApplyError("the process forked, or its mappings were filled up")
    run = model.start(full=False)
    for each in program[:index]:
        run.step(each)
    before = [vma.copy() for vma in run.space.vmas]
    value = run.step(call)
    if -4096 < value < 0:
        raise DoesNotApplyError("the call fails")
    after = [vma.copy() for vma in run.space.vmas]
    match call:
        case Mmap() if (file := run.space.files.get(call.fd)) and file.below:
            raise DoesNotApplyError("a file of a stacked file system")
        case Mmap():
            return _mapped(before, after, value, call.length)
        case Mremap() if call.old_len and value != call.addr:
            return _copied(before, after, call, value)
        case _ if isinstance(call, _CHANGES):
            return _changed(before, after, call)
    raise DoesNotApplyError("the call maps nothing, and changes no flags")


def _mapped(before: list[Vma], after: list[Vma], start: int, length: int) -> Question:
    end = start + _whole(length)
    whole = _around(after, start, end)
    return _new(_without(before, start, end), whole, start, end, 0, 0)


def _copied(before: list[Vma], after: list[Vma], call: Mremap, start: int) -> Question:
    old_end = call.addr + _whole(call.old_len)
    source = _around(before, call.addr, old_end)
    end = start + _whole(call.new_len)
    whole = _around(after, start, end)
    if call.new_len < call.old_len:
        raise DoesNotApplyError("the source is cut first")
    if source.start <= end and start <= source.end:
        raise DoesNotApplyError("the copy meets its source")
    left = _without(before, start, end)
    return _new(left, whole, start, end, source.anon_vma, call.addr)


def _new(left: list[Vma], like: Vma, start: int, end: int, anon_vma: int, source: int) -> Question:
    """A new range [start, end), of which the model says that it is part of `like` then."""
    numbers = _Numbers()
    lines = [numbers.line(vma) for vma in left]
    offsets = f"{like.page_offset(start):x} {(start >> PAGE_SHIFT) + like.moved:x}"
    what = f"{like.flags:x} {numbers.file(like):x} {numbers.anon_vma(anon_vma):x} {source:x}"
    _check(like)
    return Question(
        (*lines, f"new {start:x} {end:x} {offsets} {what}"), start, (like.start, like.end)
    )


def _changed(before: list[Vma], after: list[Vma], call: Call) -> Question:
    start: int = call.addr & -PAGE  # type: ignore[union-attr]
    end = start + _whole(call.length + (call.addr & PAGE - 1))  # type: ignore[union-attr]
    was, like = _around(before, start, end), _around(after, start, end)
    if isinstance(call, Mprotect) and call.prot & (PROT_GROWSDOWN | PROT_GROWSUP):
        raise DoesNotApplyError("the range is to be made longer")
    if was.flags == like.flags:
        raise DoesNotApplyError("no flags change")
    _check(like)
    numbers = _Numbers()
    lines = [numbers.line(vma) for vma in before if vma.name is None]
    return Question(
        (*lines, f"set {start:x} {end:x} {like.flags:x}"), start, (like.start, like.end)
    )


class _Numbers:
    """Numbers of files and anon_vmas, from 1."""

    def __init__(self) -> None:
        self._files: list[object] = [None]
        self._anon_vmas: list[int] = [0]

    def file(self, vma: Vma) -> int:
        if vma.file not in self._files:
            self._files.append(vma.file)
        return self._files.index(vma.file)

    def anon_vma(self, token: int) -> int:
        if token not in self._anon_vmas:
            self._anon_vmas.append(token)
        return self._anon_vmas.index(token)

    def line(self, vma: Vma) -> str:
        """How `third.c` is told of a VMA."""
        _check(vma)
        anon_pgoff = (vma.start >> PAGE_SHIFT) + vma.moved
        return (
            f"vma {vma.start:x} {vma.end:x} {vma.pgoff:x} {anon_pgoff:x} {vma.flags:x}"
            f" {self.file(vma):x} {self.anon_vma(vma.anon_vma):x} {vma.anonymous:x}"
        )


def _check(vma: Vma) -> None:
    """Raises:
    DoesNotApplyError: more takes part than is asked about.
    """
    special = vma.file is not None and vma.file.kind is not None
    if special or vma.flags & VM_SPECIAL or vma.flags & ~_FLAGS:
        raise DoesNotApplyError("special mappings, or flags that not all kernels have")
    if vma.uffd or vma.label or vma.policy:
        raise DoesNotApplyError("userfaultfds, names or policies")


def _around(vmas: Sequence[Vma], start: int, end: int) -> Vma:
    for vma in vmas:
        if vma.start <= start < end <= vma.end and vma.name is None:
            return vma
    raise DoesNotApplyError("the range is not of one VMA")


def _without(vmas: Sequence[Vma], start: int, end: int) -> list[Vma]:
    """What is left of the program's VMAs when [start, end) is unmapped."""
    left = []
    for vma in vmas:
        for low, high in ((vma.start, min(vma.end, start)), (max(vma.start, end), vma.end)):
            if low < high and vma.name is None:
                part = vma.copy()
                part.start, part.end, part.pgoff = low, high, vma.page_offset(low)
                left.append(part)
    return left


def _whole(length: int) -> int:
    return -(-length // PAGE) * PAGE


def opinion(third: "Third", replay: Replay, model: Model) -> list[str]:
    """What the third says of a program that diverges, beside the model and the kernel: lines of text.

    Raises:
        DoesNotApplyError, Unmodelled: as `question`.
        UnusableError: as `Third.ask`.
    """
    assert replay.divergence is not None
    asked = question(replay.program, replay.divergence.index, model)
    (span,) = third.ask([asked])
    layout = replay.divergence.theirs.layout
    found = next(((m.start, m.end) for m in layout if m.start <= asked.start < m.end), None)

    def text(span: tuple[int, int] | None) -> str:
        if span is None:
            return "nothing"
        low, high = (format_address(each, replay.environment.geometry) for each in span)
        return f"{low} .. {high}"

    sides = [
        name for name, side in (("the model", asked.span), ("the kernel", found)) if side == span
    ]
    return [
        f"mm/vma.c for user space makes {text(span)} of it, as {' and '.join(sides) or 'neither'} does",
        f"the model {text(asked.span)}, the kernel {text(found)}",
    ]


class Third:
    """A kernel's merges, built."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def ask(self, questions: Sequence[Question]) -> list[tuple[int, int]]:
        """For each question the VMA that its range is part of afterwards (bytes).

        Raises:
            UnusableError: the build dies of a question.
        """
        text = "\n".join(line for each in questions for line in each.lines) + "\n"
        ran = subprocess.run(
            [self._binary],
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        )
        answers = [line.split() for line in ran.stdout.splitlines()]
        if ran.returncode or len(answers) != len(questions):
            why = (ran.stderr.strip() or "no reason given").splitlines()[0]
            raise UnusableError(f"the kernel's VMA tests died of a question: {why}")
        return [(int(start, 16), int(end, 16)) for start, end in answers]


@contextmanager
def third(tree: Path) -> Iterator[Third]:
    """Build it of a kernel's tree, which is only read; about 20 seconds.

    Raises:
        UsageError: the tree has no tools/testing/vma.
        UnusableError: it cannot be built here, or its form is another.
    """
    if not (tree / "tools/testing/vma/shared.h").is_file():
        raise UsageError(f"{tree}: no tools/testing/vma of the form of 7.3")
    if missing := [name for name in ("make", "gcc") if which(name) is None]:
        raise UnusableError(f"to build the kernel's VMA tests, install {' '.join(missing)}")
    probe = subprocess.run(
        ["gcc", "-E", "-"], input="#include <urcu.h>\n", capture_output=True, text=True
    )
    if probe.returncode:
        raise UnusableError("to build the kernel's VMA tests, install liburcu-dev")
    with tempfile.TemporaryDirectory(prefix="vmadiff-") as scratch:
        copy = Path(scratch)
        for name in _WRITTEN:
            copytree(tree / name, copy / name, symlinks=True)
        for name in _READ:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).symlink_to((tree / name).resolve())
        place = copy / "tools/testing/vma"
        (place / "main.c").write_bytes(_OWN.read_bytes())
        made = subprocess.run(
            ["make", "-C", str(place), "vma"], capture_output=True, text=True, errors="replace"
        )
        if made.returncode:
            lines = [line for line in made.stderr.splitlines() if _ERROR in line]
            why = lines[0] if lines else "no reason given"
            raise UnusableError(f"{tree}: its VMA tests do not build: {why}")
        yield Third(place / "vma")
