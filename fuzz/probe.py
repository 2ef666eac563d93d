"""Which changes the running kernel has: each change's witness program is run, and its trace compared with the
model's with and without the change. The kernel's version is never asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abi.calls import Fill, Program
from abi.environment import Environment
from abi.program import parse
from fuzz.compare import agrees, initial_layout
from fuzz.corpus import PACKAGED, SUFFIX
from fuzz.site import Executor, Observed
from model.errors import Unmodelled
from model.profile import CHANGES, PROFILES, Change, Profile
from model.run import Model

WITNESSES: Final = PACKAGED / "witnesses"
#: A witness may depend on other changes: probing is repeated until nothing changes, at most so often.
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Witness:
    """The program that tells kernels with a change from those without."""

    change: Change
    program: Program

    @property
    def full(self) -> bool:
        """It is observed in full; with a filler that would take long."""
        return not any(isinstance(call, Fill) for call in self.program)


@dataclass(frozen=True, slots=True)
class Probed:
    """What the witnesses say. profile: the changes found; nearest: the release most like it, and `difference` from it;
    undecided: change name -> why its witness did not tell, so that the nearest release's answer stands."""

    profile: Profile
    nearest: Profile
    undecided: dict[str, str]

    @property
    def difference(self) -> tuple[str, ...]:
        return self.profile.difference(self.nearest)


def load_witnesses(environment: Environment, directory: Path = WITNESSES) -> Iterator[Witness]:
    """The witnesses of all changes.

    Raises:
        OSError: one is missing or cannot be read.
        ProgramError: one is not a program.
    """
    for change in CHANGES:
        path = directory / (change.name + SUFFIX)
        yield Witness(change, parse(path.read_text(), environment.geometry, str(path)))


def probe(executor: Executor) -> Profile:
    """The running kernel's profile."""
    return examine(executor).profile


def examine(executor: Executor) -> Probed:
    """Run all witnesses and find the changes that explain their traces.

    Raises:
        OSError, ProgramError: as `load_witnesses`.
    """
    environment = executor.environment
    witnesses = list(load_witnesses(environment))
    observed = _observe(executor, witnesses)
    start = min(
        PROFILES.values(), key=lambda p: _disagreements(p, witnesses, observed, environment)
    )
    has, undecided = set(start.changes), dict[str, str]()
    for _ in range(_ROUNDS):
        before = frozenset(has)
        undecided.clear()
        for witness, observation in zip(witnesses, observed, strict=True):
            verdict = _decide(witness, observation, frozenset(has), environment)
            if isinstance(verdict, str):
                undecided[witness.change.name] = verdict
            elif verdict:
                has.add(witness.change)
            else:
                has.discard(witness.change)
        if frozenset(has) == before:
            break
    found = Profile("probed", frozenset(has))
    nearest = min(PROFILES.values(), key=lambda p: len(found.difference(p)))
    name = " ".join((nearest.name, *found.difference(nearest)))
    return Probed(Profile(name, found.changes, verified=not undecided), nearest, undecided)


def _observe(executor: Executor, witnesses: Sequence[Witness]) -> list[Observed]:
    """What the kernel does, witness by witness."""
    observed: dict[str, Observed] = {}
    for full in (True, False):
        chosen = [w for w in witnesses if w.full is full]
        for witness, observation in zip(
            chosen, executor.run([w.program for w in chosen], full=full), strict=True
        ):
            observed[witness.change.name] = observation
    return [observed[w.change.name] for w in witnesses]


def _disagreements(
    profile: Profile,
    witnesses: Sequence[Witness],
    observed: Sequence[Observed],
    environment: Environment,
) -> int:
    """How many witnesses do otherwise than `profile` says."""
    initial = initial_layout(environment)
    return sum(
        not agrees(_trace(w, profile.changes, environment), o.data, initial)
        for w, o in zip(witnesses, observed, strict=True)
    )


def _decide(
    witness: Witness, observation: Observed, has: frozenset[Change], environment: Environment
) -> bool | str:
    """Whether the kernel has the change, or why that cannot be said."""
    if observation.loss:
        return str(observation.loss.text)
    with_it = _trace(witness, has | {witness.change}, environment)
    without = _trace(witness, has - {witness.change}, environment)
    if with_it == without:
        return "its witness does the same either way here"
    initial = initial_layout(environment)
    if agrees(with_it, observation.data, initial):
        return True
    if agrees(without, observation.data, initial):
        return False
    return "the kernel does neither what the change does nor what was before it"


def _trace(witness: Witness, changes: frozenset[Change], environment: Environment) -> bytes:
    model = Model(environment, Profile("", changes))
    try:
        return model.run(witness.program, full=witness.full)
    except Unmodelled:
        return b"unmodelled"
