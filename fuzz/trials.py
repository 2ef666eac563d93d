"""Programs again, on executors that have run nothing else: whether what was seen comes again."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program, parse
from fuzz.console import Console
from fuzz.headlines import Crash
from fuzz.minimize import SECONDS, Minimized, Showing, minimize
from fuzz.replay import Replay, replay
from fuzz.site import Executor, Site
from model.run import Model

#: Fresh executors a divergence has to show itself in.
CONFIRMATIONS: Final = 3
#: Seconds without a new line after which a report without an end is taken for whole, and between looks.
PATIENCE: Final = 1.0
#: Seconds that a console is behind, where the kernel is as fast as the running one: threads of the kernel print.
LAG = 1.0
_TICK: Final = 0.02

#: Fields of an environment on which no prediction hangs so closely: reasons, and memory that a kernel frees late.
_VOLATILE: Final = frozenset(("missing", "memory_pages"))


@dataclass(frozen=True, slots=True)
class Ran:
    """A program as it ran. full: it was observed in full, which makes the kernel do more."""

    program: Program
    full: bool = False


#: Told what the kernel printed while a divergence was tried.
Hear = Callable[[Ran, bytes], None]


class Trials:
    """Tries programs again on a site, which was in `environment`, beside a model of it. hear: see `Hear`."""

    def __init__(self, site: Site, environment: Environment, model: Model, hear: Hear) -> None:
        self._site = site
        self._environment = environment
        self._model = model
        #: What of the environment was found to be another than it was, in one line; "" if nothing was.
        self.drift = ""
        self._hear = hear

    @property
    def boots(self) -> bool:
        """Whether reports are tried on a freshly booted kernel."""
        return self._site.renew is not None

    @property
    def slow(self) -> float:
        """How much longer all takes than on the running kernel."""
        return self._site.slow()

    def divergence(self, ran: Ran) -> Replay | None:
        """The replay whose divergence shows itself in each of three executors that have run nothing else, at its last
        call: what comes behind it is cut off. None if it is not the same in all of them, or one of them leaves the
        domain of the model, or is not in the environment that the prediction is for."""
        found: Replay | None = None
        for _ in range(CONFIRMATIONS):
            executor = self._site.start()
            try:
                self.drift = self.drift or _drift(self._environment, executor.environment)
                if self.drift:
                    return None
                (again,) = replay([("", ran.program)], executor, self._model, full=ran.full)
                self._hear(ran, executor.printed())
            finally:
                executor.close()
            if (
                again.unmodelled
                or not again.text
                or (found is not None and again.text != found.text)
            ):
                return None
            found = again
            assert found.divergence is not None, "it has a signature"
            end = found.divergence.index + 1
            if end < len(ran.program):
                # Observed in full it shows at an earlier call.
                return self.divergence(replace(ran, program=ran.program[:end]))
        return found

    def elsewhere(self, text: str, ran: Ran) -> bool:
        """Whether the program shows the divergence of this signature where the window is at another address.

        Raises:
            BridgeError: no executor can be started.
        """
        executor = self._site.elsewhere()
        try:
            environment = executor.environment
            calls = format_program(ran.program, self._environment.geometry)
            program = parse(calls, environment.geometry)
            model = Model(environment, self._model.profile)
            (again,) = replay([("", program)], executor, model, full=ran.full)
            self._hear(ran, executor.printed())
        finally:
            executor.close()
        return again.text == text

    def minimize(
        self, text: str, ran: Ran, is_over: Callable[[], bool], seconds: float = SECONDS
    ) -> Minimized:
        """The smallest program that shows the divergence of this signature on an executor of its own, as `ran` does.
        seconds: how long it may take, where a kernel is as fast as the running one.

        Raises:
            BridgeError: no executor can be started.
        """
        geometry = self._environment.geometry
        executor = self._site.start()
        try:
            shows = Showing(text, executor, self._model, full=ran.full)
            until = time.monotonic() + seconds * self.slow
            return minimize(ran.program, geometry, shows, until=until, is_over=is_over)
        finally:
            executor.close()

    def reports(self, series: Sequence[Ran]) -> Generator[tuple[list[Crash], bool], None, None]:
        """The programs one at a time on one executor, whose kernel has been booted for that where it can be: what the
        kernel reported during each, and whether it died. To be closed when enough was seen."""
        executor = (self._site.renew or self._site.start)()
        try:
            executor.printed()
            console = Console()
            for left, ran in zip(range(len(series) - 1, -1, -1), series, strict=True):
                (observed,) = executor.run([ran.program], full=ran.full)
                dead = observed.loss is not None and observed.loss.kind == "crash"
                said = observed.loss.console if dead and observed.loss else ""
                lag = 0.0 if left or dead else LAG * self.slow
                yield whole_reports(console, executor, said.encode(), lag), dead
        finally:
            executor.close()


def _drift(was: Environment, now: Environment) -> str:
    """What belongs to the whole machine can be changed by others meanwhile."""
    changed = [
        f"{field.name} from {getattr(was, field.name)} to {getattr(now, field.name)}"
        for field in fields(Environment)
        if field.name not in _VOLATILE and getattr(was, field.name) != getattr(now, field.name)
    ]
    return "; ".join(changed)


def whole_reports(
    console: Console, executor: Executor, data: bytes = b"", lag: float = 0.0
) -> list[Crash]:
    """The reports in what was printed, after `data`; those that are not at their end are waited for, and so long for a
    first one (seconds)."""
    found = console.feed(data + executor.printed())
    begun = heard = time.monotonic()
    while True:
        now = time.monotonic()
        waits = now - heard < PATIENCE if console.unfinished else not found and now - begun < lag
        if not waits:
            return found + console.flush()
        time.sleep(_TICK)
        more = executor.printed()
        if more:
            heard = time.monotonic()
        found += console.feed(more)
