"""A machine without a kernel: an environment, and an executor that is another model."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from abi.calls import Call, Program
from abi.consts import PAGE
from abi.environment import Environment, Geometry, InitialVma, Object
from abi.trace import NAME_FILE, PERM_EXEC, PERM_READ, PERM_SHARED, PERM_WRITE
from fuzz.produce import Producer
from fuzz.replay import predict
from fuzz.settings import Settings
from fuzz.site import Site
from fuzz.statistics import Statistics
from fuzz.worker import Worker
from model.profile import PROFILES, Profile
from model.run import Model

ENVIRONMENT = Environment(
    geometry=Geometry(),
    initial=(
        InitialVma(0x10000, 0x14000, 0, 1, PERM_READ | PERM_EXEC, NAME_FILE, ("rd", "ex", "mr")),
        InitialVma(
            0x2000_0000,
            0x2040_0000,
            0,
            2,
            PERM_READ | PERM_WRITE | PERM_SHARED,
            NAME_FILE,
            ("rd", "wr", "sh", "mr", "mw", "ms", "lo"),
        ),
    ),
    objects=(
        Object(10, "memfd", 3, "tmpfs", 64 * PAGE),
        Object(12, "file", 4, "ext4", 64 * PAGE),
        Object(14, "devzero", 0, "devzero", 0),
    ),
    total_pages=1028,
    locked_pages=1024,
    start_brk=0x14000,
    brk=0x14000,
    release="0.0.0-none",
    machine="x86_64",
)
OLD, NEW = PROFILES["6.12"], PROFILES["6.18"]


@dataclass(frozen=True)
class FakeLoss:
    kind: str
    text: str
    console: str = ""


@dataclass(frozen=True)
class Seen:
    data: bytes
    loss: FakeLoss | None = None
    fresh: int = 0
    near: int = 0
    rarest: int = 0


@dataclass
class FakeExecutor:
    """Answers as the model of a profile does; `spoil` may change an answer, `lose` say that it was lost, `says` what
    its kernel prints while a program runs, `reach` how many blocks of it were new."""

    profile: Profile = NEW
    spoil: Callable[[Program, bytes], bytes] = lambda program, data: data
    lose: Callable[[Program], FakeLoss | None] = lambda program: None
    says: Callable[[Program], bytes] = lambda program: b""
    reach: Callable[[Program], int] = lambda program: 0
    environment: Environment = ENVIRONMENT
    restarts: int = 0
    batches: list[Sequence[Program]] = field(default_factory=list)
    full: frozenset[int] = frozenset()
    is_closed: bool = False
    console: bytes = b""
    watched: tuple[int, ...] = ()
    #: Which watched blocks a program reaches, by place; and by how many each was reached.
    touches: Callable[[Program], frozenset[int]] = lambda program: frozenset()
    touched: Counter[int] = field(default_factory=Counter)

    def watch(self, blocks: Sequence[int]) -> None:
        self.watched = tuple(blocks)

    def reached(self) -> frozenset[int]:
        return self.touches(self.batches[-1][-1])

    def run(self, programs: Sequence[Program], *, full: bool = False) -> list[Seen]:
        self.submit(programs, range(len(programs)) if full else ())
        return self.collect()

    def submit(self, programs: Sequence[Program], full: Iterable[int] = ()) -> None:
        assert not self.is_closed
        self.batches.append(programs)
        self.full = frozenset(full)

    def collect(self, *, until_lost: bool = False) -> list[Seen]:
        model = Model(self.environment, self.profile)
        seen = []
        for index, program in enumerate(self.batches[-1]):
            predicted, *_ = predict(model, program, full=index in self.full)
            data = self.spoil(program, predicted)
            near = self.touches(program) if self.watched else frozenset()
            rarest = min((self.touched[place] for place in near), default=0)
            self.touched.update(near)
            seen.append(Seen(data, self.lose(program), self.reach(program), len(near), rarest))
            self.console += self.says(program)
            if (loss := seen[-1].loss) and loss.kind == "crash" and until_lost:
                break
        return seen

    def printed(self) -> bytes:
        said, self.console = self.console, b""
        return said

    def __enter__(self) -> "FakeExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Told:
    """What a worker has told, by kind."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, kind: str, **fields: Any) -> None:
        self.messages.append({"kind": kind, **fields})

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["kind"] == kind]


@dataclass
class Bench:
    """A worker on a fake executor, with everything it touches."""

    worker: Worker
    producer: Producer
    executor: FakeExecutor
    told: Told
    state: Path
    fresh: list[FakeExecutor]
    elsewhere: list[FakeExecutor]

    def fuzz(self) -> None:
        """Run the loop to its end, without an engine."""
        while not self.worker.is_over():
            data = self.producer.edit(b"", 4096, None)
            self.worker.accept(self.producer.prepare(data))
        self.worker.finish()

    def feed(self, *programs: tuple[Call, ...]) -> None:
        """Run these programs and no others."""
        for program in programs:
            self.worker.accept(self.producer.predict(program))
        self.worker.finish()


def set_up(
    state: Path,
    executor: FakeExecutor,
    model: Profile = NEW,
    start: Callable[[], FakeExecutor] | None = None,
    renew: Callable[[], FakeExecutor] | None = None,
    vmlinux: Path | None = None,
    **settings: Any,
) -> Bench:
    """A worker whose model has the profile `model`; `start` makes the fresh executors of confirmations, `renew` those
    on freshly booted kernels."""
    (state / "corpus").mkdir(exist_ok=True)
    chosen = Settings(
        **{
            "worker": 0,
            "session": 1,
            "pipe": -1,
            "seed": 1,
            "state": str(state),
            "corpus": str(state / "corpus"),
            "profile": model.name,
            "changes": tuple(sorted(change.name for change in model.changes)),
            "runs": 200,
            **settings,
        }
    )
    fresh: list[FakeExecutor] = []

    def start_like() -> FakeExecutor:
        made = FakeExecutor(executor.profile, executor.spoil, executor.lose, executor.says)
        fresh.append(made)
        return made

    statistics, told = Statistics(), Told()
    producer = Producer(Model(ENVIRONMENT, model), ENVIRONMENT, Random(1), statistics, set())

    def start_elsewhere() -> FakeExecutor:
        geometry = replace(ENVIRONMENT.geometry, window=ENVIRONMENT.geometry.window + (1 << 32))
        made = FakeExecutor(
            executor.profile, executor.spoil, environment=replace(ENVIRONMENT, geometry=geometry)
        )
        elsewhere.append(made)
        return made

    elsewhere: list[FakeExecutor] = []
    site = Site(start or start_like, start_elsewhere, renew, vmlinux)
    worker = Worker(chosen, site, executor, producer, statistics, (), told)
    return Bench(worker, producer, executor, told, state, fresh, elsewhere)
