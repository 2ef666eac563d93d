"""Puts a C file together: only the parts that it uses, in an order in which each knows those that it needs."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from abi.calls import Brk, Fill, Mmap, UffdWriteprotect, signed32
from abi.consts import FD_NAMES, MAP_ANONYMOUS, MAP_HUGETLB
from abi.trace import CODES
from fuzz.drawing import draw
from fuzz.report import difference_lines, layout_lines, object_names
from fuzz.repro.body import Line, lines
from fuzz.repro.case import Case
from fuzz.repro.objects import CLOSED, Made, make
from fuzz.repro.spelling import REACHES, RECENT, Spelling, size
from fuzz.repro.views import UNTOLD, Views

_PARTS: Final = Path(__file__).parent / "parts"
_WIDTH: Final = 100
#: Parts by the word in a statement that needs them.
_BY_WORD: Final = {
    "layout()": "layout",
    "flags()": "flags",
    "counters()": "counters",
    "pages()": "pages",
    "contents()": "contents",
    "contradictions()": "consistency",
    "events()": "events",
    "touch_": "touch",
    "uffd_register(": "uffd_register",
    "uffd_unregister(": "uffd_unregister",
    "uffd_writeprotect(": "uffd_writeprotect",
    "resident(": "mincore",
    "resident_after(": "mincore",
    "advise_self(": "process_madvise",
    "set_limit(": "limit",
    "bind_nodes(": "mbind",
    "fill(": "filler",
    "fail(": "fail",
    "failing(": "failing",
    "failing_touch(": "failing",
    "open_self(": "process_madvise",
    "ending(": "ending",
    "child_agrees(": "child",
    "prctl(": "prctl",
    "syscall(": "syscall",
    "shmat(": "shm",
    "shmdt(": "shm",
}
#: Headers that statements need by themselves.
_HEADERS: Final = {
    "prctl": ("<sys/prctl.h>",),
    "syscall": ("<sys/syscall.h>",),
    "shm": ("<sys/shm.h>",),
    "socket": ("<sys/socket.h>",),
}


class Source:
    """What a reproducer in C consists of, whatever harness it is for."""

    def __init__(self, case: Case) -> None:
        case.check_places()
        self.case = case
        self.alone = not case.is_in_window()
        self._heap = self.alone and any(isinstance(call, Brk) for call in case.calls)
        anchors = "W" + ("TB" if self.alone else "")
        self.spelling = Spelling(case.environment.geometry, anchors)
        self.made: Made = make(case)
        self.views = Views(case, self.spelling)
        self.statements = list(lines(case, self.spelling, self.views))

    # --- the head

    def about(self) -> list[str]:
        """What is shown: kernel, and the layouts as drawings."""
        case = self.case
        environment, divergence = case.environment, case.divergence
        text = [
            f"kernel   {environment.release} {environment.machine}".rstrip(),
            f"model    {case.profile}",
        ]
        if divergence is None:
            text += [f"verdict  they agree ({len(case.program)} calls)", "", "layout in the end"]
            layout = {"after": case.own(case.ours[-1].layout)}
            names = object_names(environment)
            text += [f"  {line}" for line in draw(layout, environment.geometry, names)]
        else:
            number = divergence.index + 1
            text += [f"verdict  they differ at call {number} in its {divergence.field}", ""]
            text += difference_lines(divergence, environment)
            text += layout_lines(divergence, environment)
        return [line.rstrip().replace("*/", "* /") for line in text]

    def definitions(self) -> list[str]:
        """Names for places and sizes, and what headers may lack."""
        environment = self.case.environment
        geometry = environment.geometry
        text = [
            "#define PAGE_SHIFT 12",
            "#define PAGE (1L << PAGE_SHIFT)",
            f"#define W {geometry.window:#x}L /* the window that the calls aim at */",
        ]
        if self.alone:
            text.append("static long T; /* where unhinted mappings are placed from */")
            text.append(f"#define B {geometry.heap:#x}L /* where the heap begins */")
        else:
            text.append(f"#define WINDOW_PAGES {geometry.window_pages}L")
        if any(CLOSED in line.call for line in self.statements):
            text.append(f"#define {CLOSED} 1000 /* a descriptor that is not open */")
        words = set(re.findall(r"\w+", " ".join(line.call for line in self.statements)))
        recent = {name: value for name, value in RECENT.items() if name in words}
        if "PR_SET_VMA" in words:
            recent |= {"PR_SET_VMA": 0x53564D41, "PR_SET_VMA_ANON_NAME": 0}
        if "SYS_mseal" in words:
            recent["SYS_mseal"] = 462
        for name, value in recent.items():
            text += [f"#ifndef {name}", f"#define {name} {value:#x}", "#endif"]
        return text

    # --- the parts

    def parts(self, extra: Iterable[str] = ()) -> list[str]:
        """The names of the parts, in order."""
        wanted = {*extra, *self.made.parts, "layout"}
        texts = [line.call for line in self.statements]
        wanted |= {part for word, part in _BY_WORD.items() if any(word in text for text in texts)}
        wanted.add("alone" if self.alone else "window")
        protects = any(isinstance(call, UffdWriteprotect) for call in self.case.calls)
        wanted.add("timer" if protects or "ending" in wanted else "notimer")
        wanted.add("filler" if any(isinstance(c, Fill) for c in self.case.calls) else "nofiller")
        if self._heap:
            wanted.add("heap")
        if self.becomes_nobody:
            wanted.add("nobody")
        if self._uses_pool:
            wanted.add("pool")
        wanted -= set(_HEADERS) - {"object"}
        return _ordered(wanted)

    def headers(self, parts: Sequence[str]) -> list[str]:
        """What is included."""
        texts = [line.call for line in self.statements]
        found = {header for part in parts for header in _part(part)[1]}
        for word, name in _BY_WORD.items():
            if name in _HEADERS and any(word in text for text in texts):
                found |= set(_HEADERS[name])
        if "socket" in self.made.parts:
            found |= set(_HEADERS["socket"])
        if self.thp_line:
            found.add("<sys/prctl.h>")
        found |= {"<linux/mempolicy.h>"} if "mbind" in parts else set()
        return [f"#include {header}" for header in sorted(found)]

    def code(self, parts: Sequence[str]) -> str:
        """The text of the parts."""
        environment = self.case.environment
        bases = ", ".join(
            f"{{ '{name}', {low}, {high} }}"
            for name, (low, high) in REACHES.items()
            if name in self.spelling.names
        )
        values = {
            "ANCHORS": bases,
            "ANCHOR_STARTS": ", ".join(self.spelling.names),
            "CODES": f'"{"".join(code for code in CODES if code != "??")}"',
            "UNTOLD": f'"{UNTOLD if self.views.omits else "  "}"',
            "TASK_SIZE": f"{environment.task_size:#x}UL",
            "BOTTOM_UP": "1" if "BOTTOM_UP" in environment.config else "0",
            "DATA_SEGMENT": f"{environment.data_segment:#x}",
            "OWN_PAGES": str(environment.total_pages),
        }
        text = "\n\n".join(_part(part)[2] for part in parts)
        return re.sub(r"\b(?:" + "|".join(values) + r")\b", lambda m: values[m[0]], text)

    # --- the function

    @property
    def becomes_nobody(self) -> bool:
        """The program ran without rights."""
        return not self.case.environment.capabilities

    @property
    def thp_line(self) -> str:
        """The executor has huge pages only where a program asks for them."""
        has_them = "THP" in self.case.environment.config
        return "prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);" if has_them else ""

    @property
    def _uses_pool(self) -> bool:
        if self.case.environment.huge_pages < 0:
            return False
        return any(
            isinstance(call, Mmap)
            and (
                (call.flags & MAP_HUGETLB and call.flags & MAP_ANONYMOUS)
                or signed32(call.fd) == FD_NAMES["hugetlb"]
            )
            for call in self.case.calls
        )

    def preparation(self) -> list[str]:
        """Statements before rights are given up and anything is unmapped."""
        pool = self.case.environment.huge_pages
        text = [f"need_huge_pages({pool});"] if self._uses_pool else []
        return [*text, *self.made.privileged]

    def beginning(self) -> list[str]:
        """Statements before the first call."""
        environment = self.case.environment
        text: list[str] = []
        if self.alone:
            text += ["unmap_others();", "T = find_top();"]
            if self._heap:
                text.append("place_heap();")
            text += self._limits()
            if environment.capabilities:
                text += [
                    "if (geteuid())",
                    '\tcannot("run it as root, whose rights change the results");',
                ]
        if self.becomes_nobody:
            text.append("become_nobody();")
        if self.thp_line:
            text.append(self.thp_line)
        text += self.made.ordinary
        if any(
            "counters()" in line.call or "contradictions()" in line.call for line in self.statements
        ):
            text.append("count(own_pages);")
        return text

    def _limits(self) -> list[str]:
        environment = self.case.environment
        rows = [
            ("AS", environment.rlimit_as, environment.rlimit_as_max),
            ("MEMLOCK", environment.rlimit_memlock, environment.rlimit_memlock_max),
        ]
        return [
            f"limit_to(RLIMIT_{name}, {_limit(soft)}, {_limit(hard)});" for name, soft, hard in rows
        ] + self._data_limit()

    def _data_limit(self) -> list[str]:
        soft, hard = self.case.environment.rlimit_data, self.case.environment.rlimit_data_max
        texts = [
            _limit(value) + (" + own_data" if _limit(value) != "RLIM_INFINITY" else "")
            for value in (soft, hard)
        ]
        infinite = texts == ["RLIM_INFINITY"] * 2
        return [] if infinite else [f"limit_to(RLIMIT_DATA, {', '.join(texts)});"]

    def needs_own_calls(self) -> bool:
        """The calls need a process of their own, or make one."""
        return self.alone or any("child" in line.call for line in self.statements)

    def declarations(self) -> list[str]:
        """Variables of all functions."""
        names = ", ".join(f"{name} = -1" for name in self.made.variables)
        return [f"static int {names};", ""] if names else []


def _limit(value: int) -> str:
    return "RLIM_INFINITY" if value == (1 << 64) - 1 else size(value)


def _ordered(wanted: set[str]) -> list[str]:
    """`wanted` and all that they need, each after those; what chooses between two comes first."""
    done: dict[str, None] = {}

    def add(name: str) -> None:
        for needed in _part(name)[0]:
            add(needed)
        done[name] = None

    first = ("base", "text", "maps", "window", "alone", "nofiller", "filler", "timer", "notimer")
    for name in [
        *(f for f in first if f in wanted or f in ("base", "text", "maps")),
        *sorted(wanted),
    ]:
        add(name)
    return list(done)


@cache
def _part(name: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """What a part needs, what it includes, and its text."""
    text = (_PARTS / f"{name}.c").read_text()
    head, _, rest = text.partition("\n")
    needs = tuple(
        word.strip() for word in head.removeprefix("// needs:").split(",") if word.strip()
    )
    headers = tuple(re.findall(r"^#include (<.*>)$", rest, re.MULTILINE))
    body = re.sub(r"^#include <.*>\n", "", rest, flags=re.MULTILINE).strip()
    return needs, headers, body


def wrap(head: str, arguments: Sequence[str], tail: str, indent: str = "\t") -> list[str]:
    """A statement, broken between its arguments where it is too long."""
    whole = f"{indent}{head}{', '.join(arguments)}{tail}"
    if len(whole.expandtabs(8)) <= _WIDTH and "\n" not in whole:
        return [whole]
    rows, row = [], indent + head
    for position, argument in enumerate(arguments):
        last = position == len(arguments) - 1
        piece = argument + (tail if last else ",")
        if len((row + piece).expandtabs(8)) > _WIDTH and row.strip() != head.strip():
            rows.append(row.rstrip())
            row = indent + "\t"
        row += piece + ("" if last else " ")
    return [*rows, row]


def split(expression: str) -> list[str]:
    """A C expression, cut at its commas outside of strings."""
    return re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+', expression)


def texts(want: Sequence[str], indent: str) -> list[str]:
    """String literals, one a line."""
    return [f"{indent}{row}" for row in want]


def comment(rows: Iterable[str]) -> list[str]:
    """A block of comment."""
    return ["/*", *(f" * {row}".rstrip() for row in rows), " */"]


def needs_child(statements: Iterable[Line]) -> bool:
    """Whether a variable for a child is needed."""
    return any(line.call.startswith("child = ") for line in statements)
