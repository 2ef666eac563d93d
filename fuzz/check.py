"""A corpus on one kernel, beside the verdicts that its headers state (`fuzz.expectation`): is each as it should be?

Several executors share the work: while the kernel runs the batch of one, the model predicts that of another.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from abi.calls import Program
from abi.environment import Environment
from abi.program import call_lines, parse_all
from fuzz.console import reports
from fuzz.expectation import Expectation, holding, traits_of
from fuzz.formats import FAILED, Result
from fuzz.formats import Verdict as Judgement
from fuzz.headlines import causes
from fuzz.probe import Probed, examine
from fuzz.replay import Replay, replay
from fuzz.restraint import restrain_program
from fuzz.targets import Target, refuse_strict_commit
from fuzz.triage import Known, explanation
from fuzz.verdict import (
    AGREES,
    CRASHED,
    DIVERGES,
    KNOWN,
    UNKNOWN,
    Verdict,
    batches,
    is_full,
    judge,
)
from kernel_bridge import BridgeError, KernelExecutor
from model.profile import Change
from model.run import Model

#: Of several programs in a file the gravest verdict is that of the file.
_GRAVITY: Final = (AGREES, UNKNOWN, KNOWN, DIVERGES, CRASHED)


@dataclass(frozen=True, slots=True)
class Case:
    """A file of one program, or of several that run one after the other. name: in results; stated: what its header
    says."""

    name: str
    file: str
    text: str
    stated: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug of kernels that the model follows, an entry of corpus/divergences/ with a `change`. entry: what it lists;
    has: kernels with the bug have the change; else it is the fix that they lack."""

    name: str
    file: str
    entry: Known
    change: Change
    has: bool


@dataclass(slots=True)
class Checked:
    """What came of it. results: one a case, in order, then one a bug, and one for what the kernel reported unasked;
    compared: all were, to the end, but where a header says that this need not be; problem: why not, "" if so."""

    release: str = ""
    machine: str = ""
    profile: str = ""
    results: list[Result] = field(default_factory=list)
    compared: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """A case, its place among all, and its programs."""

    place: int
    case: Case
    programs: tuple[Program, ...]

    @property
    def is_full(self) -> bool:
        """It is observed in full."""
        return all(map(is_full, self.programs))

    @property
    def is_alone(self) -> bool:
        """It runs by itself: a series stays together, and what is not observed in full apart."""
        return len(self.programs) > 1 or not self.is_full


@dataclass(frozen=True, slots=True)
class _Seen:
    """What became of a case: the verdict, what to show people, where to look, how long it took."""

    verdict: Verdict
    shown: str = ""
    line: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the first executor found out, and what is left to do."""

    environment: Environment
    probed: Probed
    waiting: deque[list[_Job]]


def check(
    cases: Sequence[Case],
    bugs: Sequence[Bug],
    known: Sequence[Known],
    target: str,
    *,
    user: bool = False,
    workers: int = 1,
) -> Checked:
    """Run all cases on a kernel and compare each with what it states. known: the explained divergences.

    Raises:
        BridgeError: no executor starts.
        ProgramError: a case is no program; the message names file and line.
        UsageError, UnusableError: there is no such kernel, or it cannot be used.
    """
    crew = _Crew(cases, known, target, user)
    crew.work(workers)
    plan = crew.plan.result()
    environment = plan.environment
    release = environment.release
    checked = Checked(release, environment.machine, plan.probed.profile.name)
    checked.problem = crew.problem
    traits = traits_of(environment, plan.probed.profile)
    reported = {
        crash.signature: crash.text for text in crew.printed for crash in causes(reports(text))
    }
    blamed = set()
    for place, case in enumerate(cases):
        stated = holding(case.stated, release, traits, known)
        seen = _blamed(stated, crew.seen(place), reported, release, known)
        blamed.add(seen.verdict.text)
        verdict, detail = compare(stated, seen.verdict, release, known)
        shown = f"\n{seen.shown}" if verdict in FAILED and seen.shown else ""
        checked.results.append(
            Result(case.name, verdict, detail + shown, seen.seconds, case.file, seen.line)
        )
        if verdict == UNKNOWN and stated.verdict != UNKNOWN:
            checked.compared = False
    checked.results += [_look_for(bug, release, plan.probed) for bug in bugs]
    for text, lines in reported.items():
        if text not in blamed and explanation(text, release, known) is None:
            checked.results.append(Result("what the kernel reports", CRASHED, f"{text}\n{lines}"))
    return checked


def compare(
    stated: Expectation, seen: Verdict, release: str, known: Sequence[Known]
) -> tuple[Judgement, str]:
    """Whether a verdict is the one that holds on the kernel `release`, and why not in a line. One that fails as it was
    foreseen is known."""
    if seen.kind == UNKNOWN:
        return UNKNOWN, seen.text
    if seen.kind == AGREES:
        if stated.verdict in (AGREES, UNKNOWN):
            return AGREES, ""
        return "unexpected", f"unexpectedly agrees: its header says `{stated}`"
    failed: Judgement = CRASHED if seen.kind == CRASHED else DIVERGES
    if stated.verdict == KNOWN:
        names = stated.entries_on(release, known)
        if set(names) & set(seen.entries):
            return KNOWN, f"{', '.join(names)}: {seen.text}"
        return failed, f"{seen.text}, which {', '.join(names)} does not explain"
    if stated.verdict == DIVERGES:
        if stated.text in ("", seen.text):
            return KNOWN, seen.text
        return failed, f"{seen.text}, though its header says `{stated}`"
    if seen.kind == KNOWN:
        return failed, f"{seen.text} ({', '.join(seen.entries)}, which its header does not state)"
    return failed, seen.text


def _blamed(
    stated: Expectation,
    seen: _Seen,
    reported: Mapping[str, str],
    release: str,
    known: Sequence[Known],
) -> _Seen:
    """What was seen of a case; where it states that the kernel will report something, and the kernel did, that."""
    if seen.verdict.kind != AGREES:
        return seen
    for text in reported:
        entry = explanation(text, release, [each for each in known if each.name in stated.entries])
        if entry is not None:
            return _Seen(Verdict(KNOWN, text, (entry.name,)), "", 0, seen.seconds)
        if stated.verdict == DIVERGES and stated.text == text:
            return _Seen(Verdict(CRASHED, text), "", 0, seen.seconds)
    return seen


def _look_for(bug: Bug, release: str, probed: Probed) -> Result:
    """Whether a kernel that is said to have a bug has it, by the witness of the change."""
    name = bug.change.name
    verdict: Judgement = UNKNOWN
    if not bug.entry.covers(release):
        detail = f"{release} is not one of its kernels"
    elif name in probed.undecided:
        detail = f"{name}: {probed.undecided[name]}"
    elif (bug.change in probed.profile.changes) is bug.has:
        verdict, detail = KNOWN, "the model follows it"
    else:
        verdict = "unexpected"
        detail = f"not on {release}, by the witness of {name}: its list of kernels is too long"
    return Result(bug.name, verdict, detail, file=bug.file)


class _Crew:
    """Executors that share the programs of all cases; each is one thread's."""

    def __init__(
        self, cases: Sequence[Case], known: Sequence[Known], target: str, user: bool
    ) -> None:
        self._cases = cases
        self._known = known
        self._target = target
        self._user = user
        self._seen: dict[int, _Seen] = {}
        self._over = threading.Event()
        self.plan: Future[_Plan] = Future()
        #: What each one's kernel printed, and why one ended early.
        self.printed: list[bytes] = []
        self.problem = ""

    def work(self, workers: int) -> None:
        """Run everything; returns when all is done or nobody is left to do it."""
        with ThreadPoolExecutor(workers) as pool:
            hands = [pool.submit(self._lead)]
            hands += [pool.submit(self._help, number) for number in range(1, workers)]
            try:
                for hand in hands:
                    hand.result()
            except BaseException:
                self._over.set()
                raise

    def seen(self, place: int) -> _Seen:
        """What became of a case."""
        return self._seen.get(place) or _Seen(Verdict(UNKNOWN, self.problem or "it did not run"))

    def _lead(self) -> None:
        """The executor that is asked what the kernel is, and what it prints."""
        try:
            with Target(self._target) as target, target.start(user=self._user) as executor:
                refuse_strict_commit(target, executor)
                probed = examine(executor)
                executor.printed()
                waiting = batches(self._jobs(executor.environment), lambda job: job.is_alone)
                # The long ones first, so that none of them is left for the end.
                ordered = sorted(waiting, key=lambda batch: batch[0].is_full)
                self.plan.set_result(_Plan(executor.environment, probed, deque(ordered)))
                self._run(executor)
        except BaseException as error:
            if self.plan.done():
                self._leave(error)
            else:
                self.plan.set_exception(error)

    def _help(self, number: int) -> None:
        """A further executor."""
        try:
            with (
                Target(self._target, watch=False) as target,
                target.start(user=self._user, worker=number) as executor,
            ):
                if self.plan.exception() is None:
                    self._run(executor)
        except BaseException as error:
            self._leave(error)

    def _leave(self, error: BaseException) -> None:
        """An executor that is gone for good: others go on."""
        if not isinstance(error, BridgeError):
            raise error
        self.problem = str(error)

    def _jobs(self, environment: Environment) -> Iterator[_Job]:
        for place, case in enumerate(self._cases):
            programs = parse_all(case.text, environment.geometry, case.file)
            yield _Job(
                place,
                case,
                tuple(restrain_program(each, not environment.capabilities) for each in programs),
            )

    def _run(self, executor: KernelExecutor) -> None:
        plan = self.plan.result()
        model = Model(executor.environment, plan.probed.profile)
        printed = bytearray()
        try:
            while not self._over.is_set() and plan.waiting:
                try:
                    batch = plan.waiting.popleft()
                except IndexError:
                    break
                self._run_batch(batch, executor, model)
                printed += executor.printed()
        finally:
            self.printed.append(bytes(printed))

    def _run_batch(self, batch: Sequence[_Job], executor: KernelExecutor, model: Model) -> None:
        began = time.monotonic()
        named = [(job.case.name, program) for job in batch for program in job.programs]
        full = all(job.is_full for job in batch)
        results = iter(replay(named, executor, model, full=full))
        share = (time.monotonic() - began) / len(batch)
        for job in batch:
            self._seen[job.place] = self._judge(
                job, list(islice(results, len(job.programs))), share
            )

    def _judge(self, job: _Job, results: Sequence[Replay], seconds: float) -> _Seen:
        """The gravest of a case's programs."""
        gravest = _Seen(Verdict(AGREES), seconds=seconds)
        lines = call_lines(job.case.text)
        for result in results:
            verdict = judge(result, result.environment.release, self._known)
            if _GRAVITY.index(verdict.kind) > _GRAVITY.index(gravest.verdict.kind):
                at = result.divergence.index if result.divergence else len(result.ours)
                shown = "\n".join(result.lines()) if result.divergence else result.crash
                line = lines[min(at, len(result.program) - 1)] if result.program else 0
                gravest = _Seen(verdict, shown, line, seconds)
            lines = lines[len(result.program) :]
        return gravest
