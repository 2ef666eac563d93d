"""The statements of a reproducer: each call with the result that is expected, and what is looked at after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from errno import ETIME
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
    Mlockall,
    Mmap,
    Mremap,
    Msync,
    Munlockall,
    PkeyMprotect,
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
from abi.consts import (
    MADV_REMOVE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    PRCTL_NAMES,
    RESOURCE_NAMES,
    WORD,
)
from abi.trace import PERM_SHARED, Step, describe
from fuzz.report import result_text
from fuzz.repro.case import Case, ReproError
from fuzz.repro.objects import descriptor, reports
from fuzz.repro.spelling import Spelling, error, number, size, string, symbols
from fuzz.repro.views import Views

_INT: Final = 0x7FFFFFFF
#: Results that are addresses.
_PLACES: Final = (Mmap, Mremap, Brk, Shmat)
#: File systems of disks, and the bytes of which one mincore(2) is asked (abi.calls.Fail).
_DISKS: Final = ("ext4", "xfs", "btrfs")
_MINCORE: Final = 1 << 28
_NAMES: Final = ("NULL", '"a"', '"b"', '"bad["', f'"{"n" * 80}"')


@dataclass(frozen=True, slots=True)
class Line:
    """A statement: `how` says which; call, want: C expressions, or lines of text that are wanted."""

    how: str
    call: str = ""
    want: tuple[str, ...] = ()


def lines(case: Case, spelling: Spelling, views: Views) -> Iterator[Line]:
    """All statements, in order.

    Raises:
        ReproError: what differs was not observed.
    """
    writer = _Writer(case, spelling)
    last = len(case.calls) - 1
    before: str | None = None
    for index, ours in enumerate(case.ours[: last + 1]):
        diverges = case.divergence is not None and index == last
        yield from _comments(case, index)
        yield from _call(case, writer, views, index)
        layout = views.layout(ours.layout)
        if layout == before:
            yield Line("again", "layout()")
        else:
            yield Line("layout", "layout()", tuple(string(layout)))
        before = layout
        reported = ours.events or (diverges and case.theirs[index].events)
        if reported or (index == last and reports(case)):
            yield Line("text", "events()", tuple(string(views.events(ours.events))))
    yield from _end(case, views, case.ours[last])


def _comments(case: Case, index: int) -> Iterator[Line]:
    divergence = case.divergence
    yield Line("blank")
    if divergence is None or index != divergence.index:
        return
    geometry = case.environment.geometry
    call = case.calls[index]
    if divergence.ours.value != divergence.theirs.value:
        found = result_text(call, divergence.theirs.value, geometry)
        yield Line("comment", f"here {case.environment.release} gave {found}")
    else:
        yield Line(
            "comment", f"after this, {case.environment.release} differs in: {divergence.field}"
        )


def _call(case: Case, writer: "_Writer", views: Views, index: int) -> Iterator[Line]:
    call, ours = case.calls[index], case.ours[index]
    fails = index > 0 and isinstance(case.calls[index - 1], Fail) and _can_fail(case, index)
    if isinstance(call, Touch):
        accesses = writer.touch(call, index)
        if fails:
            accesses = f"failing_touch({accesses})"
        yield Line("reaches", accesses, (describe(call, ours.value),))
        return
    expression = writer.call(call)
    if fails and isinstance(call, Mincore):
        range_ = expression.removeprefix("resident(")
        expression = f"resident_after(failing(look({range_}), {range_}"
    elif fails:
        if isinstance(call, ProcessMadvise):
            yield Line("statement", "open_self();")
        expression = f"failing({expression})"
    theirs = case.theirs[index].value if index < len(case.theirs) else 0
    if -ETIME in (ours.value, theirs):
        expression = f"ending({expression})"
    if isinstance(call, Fork):
        yield Line("statement", "child = fork();")
        yield Line("statement", "if (!child) {")
        if ours.child is not None:
            child = ours.child
            yield Line("child", "layout()", tuple(string(views.layout(child.layout))))
            if child.flags is not None:
                flags = views.flags(child.layout, child.flags)
                yield Line("child", "flags()", tuple(string(flags)))
            contents = views.contents(child.contents)
            yield Line("child", "contents()", tuple(string(contents)))
        yield Line("statement", "\t_exit(0);")
        yield Line("statement", "}")
        yield Line("is", expression, (writer.result(call, ours.value),))
        if ours.child is not None:
            yield Line("statement", "child_agrees(child);")
        return
    yield Line("is", expression, (writer.result(call, ours.value),))


def _can_fail(case: Case, index: int) -> bool:
    """An allocation of the call is made to fail if the call before it says so (abi.calls.Fail)."""
    call, objects = case.calls[index], case.environment.objects
    disks = {o.ident for o in objects if o.fs in _DISKS and not o.stacked}
    match call:
        case Fail() | Fill():
            return False
        case Mincore():
            return call.length <= _MINCORE
        case Ftruncate():
            return not any(o.fd == call.fd & 0xFFFFFFFF and o.ident in disks for o in objects)
        case Madvise() | ProcessMadvise() if call.advice & 0xFFFFFFFF != MADV_REMOVE:
            return True
        case Madvise() | ProcessMadvise() | Msync():
            return not any(
                m.ident in disks and m.perms & PERM_SHARED
                for m in case.ours[index - 1].layout
                if m.start < call.addr + call.length and m.end > call.addr
            )
    return True


def _end(case: Case, views: Views, step: Step) -> Iterator[Line]:
    """What is looked at in the end: all there is, or what differs."""
    field = case.divergence.field if case.divergence is not None else None
    if field in ("result", "layout", "events", "child"):
        return
    yield Line("blank")
    texts: list[tuple[str, str, str]] = []
    if step.counters is not None and step.flags is not None:
        texts.append(("counters", "counters()", views.counters(step, step.size)))
    if step.flags is not None:
        texts.append(("flags", "flags()", views.flags(step.layout, step.flags)))
    if step.pages is not None:
        texts.append(("pages", "pages()", views.pages(step.pages)))
    if step.contents is not None:
        texts.append(("contents", "contents()", views.contents(step.contents)))
    texts.append(("consistency", "contradictions()", ""))
    if field is not None and field not in (name for name, _, _ in texts):
        raise ReproError(f"its {field} were not observed in full")
    for name, expression, text in texts:
        if field == name or (field is None and name != "consistency"):
            yield Line("text", expression, tuple(string(text)))


class _Writer:
    """Calls as C."""

    def __init__(self, case: Case, spelling: Spelling) -> None:
        self._environment = case.environment
        self._spelling = spelling

    def _fd(self, fd: int) -> str:
        return descriptor(fd, self._environment)

    def result(self, call: Call, value: int) -> str:
        """A raw result."""
        if -4096 < value < 0:
            return error(value)
        if isinstance(call, _PLACES):
            return self._spelling.address(value & WORD)
        if isinstance(call, ProcessMadvise):
            return size(value)
        return number(value) if value < 10 else f"{value:#x}"

    def touch(self, call: Touch, index: int) -> str:
        """Accesses; those that write leave the number of the call."""
        where = self._spelling.address(call.addr)
        pages = min(call.pages, 32)
        if call.access & 1:
            return f"touch_write({where}, {pages}, {(index & 0x7FFF) + 1})"
        return f"touch_read({where}, {pages})"

    def call(self, call: Call) -> str:
        """A call of libc's, or of a helper where libc has none; of the kernel where libc would change an argument."""
        address, pointer = self._spelling.address, self._spelling.pointer
        match call:
            case UffdRegister() | UffdUnregister() | UffdWriteprotect():
                words = [self._fd(call.fd), address(call.addr), size(call.length)]
                if not isinstance(call, UffdUnregister):
                    kind = Kind.UFFD_MODE if isinstance(call, UffdRegister) else Kind.UFFD_WP_MODE
                    mode = call.mode if isinstance(call, UffdRegister) else call.wp_mode
                    words.append(symbols(mode, kind))
                return f"{NAMES[type(call)]}({', '.join(words)})"
            case Mincore():
                return f"resident({address(call.addr)}, {size(call.length)})"
            case SetVmaName():
                name = _NAMES[call.name] if call.name < len(_NAMES) else _NAMES[1]
                span = f"{address(call.addr)}, {size(call.length)}"
                return f"prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, {span}, {name})"
            case Prctl():
                option = next(n for n, v in PRCTL_NAMES.items() if v == call.option & 0xFFFFFFFF)
                return f"prctl({option}, {_long(call.value)}, {_long(call.extra)}, 0UL, 0UL)"
            case ProcessMadvise():
                advice = symbols(call.advice, Kind.ADVICE)
                if call.advice > _INT:
                    advice = f"(int){advice}"
                flags = number(call.pm_flags)
                return f"advise_self({address(call.addr)}, {size(call.length)}, {advice}, {flags})"
            case Setrlimit():
                return f"set_limit({self._resource(call)}, {size(call.limit)})"
            case Mbind():
                words = [address(call.addr), size(call.length), symbols(call.policy, Kind.POLICY)]
                words += [number(call.nodes), symbols(call.bind_flags, Kind.BIND_FLAGS)]
                return f"bind_nodes({', '.join(words)})"
            case Fill():
                return f"fill({address(call.addr)}, {number(call.spare)})"
            case Fail():
                return f"fail({number(call.nth)})"
            case Fork():
                return "child < 0 ? -1 : 0"
            case Brk():
                return f"syscall(SYS_brk, {address(call.addr)})"
            case Shmat():
                segments = self._environment.segments
                known = call.segment < len(segments)
                segment = segments[call.segment].name if known else "-1"
                flags = symbols(call.shm_flags, Kind.SHM_FLAGS)
                if call.shm_flags > _INT:
                    flags = f"(int){flags}"
                return f"shmat({segment}, {pointer(call.addr)}, {flags})"
            case Shmdt():
                return f"shmdt({pointer(call.addr)})"
        return self._plain(call)

    def _resource(self, call: Setrlimit) -> str:
        return next(n for n, v in RESOURCE_NAMES.items() if v == call.resource & 0xFFFFFFFF)

    def _plain(self, call: Call) -> str:
        words, exact = [], True
        for name, kind in SIGNATURES[type(call)]:
            value = getattr(call, name)
            if kind is Kind.ADDRESS:
                words.append(self._spelling.pointer(value))
            elif kind in (Kind.LENGTH, Kind.OFFSET):
                words.append(size(value))
            elif kind is Kind.FD:
                words.append(self._fd(value))
            elif kind is Kind.NUMBER:
                words.append(number(value))
                exact &= value <= _INT or name == "pgoff"
            else:
                words.append(symbols(value, kind))
                exact &= value <= _INT
        lacking = NAMES[type(call)] in ("mseal",)
        if isinstance(call, PkeyMprotect):
            exact &= signed32(call.pkey) != -1
        if isinstance(call, Mremap):
            exact &= not call.new_addr or bool(call.flags & MREMAP_FIXED)
            if exact and not call.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
                words.pop()
        if isinstance(call, Mlockall | Munlockall):
            exact = exact or not words
        if exact and not lacking:
            return f"{NAMES[type(call)]}({', '.join(words)})"
        arguments = "".join(f", (long)({word})" for word in words)
        return f"syscall(SYS_{NAMES[type(call)]}{arguments})"


def _long(value: int) -> str:
    return f"{value}UL" if value < 1 << 16 else f"{value:#x}UL"
