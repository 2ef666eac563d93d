"""Which lines that a series adds or takes out were executed, by which program, and why others may not have been."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fuzz.patch.changed import Changed, Function
from kernels.blocks import Block, Line

EXECUTED: Final = "executed"
MISSED: Final = "never executed"
NO_CODE: Final = "no code"
#: All of its file.
ABSENT: Final = "not in this kernel"

_CHECK: Final = re.compile(r"\b(?:VM_)?(?:WARN|BUG)(?:_ON)?\w*\(")
_ERROR: Final = re.compile(
    r"\bE[A-Z]{3,}\b|\bgoto\s+\w*(?:err|out|fail|abort|undo|bad)\w*|\b(?:err|ret)\b\s*<\s*0"
)


@dataclass(frozen=True, slots=True)
class Covered:
    """A changed line. state: EXECUTED, MISSED, NO_CODE or ABSENT; program: the first that executed it; why: it may not
    have been."""

    line: Line
    text: str
    function: Function | None
    state: str
    program: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.line[0]}:{self.line[1]}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "file": self.line[0],
            "line": self.line[1],
            "text": self.text,
            "function": self.function.name if self.function else None,
            "state": self.state,
            "program": self.program or None,
            "why": self.why or None,
        }


def cover(
    changed: Changed, blocks: Sequence[Block], reached: Mapping[int, str]
) -> tuple[Covered, ...]:
    """All changed lines of a tree. blocks: of the changed files in its kernel; reached: address -> the first program
    that reached the block."""
    own: dict[Line, list[Block]] = {}
    entered: set[Function] = set()
    files = set()
    for block in blocks:
        for line in block.lines:
            files.add(line[0])
            own.setdefault(line, []).append(block)
            function = changed.function_of(line) if block.address in reached else None
            if function is not None:
                entered.add(function)
    rows = []
    for line in changed.lines:
        text, function = changed.text[line], changed.function_of(line)
        mine = own.get(line, [])
        program = next((reached[b.address] for b in mine if b.address in reached), None)
        if program is not None:
            rows.append(Covered(line, text, function, EXECUTED, program))
        elif mine:
            why = _why(text, function, entered)
            rows.append(Covered(line, text, function, MISSED, why=why))
        elif line[0] not in files and line[0].endswith(".c") and function is not None:
            why = "all of its file is left out by the configuration"
            rows.append(Covered(line, text, function, ABSENT, why=why))
        else:
            rows.append(Covered(line, text, function, NO_CODE, why=_why_not(line[0], files)))
    return tuple(rows)


def _why(text: str, function: Function | None, entered: Collection[Function]) -> str:
    if function is None or function not in entered:
        name = f"{function.name}()" if function else "what it is in"
        return f"no program entered {name}: what leads there is outside of the domain, or rare"
    if _CHECK.search(text):
        return "a check that no right kernel fails"
    if _ERROR.search(text):
        return "an error path: an allocation must fail there, or a limit be met"
    return f"{function.name}() was entered, and never took this branch"


def _why_not(path: str, files: Collection[str]) -> str:
    if path not in files:
        return "its file is not in this kernel, or all of it is inlined or left out by the configuration"
    return "a declaration, a comment, part of a longer statement, or left out by the configuration"
