"""Why the model gives the result it gives: the rules that a call went through, each with its source.

Nothing in the model is written for this: the rules are the docstrings of the functions entered, and the comment
behind the line that refused the call.
"""

import inspect
import linecache
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import model
from abi.calls import Call, Program
from model.errors import SyscallError
from model.run import Model

#: A rule names where it comes from: a kernel function or a manual page.
_SOURCE: Final = re.compile(r"\.[ch]: \w+\(|\(\d(?:const)?\)")
_COMMENT: Final = re.compile(r"#\s*(.+)$")
_PACKAGE: Final = str(Path(model.__file__ or "").parent)
#: What only describes VMAs decides nothing.
_DESCRIPTIVE: Final = tuple(str(Path(_PACKAGE, name)) for name in ("vma.py", "observe.py"))


def explain(machine: Model, program: Program) -> Iterator[tuple[Call, int, tuple[str, ...]]]:
    """Each call of `program`, its raw result, and the rules that decided it, in the order in which they applied.

    Raises:
        Unmodelled: a call leaves the domain of the model.
    """
    run = machine.start()
    for call in program:
        with _Record() as record:
            value = run.step(call)
        yield call, value, tuple(record.rules)


class _Record:
    """The rules that the model applies while this is entered: a trace function."""

    def __init__(self) -> None:
        self.rules: list[str] = []
        self._refused: BaseException | None = None
        self._before: Any = None

    def __enter__(self) -> "_Record":
        self._before = sys.gettrace()
        sys.settrace(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _watch(self, frame: FrameType, event: str, argument: Any) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(_PACKAGE) or path in _DESCRIPTIVE:
            return None
        if event == "call":
            self._entered(_rule_of(frame))
        elif event == "return" and isinstance(argument, bool):
            self._answered(_rule_of(frame), argument)
        elif event == "exception":
            self._raised(argument[1], path, frame.f_lineno)
        return self._watch

    def _entered(self, rule: str) -> None:
        if rule and not any(known.startswith(rule) for known in self.rules):
            self.rules.append(rule)

    def _answered(self, rule: str, answer: bool) -> None:
        if rule in self.rules:
            self.rules[self.rules.index(rule)] = f"{rule} -- {'yes' if answer else 'no'}"

    def _raised(self, error: BaseException, path: str, line: int) -> None:
        if isinstance(error, SyscallError) and error is not self._refused:
            self._refused = error
            self.rules.append(f"refused: {_comment_at(path, line)}")


def _comment_at(path: str, line: int) -> str:
    """The comment behind a line of source, or the one above it."""
    for number in (line, line - 1):
        comment = _COMMENT.search(linecache.getline(path, number))
        if comment:
            return comment[1].strip()
    return f"{path}:{line}"


def _rule_of(frame: FrameType) -> str:
    """What the docstring of a running function says, if it names a source; its first paragraph as one line."""
    name = frame.f_code.co_name
    owner = frame.f_locals.get("self")
    function = frame.f_globals.get(name) if owner is None else getattr(type(owner), name, None)
    text = inspect.getdoc(function) if function else None
    if not text:
        return ""
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    return paragraph if _SOURCE.search(paragraph) else ""
