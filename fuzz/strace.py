"""The output of strace(1) as system calls: joins what was interrupted, leaves out signals, exits, stacks and times.

It knows strace's text (with -f, -o, -t, -r, -T, -i, -n, -y, -yy, -Y, -k, -v, -X raw, -X verbose) and no call's meaning:
arguments stay text, `number()` reads one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

#: Interrupted by other processes' lines, these count where they begin, all others where they end: a new process runs,
#: and an address or a descriptor is free for others, before the call has returned to its caller.
_AT_THE_BEGINNING: Final = frozenset(
    ("clone", "clone3", "fork", "vfork", "munmap", "shmdt", "close", "close_range")
)

_PREFIX: Final = re.compile(
    r"\s*(?:\[pid\s+(?P<pid>\d+)(?:<[^>]*>)?\]\s+|(?P<bare>\d+)(?:<[^>]*>)?\s+)?"
    r"(?:\d+:\d+:\d+(?:\.\d+)?\s+|\(?\+?\s*\d+\.\d+\)?\s+)*"
    r"(?:\[\s*[0-9a-fx?]+\]\s+)*"
)
_BEGINNING: Final = re.compile(r"([a-z_]\w*)\(")
_RESUMED: Final = re.compile(r"<\.\.\. ([a-z_]\w*) resumed>\s?")
_UNFINISHED: Final = " <unfinished ...>"
_END: Final = re.compile(
    r"(?P<arguments>.*)\)\s*= (?:(?P<unknown>\?)|(?P<value>-?(?:0x[0-9a-fA-F]+|\d+)))(?P<rest>(?:<.*>)?.*)$"
)
_NOTE: Final = re.compile(r"<(.*)>(?:\(deleted\))?(?: <\d+\.\d+>)?")
_ERROR: Final = re.compile(r"\s+(E[A-Z0-9]+)\b")
#: Lines that are strace's own: signals, exits, stacks, attachments.
_OTHER: Final = re.compile(r"\s*(?:---|\+\+\+|>|strace:|\?\?\?\?)")
_ATTACHED: Final = re.compile(r"strace: Process \d+ attached$")
_COMMENT: Final = re.compile(r"/\*.*?\*/")
#: A descriptor's annotation; only those of sockets have `->` in them.
_NOTED: Final = r"(?<=[\dA-Z])<(?!<)(?::\[[^<>]*->[^<>]*\]|[^<>]|<[^<>]*>)*>"
_TOKEN: Final = re.compile(rf'"(?:[^"\\]|\\.)*"|{_NOTED}|[][(){{}},]|[^][(){{}}<,"]+|.')
_PLAIN: Final = re.compile(r'[^][(){}<>"]*$')


class StraceError(ValueError):
    """The text is not strace's; the message is one line."""


@dataclass(frozen=True, slots=True)
class Syscall:
    """One system call: who made it (0 where no line says), its arguments as text, and how it ended.

    value: what it returned, None if it never did; error: the name behind -1 ("?": none); note: the annotation (-y).
    """

    pid: int
    name: str
    arguments: tuple[str, ...] = ()
    value: int | None = 0
    error: str = ""
    note: str = ""

    @property
    def failed(self) -> bool:
        """It returned an error, or not at all."""
        return self.value is None or bool(self.error)


@dataclass(slots=True)
class _Line:
    """A call while its end may still come."""

    pid: int
    name: str
    text: str


def read(lines: Iterable[str], name: str = "the file") -> tuple[list[Syscall], int]:
    """The system calls in the order in which they took effect, and how many lines are not strace's.

    Raises:
        StraceError: most lines are not.
    """
    calls: list[Syscall | None] = []
    under_way: dict[int, tuple[_Line, int | None]] = {}
    strange = 0
    broken = ""
    for raw in lines:
        line = broken + raw.rstrip("\n")
        attached = _ATTACHED.search(line)
        if attached and attached.start():
            # It was written in the middle of a line.
            broken = line[: attached.start()]
            continue
        broken = ""
        if not line.strip() or _OTHER.match(line):
            continue
        prefix = _PREFIX.match(line)
        at = prefix.end() if prefix else 0
        pid = int(prefix["pid"] or prefix["bare"] or 0) if prefix else 0
        resumed = _RESUMED.match(line, at)
        if resumed:
            if not pid and pid not in under_way and len(under_way) == 1:
                # The last process left has no number any more.
                (pid,) = under_way
            begun, place = under_way.pop(pid, (_Line(pid, resumed[1], ""), None))
            if begun.name != resumed[1]:
                strange += 1
                continue
            begun.text += line[resumed.end() :]
            if begun.text.endswith(_UNFINISHED):
                begun.text = begun.text.removesuffix(_UNFINISHED)
                under_way[pid] = begun, place
                continue
            call = _finish(begun)
            if place is None:
                calls.append(call)
            else:
                calls[place] = call
            continue
        beginning = _BEGINNING.match(line, at)
        if not beginning:
            strange += not _OTHER.match(line, at)
            continue
        begun = _Line(pid, beginning[1], line[beginning.end() :])
        if begun.text.endswith(_UNFINISHED.strip()):
            begun.text = begun.text[: -len(_UNFINISHED.strip())].removesuffix(" ")
            place = None
            if begun.name in _AT_THE_BEGINNING:
                place = len(calls)
                calls.append(Syscall(pid, begun.name, split(begun.text), None))
            under_way[pid] = begun, place
            continue
        call = _finish(begun)
        strange += call is None
        calls.append(call)
    found = [call for call in calls if call is not None]
    if not found or strange > len(found):
        raise StraceError(f"{name}: not the output of strace")
    return found, strange


def _finish(line: _Line) -> Syscall | None:
    end = _END.match(line.text)
    if not end:
        return None
    arguments = split(end["arguments"])
    if end["unknown"]:
        return Syscall(line.pid, line.name, arguments, None)
    value, rest = _word(end["value"], {}), end["rest"]
    if value >= 1 << 64:
        return None
    error = _ERROR.match(rest) if value < 0 else None
    note = _NOTE.match(rest)
    return Syscall(
        line.pid,
        line.name,
        arguments,
        value,
        error[1] if error else "?" * (value < 0),
        note[1] if note else "",
    )


def split(text: str) -> tuple[str, ...]:
    """Arguments at their commas: not those in strings, structures, lists and annotations. Comments are gone."""
    if '"' not in text:
        text = _COMMENT.sub("", text)
    if _PLAIN.match(text):
        return tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    parts: list[str] = []
    current: list[str] = []
    depth = 0
    for token in _TOKEN.findall(text):
        if token in ("(", "[", "{"):
            depth += 1
        elif token in (")", "]", "}"):
            depth -= 1
        if token == "," and depth <= 0:
            parts.append("".join(current).strip())
            current = []
        else:
            current.append(token)
    parts.append("".join(current).strip())
    return tuple(parts)


def format_call(call: Syscall) -> str:
    """The line of `strace -f -o` for this call; `read` is its inverse."""
    begun = f"{call.pid} {call.name}({', '.join(call.arguments)})"
    if call.value is None:
        return f"{begun} = ?"
    if call.error:
        return f"{begun} = -1 {call.error} (error)"
    note = f"<{call.note}>" if call.note else ""
    return f"{begun} = {call.value:#x}{note}" if call.value > 9 else f"{begun} = {call.value}{note}"


def number(text: str, names: Mapping[str, int]) -> int:
    """A number as strace writes it: `0x10`, `PROT_READ|0x8`, `21<<MAP_HUGE_SHIFT`, `8192*1024`, `NULL`, `3</path>`.

    Raises:
        ValueError: it is none, or names something else than `names`.
    """
    text = _COMMENT.sub("", text).strip()
    value = 0
    for part in _annotated(text)[0].split("|"):
        word = part.strip()
        if "<<" in word:
            left, right = word.split("<<", 1)
            value |= _word(left, names) << _word(right, names)
        elif "*" in word:
            left, right = word.split("*", 1)
            value |= _word(left, names) * _word(right, names)
        else:
            value |= _word(word, names)
    return value


def annotation(text: str) -> str:
    """What `-y` says about a descriptor: its path, or `pipe:[1]`; "" without."""
    return _annotated(text)[1]


def fields(text: str) -> dict[str, str]:
    """The members of a structure `{a=1, b={c=2}}`, by name; of an inner one too, unless the name was there before."""
    found: dict[str, str] = {}
    for part in split(text.strip().removeprefix("{").removesuffix("}")):
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(name.strip(), value.strip())
            if value.strip().startswith("{"):
                found = {**fields(value), **found}
    return found


def items(text: str) -> tuple[str, ...]:
    """The elements of a list `[a, b]`."""
    return split(text.strip().removeprefix("[").removesuffix("]"))


def _annotated(text: str) -> tuple[str, str]:
    head, angle, rest = text.partition("<")
    if not angle or rest.startswith("<"):
        return text, ""
    return head, rest.rpartition(">")[0]


def _word(word: str, names: Mapping[str, int]) -> int:
    word = word.strip()
    if word == "NULL":
        return 0
    if word in names:
        return names[word]
    return int(word, 8 if re.fullmatch(r"0[0-7]+", word) else 0)


def numbered(calls: Iterable[Syscall], alone: int = 0) -> Iterator[Syscall]:
    """The calls with a process for each: lines without one are of the first process.

    strace -f names no process while there is only one; `alone` is its number if nothing tells.
    """
    calls = list(calls)
    children = {call.value for call in calls if call.name in _NEW_PROCESS and not call.failed}
    named = (call.pid for call in calls if call.pid)
    first = next((pid for pid in named if pid not in children), alone)
    for call in calls:
        if call.pid:
            yield call
        else:
            yield Syscall(first, call.name, call.arguments, call.value, call.error, call.note)


_NEW_PROCESS: Final = frozenset(("clone", "clone3", "fork", "vfork"))
