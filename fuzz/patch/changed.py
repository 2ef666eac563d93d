"""Which lines a series changes, in which functions they are, and which blocks of a kernel they make up."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from unidiff.patch import PatchSet

from abi.wire import MAX_WATCHED
from kernels.blocks import Block, Line

#: What can have code; a change of anything else is none of a line that could be executed.
_SOURCES: Final = (".c", ".h")
_NAME: Final = re.compile(r"([A-Za-z_]\w*)\s*\(")
#: Lines before a function's brace in which its name is looked for.
_HEAD: Final = 12


@dataclass(frozen=True, slots=True)
class Function:
    """Of the patched tree. first, last: its lines, its head's among them."""

    path: str
    name: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.name}() in {self.path}"


@dataclass(frozen=True, slots=True)
class Changed:
    """What a series changes, in one of the two trees. files: all, by path; lines: of sources, that only this tree has,
    or, in the patched one, that come behind lines that were taken out; text: each of these lines; functions: those with
    such a line."""

    files: tuple[str, ...]
    lines: tuple[Line, ...]
    text: dict[Line, str]
    functions: tuple[Function, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The files that can have code."""
        return tuple(path for path in self.files if path.endswith(_SOURCES))

    def function_of(self, line: Line) -> Function | None:
        """The function that a line is in, if it is in one that was changed."""
        path, number = line
        return next(
            (f for f in self.functions if f.path == path and f.first <= number <= f.last), None
        )

    def watched(self, blocks: Sequence[Block]) -> list[Block]:
        """The blocks to aim at: those of changed lines and of changed functions; where none is changed, of changed
        files. As many as can be watched, the nearest first; by address."""
        own = self.own(blocks)
        known = set(own)
        others = [block for block in blocks if block not in known]
        inside = [block for block in others if any(map(self.function_of, block.lines))]
        return _most([*own, *inside] or others)

    def own(self, blocks: Sequence[Block]) -> list[Block]:
        """The blocks of changed lines; as many as can be watched, by address."""
        lines = set(self.lines)
        return _most([block for block in blocks if not lines.isdisjoint(block.lines)])


def _most(blocks: Sequence[Block]) -> list[Block]:
    return sorted(blocks[:MAX_WATCHED], key=lambda block: block.address)


def changed(diff: str, read: Callable[[str], str]) -> Changed:
    """What a unified diff without context adds. read: gives a file of the patched tree."""
    return _changed(diff, read, gaps=True)


def removed(back: str, read: Callable[[str], str]) -> Changed:
    """What a series takes out. back: the diff from the patched tree to the base, as for `changed`; read: gives a file
    of the base."""
    return _changed(back, read, gaps=False)


def _changed(diff: str, read: Callable[[str], str], *, gaps: bool) -> Changed:
    """gaps: a line behind what was only taken out is changed, too."""
    files, lines = [], []
    text: dict[Line, str] = {}
    functions: dict[Function, None] = {}
    for patched in PatchSet(diff):
        path = patched.path
        files.append(path)
        if patched.is_removed_file or not path.endswith(_SOURCES):
            continue
        content = read(path).splitlines()
        known = functions_of(path, content)
        starts = [each.first for each in known]
        for hunk in patched:
            numbers = [line.target_line_no for line in hunk if line.is_added]
            for number in numbers or [hunk.target_start + 1] * gaps:
                if number is None or number > len(content):
                    continue
                lines.append((path, number))
                text[path, number] = content[number - 1].strip()
                place = bisect_right(starts, number) - 1
                if place >= 0 and number <= known[place].last:
                    functions[known[place]] = None
    return Changed(tuple(files), tuple(lines), text, tuple(functions))


def functions_of(path: str, content: Sequence[str]) -> list[Function]:
    """The functions of a file in the kernel's style (Documentation/process/coding-style.rst): their braces are at the
    beginning of a line."""
    found = []
    begin = 0
    for number, line in enumerate(content, 1):
        if line.startswith("{"):
            begin = number
        elif line.startswith("}") and begin:
            first, name = _head(content, begin)
            if name:
                found.append(Function(path, name, first, number))
            begin = 0
    return found


def _head(content: Sequence[str], brace: int) -> tuple[int, str]:
    """The first line of a function's head, and its name; "" if what begins with this brace is none."""
    for number in range(brace - 1, max(brace - _HEAD, 0), -1):
        line = content[number - 1]
        if not line or line.startswith(("}", "#", "*/", " */")) or line.endswith((";", "*/")):
            return 0, ""
        if line[0].isspace():
            continue
        named = _NAME.search(line)
        if named:
            # The type may stand on a line of its own.
            before = content[number - 2] if number > 1 else ""
            alone = bool(before) and re.fullmatch(r"[A-Za-z_][\w\s*]*", before) is not None
            return number - alone, named.group(1)
    return 0, ""
