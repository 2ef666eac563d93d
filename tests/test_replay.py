"""The corpus on the model and on the running kernel: byte-identical traces, and what is known to differ differs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from abi.calls import Program
from abi.environment import Geometry
from fuzz.corpus import PACKAGED, SUFFIX, read_program
from fuzz.probe import examine
from fuzz.replay import replay
from kernel_bridge import KernelExecutor, Observation
from model.profile import BY_NAME, Profile
from model.run import Model
from tests.kernels import executor


def programs(folder: str) -> list[Path]:
    return sorted((PACKAGED / folder).rglob("*" + SUFFIX))


AGREEING = programs("seeds") + programs("witnesses")
BUGS = sorted((PACKAGED / "divergences").glob("*.json"))


@dataclass(frozen=True, slots=True)
class Replayed:
    """All programs of the corpus, run once on the kernel."""

    kernel: KernelExecutor
    model: Model
    programs: dict[Path, Program]
    observed: dict[Path, Observation]

    @property
    def geometry(self) -> Geometry:
        return self.kernel.environment.geometry


@pytest.fixture(scope="module")
def replayed() -> Iterator[Replayed]:
    with executor() as kernel:
        paths = AGREEING
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


@pytest.mark.parametrize("path", BUGS, ids=lambda path: path.stem)
def test_kernel_bug_is_still_there(path: Path, replayed: Replayed) -> None:
    """A kernel named in the entry differs, on the change's witness, from the model without the bug."""
    entry = json.loads(path.read_text())
    assert sorted(entry) == ["cause", "change", "fixed", "kernels"]
    change = BY_NAME[entry["change"]]
    release = replayed.kernel.environment.release
    if not any(fnmatch(release, kernel) for kernel in entry["kernels"]):
        pytest.skip(f"{release} is not one of {', '.join(entry['kernels'])}")
    program = read_program(PACKAGED / "witnesses" / (change.name + SUFFIX), replayed.geometry)
    profile = replayed.model.profile
    right = profile.changes - {change} if change.until else profile.changes | {change}
    model = Model(replayed.kernel.environment, Profile("without the bug", frozenset(right)))
    if model.run(program) == replayed.model.run(program):
        pytest.skip("this machine's limits do not let it show")
    (observed,) = replayed.kernel.run([program])
    assert model.run(program) != observed.data, "fixed in this kernel: narrow the entry"


def test_there_are_programs_to_replay() -> None:
    assert len(AGREEING) >= 60
