"""The corpus on the model and on the running kernel: byte-identical traces, and what is known to differ differs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from abi.calls import Program
from fuzz.compare import first_divergence
from fuzz.corpus import PACKAGED, SUFFIX, read_program
from fuzz.probe import examine
from fuzz.replay import predict, replay
from kernel_bridge import KernelExecutor, Observation
from model.run import Model
from tests.environments import initial_layout
from tests.kernels import executor


def programs(folder: str) -> list[Path]:
    return sorted((PACKAGED / folder).rglob("*" + SUFFIX))


AGREEING = programs("seeds") + programs("witnesses")
DIVERGING = programs("divergences")


@dataclass(frozen=True, slots=True)
class Replayed:
    """All programs of the corpus, run once on the kernel."""

    kernel: KernelExecutor
    model: Model
    programs: dict[Path, Program]
    observed: dict[Path, Observation]


@pytest.fixture(scope="module")
def replayed() -> Iterator[Replayed]:
    with executor() as kernel:
        paths = AGREEING + DIVERGING
        read = {path: read_program(path, kernel.environment.geometry) for path in paths}
        observed = kernel.run(list(read.values()))
        model = Model(kernel.environment, examine(kernel).profile)
        yield Replayed(kernel, model, read, dict(zip(paths, observed, strict=True)))


def identify(path: Path) -> str:
    return f"{path.relative_to(PACKAGED).parent}/{path.stem}"


@pytest.mark.parametrize("path", AGREEING, ids=identify)
def test_model_and_kernel_agree(path: Path, replayed: Replayed) -> None:
    program, observed = replayed.programs[path], replayed.observed[path]
    assert observed.loss is None
    if replayed.model.run(program) != observed.data:
        (again,) = replay([(path.name, program)], replayed.kernel, replayed.model)
        pytest.fail("\n".join(["", *again.lines(), f"\nsee {identify(path)}{SUFFIX}"]))


@pytest.mark.parametrize("path", DIVERGING, ids=identify)
def test_what_is_known_to_diverge_still_does(path: Path, replayed: Replayed) -> None:
    expected, unmodelled, crash = predict(replayed.model, replayed.programs[path])
    assert (unmodelled, crash) == ("", "")
    initial = initial_layout(replayed.kernel.environment)
    divergence = first_divergence(expected, replayed.observed[path].data, initial)
    assert divergence is not None, "it agrees now: make it a seed"


def test_there_are_programs_to_replay() -> None:
    assert len(AGREEING) >= 60
