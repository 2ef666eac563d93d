"""Crashes made smaller: the fewest programs, then the fewest calls, that bring the same report about.

Every trial is on a kernel that was booted for it: one that has warned once may never do it again, and one that was
damaged may do anything. So it takes a while, and has an end. A kernel that cannot be booted at will, the running one,
is not made to report more often than it takes to know the program: nothing is reduced there.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from abi.calls import Call
from fuzz.crash_finding import CrashFinding, Reduction
from fuzz.crashes import shows
from fuzz.reduce import shorten
from fuzz.trials import Ran, Trials
from kernel_bridge import BridgeError

#: Seconds that a crash is worth, where the kernel is as fast as the running one.
SECONDS: Final = 180.0


def reduce_crash(
    finding: CrashFinding, trials: Trials, is_over: Callable[[], bool], seconds: float = SECONDS
) -> Reduction | None:
    """What is left of it; None if it cannot be brought about. Ends early when `is_over`."""
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
            series = self._with_fewer_calls(series, place)
        how = f"to {_size(series)} from {begun}, in {self._count} trials{self._cut}"
        return Reduction(series, how)

    def _with_fewer_calls(self, series: tuple[Ran, ...], place: int) -> tuple[Ran, ...]:
        def put(calls: tuple[Call, ...]) -> tuple[Ran, ...]:
            return (
                *series[:place],
                replace(series[place], program=calls),
                *series[place + 1 :],
            )

        return put(shorten(series[place].program, lambda calls: self._shows(put(calls))))

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
