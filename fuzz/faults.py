"""Each call of a program repeated with its 1st, 2nd ... allocation failing, until none is left to fail.

Needs a kernel with fault injection (see `abi.calls.Fail`). What a call may then do, `fuzz.settle` says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from abi.calls import Call, Fail, Mremap, Program
from abi.environment import Environment
from abi.program import format_call
from abi.trace import Layout, Mapping
from fuzz.replay import Replay, replay
from fuzz.report import result_text
from fuzz.site import Executor
from model.run import Model

#: Allocations of one call that are tried at once, and at most.
_AT_ONCE: Final = 8
MOST: Final = 400


@dataclass(frozen=True, slots=True)
class Trial:
    """A call of which allocation `nth` failed. index: its place in the original program; replay: what became of the
    program up to it; outcome: what was seen, in a few words."""

    index: int
    nth: int
    replay: Replay
    outcome: str

    @property
    def call(self) -> Call:
        """The call."""
        return self.replay.program[-1]

    @property
    def agrees(self) -> bool:
        """It went as the model allows."""
        return self.replay.divergence is None and self.replay.is_complete

    def result(self, environment: Environment) -> str | None:
        """The kernel's result of the last call it came to, None if it came to none."""
        theirs = self.replay.theirs
        return result_text(self.call, theirs[-1].value, environment.geometry) if theirs else None

    def line(self, environment: Environment) -> str:
        """One line of text."""
        result = self.result(environment) or "-"
        call = format_call(self.call, environment.geometry)
        return f"call {self.index + 1:>2}  allocation {self.nth:>3}  {result:<10} {self.outcome:<23} {call}"


def try_all(
    name: str,
    program: Program,
    executor: Executor,
    model: Model,
    say: Callable[[Trial], None],
) -> list[Trial]:
    """Every trial of the program, in order; each is told as it is made. A call of which no allocation can be made to
    fail has none."""
    plain = tuple(call for call in program if not isinstance(call, Fail))
    trials = []
    for index in range(len(plain)):
        for trial in _trials(name, plain[: index + 1], executor, model):
            say(trial)
            trials.append(trial)
    return trials


def _trials(name: str, program: Program, executor: Executor, model: Model) -> Iterator[Trial]:
    """Those of the last call."""
    index = len(program) - 1
    for first in range(1, MOST, _AT_ONCE):
        numbers = range(first, first + _AT_ONCE)
        named = [(name, (*program[:-1], Fail(nth), program[-1])) for nth in numbers]
        for nth, result in zip(numbers, replay(named, executor, model), strict=True):
            reached = len(result.theirs) == len(result.program) and result.theirs[-1].failed
            if not reached and result.is_complete and result.divergence is None:
                return
            yield Trial(index, nth, result, _outcome(result))
            if not reached:
                return


def _outcome(result: Replay) -> str:
    """What was seen of the last call, in a few words."""
    if result.divergence is not None or not result.is_complete or result.crash:
        return result.verdict()
    before = result.theirs[-2].layout
    after = result.theirs[-1]
    if after.value >= 0 or after.value < -4095:
        return "done"
    if after.layout == before:
        return "nothing changed"
    call = result.program[-1]
    if isinstance(call, Mremap):
        source = _between(before, call.addr, call.old_len)
        moved = len(source) - len(_between(after.layout, call.addr, call.old_len))
        return f"{moved} of {len(source)} VMAs moved"
    return "done in part"


def _between(layout: Layout, start: int, length: int) -> list[Mapping]:
    return [m for m in layout if m.start < start + length and m.end > start]


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials there were, and how many went as the model allows."""
    return {"trials": len(trials), "agree": sum(trial.agrees for trial in trials)}


def to_json(trials: Sequence[Trial], environment: Environment) -> dict[str, Any]:
    """The kernel, and a row for each trial."""
    rows = [
        {
            "program": trial.replay.name,
            "call": trial.index,
            "allocation": trial.nth,
            "outcome": trial.outcome,
            "agrees": trial.agrees,
            "result": trial.result(environment),
        }
        for trial in trials
    ]
    return {"kernel": environment.release, "rows": rows}
