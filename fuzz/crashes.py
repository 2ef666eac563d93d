"""Kernels that complain or die: which program did it.

A report on the console is tied to the programs that were running. Where that was a batch, they run again one at a time
on a kernel that is booted for that, and the first with the same report is the one. Knows no guests; it is handed
what they print. What is kept of it is `fuzz.crash_finding`'s business.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from abi.environment import Environment
from fuzz.console import Console, reports
from fuzz.crash_finding import BEFORE, CrashFinding
from fuzz.headlines import FATAL, Crash, CrashKind, causes, follows, silence
from fuzz.trials import PATIENCE, Ran, Trials
from kernel_bridge import BridgeError

#: Seconds in which one report may follow from another.
_LINKED: Final = 10.0
#: Reports that are looked into.
_MOST: Final = 100
_NOT_AGAIN: Final = "it did not come again"
_NO_PROGRAM: Final = "no program was running"
_SPARED: Final = "a kernel that goes on after it is not made to do it again"

#: When to give up trying, on time.monotonic()'s clock; asked when a trial begins.
Until = Callable[[], float]


class CrashWatch:
    """Follows what runs and what the kernel prints meanwhile."""

    def __init__(
        self,
        printed: Callable[[], bytes],
        trials: Trials,
        environment: Environment,
        profile: str,
        until: Until,
        worker: int = -1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`printed` gives what the kernel printed since the last time; `worker`: see `CrashFinding`."""
        self._printed = printed
        self._trials = trials
        self._environment = environment
        self._profile = profile
        self._until = until
        self._worker = worker
        self._clock = clock
        self._console = Console()
        self._before: deque[Ran] = deque(maxlen=2 * BEFORE)
        #: How many were followed; which of them ran when the report began that is under way.
        self._count = 0
        self._begun: range | None = None
        #: What ran before the last look, on this boot: what a kernel prints may come late.
        self._earlier = range(0)
        self._heard = clock()
        self._seen: set[str] = set()
        self._recent: list[tuple[float, Crash]] = []

    def follow(self, ran: Ran) -> None:
        """It has run."""
        self._before.append(ran)
        self._count += 1

    def look(
        self, count: int = 0, lost: int | None = None, last: bool = False
    ) -> list[CrashFinding]:
        """What the kernel reported since the last look, while the `count` programs ran that were followed last; each
        report once, when it is whole, or as it is if this is the `last` look.

        The running kernel, if it still runs after an oops, is not made to do it again: it is put down to the program
        on which the executor was `lost` (its index among the `count`), or the last one. A kernel that boots is asked
        about what ran before the last look, too, if none of these does it again.
        """
        data, now = self._printed(), self._clock()
        if data:
            self._heard = now
        crashes = self._console.feed(data)
        if last or (self._console.unfinished and now - self._heard >= PATIENCE):
            crashes += self._console.flush()
        ran = range(self._count - count, self._count)
        # Which follows from which is a matter of time, of which looking into one takes much.
        new = []
        for crash in crashes:
            suspects, self._begun = self._begun or ran, None
            if self._is_new(crash):
                new.append((crash, suspects))
        self._begun = (self._begun or ran) if self._console.unfinished else None
        found = []
        for crash, suspects in new:
            if self._trials.boots or crash.kind not in FATAL:
                # Of a report that began before this look, what ran then is among the suspects.
                earlier = self._earlier if suspects is ran else range(0)
                found.append(self._blame(crash, suspects, earlier))
            else:
                one = ran if lost is None else ran[lost : lost + 1]
                found.append(self._blame(crash, one, untried=_SPARED))
        self._earlier = ran if self._trials.boots else range(0)
        return found

    def died(self, ran: Ran, why: str, console: str) -> list[CrashFinding]:
        """The kernel died of this program, or of nothing that it said."""
        crashes = self._console.feed(console.encode()) + self._console.flush()
        self._begun, self._earlier = None, range(0)
        if not causes(crashes):
            crashes = [silence(f"lost connection: {why}", console or "(it printed nothing)\n")]
        found = self._blame_one(ran, causes(crashes))
        self._recent = []  # what comes now is another boot's
        return found

    def overheard(self, ran: Ran, data: bytes) -> list[CrashFinding]:
        """Another executor's kernel printed this while it tried this program."""
        return self._blame_one(ran, reports(data))

    def _blame_one(self, ran: Ran, crashes: Sequence[Crash]) -> list[CrashFinding]:
        """Put reports down to a program that has not been followed."""
        self.follow(ran)
        place = range(self._count - 1, self._count)
        new = [crash for crash in crashes if self._is_new(crash)]
        found = [self._blame(crash, place) for crash in new]
        self._before.pop()
        self._count -= 1
        return found

    def _is_new(self, crash: Crash) -> bool:
        """Whether it follows from no other, and none like it has been."""
        now = self._clock()
        self._recent = [(at, one) for at, one in self._recent if now - at < _LINKED]
        explained = follows(crash, [one for _, one in self._recent])
        self._recent.append((now, crash))
        if crash.kind is CrashKind.SILENCE:
            self._recent = []  # what comes now is another boot's
        if explained or crash.key in self._seen or len(self._seen) >= _MOST:
            return False
        self._seen.add(crash.key)
        return True

    def _blame(
        self, crash: Crash, suspects: range, earlier: range = range(0), untried: str = ""
    ) -> CrashFinding:
        """Which of the suspects it was, or of those `earlier`; the last suspect if none does it again, or that is
        `untried` for a reason."""
        first = self._count - len(self._before)
        ran = list(self._before)
        console = self._console.text
        end = suspects.stop - first
        at, again = end - 1, untried or _NO_PROGRAM
        shown: tuple[Ran, ...] = ()
        until = self._until()
        for each in () if untried else (suspects, earlier):
            begin, stop = max(each.start, first) - first, each.stop - first
            if begin >= stop:
                continue
            count, alone, how = self._again(crash, ran[begin:stop], until)
            if count or again == _NO_PROGRAM:
                again = how
            if count:
                at = begin + count - 1
                shown = tuple(ran[at if alone else begin : at + 1])
                break
        return CrashFinding(
            crash,
            ran[at] if suspects and end > 0 else Ran(()),
            tuple(ran[max(0, at - BEFORE) : max(0, at)]),
            console,
            self._environment,
            self._profile,
            shown,
            again,
            self._worker,
        )

    def _again(self, crash: Crash, suspects: Sequence[Ran], until: float) -> tuple[int, bool, str]:
        """How many of the suspects it takes until the report comes again, 0 if it does not; whether the last of them
        does it alone; and how that went, in a line."""
        where = "on a freshly booted kernel" if self._trials.boots else "on a fresh executor"
        try:
            count = shows(self._trials, crash, suspects, until)
            alone = count == 1
            # What the kernel prints may come when the next program runs.
            for place in (count, count - 1) if count > 1 else ():
                if shows(self._trials, crash, suspects[place - 1 : place], until):
                    count, alone = place, True
                    break
        except BridgeError as error:
            return 0, False, f"it could not be tried again: {error}"
        if not count:
            cut = time.monotonic() >= until
            return 0, False, _NOT_AGAIN + (" in the time there was" if cut else "")
        how = "alone" if alone else f"after the {count - 1} programs before it, not alone"
        return count, alone, f"it came again {how}, {where}"


def shows(trials: Trials, crash: Crash, series: Sequence[Ran], until: float) -> int:
    """How many of the series have run when the same bug is reported again; 0 if it is not, or time is up.

    Raises:
        BridgeError: they cannot be run.
    """
    if time.monotonic() >= until:
        return 0
    with contextlib.closing(trials.reports(series)) as tries:
        for count, (found, dead) in enumerate(tries, start=1):
            silent = dead and crash.kind is CrashKind.SILENCE
            if silent or crash.key in {other.key for other in found}:
                return count
            if time.monotonic() >= until:
                return 0
    return 0
