"""A reproducer as a program for syzkaller (docs/program_syntax.md there; names as in its sys/linux/*.txt).

Pages of the window become pages of syzkaller's data area; what else has no counterpart is a comment that says so.
"""

from collections.abc import Iterator
from typing import Final

from abi.calls import (
    NAMES,
    SIGNATURES,
    Brk,
    Call,
    Fail,
    Fill,
    Fork,
    Kind,
    Mbind,
    Mincore,
    Prctl,
    ProcessMadvise,
    Setrlimit,
    SetVmaName,
    Shmat,
    Shmdt,
    Touch,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
    signed32,
)
from abi.consts import MADV_POPULATE_READ, MADV_POPULATE_WRITE, PAGE, PR_SET_THP_DISABLE, WORD
from abi.program import format_address, format_call
from fuzz.report import result_text
from fuzz.repro.case import Case
from fuzz.repro.objects import used

#: How syzkaller writes the beginning of its data area, wherever a target has it, and the area's size (bytes).
_AREA: Final = 0x7F0000000000
_SIZE: Final = 4096 * PAGE
#: The last page is kept for arguments in memory.
_SPARE: Final = _SIZE - PAGE
_REGISTER: Final = 0xC020AA00
_UNREGISTER: Final = 0x8010AA01
_SIGBUS: Final = 1 << 7
_EVENTS: Final = 1 << 2 | 1 << 3 | 1 << 6
_HOW: Final = {
    "memfd": (
        "memfd_create(&(0x7f0000fff000)='repro\\x00', 0x1)",
        "ftruncate({}, 0x40000)",
    ),
    "hugetlb": (
        "memfd_create(&(0x7f0000fff000)='repro\\x00', 0x5)",
        "ftruncate({}, 0x800000)",
    ),
    "devzero": ("openat$zero(0xffffffffffffff9c, &(0x7f0000fff000), 0x2, 0x0)",),
    "secretmem": ("memfd_secret(0x80000)", "ftruncate({}, 0x40000)"),
    "tcp": ("socket$inet_tcp(0x2, 0x1, 0x0)",),
    "unix": ("socket$unix(0x1, 0x1, 0x0)",),
    "shm0": ("shmget$private(0x0, 0x10000, 0x1ff, &(0x7f0000fe0000/0x10000)=nil)",),
    "shm1": ("shmget$private(0x0, 0x10000, 0x1ff, &(0x7f0000fe0000/0x10000)=nil)",),
    "file": (
        "openat(0xffffffffffffff9c, &(0x7f0000fff000)='./file0\\x00', 0x42, 0x1ff)",
        "ftruncate({}, 0x40000)",
    ),
}
_UFFD: Final = (
    "userfaultfd(0x80801)",
    "ioctl$UFFDIO_API({}, 0xc018aa3f, &(0x7f0000fff000)={{0xaa, FEATURES}})",
)


def text(case: Case) -> str:
    """The program.

    Raises:
        ReproError: there is none.
    """
    return "".join(f"{line}\n" for line in _Writer(case).lines())


_NAMES: Final = (
    "0x0",
    *(f"&(0x7f0000fff000)='{name}\\x00'" for name in ("a", "b", "bad[", "n" * 80)),
)


class _Lacking(Exception):
    """syzkaller has no such thing; the message says which."""


class _Writer:
    def __init__(self, case: Case) -> None:
        self._case = case
        self._results: dict[str, str] = {}
        self._suffix = ""

    def lines(self) -> Iterator[str]:
        case = self._case
        geometry = case.environment.geometry
        yield from (f"# {line}".rstrip() for line in case.title.splitlines())
        yield "#"
        yield f"# {case.environment.release}: " + (
            "as the model says"
            if case.divergence is None
            else f"differs from the model at the last call in its {case.divergence.field}"
        )
        yield "# The window of the calls is the data area; nothing is mapped there when they begin."
        yield f"munmap({_area(0, _SPARE)}, {_SPARE:#x})"
        for name in used(case.calls, case.environment):
            yield from self._open(name)
        for index, call in enumerate(case.calls):
            result = result_text(call, case.ours[index].value, geometry)
            yield f"# {format_call(call, geometry)} = {result}"
            try:
                line = self._call(call)
            except _Lacking as lacking:
                yield f"#   syzkaller cannot: {lacking}"
                self._suffix = ""
                continue
            if line:
                yield line + self._suffix
                self._suffix = ""

    def _open(self, name: str) -> Iterator[str]:
        variable = f"r{len(self._results)}"
        if name.startswith("uffd"):
            features = _SIGBUS | (_EVENTS if name == "uffd2" else 0)
            rows = tuple(row.replace("FEATURES", f"{features:#x}") for row in _UFFD)
        else:
            rows = _HOW.get(name, ())
        if not rows:
            yield f"# {name} has no counterpart here: a closed descriptor stands for it"
            return
        self._results[name] = variable
        yield f"{variable} = {rows[0]}"
        yield from (row.format(variable).replace("{{", "{").replace("}}", "}") for row in rows[1:])

    def _fd(self, fd: int) -> str:
        known = self._case.environment.object(signed32(fd))
        if known is not None and known.name in self._results:
            return self._results[known.name]
        return f"{WORD:#x}"

    def _at(self, address: int, length: int) -> str:
        """A range of the data area."""
        if not address:
            return "0x0"
        geometry = self._case.environment.geometry
        offset = address - geometry.window
        pages = max(1, -(-length // PAGE)) * PAGE
        if address % PAGE or not 0 <= offset < _SPARE:
            raise _Lacking(f"an address of {format_address(address, geometry)}")
        return _area(offset, min(pages, _SPARE - offset))

    def _call(self, call: Call) -> str:
        match call:
            case Touch():
                advice = MADV_POPULATE_WRITE if call.access & 1 else MADV_POPULATE_READ
                length = min(call.pages, 32) * PAGE
                where = self._at(call.addr & -PAGE, length)
                return f"madvise({where}, {length:#x}, {advice:#x})"
            case UffdRegister() | UffdUnregister() | UffdWriteprotect():
                return self._uffd(call)
            case Mbind():
                where = self._at(call.addr, call.length)
                mask = f"&(0x7f0000fff000)={call.nodes:#x}"
                words = f"{call.length:#x}, {call.policy:#x}, {mask}, 0x41, {call.bind_flags:#x}"
                return f"mbind({where}, {words})"
            case Mincore():
                where = self._at(call.addr, call.length)
                return f'mincore({where}, {call.length:#x}, &(0x7f0000fff000)=""/4096)'
            case Setrlimit():
                limits = f"{{{call.limit:#x}, {WORD:#x}}}"
                return f"setrlimit({call.resource:#x}, &(0x7f0000fff000)={limits})"
            case Shmat():
                segments = self._case.environment.segments
                known = call.segment < len(segments)
                name = segments[call.segment].name if known else ""
                where = self._at(call.addr, 16 * PAGE)
                return f"shmat({self._results.get(name, '0x0')}, {where}, {call.shm_flags:#x})"
            case Prctl() if call.option & 0xFFFFFFFF == PR_SET_THP_DISABLE:
                return f"prctl$PR_SET_THP_DISABLE(0x29, {call.value:#x})"
            case Fail():
                self._suffix = f" (fail_nth: {call.nth})"
                return ""
            case Shmdt():
                raise _Lacking("shmdt of an address that no shmat here returned")
            case ProcessMadvise():
                raise _Lacking("process_madvise of a range that is no buffer")
            case SetVmaName():
                where = self._at(call.addr, call.length)
                name = _NAMES[call.name] if call.name < len(_NAMES) else _NAMES[1]
                return f"prctl$PR_SET_VMA(0x53564d41, 0x0, {where}, {call.length:#x}, {name})"
            case Brk() | Fork() | Fill() | Prctl():
                raise _Lacking(f"{NAMES[type(call)]} is not described")
        return self._plain(call)

    def _uffd(self, call: UffdRegister | UffdUnregister | UffdWriteprotect) -> str:
        fd = self._fd(call.fd)
        span = f"{{{self._at(call.addr, call.length)}, {call.length:#x}}}"
        match call:
            case UffdRegister():
                argument = f"&(0x7f0000fff000)={{{span}, {call.mode:#x}}}"
                return f"ioctl$UFFDIO_REGISTER({fd}, {_REGISTER:#x}, {argument})"
            case UffdUnregister():
                return f"ioctl$UFFDIO_UNREGISTER({fd}, {_UNREGISTER:#x}, &(0x7f0000fff000)={span})"
        raise _Lacking("UFFDIO_WRITEPROTECT is not described")

    def _plain(self, call: Call) -> str:
        words = []
        for name, kind in SIGNATURES[type(call)]:
            value = getattr(call, name)
            if kind is Kind.ADDRESS:
                length = getattr(call, "length", getattr(call, "old_len", PAGE))
                if name == "new_addr":
                    length = getattr(call, "new_len", PAGE)
                words.append(self._at(value, length))
            elif kind is Kind.FD:
                words.append(self._fd(value))
            else:
                words.append(f"{value & WORD:#x}")
        return f"{NAMES[type(call)]}({', '.join(words)})"


def _area(offset: int, length: int) -> str:
    return f"&({_AREA + offset:#x}/{length:#x})=nil"
