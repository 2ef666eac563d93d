"""Puts a worker together: executor, model, producer, seeds."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

from abi.calls import Program
from abi.environment import Geometry
from fuzz import corpus
from fuzz.booting import Booting
from fuzz.follow import Follower
from fuzz.ledger import Tell
from fuzz.produce import Producer
from fuzz.profiles import profile_of
from fuzz.restraint import is_filling
from fuzz.settings import Settings
from fuzz.site import Site
from fuzz.statistics import Statistics
from fuzz.targets import Target
from fuzz.triage import load_known
from fuzz.worker import Worker
from model.run import Model


def assemble(
    settings: Settings, tell: Tell, reached: set[int], branches: int
) -> tuple[Worker, Producer]:
    """A worker on the settings' kernel, and what makes its programs.

    Raises:
        kernel_bridge.BridgeError: the executor cannot be used here.
        OSError: a directory cannot be read or written.
    """
    # A planted mistake is no matter of the kernel's.
    target = Target(settings.target, watch=not settings.mistake)
    settings = replace(settings, batch=target.batch or settings.batch)
    site = target.site(user=settings.user, worker=settings.worker)
    # They boot while this one does.
    with ExitStack() as boots:
        others = [
            boots.enter_context(Booting(name, user=settings.user, worker=settings.worker))
            for name in settings.also
        ]
        worker, producer = join(settings, site, tell, reached, branches)
        worker.listen()
        worker.followers += [
            Follower(each, settings, worker.environment, tell, producer.steering) for each in others
        ]
        # The followers end them now.
        boots.pop_all()
    if target.unwatched:
        tell("note", text=target.unwatched)
    return worker, producer


def join(
    settings: Settings,
    site: Site,
    tell: Tell,
    reached: set[int],
    branches: int = 0,
) -> tuple[Worker, Producer]:
    """As `assemble`, on any site."""
    executor = site.start()
    try:
        environment = executor.environment
        statistics = Statistics()
        model = Model(environment, profile_of(settings.profile, settings.changes))
        producer = Producer(
            model, environment, Random(settings.seed), statistics, reached, settings.blocks
        )
        places = [*(corpus.shipped() if settings.seeds else ()), settings.corpus_path]
        names = {path.name for path in corpus.files_of(settings.corpus_path)}
        producer.queue.extend(seeds(places, environment.geometry, tell))
        known = load_known(corpus.DIVERGENCES)
        worker = Worker(settings, site, executor, producer, statistics, known, tell, branches)
        worker.names |= names
    except BaseException:
        executor.close()
        raise
    return worker, producer


def seeds(directories: Iterable[Path], geometry: Geometry, tell: Tell) -> Iterator[Program]:
    """The programs in `directories`, in order; what is none is counted and passed over, and so are programs that fill,
    which take long: fuzzing makes its own.

    Raises:
        OSError: a directory cannot be read.
    """
    for each in directories:
        problems = []
        for entry in corpus.load(each, geometry):
            if entry.problem:
                problems.append(entry.problem)
            elif entry.program and not any(is_filling(call) for call in entry.program):
                yield entry.program
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            tell("note", text=f"skipped {len(problems)} of {each}: {problems[0]}{more}")
