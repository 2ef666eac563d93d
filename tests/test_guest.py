"""A real guest: the corpus agrees on it, and it is brought back whatever becomes of it. Slow; needs QEMU and a kernel.

`vmadiff kernels fetch 7.3.4` and the package qemu-system-x86 make these run.
"""

import os
import signal
import time
from collections.abc import Iterator
from shutil import which

import pytest

import kernels
from abi.environment import Geometry
from fuzz import corpus
from fuzz.console import reports
from fuzz.headlines import CrashKind
from fuzz.probe import examine
from fuzz.replay import replay
from fuzz.targets import Target
from kernel_bridge import KernelExecutor
from kernel_bridge.guest import Guest
from model.run import Model

pytestmark = pytest.mark.slow
KERNEL = "7.3.4"


@pytest.fixture(scope="module")
def guest() -> Iterator[KernelExecutor]:
    if which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
    try:
        kernels.find(KERNEL)
    except kernels.KernelError as error:
        pytest.skip(str(error))
    with Target(KERNEL) as target, target.start(user=False) as executor:
        yield executor


def seeds(pattern: str) -> list[tuple[str, corpus.Path]]:
    return [(path.stem, path) for path in sorted((corpus.PACKAGED / "seeds").glob(pattern))]


def test_multi_vma_moves_agree(guest: KernelExecutor) -> None:
    probed = examine(guest)
    assert not probed.undecided
    model = Model(guest.environment, probed.profile)
    geometry = guest.environment.geometry
    programs = [
        (name, corpus.read_program(path, geometry))
        for name, path in seeds("mremap-multi-vma-*.prog")
    ]
    results = replay(programs, guest, model)
    assert [r.verdict() for r in results if r.divergence is not None or not r.is_complete] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guest_that_dies_or_falls_silent_costs_nothing(
    guest: KernelExecutor, number: signal.Signals
) -> None:
    assert isinstance(guest.machine, Guest)
    guest.machine.patience = 5.0
    geometry: Geometry = guest.environment.geometry
    programs = [corpus.read_program(path, geometry) for _, path in seeds("mremap-multi-vma-*.prog")]
    want = guest.run(programs)
    guest.printed()
    dead = guest.machine.pid
    guest.submit(programs * 4)
    time.sleep(0.1)
    os.kill(dead, number)
    got = guest.collect()
    assert got == want * 4
    assert guest.machine.pid != dead
    assert [crash.kind for crash in reports(guest.printed())] == [CrashKind.SILENCE]
    with pytest.raises(ProcessLookupError):
        os.kill(dead, 0)
