"""The loop of one worker: predicted programs go to the kernel in batches, and what differs becomes a finding.

Knows neither the fuzzing engine (`fuzz.harness`) nor the supervisor (`fuzz.session`): it is handed programs by
the one and tells the other. While the kernel runs a batch, the next one is being made.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program
from abi.trace import unpack
from fuzz import corpus, findings
from fuzz.compare import Divergence, first_divergence, initial_layout
from fuzz.crashes import CrashFinding, CrashWatch
from fuzz.inflight import Inflight, replay_path
from fuzz.inflight import read as read_inflight
from fuzz.produce import Prepared, Producer
from fuzz.settings import Settings
from fuzz.statistics import Statistics
from fuzz.storage import write_atomically
from fuzz.triage import Known, explanation, signature
from model.errors import Unmodelled

#: Seconds between reports to the supervisor, and between looks for what other workers have added to the corpus.
_REPORT: Final = 0.5
_SHARE: Final = 5.0
#: Fresh executors a divergence has to show itself in.
CONFIRMATIONS: Final = 3
#: An unstable signature is tried this often.
_TRIES: Final = 3
#: Signatures that are looked into, and kinds of loss that are written down, per worker.
_MOST_SIGNATURES: Final = 500
_MOST_LOSSES: Final = 100

#: Kinds of loss in which the executor died.
_DEATHS: Final = ("signal", "exit", "hang", "oom")
#: How the signature of a failure of the model itself begins.
CRASHED: Final = "the model failed"

Tell = Callable[..., None]


class Loss(Protocol):
    """How an executor was lost: `text` is one line, `console` what the kernel printed as it died."""

    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def console(self) -> str: ...


class Observed(Protocol):
    """What an executor saw of one program: the packed trace, and how the executor was lost, if it was."""

    @property
    def data(self) -> bytes: ...
    @property
    def loss(self) -> Loss | None: ...


class Executor(Protocol):
    """What the loop asks of `kernel_bridge.KernelExecutor`."""

    @property
    def environment(self) -> Environment: ...
    @property
    def restarts(self) -> int: ...
    def run(self, programs: Sequence[Program], *, full: bool = False) -> Sequence[Observed]: ...
    def submit(self, programs: Sequence[Program], full: Iterable[int] = ()) -> None: ...
    def collect(self) -> Sequence[Observed]: ...
    def close(self) -> None: ...


class Follows(Protocol):
    """A further kernel (`fuzz.follow`)."""

    def take(self, program: Program, full: bool) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class Worker:
    """Compares predicted programs with the kernel until its budget is used up."""

    def __init__(
        self,
        settings: Settings,
        start_executor: Callable[[], Executor],
        executor: Executor,
        producer: Producer,
        statistics: Statistics,
        known: Sequence[Known],
        tell: Tell,
        branches: int = 0,
        end: Callable[[], None] = lambda: None,
        printed: Callable[[], bytes] = bytes,
    ) -> None:
        """`executor` is the one to use, `start_executor` starts further ones; `branches`: how many the model has; `end`
        is called when there is no more to run; `printed` gives what the kernel printed since the last time."""
        self._settings = settings
        self._start_executor = start_executor
        self._executor = executor
        self._producer = producer
        self._statistics = statistics
        self._known = list(known)
        self._tell = tell
        self._branches = branches
        self._end = end
        self._printed = printed
        self._crashes = CrashWatch(
            printed,
            executor.environment,
            settings.profile,
            settings.worker if settings.shared else -1,
        )
        self._environment = executor.environment
        self._initial = initial_layout(self._environment)
        self._state = settings.state_path
        self._inflight = Inflight(
            self._state, settings.session, settings.worker, self._environment.geometry
        )
        self._batch: list[Prepared] = []
        self._submitted: list[Prepared] = []
        self._begun = 0
        self._sequences = 0
        self._calls = 0
        self._unmodelled: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        #: The signature under which a divergence was confirmed, by the one with which it showed itself.
        self._names_in_full: dict[str, str] = {}
        self._unstable = 0
        self._losses: Counter[str] = Counter()
        #: Branches of the model that were reached.
        self.covered: set[int] = set()
        self._untold: set[int] = set()
        self._names: set[str] = set()
        self._reported = 0.0
        self._shared = time.monotonic()
        self._confirmed = False
        self.stopped = False
        #: Further kernels that are to run the same programs.
        self.followers: list[Follows] = []

    def accept(self, prepared: Prepared) -> bool:
        """Take a program into the next batch; whether it reached branches that none before it did."""
        self._batch.append(prepared)
        self._begun += 1
        if prepared.unmodelled:
            self._unmodelled[prepared.unmodelled] += 1
        if prepared.crash:
            self._crashed(prepared)
        new = not prepared.branches <= self.covered
        if new:
            self._untold |= prepared.branches - self.covered
            self.covered |= prepared.branches
            self._save(prepared.program)
        if len(self._batch) >= self._settings.batch or self._is_last():
            self._turn()
        for follower in self.followers:
            follower.take(prepared.program, prepared.full)
        return new

    def is_over(self) -> bool:
        """Whether the budget is used up or a stop was asked for: `finish`, then."""
        s = self._settings
        if self.stopped or self._is_last() or (s.until_found and self._confirmed):
            return True
        return s.deadline is not None and time.monotonic() >= s.deadline

    def finish(self) -> None:
        """Compare what is still to be compared, and say the last figures."""
        if self._batch and not (self._settings.until_found and self._confirmed):
            self._turn()
        self._collect()
        for finding in self._crashes.look(0, self._rerun, last=True):
            self._report_crash(finding)
        for follower in self.followers:
            follower.finish()
        self._inflight.clear()
        self.report()
        self._tell("done")

    @property
    def inflight_path(self) -> Path:
        """Where the programs under way are written down."""
        return self._inflight.path

    def close(self) -> None:
        """Let go of the executor, and of what it ran on."""
        self._executor.close()
        for follower in self.followers:
            follower.close()
        self._end()

    def replay(self, path: Path) -> None:
        """Compare the programs that a dead worker was running, one by one, and forget the file.

        A program that is first when the worker dies again is set aside: see `_suspects`.
        """
        if path == self._inflight.path:
            path = path.rename(replay_path(path))
        try:
            programs = read_inflight(path)
        except (ValueError, OSError) as error:
            self._tell("note", text=f"skipped {error}")
            with contextlib.suppress(OSError):
                path.unlink()
            return
        before = self._sequences, len(self._seen)
        marker = path.with_suffix(".suspect")
        begin = self._suspects(marker, programs)
        for index in range(begin, len(programs)):
            write_atomically(marker, str(index).encode())
            self._send([self._producer.predict(programs[index], full=True)])
            self._collect()
        path.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)
        found = len(self._seen) - before[1]
        self._tell(
            "note",
            text=f"compared {self._sequences - before[0]} programs that a worker was running when it died:"
            f" {found} divergences",
        )

    def _suspects(self, marker: Path, programs: list[Program]) -> int:
        """Where to begin a replay: behind the program during which the last replay died, which is set aside."""
        try:
            index = int(marker.read_text())
        except (OSError, ValueError):
            return 0
        if index < len(programs):
            self._lose(programs[index], "the worker died while it ran")
        return index + 1

    def report(self) -> None:
        """Tell the figures of now."""
        self._reported = time.monotonic()
        self._tell(
            "stats",
            sequences=self._sequences,
            calls=self._calls,
            unmodelled=dict(self._unmodelled),
            unstable=self._unstable,
            losses=len(self._losses),
            executor_restarts=self._executor.restarts,
            statistics=self._statistics.to_json(),
            occurrences=dict(self._seen),
            reached=sorted(self._untold),
            branches=self._branches,
            made=self._producer.made,
        )
        self._untold.clear()

    def _is_last(self) -> bool:
        return self._settings.runs is not None and self._begun >= self._settings.runs

    def _turn(self) -> None:
        """Compare the batch that is out, send the next one."""
        self._collect()
        batch, self._batch = self._batch, []
        self._inflight.record([prepared.data for prepared in batch])
        self._send(batch)
        now = time.monotonic()
        if now - self._reported >= _REPORT:
            self.report()
        if self._settings.shared and now - self._shared >= _SHARE:
            self._shared = now
            self._look_around()

    def _send(self, batch: list[Prepared]) -> None:
        """Have the kernel run what there is to run."""
        runnable = [prepared for prepared in batch if prepared.program and not prepared.crash]
        self._sequences += len(batch) - len(runnable)
        if runnable:
            full = [index for index, prepared in enumerate(runnable) if prepared.full]
            self._executor.submit([prepared.program for prepared in runnable], full)
            self._submitted = runnable

    def _collect(self) -> None:
        if not self._submitted:
            return
        observations = self._executor.collect()
        lost = next(
            (i for i, o in enumerate(observations) if o.loss and o.loss.kind in _DEATHS), None
        )
        for prepared, observed in zip(self._submitted, observations, strict=True):
            self._sequences += 1
            self._calls += len(prepared.program)
            if observed.data != prepared.expected or observed.loss is not None:
                self._examine(prepared, observed)
            self._crashes.follow(prepared.program)
        count = len(self._submitted)
        self._submitted = []
        for finding in self._crashes.look(count, self._rerun, lost):
            self._report_crash(finding)

    def _examine(self, prepared: Prepared, observed: Observed) -> None:
        """What did not go as predicted: a divergence, or an executor that did not live to say."""
        try:
            expected = self._producer.settle(prepared, observed.data)
        except Unmodelled as error:
            self._unmodelled[error.reason] += 1
            return
        divergence = first_divergence(expected, observed.data, self._initial)
        if divergence is not None:
            self._diverged(prepared, divergence)
        if observed.loss is not None:
            self._lose(prepared.program, observed.loss.text)
            if observed.loss.kind == "crash":
                loss = observed.loss
                for finding in self._crashes.died(
                    prepared.program, loss.text, loss.console, self._rerun
                ):
                    self._report_crash(finding)
        elif divergence is None and expected != observed.data:
            self._lose(prepared.program, "the trace was cut short, and nothing said why")

    def _diverged(self, prepared: Prepared, divergence: Divergence) -> None:
        program = prepared.program[: divergence.index + 1]
        first = signature(program[-1], divergence)
        text = self._names_in_full.get(first, first)
        if self._seen[text] or (len(self._seen) >= _MOST_SIGNATURES and text not in self._seen):
            self._seen[text] += 1
            return
        if self._tries[text] >= _TRIES:
            self._unstable += 1
            return
        self._tries[text] += 1
        again = self._confirm(program, full=True)
        if again is None and not prepared.full:
            again = self._confirm(program, full=False)
        stable = again is not None
        if again is not None:
            divergence = again
            program = program[: divergence.index + 1]
            text = self._names_in_full[first] = signature(program[-1], divergence)
            if self._seen[text]:
                # Observed in full it is one that was seen before.
                self._seen[text] += 1
                return
        values = self._values(program)[: divergence.index]
        finding = findings.Finding(
            signature=text,
            program=program,
            divergence=divergence,
            values=values,
            environment=self._environment,
            profile=self._settings.profile,
            changes=self._settings.changes,
            seed=self._settings.seed,
            stable=stable,
        )
        if not stable:
            self._unstable += 1
            findings.write(self._state / "unstable", finding)
            return
        self._seen[text] += 1
        known = explanation(text, self._environment.release, self._known)
        self._confirmed = self._confirmed or known is None
        path = ""
        try:
            if known is None:
                path = str(findings.write(self._state / "findings", finding)[0])
        finally:
            self._tell(
                "finding",
                signature=text,
                path=path,
                cause=known.cause if known else "",
                report="" if path or known else finding.text(),
                index=self._sequences,
            )

    def _values(self, program: Program) -> tuple[int, ...]:
        expected = self._producer.predict(program).expected
        return tuple(step.value for step in unpack(expected, self._initial))

    def _confirm(self, program: Program, *, full: bool) -> Divergence | None:
        """The divergence that shows itself in each of three executors that have run nothing else; None if it is not the
        same in all of them."""
        prepared = self._producer.predict(program, full=full)
        found: Divergence | None = None
        for _ in range(CONFIRMATIONS):
            executor = self._start_executor()
            try:
                (observed,) = executor.run([prepared.program], full=full)
            finally:
                executor.close()
            expected = self._producer.settle(prepared, observed.data)
            again = first_divergence(expected, observed.data, self._initial)
            if again is None:
                return None
            text = signature(program[again.index], again)
            if found is not None and text != signature(program[found.index], found):
                return None
            found = again
        return found

    def _rerun(self, programs: Sequence[Program]) -> list[tuple[bytes, bool]]:
        """Each program alone on a fresh executor: what the kernel printed, and whether it died."""
        executor = self._start_executor()
        results = []
        try:
            self._printed()
            for program in programs:
                (observed,) = executor.run([program])
                dead = observed.loss is not None and observed.loss.kind == "crash"
                said = observed.loss.console.encode() if observed.loss is not None else b""
                results.append((said + self._printed(), dead))
        finally:
            executor.close()
        return results

    def _report_crash(self, finding: CrashFinding) -> None:
        """A report of the kernel is a finding, or unstable."""
        text = finding.signature
        self._seen[text] += 1
        if not finding.stable:
            self._unstable += 1
        self._confirmed = True
        path = str(finding.write(self._state / "findings"))
        index = self._sequences
        self._tell("finding", signature=text, path=path, cause="", report="", index=index)

    def _crashed(self, prepared: Prepared) -> None:
        """The model itself failed: a finding, though not about the kernel."""
        where = [line.strip() for line in prepared.crash.strip().splitlines()]
        place = next((line for line in reversed(where) if line.startswith("File ")), "")
        place = place.rpartition("/")[2].replace('"', "")
        text = f"{CRASHED}: {where[-1][:80]} ({place})"
        self._seen[text] += 1
        if self._seen[text] > 1 or len(self._seen) > _MOST_SIGNATURES:
            return
        calls = format_program(prepared.program, self._environment.geometry)
        directory = self._state / "findings"
        path = findings.write_crash(directory, text, calls, prepared.crash)
        self._confirmed = True
        index = self._sequences
        self._tell("finding", signature=text, path=str(path), cause="", report="", index=index)

    def _lose(self, program: Program, reason: str) -> None:
        """Keep one program for each way an executor was lost."""
        self._losses[reason] += 1
        if self._losses[reason] > 1 or len(self._losses) > _MOST_LOSSES:
            return
        text = f"# {reason}\n{format_program(program, self._environment.geometry)}"
        directory = self._state / "losses"
        directory.mkdir(exist_ok=True)
        name = findings.name_of(reason) + corpus.SUFFIX
        write_atomically(directory / name, text.encode())

    def _save(self, program: Program) -> None:
        if program:
            geometry = self._environment.geometry
            self._names.add(corpus.save(self._settings.corpus_path, program, geometry))

    def _look_around(self) -> None:
        """Queue what other workers have added to the corpus."""
        geometry = self._environment.geometry
        for entry in corpus.load(self._settings.corpus_path, geometry, skip=self._names):
            self._names.add(entry.path.name)
            if entry.program:
                self._producer.queue.append(entry.program)
