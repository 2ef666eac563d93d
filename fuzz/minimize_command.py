"""`vmadiff minimize`: a program that diverges, or that a kernel complains of, made as small as shows the same."""

import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from abi.calls import Program
from abi.environment import Environment
from abi.program import ProgramError, format_all, format_program
from fuzz import corpus
from fuzz.console import reports
from fuzz.crash_finding import CrashFinding
from fuzz.headlines import causes
from fuzz.minimize import SECONDS
from fuzz.output import check_output
from fuzz.profiles import profile_for
from fuzz.reduction import SECONDS as CRASH_SECONDS
from fuzz.reduction import reduce_crash
from fuzz.replay import Replay, replay
from fuzz.restraint import restrain_program
from fuzz.site import Site
from fuzz.status import INTERRUPTED, OK, UnusableError, UsageError
from fuzz.storage import write_atomically
from fuzz.targets import Target
from fuzz.trials import Ran, Trials
from fuzz.verdict import is_full
from kernel_bridge import BridgeError
from model.profile import Profile
from model.run import Model


def minimize(options: Namespace) -> int:
    """`vmadiff minimize`"""
    check_output(options.output)
    try:
        with Target(options.target) as target, _stoppable() as is_stopped:
            site = target.site(user=options.user, worker=0)
            text, how = _Minimizing(
                site, options.file, options.profile, options.seconds, is_stopped
            ).run()
            print(how, file=sys.stderr)
            stopped = is_stopped()
    except BridgeError as error:
        raise UnusableError(str(error)) from None
    if options.output:
        write_atomically(options.output, text.encode())
    else:
        print(text, end="")
    return INTERRUPTED if stopped else OK


class _Minimizing:
    """One file. seconds: the time there is, as usual if None."""

    def __init__(
        self,
        site: Site,
        path: Path,
        release: str | None,
        seconds: float | None,
        is_over: Callable[[], bool],
    ) -> None:
        self._site = site
        self._path = path
        self._release = release
        self._seconds = seconds
        self._is_over = is_over

    def run(self) -> tuple[str, str]:
        """The text of the smaller program, and how it went."""
        executor = self._site.start()
        try:
            environment = executor.environment
            profile = profile_for(executor, self._release)
            programs = self._read(environment)
            model = Model(environment, profile)
            executor.printed()
            full = all(map(is_full, programs))
            ran = replay([("", program) for program in programs], executor, model, full=full)
            printed = "".join(each.console for each in ran).encode() + executor.printed()
        finally:
            executor.close()
        trials = Trials(self._site, environment, model, lambda ran, data: None)
        found = next((each for each in ran if each.text), None)
        if found is not None:
            return self._divergence(found, trials, profile)
        crashes = causes(reports(printed))
        if not crashes:
            raise UsageError(
                f"{self._path}: nothing to be seen in a smaller program: {ran[-1].verdict()}"
            )
        series = tuple(Ran(program, full) for program in programs)
        finding = CrashFinding(
            crashes[0], series[-1], series[:-1], "", environment, profile.name, series, ""
        )
        return self._crash(finding, trials)

    def _read(self, environment: Environment) -> Sequence[Program]:
        try:
            named = corpus.read_programs(self._path, environment.geometry)
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}") from None
        except ProgramError as error:
            raise UsageError(str(error)) from None
        return [restrain_program(each, not environment.capabilities) for _, each in named]

    def _divergence(self, found: Replay, trials: Trials, profile: Profile) -> tuple[str, str]:
        assert found.divergence is not None
        program = found.program[: found.divergence.index + 1]
        ran = Ran(program, found.full)
        limit = SECONDS if self._seconds is None else self._seconds
        smaller = trials.minimize(found.text, ran, self._is_over, limit)
        head = f"# {found.text}\n# {found.environment.release}, profile {profile.name}\n"
        text = format_program(smaller.program, found.environment.geometry)
        return head + text, f"{found.text}: {smaller.line(found.program)}"

    def _crash(self, finding: CrashFinding, trials: Trials) -> tuple[str, str]:
        if not trials.boots:
            raise UsageError(
                f"{self._path}: the running kernel reports {finding.crash.title}, and is not made to do so more often"
                " than it takes to see it: try a guest"
            )
        limit = CRASH_SECONDS if self._seconds is None else self._seconds
        reduction = reduce_crash(finding, trials, self._is_over, limit)
        if reduction is None:
            raise UsageError(f"{self._path}: {finding.crash.title} did not come again")
        head = f"# {finding.signature}\n# {finding.environment.release}\n"
        programs = [each.program for each in reduction.series]
        text = format_all(programs, finding.environment.geometry)
        return head + text, f"{finding.signature}: {reduction.how}"


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Whether a stop was asked for by SIGINT or SIGTERM, which do nothing else in here until they come again."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
