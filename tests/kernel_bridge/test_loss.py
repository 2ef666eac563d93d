"""Death of the executor: every program still has its observation, and the right program is blamed."""

import errno
import os
import random
import resource
import signal
import time
from collections.abc import Iterator

import pytest

from abi.calls import (
    Call,
    Madvise,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Program,
    Setrlimit,
    Shmat,
)
from abi.consts import (
    MADV_HWPOISON,
    MADV_REMOVE,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_POPULATE,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_DATA,
    SHM_REMAP,
)
from abi.environment import Geometry
from abi.program import parse
from abi.wire import AREAS, IMAGE_BASE, SHARED_BASE, SHARED_SIZE
from kernel_bridge import ExecutorConfig, KernelExecutor, policy
from tests.kernel_bridge.programs import program, values

W = Geometry().window
RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
KILLS = 80
ENDLESS = """\
mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
uffd_register(uffd0, W+0, 4p, UFFDIO_REGISTER_MODE_WP)
uffd_writeprotect(uffd0, W+2, 1p, UFFDIO_WRITEPROTECT_MODE_WP)
madvise(W+0, 4p, MADV_GUARD_INSTALL)
"""


@pytest.fixture(scope="module")
def bare() -> Iterator[KernelExecutor]:
    """An executor that does not protect its own mappings, as on kernels without mseal."""
    with KernelExecutor(ExecutorConfig(protect=False)) as executor:
        yield executor


def test_killed_at_random_moments() -> None:
    rng = random.Random(11)
    with KernelExecutor() as kernel:
        programs = [program(rng, kernel.environment, wild=0.05) for _ in range(60)]
        want = kernel.run(programs)
        begin = time.perf_counter()
        kernel.run(programs)
        usual = time.perf_counter() - begin
        lost = 0
        for kills in range(1, KILLS + 1):
            kernel.submit(programs)
            until = time.perf_counter() + rng.uniform(0, usual)
            while time.perf_counter() < until:
                pass
            os.kill(kernel.pid, signal.SIGKILL)
            got = kernel.collect()
            assert len(got) == len(programs)
            losses = [(a, b) for a, b in zip(got, want, strict=True) if a != b]
            assert len(losses) <= 1
            for observation, undisturbed in losses:
                assert observation.loss is not None
                assert (observation.loss.kind, observation.loss.signal) == ("signal", 9)
                assert undisturbed.data.startswith(observation.data)
                lost += 1
            # One that died after its answer is found dead by the next batch.
            assert kernel.run(programs[:1]) == want[:1]
            # One that was to be replaced anyway is not counted.
            assert kernel.restarts <= kills
        assert lost > 0


@pytest.mark.parametrize(
    "fatal",
    [
        Munmap(0, 0x7FFF_FFFF_F000),
        Munmap(IMAGE_BASE, 8 * PAGE),
        Munmap(SHARED_BASE, SHARED_SIZE),
        Mmap(IMAGE_BASE, 8 * PAGE, RW, ANON, -1, 0),
        Mmap(SHARED_BASE, SHARED_SIZE, RW, ANON, -1, 0),
        Mmap(SHARED_BASE, SHARED_SIZE, PROT_NONE, ANON, -1, 0),
    ],
)
def test_losing_its_own_mappings(bare: KernelExecutor, fatal: Mmap | Munmap) -> None:
    harmless: Program = (Mmap(W, PAGE, RW, ANON, -1, 0), Munmap(W, PAGE))
    restarts = bare.restarts
    got = bare.run([harmless, (*harmless, fatal, *harmless), harmless])
    assert bare.restarts == restarts + 1
    assert [values(bare.environment, o) for o in got] == [[W, 0]] * 3
    loss = got[1].loss
    assert (got[0].loss, got[2].loss) == (None, None)
    assert loss is not None
    # Where its stack is gone it dies of it; where only its memory is another it may live to say so.
    assert (loss.kind, loss.signal) in (("signal", signal.SIGSEGV), ("exit", 0))
    assert loss.call == 2
    assert "call 2" in loss.text
    assert "\n" not in loss.text


@pytest.mark.parametrize("pages", [1, 2, 7])
def test_other_memory_in_place_of_its_control_page(bare: KernelExecutor, pages: int) -> None:
    """It goes on with zeros for state, and what it reports nobody reads."""
    harmless: Program = (Mmap(W, PAGE, RW, ANON, -1, 0), Munmap(W, PAGE))
    fatal: Program = (Mmap(SHARED_BASE, pages * PAGE, RW, ANON, -1, 0),)
    begin = time.monotonic()
    got = bare.run([harmless, fatal, harmless])
    assert time.monotonic() - begin < 2
    assert [values(bare.environment, o) for o in got] == [[W, 0], [], [W, 0]]
    assert [o.loss and o.loss.call for o in got] == [None, 0, None]


def test_other_memory_in_place_of_the_results(bare: KernelExecutor) -> None:
    """What it would report is not what was sent before."""
    harmless: Program = (Mmap(W, PAGE, RW, ANON, -1, 0), Munmap(W, PAGE))
    results, size = AREAS["results"]
    fatal: Program = (*harmless, Mmap(SHARED_BASE + results, size, RW, ANON, -1, 0), *harmless)
    bare.run([harmless[::-1]] * 50)
    got = bare.run([harmless, fatal, harmless])
    assert [values(bare.environment, o) for o in got] == [[W, 0]] * 3
    assert [o.loss and (o.loss.kind, o.loss.call) for o in got] == [None, ("exit", 2), None]


def test_wiping_the_shared_memory(bare: KernelExecutor) -> None:
    """Not even the finished results are left, so the batch is run again, one program at a time."""
    harmless: Program = (Mmap(W, PAGE, RW, ANON, -1, 0), Munmap(W, PAGE))
    wipe: Program = (Madvise(SHARED_BASE, SHARED_SIZE, MADV_REMOVE),)
    got = bare.run([harmless, harmless, wipe, harmless])
    assert [o.loss and o.loss.kind for o in got] == [None, None, "signal", None]
    assert "wiped" in got[2].loss.text if got[2].loss else ""
    assert [values(bare.environment, o) for o in (*got[:2], *got[3:])] == [[W, 0]] * 3


def test_without_leave_to_lock_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    try:
        with KernelExecutor() as kernel:
            env = kernel.environment
            if "IPC_LOCK" in env.capabilities:
                pytest.skip("the executor may lock memory without limit")
            assert env.locked_pages == 0
            assert env.rlimit_memlock == 0
            wipe: Program = (Madvise(SHARED_BASE, SHARED_SIZE, MADV_REMOVE),)
            got = kernel.run([(Munmap(W, PAGE),), wipe, (Munmap(W, PAGE),)])
            assert [o.loss and o.loss.kind for o in got] == [None, "signal", None]
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))


def test_hung() -> None:
    """No call hangs by itself, so the process is stopped while it runs a long one."""
    with KernelExecutor(ExecutorConfig(call_seconds=0.4)) as kernel:
        slow: Program = (Mmap(W, 100 << 20, RW, ANON | MAP_POPULATE, -1, 0),)
        kernel.submit([slow] * 20)
        time.sleep(0.05)
        os.kill(kernel.pid, signal.SIGSTOP)
        got = kernel.collect()
        assert kernel.restarts == 1
        assert [values(kernel.environment, o) for o in got if not o.loss] == [[W]] * sum(
            not o.loss for o in got
        )
        losses = [o.loss for o in got if o.loss]
        assert len(losses) <= 1
        for loss in losses:
            assert loss.kind == "hang"
            assert "call 0 (mmap) for more than 0.4 s" in loss.text


@pytest.mark.parametrize("seconds", [0.02, 1.1])
def test_a_call_that_never_ends_is_ended(seconds: float) -> None:
    config = ExecutorConfig(endless_seconds=seconds, call_seconds=5.0)
    with KernelExecutor(config) as kernel:
        calls = parse(ENDLESS, kernel.environment.geometry)
        (seen,) = kernel.run([calls])
        assert seen.loss is None
        *_, result = values(kernel.environment, seen)
        if result != -errno.ETIME:
            pytest.skip("MADV_GUARD_INSTALL over write-protected pages ends on this kernel")
        assert kernel.run([calls]) == [seen]


def test_interrupted_collect_leaves_a_working_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with KernelExecutor() as kernel:
        kernel.submit([(Munmap(W, PAGE),)] * 1000)
        with monkeypatch.context() as patch:
            patch.setattr(KernelExecutor, "_wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                kernel.collect()
        assert values(kernel.environment, kernel.run([(Munmap(W, PAGE),)])[0]) == [0]


@pytest.mark.parametrize("advice", [MADV_HWPOISON, MADV_SOFT_OFFLINE, (7 << 32) | MADV_HWPOISON])
def test_poisoning_memory_is_refused_to_the_privileged(advice: int) -> None:
    call = Madvise(W, PAGE, advice)
    assert "CAP_SYS_ADMIN" in policy.refusal((call,), sys_admin=True)
    assert not policy.refusal((call,), sys_admin=False)
    assert not policy.refusal((Madvise(W, 0, advice),), sys_admin=True)


OWN = ((0x1000_0000, 0x1000_8000), (0x2000_0000, 0x2040_0000))


@pytest.mark.parametrize(
    "call",
    [
        Munmap(0x1000_7000, PAGE),
        Munmap(0, 1 << 40),
        Mprotect(0x2000_0000, PAGE, PROT_READ),
        Mmap(0x203F_F000, PAGE, RW, ANON, -1, 0),
        Mremap(0x2000_0000, 0, PAGE, MREMAP_MAYMOVE, 0),
        Mremap(W, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x1000_0000),
        Shmat(0, 0x1000_0000 - PAGE, SHM_REMAP),
    ],
)
def test_what_would_take_unsealed_memory_of_its_own_is_refused(call: Call) -> None:
    assert "cannot seal" in policy.refusal((call,), sys_admin=True, unsealed=OWN)
    assert not policy.refusal((call,), sys_admin=True)


@pytest.mark.parametrize(
    "call",
    [
        Munmap(0x1001_0000, PAGE),
        Mmap(0x2000_0000, PAGE, RW, ANON & ~MAP_FIXED, -1, 0),
        Mremap(W, PAGE, PAGE, MREMAP_MAYMOVE, 0x1000_0000),
        Shmat(0, 0x1000_0000, 0),
    ],
)
def test_what_leaves_unsealed_memory_alone_is_sent(call: Call) -> None:
    assert not policy.refusal((call,), sys_admin=True, unsealed=OWN)


def test_its_own_descriptors_are_refused(kernel: KernelExecutor) -> None:
    before = kernel.restarts
    bad: Program = (Mmap(W, PAGE, PROT_READ, MAP_PRIVATE, (1 << 32) | 3, 0),)
    got = kernel.run([(Munmap(W, PAGE),), bad, (Munmap(W, PAGE),)])
    assert [o.loss and o.loss.kind for o in got] == [None, "refused", None]
    assert [o.loss and o.loss.kind for o in kernel.run([bad])] == ["refused"]
    assert kernel.restarts == before


def test_a_program_too_long_for_the_shared_memory(kernel: KernelExecutor) -> None:
    got = kernel.run([(Munmap(W, PAGE),) * 100_000, (Munmap(W, PAGE),)])
    assert [o.loss and o.loss.kind for o in got] == ["too-large", None]


def test_limits_are_given_back_by_a_process_that_took_over() -> None:
    """What a reset goes back to was learnt by the process that died."""
    maps = Mmap(W, PAGE, RW, ANON, -1, 0)
    with KernelExecutor() as kernel:
        os.kill(kernel.pid, signal.SIGKILL)
        programs: list[Program] = [(maps, Setrlimit(RLIMIT_DATA, 0)), (maps,)]
        assert [values(kernel.environment, seen) for seen in kernel.run(programs)] == [[W, 0], [W]]
