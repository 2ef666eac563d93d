"""A fuzzing session: workers are started, watched, replaced when they die, stopped in time, and summed up."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fuzz.chronicle import Chronicle
from fuzz.corpus import SUFFIX
from fuzz.crew import PATIENCE, Crew, Hand
from fuzz.display import Figures, Screen
from fuzz.inflight import leftovers
from fuzz.settings import Message, Settings

#: A worker that dies this often without having compared anything in between is not started again.
_MOST_DEATHS: Final = 5
#: Seconds that the shown rates look back.
_RECENT: Final = 5.0
_TICK: Final = 0.2
#: Seconds past the deadline after which workers are reminded of it.
_GRACE: Final = 2.0
_SEED_STEP: Final = 0x9E3779B1


@dataclass(frozen=True, slots=True)
class Options:
    """What a session is asked to do. Directories exist; release: that of the kernel, for people; seconds None means no
    limit, as does runs None; compiled: the directory of the compiled model, None to run what is written; watched, like,
    until_found: as in `fuzz.settings.Settings`."""

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
    user: bool = False
    target: str = "local"
    also: tuple[str, ...] = ()
    compiled: Path | None = None
    release: str = ""
    watched: tuple[int, ...] = ()
    like: bool = False
    until_found: bool = False


@dataclass(slots=True)
class Outcome:
    """How a session ended. new, known: signature -> directory or cause; failure: one line where it had to give up;
    unfinished: one line where a worker was lost that was to finish; made: programs that the producer made, where the
    engine asked for them; also: what further kernels ran, by their names; reached: watched blocks by place, and the
    first program that reached each; left: kernels that were lost for good, and why."""

    figures: Figures
    new: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    made: int = 0
    interrupted: bool = False
    failure: str = ""
    unfinished: str = ""
    also: dict[str, dict[str, int]] = field(default_factory=dict)
    reached: dict[int, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


class Session:
    """One run of `vmadiff fuzz` behind its command line."""

    def __init__(self, options: Options, screen: Screen, title: str) -> None:
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
        self._outcome = Outcome(Figures(workers=options.workers, guided=options.guided))
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        self._chronicle = Chronicle(options.state, name, options.release, options.profile)

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
            told = [m for (_, other), m in self._followers.items() if other == name]
            outcome.also[name] = {
                "sequences": sum(m["sequences"] for m in told),
                "calls": sum(m["calls"] for m in told),
            }
        total = _sum([*self._done.values()])
        outcome.statistics, outcome.made = total.get("statistics", {}), total.get("made", 0)
        return outcome

    def _start(self) -> None:
        o = self._options
        deadline = None if o.seconds is None else self._begun + o.seconds
        for worker in range(o.workers):
            runs = None
            if o.runs is not None:
                runs = o.runs // o.workers + (worker < o.runs % o.workers)
            self._hire(
                Settings(
                    worker=worker,
                    session=os.getpid(),
                    pipe=-1,
                    seed=_seed(o.seed, worker, 0),
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
                    user=o.user,
                    target=o.target,
                    also=o.also,
                    compiled=str(o.compiled or ""),
                    watched=o.watched,
                    like=o.like,
                    until_found=o.until_found,
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
                self._covered.update(message["reached"])
                self._chronicle.hear(worker, message["occurrences"])
            case "finding":
                self._find(message)
            case "follower":
                self._followers[worker, message["name"]] = message
                self._chronicle.hear((worker, message["name"]), message["occurrences"])
            case "reached":
                for place in message["places"]:
                    self._outcome.reached.setdefault(place, message["program"])
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

    def _record(self, figures: Figures) -> None:
        """Write down how it stands; that it cannot be written is no reason to stop."""
        try:
            self._chronicle.write(figures)
        except OSError as error:
            self._note(f"the record of this session cannot be written: {error}")

    def _note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._screen.note(text)

    def _find(self, message: Message) -> None:
        text, path = message["signature"], message["path"]
        try:
            self._chronicle.found(
                text, path, message["cause"], message["kernel"], message["signature_there"]
            )
        except OSError as error:
            self._note(f"the record of this session cannot be written: {error}")
        if message["cause"]:
            if text not in self._outcome.known:
                self._outcome.known[text] = message["cause"]
                self._screen.note(f"known divergence: {text}\n  {message['cause']}")
        elif text not in self._outcome.new:
            self._outcome.new[text] = path
            where = f"  {path}/report.md" if path else message["report"]
            self._screen.note(f"NEW divergence: {text}\n{where}")

    def _end(self, hand: Hand) -> None:
        """A worker is gone: as it should, or to be replaced with what is left of its task."""
        worker = hand.settings.worker
        status = self._crew.let_go(hand)
        stats = self._live.pop(worker, {})
        for source in (worker, *((worker, name) for name in self._options.also)):
            self._chronicle.forget(source)
        self._done[worker] = _sum([self._done.get(worker, {}), stats])
        if worker in self._finished:
            if not self._outcome.figures.worker_restarts:
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
        runs = hand.settings.runs
        self._hire(
            replace(
                hand.settings,
                seed=_seed(self._options.seed, worker, figures.worker_restarts),
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
