"""Allocations that are made to fail on a real kernel: whatever calls then do is what the model says they may."""

from collections.abc import Iterator
from shutil import which
from typing import Final

import pytest

import kernels
from abi.calls import NAMES
from fuzz import corpus
from fuzz.faults import Trial, try_all
from fuzz.probe import examine
from fuzz.targets import Target
from kernel_bridge import KernelExecutor
from model.run import Model

pytestmark = pytest.mark.slow
KERNEL: Final = "7.3.4-x86-fault-injection-debug-vm"
#: What is seen of calls that are made of several system calls, of faults, or of a file system's work.
SEEN: Final = {
    "fail-mincore": {("mincore", "EAGAIN")},
    "fail-process-madvise": {("process_madvise", "EAGAIN"), ("process_madvise", "ENOMEM")},
    "fail-touch-stack-does-not-grow": {("touch", "SEGV ok ok"), ("touch", "ok ok ok")},
    "fail-populate-maps-what-is-cached": {("madvise", "ENOMEM"), ("madvise", "0")},
}


@pytest.fixture(scope="module")
def guest() -> Iterator[KernelExecutor]:
    try:
        kernels.find(KERNEL)
    except kernels.KernelError as error:
        pytest.skip(str(error))
    if which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
    with Target(KERNEL) as target, target.start(user=False) as executor:
        yield executor


@pytest.fixture(scope="module")
def model(guest: KernelExecutor) -> Model:
    return Model(guest.environment, examine(guest).profile)


@pytest.mark.parametrize(
    "path", sorted((corpus.PACKAGED / "seeds").glob("fail-*.prog")), ids=lambda path: path.stem
)
def test_every_allocation_of_every_call(
    guest: KernelExecutor, model: Model, path: corpus.Path
) -> None:
    program = corpus.read_program(path, guest.environment.geometry)
    told: list[Trial] = []
    trials = try_all(path.stem, program, guest, model, told.append)
    assert trials == told
    assert [trial.replay.verdict() for trial in trials if not trial.agrees] == []
    results = [(trial.result(guest.environment) or "").removeprefix("-1 ") for trial in trials]
    seen = {(NAMES[type(t.call)], result) for t, result in zip(trials, results, strict=True)}
    assert seen >= SEEN.get(path.stem, set())
