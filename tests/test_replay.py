"""The corpus on the model and on the running kernel: byte-identical traces, and what is known to differ differs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from abi.calls import Program
from abi.environment import Geometry
from abi.program import parse
from abi.trace import unpack
from fuzz.compare import first_divergence, initial_layout
from fuzz.corpus import PACKAGED, SUFFIX, read_program
from fuzz.probe import examine
from fuzz.replay import replay
from fuzz.triage import Known, explanation, load_known, signature
from kernel_bridge import KernelExecutor, Observation
from model.errors import Unmodelled
from model.profile import BY_NAME, Profile
from model.run import Model
from tests.kernels import executor


def programs(folder: str) -> list[Path]:
    return sorted((PACKAGED / folder).rglob("*" + SUFFIX))


AGREEING = programs("seeds") + programs("witnesses") + programs("classes")
#: What a kernel reports about itself is no change that a witness shows.
BUGS = [
    path
    for path in sorted((PACKAGED / "divergences").glob("*.json"))
    if "change" in json.loads(path.read_text())
]


@dataclass(frozen=True, slots=True)
class Replayed:
    """All programs of the corpus, run once on the kernel."""

    kernel: KernelExecutor
    model: Model
    known: list[Known]
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
        observed = kernel.run(list(read.values()), full=True)
        model = Model(kernel.environment, examine(kernel).profile)
        known = load_known(PACKAGED / "divergences")
        yield Replayed(kernel, model, known, read, dict(zip(paths, observed, strict=True)))


def identify(path: Path) -> str:
    return f"{path.relative_to(PACKAGED).parent}/{path.stem}"


@pytest.mark.parametrize("path", AGREEING, ids=identify)
def test_model_and_kernel_agree(path: Path, replayed: Replayed) -> None:
    program, observed = replayed.programs[path], replayed.observed[path]
    environment = replayed.kernel.environment
    assert observed.loss is None
    try:
        expected = replayed.model.run(program, full=True)
    except Unmodelled as unmodelled:
        if path.parent.name != "classes":
            raise
        pytest.skip(unmodelled.reason)
    initial = initial_layout(environment)
    divergence = first_divergence(expected, observed.data, initial)
    if divergence and not explanation(
        signature(program[divergence.index], divergence), environment.release, replayed.known
    ):
        (again,) = replay([(path.name, program)], replayed.kernel, replayed.model)
        pytest.fail("\n".join(["", *again.lines(), f"\nsee {identify(path)}{SUFFIX}"]))
    assert len(unpack(expected, initial)) == len(unpack(observed.data, initial)) == len(program)


@pytest.mark.parametrize("path", BUGS, ids=lambda path: path.stem)
def test_kernel_bug_is_still_there(path: Path, replayed: Replayed) -> None:
    """A kernel named in the entry differs, on the change's witness, from the model without the bug."""
    entry = json.loads(path.read_text())
    assert {"cause", "change", "fixed", "kernels"} <= set(entry) <= {*entry, "signatures"}
    change = BY_NAME[entry["change"]]
    release = replayed.kernel.environment.release
    if not any(fnmatch(release, kernel) for kernel in entry["kernels"]):
        pytest.skip(f"{release} is not one of {', '.join(entry['kernels'])}")
    program = read_program(PACKAGED / "witnesses" / (change.name + SUFFIX), replayed.geometry)
    profile = replayed.model.profile
    right = profile.changes - {change} if change.until else profile.changes | {change}
    model = Model(replayed.kernel.environment, Profile("without the bug", frozenset(right)))
    if model.run(program, full=True) == replayed.model.run(program, full=True):
        pytest.skip("this machine's limits do not let it show")
    (observed,) = replayed.kernel.run([program], full=True)
    initial = initial_layout(replayed.kernel.environment)
    divergence = first_divergence(model.run(program, full=True), observed.data, initial)
    assert divergence, "fixed in this kernel: narrow the entry"
    assert divergence.field != "consistency"


def test_the_kernel_contradicts_itself_where_an_entry_says_so(replayed: Replayed) -> None:
    """Observed in full, the leak of VmLck shows with no model involved."""
    release = replayed.kernel.environment.release
    entry = json.loads((PACKAGED / "divergences" / "dontunmap_leaks_locked.json").read_text())
    if not any(fnmatch(release, kernel) for kernel in entry["kernels"]):
        pytest.skip(f"no known contradiction of {release}")
    program = parse(
        "mmap(W+0, 2p, 3, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED, -1, 0)\n"
        "mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, W+8)\n",
        replayed.geometry,
    )
    (result,) = replay([("leak", program)], replayed.kernel, replayed.model)
    assert result.divergence is not None
    text = signature(program[1], result.divergence)
    assert "consistency: VmLck is not the sum of the locked VMAs" in text
    assert explanation(text, release, replayed.known)
    (observed,) = replayed.kernel.run([program])
    assert observed.dirty == "VmLck did not return to its initial value"


def test_there_are_programs_to_replay() -> None:
    assert len(AGREEING) >= 60
