"""A program made as small as shows what it shows: fewest calls, then simplest arguments (`fuzz.simplify`).

Candidates are tried in batches, for a round trip to a kernel costs more than a program. Those of a batch that show it
are put together, which mostly shows it too; else the simplest of them is gone on from. It ends when no proposal shows
it, when time is up, or when it is told to; the smallest so far is the result each time.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from abi.calls import Program
from abi.environment import Geometry
from fuzz.replay import Replay, replay
from fuzz.restraint import restrain_program
from fuzz.simplify import Slots, cost, shorter, simpler
from fuzz.site import Executor
from kernel_bridge import BridgeError
from model.run import Model

#: Candidates of one round trip, where a batch costs little more than a program.
WIDTH: Final = 48
#: Seconds that a divergence is worth, where the kernel is as fast as the running one.
SECONDS: Final = 20.0

#: For each of some programs, whether it shows it.
Shows = Callable[[Sequence[Program]], Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Minimized:
    """The smallest program found, and how: programs tried, seconds, and why it ended early ("" if it did not)."""

    program: Program
    tried: int
    seconds: float
    cut: str = ""

    def line(self, before: Program) -> str:
        """How it went, in a line."""
        size, was = len(self.program), len(before)
        calls = f"{size} call{'s' * (size != 1)} from {was}"
        return f"{calls}, {self.tried} programs tried in {self.seconds:.1f} s{self.cut}"


def minimize(
    program: Program,
    geometry: Geometry,
    shows: Shows,
    *,
    until: float,
    is_over: Callable[[], bool] = lambda: False,
    width: int = WIDTH,
) -> Minimized:
    """The smallest program that `shows` it, as `program` does. until: a time of `time.monotonic`; width: how many
    programs are tried at once."""
    return _Search(program, geometry, shows, until, is_over, width).run()


class _Search:
    def __init__(
        self,
        program: Program,
        geometry: Geometry,
        shows: Shows,
        until: float,
        is_over: Callable[[], bool],
        width: int,
    ) -> None:
        self._program = program
        self._geometry = geometry
        self._shows = shows
        self._until = until
        self._is_over = is_over
        self._width = width
        self._tried: set[Program] = {program}
        self._begun = time.monotonic()
        self._cut = ""

    def run(self) -> Minimized:
        while self._improve(shorter) or self._improve(self._simpler):
            pass
        seconds = time.monotonic() - self._begun
        return Minimized(self._program, len(self._tried) - 1, seconds, self._cut)

    def _simpler(self, program: Program) -> Iterator[Slots]:
        return simpler(program, self._geometry)

    def _improve(self, propose: Callable[[Program], Iterator[Slots]]) -> bool:
        """Go on from the first batch of proposals in which some show it; whether any did."""
        proposals = self._new(propose(self._program))
        while batch := list(islice(proposals, self._width)):
            good = self._good(batch)
            if good:
                together = self._together(good)
                if _calls(together) not in self._tried and self._good([together]):
                    good = [together]
                self._program = min((_calls(each) for each in good), key=self._cost)
                return True
            if self._cut:
                break
        return False

    def _new(self, proposals: Iterable[Slots]) -> Iterator[Slots]:
        for proposal in proposals:
            if _calls(proposal) not in self._tried:
                self._tried.add(_calls(proposal))
                yield proposal

    def _good(self, batch: list[Slots]) -> list[Slots]:
        if not self._cut and self._is_over():
            self._cut = ", and it was stopped"
        if not self._cut and time.monotonic() >= self._until:
            self._cut = ", and time was up"
        if self._cut:
            return []
        programs = [_calls(each) for each in batch]
        self._tried.update(programs)
        try:
            shown = self._shows(programs)
        except BridgeError as error:
            self._cut = f", which ended because {error}"
            return []
        return [each for each, shows in zip(batch, shown, strict=True) if shows]

    def _together(self, good: list[Slots]) -> Slots:
        """In each place what the first of them has changed there."""
        return tuple(
            next((call for call in calls if call != own), own)
            for own, *calls in zip(self._program, *good, strict=True)
        )

    def _cost(self, program: Program) -> tuple[int, int]:
        return cost(program, self._geometry)


def _calls(slots: Slots) -> Program:
    return tuple(call for call in slots if call is not None)


class Showing:
    """Whether programs show a divergence of this signature on an executor, at their last call."""

    def __init__(self, text: str, executor: Executor, model: Model, *, full: bool) -> None:
        self._text = text
        self._executor = executor
        self._model = model
        self._full = full

    def __call__(self, programs: Sequence[Program]) -> list[bool]:
        """Raises: BridgeError: the executor cannot go on."""
        unprivileged = not self._executor.environment.capabilities
        harmless = [restrain_program(program, unprivileged) == program for program in programs]
        named = [("", each) for each, may in zip(programs, harmless, strict=True) if may]
        ran = iter(replay(named, self._executor, self._model, full=self._full) if named else [])
        return [may and self._is_shown(next(ran)) for may in harmless]

    def _is_shown(self, ran: Replay) -> bool:
        """At the last call: what comes behind it shows nothing."""
        divergence = ran.divergence
        at_last = divergence is not None and divergence.index == len(ran.program) - 1
        return at_last and ran.text == self._text
