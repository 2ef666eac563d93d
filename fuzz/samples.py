"""Writes `corpus/classes/`: every call over every kind of mapping, at every place, with every class of argument.

One rule a program is what seeds are for; these are the rest of the table, so that nothing that can be said is left
unsaid (`vmadiff coverage`). The same samples hold `docs/domain.md` to what the model does.

python -m fuzz.samples            write them
python -m fuzz.samples --check    fail if they are stale
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abi.calls import (
    NAMES,
    SIGNATURES,
    Brk,
    Call,
    Fail,
    Fill,
    Fork,
    Ftruncate,
    Kind,
    Madvise,
    Mbind,
    Mincore,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mprotect,
    Mremap,
    Mseal,
    Msync,
    Munlock,
    Munlockall,
    Munmap,
    PkeyMprotect,
    Prctl,
    ProcessMadvise,
    RemapFilePages,
    Setrlimit,
    SetVmaName,
    Shmat,
    Shmdt,
    Touch,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
    arguments,
    build,
)
from abi.consts import FD_NAMES, MADV_NAMES, MAP_TYPE, PAGE, PMD_SIZE, PRCTL_NAMES, WORD
from abi.environment import Geometry
from abi.program import format_call, format_word, parse_call
from fuzz.classes import argument_classes, named_values
from fuzz.corpus import PACKAGED, SUFFIX
from fuzz.kinds import SAMPLES, Sample

DIRECTORY: Final = PACKAGED / "classes"
#: Most calls of a program that is written.
_LONGEST: Final = 40
_RW: Final = "PROT_READ|PROT_WRITE"
_ANON: Final = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"
_MOVE: Final = "MREMAP_MAYMOVE|MREMAP_FIXED"
_GEOMETRY: Final = Geometry()
#: Where a sample is moved to, that far above it (pages).
_AWAY: Final = 2048


@dataclass(frozen=True, slots=True)
class CallSample:
    """A call over a mapping: `{at}` its address, `{n}` its pages, `{half}`, `{twice}` that, `{to}` a free place, `{fd}`
    its file. `apart`: it is about something else, and only done while the mapping is there.
    """

    name: str
    call: type[Call]
    text: str
    apart: bool = False

    def over(self, kind: Sample, at: str, to: str) -> str:
        """The call over a mapping of the kind at `at`."""
        pages = kind.pages
        half = pages // 2 if pages < 512 else pages
        fd = next((name for name in kind.objects if not name.startswith("uffd")), "memfd")
        return self.text.format(at=at, to=to, n=pages, half=half, twice=2 * pages, fd=fd)


def _advice(name: str) -> CallSample:
    text = f"madvise({{at}}, {{n}}p, {name})"
    return CallSample(f"madvise {name.removeprefix('MADV_')}", Madvise, text)


def _option(name: str) -> CallSample:
    return CallSample(f"prctl: {name.removeprefix('PR_SET_')}", Prctl, f"prctl({name}, 1, 0)")


#: Never sent with root's rights: they take memory from the machine (`fuzz/restraint.py`).
POISON: Final = ("MADV_HWPOISON", "MADV_SOFT_OFFLINE")
#: One of each thing that a call can do to a mapping.
CALL_SAMPLES: Final[tuple[CallSample, ...]] = (
    CallSample("munmap", Munmap, "munmap({at}, {half}p)"),
    CallSample("mprotect", Mprotect, "mprotect({at}, {half}p, PROT_READ)"),
    CallSample("mremap: move", Mremap, f"mremap({{at}}, {{n}}p, {{n}}p, {_MOVE}, {{to}})"),
    CallSample("mremap: grow", Mremap, "mremap({at}, {n}p, {twice}p, MREMAP_MAYMOVE, NULL)"),
    CallSample("mremap: shrink", Mremap, "mremap({at}, {n}p, {half}p, 0, NULL)"),
    CallSample(
        "mremap: DONTUNMAP",
        Mremap,
        f"mremap({{at}}, {{n}}p, {{n}}p, {_MOVE}|MREMAP_DONTUNMAP, {{to}})",
    ),
    CallSample("mremap: duplicate", Mremap, "mremap({at}, 0, {n}p, MREMAP_MAYMOVE, NULL)"),
    CallSample("touch: read", Touch, "touch({at}, 2, read)"),
    CallSample("touch: write", Touch, "touch({at}, 2, write)"),
    CallSample("mlock", Mlock, "mlock({at}, {half}p)"),
    CallSample("mlock2", Mlock2, "mlock2({at}, {half}p, MLOCK_ONFAULT)"),
    CallSample("munlock", Munlock, "munlock({at}, {half}p)"),
    CallSample("mlockall", Mlockall, "mlockall(MCL_CURRENT)"),
    CallSample("munlockall", Munlockall, "munlockall()"),
    CallSample("mseal", Mseal, "mseal({at}, {half}p, 0)"),
    CallSample("msync", Msync, "msync({at}, {n}p, MS_SYNC)"),
    CallSample("mincore", Mincore, "mincore({at}, {n}p)"),
    CallSample(
        "remap_file_pages", RemapFilePages, "remap_file_pages({at}, {half}p, PROT_NONE, 1, 0)"
    ),
    CallSample("set_vma_name", SetVmaName, "set_vma_name({at}, {half}p, a)"),
    CallSample("pkey_mprotect", PkeyMprotect, f"pkey_mprotect({{at}}, {{half}}p, {_RW}, 0)"),
    CallSample("process_madvise", ProcessMadvise, "process_madvise({at}, {n}p, MADV_COLD, 0)"),
    CallSample(
        "uffd_register",
        UffdRegister,
        "uffd_register(uffd0, {at}, {half}p, UFFDIO_REGISTER_MODE_MISSING)",
    ),
    CallSample("uffd_unregister", UffdUnregister, "uffd_unregister(uffd0, {at}, {half}p)"),
    CallSample(
        "uffd_writeprotect",
        UffdWriteprotect,
        "uffd_writeprotect(uffd0, {at}, {half}p, UFFDIO_WRITEPROTECT_MODE_WP)",
    ),
    CallSample("fork", Fork, "fork()"),
    CallSample("mbind", Mbind, "mbind({at}, {half}p, MPOL_PREFERRED, 1, 0)"),
    CallSample("shmdt", Shmdt, "shmdt({at})"),
    CallSample("ftruncate", Ftruncate, "ftruncate({fd}, 2p)"),
    *(_option(name) for name in PRCTL_NAMES),
    CallSample("setrlimit", Setrlimit, "setrlimit(RLIMIT_DATA, 2p)", apart=True),
    CallSample("brk", Brk, "brk(B+2)", apart=True),
    CallSample("shmat", Shmat, "shmat(0, {to}, 0)", apart=True),
    *(_advice(name) for name in MADV_NAMES if name not in POISON),
)

#: The plainest form of each call, whose arguments are then varied; what is made before it.
_ANONYMOUS: Final = f"mmap(W+0, 4p, {_RW}, {_ANON}, -1, 0)"
_SHARED: Final = f"mmap(W+0, 4p, {_RW}, MAP_SHARED|MAP_FIXED, memfd, 0)"
_PLAIN: Final[dict[type[Call], tuple[str, str]]] = {
    Mmap: ("", f"mmap(W+8, 2p, {_RW}, {_ANON}, -1, 0)"),
    Munmap: (_ANONYMOUS, "munmap(W+0, 2p)"),
    Mprotect: (_ANONYMOUS, "mprotect(W+0, 2p, PROT_READ)"),
    Madvise: (_ANONYMOUS, "madvise(W+0, 2p, MADV_RANDOM)"),
    Mremap: (_ANONYMOUS, f"mremap(W+0, 2p, 2p, {_MOVE}, W+20)"),
    Touch: (_ANONYMOUS, "touch(W+0, 1, write)"),
    UffdRegister: (
        _ANONYMOUS,
        "uffd_register(uffd0, W+0, 2p, UFFDIO_REGISTER_MODE_MISSING)",
    ),
    UffdUnregister: (_ANONYMOUS, "uffd_unregister(uffd0, W+0, 2p)"),
    Mlock: (_ANONYMOUS, "mlock(W+0, 2p)"),
    Mlock2: (_ANONYMOUS, "mlock2(W+0, 2p, 0)"),
    Munlock: (_ANONYMOUS, "munlock(W+0, 2p)"),
    Mlockall: (_ANONYMOUS, "mlockall(MCL_CURRENT)"),
    Mseal: (_ANONYMOUS, "mseal(W+0, 2p, 0)"),
    Msync: (_SHARED, "msync(W+0, 2p, MS_SYNC)"),
    Mincore: (_ANONYMOUS, "mincore(W+0, 2p)"),
    RemapFilePages: (_SHARED, "remap_file_pages(W+0, 2p, PROT_NONE, 1, 0)"),
    Brk: ("", "brk(B+2)"),
    SetVmaName: (_ANONYMOUS, "set_vma_name(W+0, 2p, a)"),
    Prctl: (_ANONYMOUS, "prctl(PR_SET_THP_DISABLE, 0, 0)"),
    PkeyMprotect: (_ANONYMOUS, "pkey_mprotect(W+0, 2p, PROT_READ, -1)"),
    ProcessMadvise: (_ANONYMOUS, "process_madvise(W+0, 2p, MADV_COLD, 0)"),
    UffdWriteprotect: (_ANONYMOUS, "uffd_writeprotect(uffd0, W+0, 2p, 0)"),
    Ftruncate: (_SHARED, "ftruncate(memfd, 2p)"),
    Setrlimit: (_ANONYMOUS, "setrlimit(RLIMIT_DATA, 64p)"),
    Mbind: (_ANONYMOUS, "mbind(W+0, 2p, MPOL_DEFAULT, 0, 0)"),
    Shmat: ("", "shmat(0, W+8, 0)"),
    Fill: ("", "fill(W+64, 8)"),
    Fail: ("", "fail(1)"),
    Shmdt: ("shmat(0, W+8, 0)", "shmdt(W+8)"),
}
#: Of mmap a descriptor counts only without MAP_ANONYMOUS.
_MMAP_OF_A_FILE: Final = "mmap(W+8, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 0)"
#: Two VMAs that touch, and two apart: pages 2 to 6, 6 to 8, 10 to 12, 14 to 16.
_CARPET: Final = (
    f"mmap(W+2, 4p, {_RW}, {_ANON}, -1, 0)",
    f"mmap(W+6, 2p, {_RW}, MAP_SHARED|MAP_FIXED, memfd, 0)",
    f"mmap(W+10, 2p, {_RW}, {_ANON}, -1, 0)",
    f"mmap(W+14, 2p, PROT_READ, {_ANON}, -1, 0)",
)
#: Ranges over the carpet (pages): at, in and across its edges and gaps.
_RANGES: Final = (
    *((2, 6), (3, 5), (2, 4), (4, 6), (0, 4), (4, 9), (2, 8), (5, 7)),
    *((2, 12), (2, 16), (10, 16), (8, 10), (40, 42)),
)


def programs() -> Iterator[tuple[str, str]]:
    """The name and the text of every file."""
    for sample in CALL_SAMPLES:
        if not sample.apart and (sample.call is not Madvise or sample.name == "madvise RANDOM"):
            yield from _over_kinds(sample)
    for cls, (before, plain) in _PLAIN.items():
        yield from _with_arguments(cls, before, plain)
        yield from _at_places(cls, plain)


def _over_kinds(sample: CallSample) -> Iterator[tuple[str, str]]:
    """The call over every kind of mapping."""
    name = sample.name.replace(": ", "-").replace(" ", "-").replace("_", "-").lower()
    pieces = []
    page, aligned = 0, 512
    # What ends a program (huge pages are the machine's) comes last.
    for kind in sorted(SAMPLES, key=lambda each: "hugetlb" in each.kind):
        if kind.aligned:
            at, aligned = aligned, aligned + 512
        else:
            at, page = page, page + 8
        assert at <= _AWAY
        calls = sample_calls(kind, sample, at)
        pieces.append([f"# {kind.kind}", *calls])
    shows = f"{sample.name} over every kind of mapping."
    yield from _files(f"{name}-kinds", shows, pieces)


def sample_calls(kind: Sample, sample: CallSample, page: int = 0) -> list[str]:
    """The calls that make a mapping of the kind at a page of the window, and the sample's call over it."""
    at, to = kind.place or f"W+{page}", f"W+{page + _AWAY}"
    return [*kind.calls(at).splitlines(), sample.over(kind, at, to)]


def plain(cls: type[Call]) -> Call:
    """The plainest form of a call."""
    text = _PLAIN[cls][1] if cls in _PLAIN else f"{NAMES[cls]}()"
    return parse_call(text, _GEOMETRY)


def with_argument(call: Call, name: str, each: str) -> Call:
    """The call with an argument of the class `each`."""
    cls = type(call)
    words = list(arguments(call))
    place, kind = next((i, kind) for i, (n, kind) in enumerate(SIGNATURES[cls]) if n == name)
    words[place] = representative(name, kind, each, words[place])
    return build(cls, words)


def _with_arguments(cls: type[Call], before: str, text: str) -> Iterator[tuple[str, str]]:
    """The call with each class of each argument, the others as they are."""
    for name, kind in SIGNATURES[cls]:
        base = parse_call(
            _MMAP_OF_A_FILE if cls is Mmap and name in ("fd", "offset") else text, _GEOMETRY
        )
        pieces = []
        for each in argument_classes(cls, name, kind):
            if each in POISON:
                continue
            call = _text(with_argument(base, name, each))
            pieces.append([*([before] if before else []), call])
        shows = f"{NAMES[cls]} with every class of {name.replace('_', ' ')}."
        stem = f"{NAMES[cls]}-{name}".replace("_", "-")
        yield from _files(stem, shows, pieces)


def _at_places(cls: type[Call], plain: str) -> Iterator[tuple[str, str]]:
    """The call at, in and across edges and gaps."""
    names = [name for name, _ in SIGNATURES[cls]]
    lengths = [i for i, (_, kind) in enumerate(SIGNATURES[cls]) if kind is Kind.LENGTH]
    if "addr" not in names or not lengths or cls is Mmap:
        return
    pieces = []
    for start, end in _RANGES:
        words = list(arguments(parse_call(plain, _GEOMETRY)))
        words[names.index("addr")] = _GEOMETRY.window + start * PAGE
        for each in lengths:
            words[each] = (end - start) * PAGE
        call = format_call(build(cls, words), _GEOMETRY)
        pieces.append(["munmap(W+0, 64p)", *_CARPET, call])
    shows = f"{NAMES[cls]} at, in and across the edges of VMAs and the gaps between them."
    yield from _files(f"{NAMES[cls]}-places".replace("_", "-"), shows, pieces)


def _text(call: Call) -> str:
    """The call; addresses at the end of user space are not relative to the top, which is not the same everywhere."""
    words = [
        hex(word) if kind is Kind.ADDRESS and word >> 40 else format_word(word, kind, _GEOMETRY)
        for (name, kind) in SIGNATURES[type(call)]
        for word in (getattr(call, name),)
    ]
    return f"{NAMES[type(call)]}({', '.join(words)})"


def representative(name: str, kind: Kind, each: str, usual: int) -> int:
    """A value of the class; `usual` where it is of it."""
    if kind is Kind.ADDRESS:
        unaligned = usual + 0x10
        return {
            "NULL": 0,
            "low": PAGE,
            "unaligned": unaligned,
            "at the end of user space": 0x7FFF_FFFF_E000,
            "beyond it": 1 << 47,
        }.get(each, usual)
    if kind is Kind.LENGTH:
        lengths = {"0": 0, "unaligned": PAGE + 0x100, "2 MiB or more": PMD_SIZE}
        return {**lengths, "beyond user space": 1 << 47, "wraps to 0": WORD}.get(each, usual)
    if kind is Kind.PAGES:
        return {"0": 0, "1": 1, "several": 3}.get(each, 64)
    if kind is Kind.OFFSET:
        return {"0": 0, "pages": 2 * PAGE, "unaligned": PAGE + 0x10}.get(each, 1 << 40)
    if kind is Kind.FD:
        return {**FD_NAMES, "-1": -1}.get(each, 999)
    if kind is Kind.MAP_FLAGS:
        return _map_flags(each, usual)
    return named_values(name, kind)[each]


def _map_flags(each: str, usual: int) -> int:
    values = named_values("flags", Kind.MAP_FLAGS)
    if each == "no type" or values[each] <= MAP_TYPE:
        return usual & ~MAP_TYPE | values[each]
    return usual | values[each]


def _files(stem: str, shows: str, pieces: list[list[str]]) -> Iterator[tuple[str, str]]:
    """The pieces as programs that are not too long."""
    parts: list[list[list[str]]] = [[]]
    length = 0
    for piece in pieces:
        calls = sum(not line.startswith("#") for line in piece)
        if length + calls > _LONGEST:
            parts.append([])
            length = 0
        parts[-1].append(piece)
        length += calls
    for number, part in enumerate(parts, start=1):
        suffix = f"-{number}" if len(parts) > 1 else ""
        body = [line for piece in part for line in piece]
        stated = [_PRIVATE_RING] if "# xdp private" in body else []
        stated += EXPECTED.get(f"{stem}{suffix}", ())
        lines = [f"# {shows}", _HEADER, *(f"# expect: {line}" for line in stated), *body]
        yield f"{stem}{suffix}{SUFFIX}", "\n".join(lines) + "\n"


_HEADER: Final = "# Generated by `python -m fuzz.samples`. Do not edit."
_PRIVATE_RING: Final = "unknown without xdp_mixedmap: where in memory the kernel has a ring"
#: What is not that model and kernel agree (`fuzz.expectation`), by the names of files.
EXPECTED: Final[dict[str, tuple[str, ...]]] = {
    "mremap-dontunmap-kinds-2": ("known dontunmap_leaks_locked with secretmem_locked, secretmem",),
    "mremap-dontunmap-kinds-3": ("known dontunmap_leaks_locked",),
    "process-madvise-kinds-2": (
        "unknown without THP: advice on buffers that the kernel may try to split for ever",
    ),
    "touch-addr": (
        "unknown with HOSTED: addresses at which the kernel that User-Mode-Linux runs on has memory",
    ),
}


def main(words: list[str], directory: Path = DIRECTORY) -> int:
    """The command line; returns its exit status."""
    if words not in ([], ["--check"]):
        print("usage: python -m fuzz.samples [--check]", file=sys.stderr)
        return 2
    made = dict(programs())
    there = {path.name: path for path in directory.glob(f"*{SUFFIX}")}
    if words:
        stale = made.keys() != there.keys() or any(
            there[name].read_text() != text for name, text in made.items()
        )
        if stale:
            print(f"{directory.name}/ is stale: run `python -m fuzz.samples`", file=sys.stderr)
        return int(stale)
    directory.mkdir(exist_ok=True)
    for name in there.keys() - made.keys():
        there[name].unlink()
    for name, text in made.items():
        (directory / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
