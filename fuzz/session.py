"""A fuzzing session: workers are started, watched, replaced when they die, stopped in time, and summed up."""

import contextlib
import json
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fuzz.chronicle import Chronicle
from fuzz.corpus import SUFFIX
from fuzz.crew import PATIENCE, Crew, Hand
from fuzz.display import Figures, Screen
from fuzz.inflight import leftovers
from fuzz.resume import Past, began, untold, write
from fuzz.settings import Message, Settings

#: A worker that dies this often without having compared anything in between is not started again.
_MOST_DEATHS: Final = 5
#: Seconds that the shown rates look back.
_RECENT: Final = 5.0
_TICK: Final = 0.2
#: Seconds past the deadline after which workers are reminded of it.
_GRACE: Final = 2.0
_SEED_STEP: Final = 0x9E3779B1
#: In the place of a worker: what was done before the session went on.
_BEFORE: Final = -1
#: What is kept of the message of a finding.
_TOLD: Final = ("signature", "path", "cause", "kernel", "signature_there")


@dataclass(frozen=True, slots=True)
class Options:
    """What a session is asked to do. Directories exist; release: that of the kernel, for people; seconds None means no
    limit, as does runs None; compiled: the directory of the compiled model, None to run what is written; held: the
    release whose behaviour was asked for, "" for the kernel's own; resumable: how far it comes is written down, so that
    another can go on there; reduce_known, watched, like, until_found, enumerate: as in `fuzz.settings.Settings`, where
    `runs` is only how many programs there are to be compared."""

    state: Path
    corpus: Path
    profile: str
    changes: tuple[str, ...]
    seed: int
    workers: int = 1
    seconds: float | None = None
    runs: int | None = None
    guided: bool = True
    seeds: bool = True
    unmask: bool = False
    reduce_known: bool = True
    user: bool = False
    target: str = "local"
    also: tuple[str, ...] = ()
    compiled: Path | None = None
    release: str = ""
    held: str = ""
    resumable: bool = False
    watched: dict[str, tuple[int, ...]] = field(default_factory=dict)
    like: bool = False
    until_found: bool = False
    enumerate: bool = False


@dataclass(slots=True)
class Outcome:
    """How a session ended. new, known: signature -> directory or cause; failure: one line where it had to give up;
    unfinished: one line where a worker was lost that was to finish; made: programs that the producer made, where the
    engine asked for them; also: what further kernels ran, by their names; reached: of each kernel, watched blocks by
    place, and the first program that reached each; left: kernels that were lost for good, and why."""

    figures: Figures
    new: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    made: int = 0
    interrupted: bool = False
    failure: str = ""
    unfinished: str = ""
    also: dict[str, dict[str, int]] = field(default_factory=dict)
    reached: dict[str, dict[int, str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


class Session:
    """One run of `vmadiff fuzz` behind its command line."""

    def __init__(
        self, options: Options, screen: Screen, title: str, past: Past | None = None
    ) -> None:
        """`past`: the session that this one is to go on with; its figures count on, and so do its limits."""
        self._options = options
        self._screen = screen
        self._title = title
        self._crew = Crew()
        self._begun = time.monotonic()
        self._done: dict[int, dict[str, Any]] = {}  # by worker: sums of its dead incarnations
        self._live: dict[int, Message] = {}
        self._deaths: dict[int, int] = {}
        self._finished: set[int] = set()
        self._covered: set[int] = set()
        self._recent: deque[tuple[float, int, int]] = deque([(self._begun, 0, 0)])
        self._interrupts = 0
        self._said: set[str] = set()
        self._followers: dict[tuple[int, str], Message] = {}
        self._followed: dict[str, dict[str, Any]] = {}  # by kernel: sums of dead incarnations
        self._outcome = Outcome(
            Figures(workers=options.workers, guided=options.guided, enumerated=options.enumerate)
        )
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        process = (os.getpid(), began(os.getpid()))
        asked = json.loads(json.dumps(asdict(options), default=str))
        self._past = past or Past(name, process, int(time.time()), asked)
        self._chronicle = Chronicle(
            options.state, self._past.session, options.release, options.profile
        )
        if past is not None:
            past.process, past.options = process, asked
            self._take_up(past)

    def run(self) -> Outcome:
        """Fuzz until a limit, Ctrl-C or a failure; leaves no process behind.

        Raises:
            OSError: a worker could not be started, or the state directory not be read.
        """
        try:
            with self._interruptible():
                self._start()
                while self._crew.hands:
                    for hand, messages in list(self._crew.listen(_TICK)):
                        self._hear(hand, messages)
                    self._watch_time()
                    figures = self._figures()
                    self._screen.update(figures, self._title)
                    if self._chronicle.is_due(figures.seconds):
                        self._record(figures)
        finally:
            self._crew.close()
            self._screen.close()
        outcome = self._outcome
        self._record(self._figures())
        outcome.figures = self._figures(whole=True)
        for name in self._options.also:
            outcome.also[name] = self._ran(name)
        total = _sum([*self._done.values()])
        outcome.statistics, outcome.made = total.get("statistics", {}), total.get("made", 0)
        return outcome

    def _take_up(self, past: Past) -> None:
        """Begin where the session came to."""
        past.resumed += 1
        past.incarnation += 1
        outcome, f = self._outcome, self._outcome.figures
        self._begun = time.monotonic() - past.seconds
        self._done[_BEFORE] = past.sums
        self._covered.update(past.covered)
        self._followed.update(past.followers)
        outcome.left.update(past.left)
        f.branches, f.blocks, f.worker_restarts = past.branches, past.blocks, past.worker_restarts
        sequences, calls = past.sums.get("sequences", 0), past.sums.get("calls", 0)
        self._recent = deque([(time.monotonic(), sequences, calls)])
        for message in list(past.findings.values()):
            self._know(message)
        o = self._options
        for signature, path in untold(past, o.state):
            told = {"signature": signature, "path": path, "cause": "", "kernel": o.release}
            self._find({**told, "signature_there": ""})

    def _start(self) -> None:
        o = self._options
        self._keep(self._figures(), begins=True)
        deadline = None if o.seconds is None else self._begun + o.seconds
        for worker in range(o.workers):
            runs = None
            if o.runs is not None and not o.enumerate:
                left = max(0, o.runs - self._past.sums.get("sequences", 0))
                runs = left // o.workers + (worker < left % o.workers)
            self._hire(
                Settings(
                    worker=worker,
                    session=os.getpid(),
                    pipe=-1,
                    seed=_seed(o.seed, worker, self._past.incarnation),
                    state=str(o.state),
                    corpus=str(o.corpus),
                    profile=o.profile,
                    changes=o.changes,
                    runs=runs,
                    deadline=deadline,
                    cpus=processors(worker, o.workers),
                    guided=o.guided,
                    seeds=o.seeds,
                    unmask=o.unmask,
                    reduce_known=o.reduce_known,
                    user=o.user,
                    target=o.target,
                    also=o.also,
                    compiled=str(o.compiled or ""),
                    watched=o.watched,
                    like=o.like,
                    until_found=o.until_found,
                    enumerate=o.enumerate,
                    shared=o.workers > 1,
                )
            )

    def _hire(self, settings: Settings) -> None:
        log = self._options.state / f"worker-{settings.session}-{settings.worker}.log"
        self._crew.hire(settings, log)

    def _hear(self, hand: Hand, messages: list[Message] | None) -> None:
        if messages is None:
            self._end(hand)
            return
        for message in messages:
            if message["kind"] == "waits":
                hand.patience = PATIENCE + message["seconds"]
            else:
                self._take(hand.settings.worker, message)

    def _take(self, worker: int, message: Message) -> None:
        match message["kind"]:
            case "stats":
                self._live[worker] = message
                self._cover(message)
                self._chronicle.hear(worker, message["occurrences"])
            case "finding":
                self._find(message)
            case "follower":
                self._followers[worker, message["name"]] = message
                self._chronicle.hear((worker, message["name"]), message["occurrences"])
            case "reached":
                here = self._outcome.reached.setdefault(message["name"], {})
                for place in message["places"]:
                    here.setdefault(place, message["program"])
            case "left":
                self._outcome.left.setdefault(message["name"], message["text"])
                self._note(f"{message['name']} is left behind: {message['text']}")
            case "note":
                self._note(message["text"])
            case "failure":
                self._outcome.failure = self._outcome.failure or message["text"]
                self._crew.ask_all()
            case "done":
                self._finished.add(worker)

    def _cover(self, message: Message) -> None:
        before = self._outcome.figures.branches
        if message["branches"] != before > 0:
            # Numbers are those of another instrumentation: of other sources, or of none.
            self._covered.clear()
            self._outcome.figures.branches = 0
        self._covered.update(message["reached"])

    def _ran(self, name: str) -> dict[str, int]:
        """What a further kernel ran."""
        told = [m for (_, other), m in self._followers.items() if other == name]
        total = _sum([self._followed.get(name, {}), *told])
        return {each: total.get(each, 0) for each in ("sequences", "calls")}

    def _keep(self, figures: Figures, *, begins: bool = False) -> None:
        """Write down how far it came, for another session to go on.

        Raises:
            OSError: it could not be written.
        """
        past, o = self._past, self._options
        if not o.resumable:
            return
        past.seconds = figures.seconds
        past.sums = _sum([*self._done.values(), *self._live.values()])
        past.covered, past.branches = sorted(self._covered), figures.branches
        past.blocks, past.worker_restarts = figures.blocks, figures.worker_restarts
        past.followers = {name: self._ran(name) for name in o.also}
        past.left = self._outcome.left
        write(o.state, past, begins=begins)

    def _record(self, figures: Figures) -> None:
        """Write down how it stands; that it cannot be written is no reason to stop."""
        try:
            self._keep(figures)
            self._chronicle.write(figures)
        except OSError as error:
            self._note(f"the record of this session cannot be written: {error}")

    def _note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._screen.note(text)

    def _find(self, message: Message) -> None:
        if not self._know(message):
            return
        text, path = message["signature"], message["path"]
        if message["cause"]:
            self._screen.note(f"known divergence: {text}\n  {message['cause']}")
        else:
            where = f"  {path}/report.md" if path else message["report"]
            self._screen.note(f"NEW divergence: {text}\n{where}")
        try:
            self._keep(self._figures())
        except OSError as error:
            self._note(f"the record of this session cannot be written: {error}")

    def _know(self, message: Message) -> bool:
        """Count a finding; whether it was not known yet."""
        text, path, cause = message["signature"], message["path"], message["cause"]
        try:
            self._chronicle.found(text, path, cause, message["kernel"], message["signature_there"])
        except OSError as error:
            self._note(f"the record of this session cannot be written: {error}")
        if text in self._outcome.known or text in self._outcome.new:
            return False
        if cause:
            self._outcome.known[text] = cause
        else:
            self._outcome.new[text] = path
        self._past.findings[text] = {name: message[name] for name in _TOLD}
        return True

    def _end(self, hand: Hand) -> None:
        """A worker is gone: as it should, or to be replaced with what is left of its task."""
        worker = hand.settings.worker
        status = self._crew.let_go(hand)
        stats = self._live.pop(worker, {})
        for source in (worker, *((worker, name) for name in self._options.also)):
            self._chronicle.forget(source)
        for name in self._options.also:
            told = self._followers.pop((worker, name), {})
            self._followed[name] = _sum([self._followed.get(name, {}), told])
        self._done[worker] = _sum([self._done.get(worker, {}), stats])
        if worker in self._finished:
            if not self._deaths:
                with contextlib.suppress(OSError):
                    hand.log.unlink()
            return
        if self._outcome.failure or self._interrupts > 1:
            return
        compared = stats.get("sequences", 0)
        words = hand.last_words() if status > 0 else ""
        cause = _status_text(status) + (f": {words}" if words else "")
        if hand.asked is not None or self._is_late():
            self._leave(worker, cause)
            return
        self._deaths[worker] = 1 if compared else self._deaths.get(worker, 0) + 1
        if self._deaths[worker] >= _MOST_DEATHS:
            self._outcome.failure = f"worker {worker} keeps dying ({cause}); see {hand.log}"
            self._crew.ask_all()
            return
        self._screen.note(f"worker {worker} died ({cause}); starting another")
        figures = self._outcome.figures
        figures.worker_restarts += 1
        self._past.incarnation += 1
        runs = hand.settings.runs
        self._hire(
            replace(
                hand.settings,
                seed=_seed(self._options.seed, worker, self._past.incarnation),
                runs=None if runs is None else max(0, runs - compared),
            )
        )

    def _leave(self, worker: int, cause: str) -> None:
        """It died when it was to finish: there is no time for another."""
        text = f"worker {worker} died ({cause}) when the time was up"
        if leftovers(self._options.state):
            text += f": what it was running is compared first by the next session in {self._options.state}"
        self._outcome.unfinished = self._outcome.unfinished or text
        self._note(text)

    def _is_late(self, grace: float = 0.0) -> bool:
        limit = self._options.seconds
        return limit is not None and time.monotonic() > self._begun + limit + grace

    def _watch_time(self) -> None:
        if self._is_late(_GRACE) or self._interrupts or self._outcome.failure:
            self._crew.ask_all()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first SIGINT, SIGTERM or SIGHUP asks the workers to finish, the second kills them."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupts += 1
            self._outcome.interrupted = True
            if self._interrupts > 1:
                for hand in self._crew.hands:
                    hand.kill()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _figures(self, whole: bool = False) -> Figures:
        """The sums of now; rates over the last seconds, or the `whole` session."""
        o, f = self._options, self._outcome.figures
        total = _sum([*self._done.values(), *self._live.values()])
        now = time.monotonic()
        f.seconds = now - self._begun
        f.time_limit, f.run_limit = o.seconds, o.runs
        f.sequences, f.calls = total.get("sequences", 0), total.get("calls", 0)
        self._recent.append((now, f.sequences, f.calls))
        while len(self._recent) > 2 and now - self._recent[1][0] > _RECENT:
            self._recent.popleft()
        at, sequences, calls = (self._begun, 0, 0) if whole else self._recent[0]
        span = max(now - at, 1e-9)
        f.sequences_per_second = (f.sequences - sequences) / span
        f.calls_per_second = (f.calls - calls) / span
        f.corpus = _count(o.corpus)
        f.covered = len(self._covered)
        f.branches = max([f.branches, *(m["branches"] for m in self._live.values())])
        f.guided = f.branches > 0
        # Each worker's guest counts for itself.
        f.blocks = max([f.blocks, *(m["blocks"] for m in self._live.values())])
        f.new, f.known = len(self._outcome.new), len(self._outcome.known)
        f.unstable = total.get("unstable", 0)
        f.losses = total.get("losses", 0)
        f.unmodelled = total.get("unmodelled", {})
        f.executor_restarts = total.get("executor_restarts", 0)
        made = total.get("statistics", {})
        f.mremap_success = _share(made.get("mremaps_done", 0), made.get("mremaps", 0))
        f.multi_vma = _share(made.get("multi_moves", 0), made.get("moves", 0))
        return f


def processors(worker: int, workers: int) -> tuple[int, ...]:
    """Where worker number `worker` and its executor run: a processor each if there are enough, else where they like."""
    usable = sorted(os.sched_getaffinity(0))
    if workers > 1 and workers * 2 > len(usable) >= workers:
        return (usable[worker],)
    return ()


def _seed(seed: int, worker: int, incarnation: int) -> int:
    return (seed + (worker * 1009 + incarnation) * _SEED_STEP) & 0x7FFFFFFF


def _sum(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers added up by key, dictionaries likewise; everything else is left out."""
    total: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict):
                total[key] = _sum([total.get(key, {}), value])
            elif isinstance(value, int):
                total[key] = total.get(key, 0) + value
    return total


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _count(corpus: Path) -> int:
    try:
        return sum(1 for name in os.listdir(corpus) if name.endswith(SUFFIX))
    except OSError:
        return 0


def _status_text(status: int) -> str:
    if status < 0:
        return f"signal {-status}"
    return f"exit status {status}"
