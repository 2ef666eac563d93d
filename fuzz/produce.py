"""Programs for the loop, with what the model says of each: fresh ones, edited ones, spliced ones.

The model is stepped while a program is made, so making it is also predicting it. The byte form is what the
engine keeps; the last program made is remembered under its bytes, so that it is not decoded again.
"""

import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from abi.calls import Call, Fill, Program
from abi.environment import Environment
from abi.trace import unpack
from fuzz.aim import Run, Space
from fuzz.compare import initial_layout
from fuzz.encode import MAX_CALLS, decode, encode
from fuzz.generate import generate
from fuzz.mutate import crossover, mutate
from fuzz.restraint import READ_FILL_SHARE, cheapen, restrain_program
from fuzz.settle import may_fail, settle
from fuzz.statistics import Statistics
from fuzz.steer import Steering, Trait
from model.errors import Unmodelled
from model.run import Model

#: Shares of what is made: the rest is edited.
FRESH: Final = 0.5
RAW: Final = 0.1
CROSSED: Final = 0.15
#: How many programs are observed in full: measured, each takes the kernel about three times as long.
FULL: Final = 0.1
_RECENT: Final = 2048
#: Programs that reached new blocks of the kernel: how many are kept, and the share of edits that begin with one.
_KEPT: Final = 256
KEPT: Final = 0.15
_NO_BRANCHES: Final[frozenset[int]] = frozenset()

#: Changes bytes without knowing what they mean: what the engine does by itself.
Scramble = Callable[[bytes, int], bytes]


class PackedRun(Run, Protocol):
    """The model in the middle of a program, and the trace so far."""

    def trace(self, *, whole: bool = True) -> bytes: ...


@dataclass(slots=True)
class Prepared:
    """A program and its prediction. unmodelled: why the model stopped before its end; crash: its traceback.

    `program` is what the trace covers; of a crash all of it, the last call the one that crashed. branches: of the
    model, that this program reached (empty where they are not measured); full: it is predicted, and to be observed, in
    full; made_of: the recipes and draws of a fresh program, where it is learnt what they lead to.
    """

    data: bytes
    program: Program
    expected: bytes
    branches: frozenset[int]
    unmodelled: str = ""
    crash: str = ""
    full: bool = False
    made_of: frozenset[Trait] = frozenset()


class _Watched:
    """A run that remembers the calls it was given, for when it fails."""

    __slots__ = ("_run", "calls")

    def __init__(self, run: Run) -> None:
        self._run = run
        self.calls: list[Call] = []

    @property
    def space(self) -> Space:
        return self._run.space

    def step(self, call: Call) -> int:
        self.calls.append(call)
        return self._run.step(call)


class Producer:
    """Makes programs. `reached` is the set that the instrumented model adds its branches to."""

    def __init__(
        self,
        model: Model,
        environment: Environment,
        rng: Random,
        statistics: Statistics,
        reached: set[int],
        blocks: bool = True,
    ) -> None:
        self.model = model
        self._blocks = blocks
        self._environment = environment
        self._geometry = environment.geometry
        self._initial = initial_layout(environment)
        self._rng = rng
        self._statistics = statistics
        self._unprivileged = not environment.capabilities
        self._reached = reached
        self._last: Prepared | None = None
        #: Programs made lately, by their bytes: what is edited is mostly among them.
        self._recent: dict[bytes, Program] = {}
        self.queue: deque[Program] = deque()
        #: What leads to the blocks that are watched, once there are some.
        self.steering: Steering | None = None
        self._kept: deque[Program] = deque(maxlen=_KEPT)
        #: How often a program was made for the engine: 0 would mean that it never asked.
        self.made = 0

    def prepare(self, data: bytes) -> Prepared:
        """The program that `data` is, and its prediction."""
        last = self._last
        if last is not None and last.data == data:
            self._last = None
            return last
        return self.predict(
            self._affordable(decode(data, self._geometry)), full=self._rng.random() < FULL
        )

    def _affordable(self, program: Program) -> Program:
        """The program, mostly without calls that fill: bytes have them as often as any other."""
        if self._rng.random() < READ_FILL_SHARE:
            return program
        return tuple(cheapen(call) if isinstance(call, Fill) else call for call in program)

    def predict(self, program: Program, *, full: bool = False) -> Prepared:
        """The prediction for `program`, without what would harm the machine."""
        return self._make(lambda run: self._walk(program, run), full=full)

    def keep(self, program: Program) -> None:
        """It reached what none before it did, though not in the model: worth editing."""
        if self._blocks:
            self._kept.append(program)

    def settle(self, prepared: Prepared, observed: bytes) -> bytes:
        """The prediction, after the kernel told which allocations it has had fail.

        Raises:
            Unmodelled: what it did leaves the domain of the model.
        """
        program = prepared.program
        if not may_fail(program):
            return prepared.expected
        trace = unpack(observed, self._initial)
        return settle(self.model, program, trace, self._initial, full=prepared.full)

    def edit(self, base: bytes, room: int, scramble: Scramble | None) -> bytes:
        """Bytes of another program: one waiting in the queue, a fresh one, or `base` changed; at most `room`."""
        if self.queue:
            waiting = self.queue.popleft()
            return self._keep(lambda run: self._walk(waiting, run), room)
        draw = self._rng.random()
        if draw < FRESH or not base:
            return self._keep(self._fresh, room, fresh=True)
        if draw < FRESH + RAW and scramble is not None:
            self.made += 1
            return scramble(base, room)
        program = self._worthy() or self._read(base)
        return self._keep(lambda run: self._edited(program, run), room)

    def cross(self, first: bytes, second: bytes, room: int, scramble: Scramble | None) -> bytes:
        """Bytes of a splice of two programs. An engine splices every other time, so that most are edits instead."""
        if self.queue or self._rng.random() >= CROSSED:
            return self.edit(first, room, scramble)
        one, other = self._read(first), self._read(second)
        return self._keep(lambda run: self._crossed(one, other, run), room)

    def _worthy(self) -> Program | None:
        """A program that the kernel's blocks speak for, now and then."""
        if self.steering is not None and (near := self.steering.worthy(self._rng)):
            return near
        if self._kept and self._rng.random() < KEPT:
            return self._rng.choice(self._kept)
        return None

    def _read(self, data: bytes) -> Program:
        return self._recent.get(data) or decode(data, self._geometry)

    def _keep(self, make: Callable[[Run], Program], room: int, *, fresh: bool = False) -> bytes:
        steering = self.steering
        if steering is not None:
            steering.used.clear()
        prepared = self._make(make, full=self._rng.random() < FULL)
        if steering is not None and fresh:
            prepared.made_of = frozenset(steering.used)
        self.made += 1
        self._last = prepared
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[prepared.data] = prepared.program
        return prepared.data[:room]

    def _make(self, make: Callable[[Run], Program], *, full: bool) -> Prepared:
        run: PackedRun = self.model.start(full=full)
        watched = _Watched(run)
        unmodelled = crash = ""
        self._reached.clear()
        try:
            program = make(watched)
        except Unmodelled as error:
            unmodelled = error.reason
            program = tuple(watched.calls[:-1])
            # The call may have changed something before it turned out to be unmodelled.
            run = self.model.start(full=full)
            for call in program:
                run.step(call)
        except Exception:
            crash = traceback.format_exc()
            program = tuple(watched.calls)
        branches = frozenset(self._reached) if self._reached else _NO_BRANCHES
        data = encode(program, self._geometry)
        return Prepared(
            data, program, run.trace(whole=not crash), branches, unmodelled, crash, full
        )

    def _walk(self, program: Program, run: Run) -> Program:
        program = restrain_program(program[:MAX_CALLS], self._unprivileged)
        for call in program:
            run.step(call)
        return program

    def _fresh(self, run: Run) -> Program:
        return generate(
            self._rng,
            run,
            self._geometry,
            self._environment.objects,
            unprivileged=self._unprivileged,
            statistics=self._statistics,
            steering=self.steering,
        )

    def _edited(self, program: Program, run: Run) -> Program:
        return mutate(
            program,
            self._rng,
            run,
            self._geometry,
            self._environment.objects,
            unprivileged=self._unprivileged,
            statistics=self._statistics,
            steering=self.steering,
        )

    def _crossed(self, first: Program, second: Program, run: Run) -> Program:
        return crossover(
            first,
            second,
            self._rng,
            run,
            self._geometry,
            self._environment.objects,
            unprivileged=self._unprivileged,
            statistics=self._statistics,
        )
