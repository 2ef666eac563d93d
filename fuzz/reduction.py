"""Crashes made smaller: the fewest programs, then the fewest and simplest calls, that bring the same report about.

Every trial is on a kernel that was booted for it: one that has warned once may never do it again, and one that was
damaged may do anything. So it takes a while, and has an end. A kernel that cannot be booted at will, the running one,
is not made to report more often than it takes to know the program: nothing is reduced there.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from abi.calls import Program
from fuzz.crash_finding import CrashFinding, Reduction
from fuzz.crashes import shows
from fuzz.minimize import minimize
from fuzz.reduce import shorten
from fuzz.restraint import restrain_program
from fuzz.trials import Ran, Trials
from kernel_bridge import BridgeError

#: Seconds that a crash is worth, where the kernel is as fast as the running one.
SECONDS: Final = 180.0


def reduce_crash(
    finding: CrashFinding,
    trials: Trials,
    is_over: Callable[[], bool],
    seconds: float = SECONDS,
) -> Reduction | None:
    """What is left of it; None if it cannot be brought about. Ends early when `is_over`. seconds: how long it may take,
    where a kernel is as fast as the running one."""
    return _Reducer(finding, trials, is_over, seconds).reduce() if trials.boots else None


class _Reducer:
    """One crash on its way to less."""

    def __init__(
        self,
        finding: CrashFinding,
        trials: Trials,
        is_over: Callable[[], bool],
        seconds: float,
    ) -> None:
        self._crash = finding.crash
        self._geometry = finding.environment.geometry
        self._unprivileged = not finding.environment.capabilities
        self._shown = finding.shown
        self._all = (*finding.before, finding.ran)
        self._trials = trials
        self._is_over = is_over
        self._until = time.monotonic() + seconds * trials.slow
        self._count = 0
        self._cut = ""

    def reduce(self) -> Reduction | None:
        series = self._shown or self._all[: self._first(self._all)]
        if not series:
            return None
        begun = _size(series)
        series = shorten(series, self._shows)
        for place in reversed(range(len(series))):
            series = self._smaller(series, place)
        how = f"to {_size(series)} from {begun}, in {self._count} trials{self._cut}"
        return Reduction(series, how)

    def _smaller(self, series: tuple[Ran, ...], place: int) -> tuple[Ran, ...]:
        """With the program at `place` as small as shows it: every trial is a boot, so one at a time."""

        def put(program: Program) -> tuple[Ran, ...]:
            return (
                *series[:place],
                replace(series[place], program=program),
                *series[place + 1 :],
            )

        def shows_one(programs: Sequence[Program]) -> list[bool]:
            return [
                restrain_program(each, self._unprivileged) == each and self._shows(put(each))
                for each in programs
            ]

        found = minimize(
            series[place].program,
            self._geometry,
            shows_one,
            until=math.inf,
            is_over=lambda: bool(self._cut),
            width=1,
        )
        return put(found.program)

    def _shows(self, series: tuple[Ran, ...]) -> bool:
        return self._first(series) > 0

    def _first(self, series: tuple[Ran, ...]) -> int:
        """How many of the series it takes, 0 if they do not do it or there is no more time."""
        if not self._cut and (self._is_over() or time.monotonic() >= self._until):
            self._cut = ", and time was up"
        if self._cut:
            return 0
        self._count += 1
        try:
            return shows(self._trials, self._crash, series, self._until)
        except BridgeError as error:
            self._cut = f", which ended because {error}"
            return 0


def _size(series: tuple[Ran, ...]) -> str:
    calls = sum(len(each.program) for each in series)
    return f"{len(series)} program{'s' * (len(series) != 1)} of {calls} call{'s' * (calls != 1)}"
