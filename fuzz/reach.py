"""What a program reaches: branches of the model, and classes of input (`fuzz.classes`), on given machines.

A branch is a step from one line of the model's source to the next, within a function. Python's own tracing sees them,
with Atheris or without. No kernel is asked.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import model
from abi.calls import Call, Program
from abi.environment import Environment
from fuzz.classes import Class
from fuzz.coverage import Run, walk
from model.profile import Profile
from model.run import Model
from model.space import AddressSpace

_SOURCES: Final = str(Path(model.__file__).parent)
#: File, line before (0: the function begins), line.
_Branch = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Reach:
    """branches: numbers, the same for the same branch of all programs that one `Meter` has measured."""

    branches: frozenset[int]
    classes: frozenset[tuple[type[Call], Class]]

    def __or__(self, other: "Reach") -> "Reach":
        return Reach(self.branches | other.branches, self.classes | other.classes)

    def __le__(self, other: "Reach") -> bool:
        """The other reaches all of it."""
        return self.branches <= other.branches and self.classes <= other.classes

    def beyond(self, other: "Reach") -> int:
        """How much of it the other does not reach."""
        return len(self.branches - other.branches) + len(self.classes - other.classes)


NOTHING: Final = Reach(frozenset(), frozenset())


class Meter:
    """Measures programs, one after the other."""

    def __init__(self, machines: Iterable[tuple[Environment, Profile]]) -> None:
        self._models = [Model(environment, profile) for environment, profile in machines]
        self._numbers: dict[_Branch, int] = {}

    def measure(self, program: Program) -> Reach:
        """What the program reaches on any of the machines."""
        found: Counter[tuple[type[Call], Class]] = Counter()
        branches: set[_Branch] = set()
        for each in self._models:
            walk(program, _Traced(each.start(), branches), found)
        numbers = self._numbers
        return Reach(
            frozenset(numbers.setdefault(branch, len(numbers)) for branch in branches),
            frozenset(found),
        )


class _Traced:
    """A run whose branches are seen."""

    __slots__ = ("_branches", "_run")

    def __init__(self, run: Run, branches: set[_Branch]) -> None:
        self._run = run
        self._branches = branches

    @property
    def space(self) -> AddressSpace:
        return self._run.space

    def step(self, call: Call) -> int:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return self._run.step(call)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = _file_of(frame.f_code)
        if not name:
            return None
        last = 0
        add = self._branches.add

        def go_on(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                line = frame.f_lineno
                add((name, last, line))
                last = line
            return go_on

        return go_on


#: Code of the model -> the name of its file; all other code -> "".
_files: dict[CodeType, str] = {}


def _file_of(code: CodeType) -> str:
    name = _files.get(code)
    if name is None:
        path = Path(code.co_filename)
        name = _files[code] = path.name if str(path.parent) == _SOURCES else ""
    return name
