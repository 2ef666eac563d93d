"""The loop of one worker: predicted programs go to the kernel in batches, and what differs becomes a finding.

Knows neither the fuzzing engine (`fuzz.harness`) nor the supervisor (`fuzz.session`): it is handed programs by
the one and tells the other. While the kernel runs a batch, the next one is being made.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program
from fuzz import corpus
from fuzz.blame import UNSTABLE, Blame, blame
from fuzz.crash_finding import CrashFinding
from fuzz.crashes import CrashWatch
from fuzz.findings import Finding
from fuzz.inflight import Inflight, orphans, replay_path
from fuzz.inflight import read as read_inflight
from fuzz.ledger import Ledger, Tell
from fuzz.produce import Prepared, Producer
from fuzz.reduction import reduce_crash
from fuzz.replay import Replay, predict
from fuzz.settings import Settings
from fuzz.site import Executor, Observed, Site
from fuzz.statistics import Statistics
from fuzz.steer import Steering
from fuzz.storage import write_atomically
from fuzz.triage import Known
from fuzz.trials import Ran, Trials
from kernel_bridge import BridgeError
from model.errors import Unmodelled

#: Seconds between reports to the supervisor, and between looks for what other workers have added to the corpus.
_REPORT: Final = 0.5
_SHARE: Final = 5.0
#: An unstable signature is tried this often.
_TRIES: Final = 3
#: Seconds for finding out which program a report is of on a kernel as fast as the running one, and where the session is
#: over.
_BLAMING: Final = 60.0
_BLAMING_LATE: Final = 10.0

#: How a divergence came again, in words.
_CONFIRMED: Final = "it came again in 3 of 3 fresh executors"
_ELSEWHERE: Final = "it comes where the window is at another address, too"
_NOT_ELSEWHERE: Final = "it does not come where the window is at another address"
#: Kinds of loss in which the executor died.
_DEATHS: Final = ("signal", "exit", "hang", "oom")


class Follows(Protocol):
    """A further kernel (`fuzz.follow`)."""

    @property
    def is_lost(self) -> bool: ...
    def take_up(self) -> None: ...
    def take(self, prepared: Prepared) -> None: ...
    def stop(self) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class Worker:
    """Compares predicted programs with the kernel until its budget is used up."""

    def __init__(
        self,
        settings: Settings,
        site: Site,
        executor: Executor,
        producer: Producer,
        statistics: Statistics,
        known: Sequence[Known],
        tell: Tell,
        branches: int = 0,
    ) -> None:
        """`executor` is the one to use, `site` where it runs; `branches`: how many the model has."""
        self._settings = settings
        self._site = site
        self._executor = executor
        self._producer = producer
        self._statistics = statistics
        self._tell = tell
        self._branches = branches
        self._environment = executor.environment
        if settings.watched:
            producer.steering = producer.steering or Steering()
        #: Learns from what programs reach on this kernel, if anything of it is watched.
        self._steering = producer.steering if settings.watched_here else None
        if settings.watched_here:
            executor.watch(settings.watched_here)
        self._ledger = Ledger(settings, self._environment, known, tell)
        #: What other executors' kernels printed while they tried programs.
        self._overheard: list[tuple[Ran, bytes]] = []
        self._trials = Trials(
            site,
            self._environment,
            producer.model,
            lambda ran, data: self._overheard.append((ran, data)),
        )
        self._crashes = CrashWatch(
            executor.printed,
            self._trials,
            self._environment,
            settings.profile,
            self._until,
            settings.worker if settings.shared else -1,
        )
        self._inflight = Inflight(
            settings.state_path, settings.session, settings.worker, self._environment.geometry
        )
        self._batch: list[Prepared] = []
        self._submitted: list[Prepared] = []
        #: The kernel was lost when the time was up: nothing more is sent, and stays in flight.
        self._is_cut = False
        self._kept: list[Prepared] = []
        self._since = time.monotonic()
        self._begun = 0
        self._calls = 0
        #: Blocks of the kernel that were reached, where it tells.
        self._blocks = 0
        self._drifted = False
        self._unmodelled: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        #: The signature under which a divergence was confirmed, by the one with which it showed itself.
        self._names_in_full: dict[str, str] = {}
        #: Branches of the model that were reached.
        self.covered: set[int] = set()
        #: Files of the corpus whose programs have run here, or will.
        self.names: set[str] = set()
        self._untold: set[int] = set()
        self._reported = 0.0
        self._shared = time.monotonic()
        self.stopped = False
        #: The kernel is gone for good, and only the followers' go on.
        self._lost = False
        #: Further kernels that are to run the same programs.
        self.followers: list[Follows] = []

    def accept(self, prepared: Prepared) -> bool:
        """Take a program into the next batch; whether it reached branches that none before it did."""
        if not self._lost:
            self._batch.append(prepared)
        self._begun += 1
        if prepared.unmodelled:
            self._unmodelled[prepared.unmodelled] += 1
        if prepared.crash:
            self._ledger.failure(prepared)
        new = not prepared.branches <= self.covered
        if new:
            self._untold |= prepared.branches - self.covered
            self.covered |= prepared.branches
            self._save(prepared.program)
        if len(self._batch) >= self._settings.batch or self._is_last():
            self._guard(self._turn)
        for follower in self.followers:
            follower.take(prepared)
        if self._lost and all(follower.is_lost for follower in self.followers):
            raise BridgeError("every kernel was lost for good")
        return new

    def listen(self) -> None:
        """Take note of what the kernel has reported until now; no program is running."""
        self._tell("waits", seconds=self._site.silence())
        self._crashed(self._crashes.look())

    def take_up(self) -> None:
        """Compare what dead workers were running: the one before this, and, if this is the first, those of dead
        sessions."""
        own = self._inflight.path
        dead = orphans(self._settings.state_path) if self._settings.worker == 0 else []
        for path in (replay_path(own), own, *dead):
            if path.exists():
                self.replay(path)
        for follower in self.followers:
            follower.take_up()

    def stop(self) -> None:
        """Have it be over."""
        self.stopped = True
        for follower in self.followers:
            follower.stop()

    def is_over(self) -> bool:
        """Whether the budget is used up or a stop was asked for: `finish`, then."""
        return self._is_last() or self._is_late() or self._has_found()

    def drain(self) -> None:
        """Compare all that was taken."""
        if self._batch:
            self._guard(self._turn)
        self._guard(self._collect)

    def finish(self) -> None:
        """Compare what is still to be compared, and say the last figures."""
        if self._batch and not self._has_found():
            self._guard(self._turn)
        self._guard(self._collect)
        self._guard(lambda: self._crashed(self._crashes.look(last=True)))
        for follower in self.followers:
            follower.finish()
        if self._kept:
            self._tell_kept(len(self._kept))
        elif not self._lost:
            self._inflight.clear()
        self.report()
        self._tell("done")

    @property
    def environment(self) -> Environment:
        """Where programs run."""
        return self._environment

    def close(self) -> None:
        """Let go of the executor, and of what it ran on."""
        self._executor.close()
        for follower in self.followers:
            follower.close()
        self._site.end()

    def replay(self, path: Path) -> None:
        """Compare the programs that a dead worker was running, one by one, and forget the file.

        A program that is first when the worker dies again is set aside: see `_suspects`. What there is no time for
        stays in the file.
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
        before = self._ledger.sequences, len(self._ledger.seen)
        marker = path.with_suffix(".suspect")
        begin = self._suspects(marker, programs)
        rest: list[Program] = []
        for index in range(begin, len(programs)):
            if self._is_late():
                rest = programs[index:]
                break
            write_atomically(marker, str(index).encode())
            self._send([self._producer.predict(programs[index], full=True)])
            self._collect()
        if rest:
            self._inflight.keep(path, [self._producer.predict(each).data for each in rest])
            self._tell_kept(len(rest))
        else:
            path.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)
        found = len(self._ledger.seen) - before[1]
        self._tell(
            "note",
            text=f"compared {self._ledger.sequences - before[0]} programs that a worker was running when it died:"
            f" {found} divergences",
        )

    def _suspects(self, marker: Path, programs: list[Program]) -> int:
        """Where to begin a replay: behind the program during which the last replay died, which is set aside."""
        try:
            index = int(marker.read_text())
        except (OSError, ValueError):
            return 0
        if index < len(programs):
            self._ledger.loss(programs[index], "the worker died while it ran")
        return index + 1

    def report(self) -> None:
        """Tell the figures of now."""
        self._reported = time.monotonic()
        self._tell(
            "stats",
            **self._ledger.figures(),
            calls=self._calls,
            blocks=self._blocks,
            unmodelled=dict(self._unmodelled),
            executor_restarts=self._executor.restarts,
            statistics=self._statistics.to_json(),
            reached=sorted(self._untold),
            branches=self._branches,
            made=self._producer.made,
        )
        self._untold.clear()

    def _guard(self, act: Callable[[], object]) -> None:
        """Do something with the kernel. If it is lost for good, the followers' go on without it."""
        if self._lost:
            return
        try:
            act()
        except BridgeError as error:
            if all(follower.is_lost for follower in self.followers):
                raise
            self._lost = True
            self._batch, self._submitted = [], []
            self._tell("left", name=self._settings.target, text=str(error))

    def _tell_kept(self, count: int) -> None:
        self._tell(
            "note",
            text=f"the time was up before {count} programs in flight were compared: the next session that has this"
            " state begins with them",
        )

    def _has_found(self) -> bool:
        """One was enough, and it is found."""
        return self._settings.until_found and self._ledger.confirmed

    def _is_last(self) -> bool:
        return self._settings.runs is not None and self._begun >= self._settings.runs

    def _until(self) -> float:
        """How long a report may be looked into that has just come."""
        return time.monotonic() + (
            _BLAMING_LATE if self._is_late() else _BLAMING * self._trials.slow
        )

    def _is_late(self) -> bool:
        """Whether a stop was asked for, or the time is up."""
        deadline = self._settings.deadline
        return self.stopped or (deadline is not None and time.monotonic() >= deadline)

    def _turn(self) -> None:
        """Compare the batch that is out, send the next one."""
        self._collect()
        batch, self._batch = self._batch, []
        if self._is_cut:
            self._keep(batch)
            return
        if self._has_found():
            return
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
        self._ledger.sequences += len(batch) - len(runnable)
        if runnable:
            full = [index for index, prepared in enumerate(runnable) if prepared.full]
            self._executor.submit([prepared.program for prepared in runnable], full)
            self._submitted = runnable

    def _keep(self, rest: Sequence[Prepared]) -> None:
        """There is no time left for these."""
        self._kept += rest
        self._inflight.record([prepared.data for prepared in self._kept])

    def _collect(self) -> None:
        """Compare what is out. Where the kernel is lost, that is looked into before more is sent."""
        while self._submitted:
            whole, observations = self._submitted, self._executor.collect(until_lost=True)
            count = len(observations)
            self._submitted = whole[:count]
            self._compare(observations)
            rest, last = whole[count:], observations[-1].loss
            if self._has_found():
                return
            if last is not None and last.kind == "crash" and self._is_late():
                self._is_cut = True
                self._keep(rest)
            elif rest:
                self._inflight.record([prepared.data for prepared in rest])
                self._send(rest)

    def _compare(self, observations: Sequence[Observed]) -> None:
        lost = next(
            (i for i, o in enumerate(observations) if o.loss and o.loss.kind in _DEATHS), None
        )
        for prepared, observed in zip(self._submitted, observations, strict=True):
            self._ledger.sequences += 1
            self._calls += len(prepared.program)
            if observed.fresh:
                self._blocks += observed.fresh
                self._producer.keep(prepared.program)
                self._save(prepared.program)
            if self._steering is not None:
                self._steering.approach(
                    prepared.program, prepared.made_of, observed.near, observed.rarest
                )
            if observed.data != prepared.expected or observed.loss is not None:
                self._examine(prepared, observed)
            self._crashes.follow(Ran(prepared.program, prepared.full))
        count = len(self._submitted)
        ran = zip(self._submitted, observations, strict=True)
        nearer = [prepared for prepared, o in ran if o.near and not o.rarest]
        self._submitted = []
        self._crashed(self._crashes.look(count, lost))
        self._tell_reached(nearer)
        while self._overheard:
            self._crashed(self._crashes.overheard(*self._overheard.pop(0)))

    def _tell_reached(self, nearer: Sequence[Prepared]) -> None:
        """Which watched blocks these programs reach, each run alone."""
        for prepared in nearer:
            (observed,) = self._executor.run([prepared.program])
            if observed.loss is None:
                text = format_program(prepared.program, self._environment.geometry)
                places = sorted(self._executor.reached())
                self._tell("reached", name=self._settings.target, places=places, program=text)

    def _examine(self, prepared: Prepared, observed: Observed) -> None:
        """What did not go as predicted: a divergence, or an executor that did not live to say."""
        try:
            expected = self._producer.settle(prepared, observed.data)
        except Unmodelled as error:
            self._unmodelled[error.reason] += 1
            expected = observed.data
        packed = (expected, observed.data)
        seen = Replay.of(prepared.program, self._environment, packed, full=prepared.full)
        if seen.divergence is not None:
            self._diverged(prepared, seen)
        loss = observed.loss
        if loss is not None:
            self._ledger.loss(prepared.program, loss.text)
            if loss.kind == "crash":
                self.report()  # what follows takes a while
                self._crashed(
                    self._crashes.died(
                        Ran(prepared.program, prepared.full), loss.text, loss.console
                    )
                )
        elif seen.divergence is None and expected != observed.data:
            self._ledger.loss(prepared.program, "the trace was cut short, and nothing said why")

    def _diverged(self, prepared: Prepared, seen: Replay) -> None:
        text = self._names_in_full.get(seen.text, seen.text)
        if self._ledger.counts(text):
            return
        if self._tries[text] >= _TRIES:
            self._ledger.unstable += 1
            return
        self._tries[text] += 1
        assert seen.divergence is not None
        program = prepared.program[: seen.divergence.index + 1]
        again = self._confirm(Ran(program, full=True))
        if again is None and not prepared.full:
            again = self._confirm(Ran(program))
        if again is None:
            self._ledger.divergence(self._finding(seen, UNSTABLE, stable=False))
            return
        if again.text != seen.text:
            self._names_in_full[seen.text] = again.text
            if self._ledger.seen[again.text]:
                # Observed in full it is one that was seen before.
                self._ledger.seen[again.text] += 1
                return
        self._ledger.divergence(self._blamed(again), self._refine)

    def _blamed(self, seen: Replay) -> Finding:
        return self._finding(seen, blame(seen, self._producer.model, (_CONFIRMED,)))

    def _finding(self, seen: Replay, whose: Blame, *, stable: bool = True) -> Finding:
        s = self._settings
        return Finding(
            seen,
            s.profile,
            s.changes,
            s.seed,
            whose,
            stable,
            seen.program,
            sequences=self._ledger.sequences,
            seconds=round(time.monotonic() - self._since, 1),
        )

    def _refine(self, finding: Finding) -> Finding:
        """The finding with the smallest program that shows it, and where else that does."""
        found, text, full = finding, finding.signature, finding.replay.full
        original = finding.program
        how = "it could not be made smaller"
        smaller = self._trials.minimize(text, Ran(original, full), self._is_late)
        if smaller.program != original:
            again = self._confirm(Ran(smaller.program, full))
            if again is not None and again.text == text:
                finding = self._blamed(again)
                how = smaller.line(original)
        moved = self._trials.elsewhere(text, Ran(finding.program, full))
        stability = (_CONFIRMED, _ELSEWHERE if moved else _NOT_ELSEWHERE)
        return replace(
            finding,
            original=original,
            sequences=found.sequences,
            seconds=found.seconds,
            minimized=how,
            minimize_seconds=round(smaller.seconds, 3),
            blame=replace(finding.blame, stability=stability),
        )

    def _confirm(self, ran: Ran) -> Replay | None:
        found = self._trials.divergence(ran)
        drift = self._trials.drift
        if drift and not self._drifted:
            self._drifted = True
            self._tell(
                "note",
                text=f"the machine is not as it was when this began ({drift}): nothing can be confirmed any more",
            )
        return found

    def _crashed(self, found: Sequence[CrashFinding]) -> None:
        """Reports of the kernel: written down as they are, then made smaller."""
        for each in found:
            finding = replace(
                self._predicted(each.located(self._site.vmlinux)),
                sequences=self._ledger.sequences,
                seconds=round(time.monotonic() - self._since, 1),
            )
            path = self._ledger.crash(finding)
            if path is None:
                continue
            reduction = reduce_crash(finding, self._trials, self._is_late)
            if reduction is not None:
                self._predicted(replace(finding, reduction=reduction)).rewrite(path)

    def _predicted(self, finding: CrashFinding) -> CrashFinding:
        """With what the model says of the program that is left."""
        trace = b""
        if finding.left is not None:
            trace, *troubles = predict(self._producer.model, finding.left)
            trace = b"" if any(troubles) else trace
        return replace(finding, predicted=trace)

    def _save(self, program: Program) -> None:
        if program:
            geometry = self._environment.geometry
            self.names.add(corpus.save(self._settings.corpus_path, program, geometry))

    def _look_around(self) -> None:
        """Queue what other workers have added to the corpus."""
        geometry = self._environment.geometry
        for entry in corpus.load(self._settings.corpus_path, geometry, skip=self.names):
            self.names.add(entry.path.name)
            if entry.program:
                self._producer.queue.append(entry.program)
