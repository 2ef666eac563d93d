"""Real guests: the corpus agrees on them, and they are brought back whatever becomes of them. Slow; needs kernels.

`vmadiff kernels fetch 7.3.4 uml-6.12 uml-7.2` and the package qemu-system-x86 make these run.
"""

import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
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
from kernel_bridge.build import writable_directory
from kernel_bridge.guest import Guest, Stream
from kernels.registry import KNOWN_UML
from model.run import Model

pytestmark = pytest.mark.slow
#: Says of a process that it is a guest of this test's, whatever became of its parents.
MARK = "VMADIFF_TESTED_GUEST"
KERNELS = ("7.3.4", "uml-6.12", "uml-7.2")
NO_AMX = [each.name for each in KNOWN_UML if not each.amx]


@pytest.fixture(scope="module", params=KERNELS)
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KernelExecutor]:
    try:
        kernel = kernels.find(request.param)
    except kernels.KernelError as error:
        pytest.skip(str(error))
    if kernel.name in NO_AMX and "amx_tile" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this User-Mode-Linux does not boot on a processor with AMX")
    if kernel.arch == "x86" and which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
    with (
        pytest.MonkeyPatch.context() as patch,
        Target(request.param) as target,
    ):
        patch.setenv(MARK, f"{os.getpid()}-{request.param}")
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        with target.start(user=False) as executor:
            yield executor


def parents() -> dict[int, int]:
    """The parent of every process that is not dead already."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def is_uml(guest: KernelExecutor) -> bool:
    assert isinstance(guest.machine, Guest)
    return guest.machine.name == "User-Mode-Linux"


def processes(guest: Guest) -> list[int]:
    """Those that the guest consists of: of QEMU one, of User-Mode-Linux, behind the one that watches them, several."""
    of, members = parents(), [guest.pid]
    for member in members:
        members += [pid for pid, parent in of.items() if parent == member]
    return members


def seeds(pattern: str) -> list[tuple[str, corpus.Path]]:
    return [(path.stem, path) for path in sorted((corpus.PACKAGED / "seeds").glob(pattern))]


def test_multi_vma_moves_agree(guest: KernelExecutor) -> None:
    probed = examine(guest)
    assert set(probed.undecided.values()) <= {"its witness does the same either way here"}
    if not is_uml(guest):
        # They need CONFIG_ANON_VMA_NAME, and an ordinary user.
        assert probed.undecided.keys() <= {"shared_memory_names", "process_madvise_own"}
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
    dead = processes(guest.machine)
    assert (len(dead) > 2) == is_uml(guest)
    guest.submit(programs * 4)
    time.sleep(0.1)
    os.kill(dead[len(dead) > 1], number)
    got = guest.collect()
    assert got == want * 4
    assert [crash.kind for crash in reports(guest.printed())] == [CrashKind.SILENCE]
    assert not set(dead) & parents().keys()


#: How often a guest is lost: a User-Mode-Linux boots in a second, under emulation it takes ten.
LOSSES = {"User-Mode-Linux": 100, "QEMU (TCG)": 24, "QEMU (KVM)": 100}


def kill(guest: Guest) -> None:
    members = processes(guest)
    os.kill(members[len(members) > 1], signal.SIGKILL)


def wedge(guest: Guest) -> None:
    members = processes(guest)
    os.kill(members[len(members) > 1], signal.SIGSTOP)


def cut_console(guest: Guest) -> None:
    """Nobody reads what it prints any more. It may go on, or die of it."""
    assert guest._state.running is not None
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, guest._state.running.console._source)
    os.close(nothing)


def cut_channel(guest: Guest) -> None:
    assert guest._state.running is not None
    channel = guest._state.running.channel
    assert isinstance(channel, Stream)
    channel._end.shutdown(socket.SHUT_RDWR)


def lose_image(guest: Guest) -> None:
    """What it boots from is gone when it dies."""
    images = list(writable_directory("build").glob("initramfs-*"))
    assert images
    for image in images:
        image.unlink()
    kill(guest)


def marked() -> set[int]:
    """All processes of this test's guest."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = set()
    for pid in parents():
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in words:
            found.add(pid)
    return found


def leftovers() -> set[str]:
    """Files that guests and executors could leave behind."""
    return {name for place in (tempfile.gettempdir(), "/dev/shm") for name in os.listdir(place)}


def test_a_hundred_losses_cost_no_program_and_count_none_twice(guest: KernelExecutor) -> None:
    rng = random.Random(7)
    machine = guest.machine
    assert isinstance(machine, Guest)
    machine.patience = 5.0
    geometry: Geometry = guest.environment.geometry
    programs = [corpus.read_program(path, geometry) for _, path in seeds("m*-multi-vma-*.prog")] * 4
    want = guest.run(programs)
    begin = time.perf_counter()
    guest.run(programs)
    usual = time.perf_counter() - begin
    guest.printed()
    before = leftovers()
    ways = (kill, wedge, cut_console, cut_channel, lose_image)
    dead: set[int] = set()
    for loss in range(LOSSES[machine.name]):
        dead |= set(processes(machine))
        guest.submit(programs)
        time.sleep(rng.uniform(0, usual))
        ways[loss % len(ways)](machine)
        assert guest.collect() == want, f"loss {loss}"
    now = set(processes(machine))
    assert marked() <= now, "nothing else is left"
    assert not (dead - now) & set(parents())
    assert leftovers() == before
