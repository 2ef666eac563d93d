"""The oracle's own proof: each planted mistake is fuzzed against the real kernel and has to be noticed."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuzz.crew import Crew, Hand
from fuzz.display import Screen
from fuzz.ledger import CRASHED
from fuzz.mistakes import Mistake, check
from fuzz.settings import Settings
from fuzz.targets import LOCAL

#: Sequences after which a mistake counts as missed.
SEQUENCES: Final = 200_000
#: Seconds without progress after which a worker counts as stuck: a mistake may make the model loop; and how many times
#: as many where a kernel has to boot.
_STUCK: Final = 60.0
_SLOW: Final = 10
_TICK: Final = 0.2


@dataclass(slots=True)
class Result:
    """How one mistake fared. sequences: until it was noticed, or tried in vain; problem: why it was not tried; calls:
    of the smallest program that shows it; minimized: how that was found, in a line; minimize_seconds: in how many."""

    name: str
    rule: str
    found: bool = False
    sequences: int = 0
    seconds: float = 0.0
    signature: str = ""
    problem: str = ""
    calls: int = 0
    minimized: str = ""
    minimize_seconds: float = 0.0

    def line(self) -> str:
        """The result as one line."""
        verdict = "found " if self.found else "MISSED"
        how = self.problem or self.signature or self.rule
        size = f"{self.calls} calls" if self.found else ""
        return f"{verdict} {self.name:<36} {self.sequences:>7,} sequences {self.seconds:6.1f} s {size:>8}  {how}"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def selftest(
    mistakes: Sequence[Mistake],
    profile: str,
    changes: tuple[str, ...],
    state: Path,
    screen: Screen,
    sequences: int = SEQUENCES,
    seed: int = 1,
    workers: int | None = None,
    guided: bool = True,
    blames_kernel: Callable[[Path], bool] = lambda finding: False,
    user: bool = False,
    target: str = LOCAL,
    blocks: bool = True,
) -> list[Result]:
    """Fuzz with each of `mistakes`, several at a time, from an empty corpus; results in the same order.

    blames_kernel: whether the model without a mistake diverges on the program of a finding as well, so that it
    proves nothing about the mistake. user: programs run as an ordinary user even if this is root; blocks: as in
    `Settings`.

    Raises:
        ValueError, SyntaxError: a mistake does not fit the model's source.
        OSError: a worker could not be started; RuntimeError: one could not work (one line).
    """
    for mistake in mistakes:
        check(mistake)
    trial = _Trials(
        mistakes,
        profile,
        changes,
        state,
        screen,
        sequences,
        seed,
        guided,
        blames_kernel,
        user,
        target,
        blocks,
    )
    return trial.run(workers or len(os.sched_getaffinity(0)))


class _Trials:
    def __init__(
        self,
        mistakes: Sequence[Mistake],
        profile: str,
        changes: tuple[str, ...],
        state: Path,
        screen: Screen,
        sequences: int,
        seed: int,
        guided: bool,
        blames_kernel: Callable[[Path], bool],
        user: bool,
        target: str,
        blocks: bool,
    ) -> None:
        self._results = [Result(mistake.name, mistake.rule) for mistake in mistakes]
        self._profile = profile
        self._changes = changes
        self._state = state
        self._screen = screen
        self._sequences = sequences
        self._seed = seed
        self._guided = guided
        self._blames_kernel = blames_kernel
        self._user = user
        self._target = target
        self._stuck = _STUCK if target == LOCAL else _STUCK * _SLOW
        self._blocks = blocks
        self._crew = Crew()
        self._begun: dict[int, float] = {}
        self._heard: dict[int, float] = {}

    def run(self, workers: int) -> list[Result]:
        waiting = deque(range(len(self._results)))
        try:
            while waiting or self._crew.hands:
                while waiting and len(self._crew.hands) < workers:
                    self._hire(waiting.popleft())
                for hand, messages in list(self._crew.listen(_TICK)):
                    if messages is None:
                        self._end(hand)
                    else:
                        self._hear(hand, messages)
                for hand in self._crew.hands:
                    if time.monotonic() - self._heard[hand.settings.worker] > self._stuck:
                        hand.kill()
        finally:
            self._crew.close()
        return self._results

    def _hire(self, number: int) -> None:
        directory = self._state / str(number)
        (directory / "corpus").mkdir(parents=True)
        self._begun[number] = self._heard[number] = time.monotonic()
        self._crew.hire(
            Settings(
                worker=number,
                session=os.getpid(),
                pipe=-1,
                seed=self._seed,
                state=str(directory),
                corpus=str(directory / "corpus"),
                profile=self._profile,
                changes=self._changes,
                runs=self._sequences,
                guided=self._guided,
                seeds=False,
                mistake=self._results[number].name,
                until_found=True,
                user=self._user,
                target=self._target,
                blocks=self._blocks,
            ),
            directory / "worker.log",
        )

    def _hear(self, hand: Hand, messages: list[dict[str, Any]]) -> None:
        result = self._results[hand.settings.worker]
        self._heard[hand.settings.worker] = time.monotonic()
        for message in messages:
            if message["kind"] == "stats" and not result.found:
                result.sequences = message["sequences"]
            elif message["kind"] == "finding" and not result.found and not message["cause"]:
                result.sequences = message["index"]
                result.signature = message["signature"]
                if result.signature.startswith(CRASHED):
                    result.problem = f"it breaks the model instead: {result.signature}"
                elif self._blames_kernel(Path(message["path"])):
                    result.problem = f"without the mistake as well: {result.signature}"
                result.found = not result.problem
                result.calls = message["calls"]
                result.minimized = message["minimized"]
                result.minimize_seconds = message["minimize_seconds"]
            elif message["kind"] == "failure":
                raise RuntimeError(message["text"])

    def _end(self, hand: Hand) -> None:
        number = hand.settings.worker
        status = self._crew.let_go(hand)
        result = self._results[number]
        result.seconds = round(time.monotonic() - self._begun[number], 1)
        if status and not result.found and not result.problem:
            result.problem = f"the worker died (status {status}): {hand.last_words()}"
        self._screen.note(result.line())
