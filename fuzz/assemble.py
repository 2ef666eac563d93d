"""Puts a worker together: executor, model, producer, seeds, and what dead workers left."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from abi.calls import Program
from abi.environment import Geometry
from fuzz import corpus
from fuzz.inflight import replay_path
from fuzz.produce import Producer
from fuzz.restraint import is_filling
from fuzz.settings import Settings
from fuzz.statistics import Statistics
from fuzz.triage import load_known
from fuzz.worker import Executor, Tell, Worker
from kernel_bridge import ExecutorConfig, KernelExecutor
from model.profile import BY_NAME, Profile
from model.run import Model


def assemble(
    settings: Settings, tell: Tell, reached: set[int], branches: int
) -> tuple[Worker, Producer]:
    """A worker on the running kernel, and what makes its programs.

    Raises:
        kernel_bridge.BridgeError: the executor cannot be used here.
        OSError: a directory cannot be read or written.
    """
    worker, producer = join(
        settings,
        lambda: start_executor(user=settings.user, worker=settings.worker),
        tell,
        reached,
        branches,
    )
    own = worker.inflight_path
    for path in (replay_path(own), own, *map(Path, settings.replay)):
        if path.exists():
            worker.replay(path)
    return worker, producer


def start_executor(*, user: bool, worker: int = 0) -> KernelExecutor:
    """A fresh executor on the running kernel, without root's rights if `user`.

    It stays on one processor: pages that wait in another's queues would escape MADV_PAGEOUT.

    Raises:
        kernel_bridge.BridgeError: it cannot be used here.
    """
    usable = sorted(os.sched_getaffinity(0), reverse=True)
    return KernelExecutor(ExecutorConfig(drop_privileges=user, cpu=usable[worker % len(usable)]))


def join(
    settings: Settings,
    start: Callable[[], Executor],
    tell: Tell,
    reached: set[int],
    branches: int = 0,
) -> tuple[Worker, Producer]:
    """As `assemble`, on any executor."""
    executor = start()
    try:
        environment = executor.environment
        statistics = Statistics()
        model = Model(environment, profile(settings.profile, settings.changes))
        producer = Producer(model, environment, Random(settings.seed), statistics, reached)
        if settings.seeds:
            producer.queue.extend(seeds(settings.corpus_path, environment.geometry, tell))
        known = load_known(corpus.PACKAGED / "divergences")
        worker = Worker(settings, start, executor, producer, statistics, known, tell, branches)
    except BaseException:
        executor.close()
        raise
    return worker, producer


def profile(name: str, changes: tuple[str, ...]) -> Profile:
    """The profile with these changes, by name."""
    return Profile(name, frozenset(BY_NAME[change] for change in changes))


def seeds(directory: Path, geometry: Geometry, tell: Tell) -> Iterator[Program]:
    """The programs that come with the project, then those of `directory`; what is none is counted and passed over, and
    so are programs that fill, which take long: fuzzing makes its own.

    Raises:
        OSError: a directory cannot be read.
    """
    for each in [*corpus.shipped(), directory]:
        problems = []
        for entry in corpus.load(each, geometry):
            if entry.problem:
                problems.append(entry.problem)
            elif entry.program and not any(is_filling(call) for call in entry.program):
                yield entry.program
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            tell("note", text=f"skipped {len(problems)} of {each}: {problems[0]}{more}")
