"""What an observation says: results, layouts, and nothing of the programs before."""

import random
from collections.abc import Iterable
from errno import EBADF, EFAULT, EINVAL, ENODEV, ENOMEM, ENOTTY, EPERM

import pytest

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, Program, Touch, UffdRegister
from abi.consts import (
    FD_NAMES,
    MADV_DONTFORK,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_READ,
    PROT_WRITE,
    TOUCH_SIGBUS,
    TOUCH_SIGSEGV,
    UFFDIO_REGISTER_MODE_MISSING,
    WORD,
)
from abi.environment import Geometry
from abi.trace import FIRST_NEW_IDENT, NAME_FILE, NAME_HEAP, NAME_STACK, unpack
from abi.wire import IDENT_DEVZERO, IDENT_FILE, IDENT_MEMFD, IMAGE_BASE, SHARED_BASE
from kernel_bridge import ExecutorConfig, KernelExecutor
from tests.kernel_bridge.programs import initial, program, values

W = Geometry().window
RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def run(kernel: KernelExecutor, *calls: Call) -> list[int]:
    (observation,) = kernel.run([calls])
    assert observation.loss is None
    assert observation.dirty == ""
    return values(kernel.environment, observation)


def test_results_and_layouts(kernel: KernelExecutor) -> None:
    calls = (Mmap(W, 4 * PAGE, RW, ANON, -1, 0), Munmap(W + PAGE, PAGE), Munmap(W + 1, PAGE))
    (observation,) = kernel.run([calls])
    first, second, third = unpack(observation.data, initial(kernel.environment))
    assert [first.value, second.value, third.value] == [W, 0, -EINVAL]
    ours = [(m.start, m.end) for m in second.layout if m.start >= W]
    assert ours == [(W, W + PAGE), (W + 2 * PAGE, W + 4 * PAGE)]
    assert third.layout == second.layout
    assert first.layout[: len(kernel.environment.initial)] == initial(kernel.environment)


def test_an_empty_program_and_no_program(kernel: KernelExecutor) -> None:
    assert kernel.run([()])[0].data == b""
    assert kernel.run([]) == []


def test_touch_on_hole_none_readonly_and_past_the_end(kernel: KernelExecutor) -> None:
    missing = kernel.environment.missing
    assert "memfd" not in missing, missing
    pages = [0, 1, 1, 1, 0, TOUCH_SIGBUS] + [TOUCH_SIGSEGV] * 26
    outcomes = sum(outcome << 2 * page for page, outcome in enumerate(pages))
    assert run(
        kernel,
        Mmap(W, PAGE, RW, ANON, -1, 0),
        Mmap(W + PAGE, PAGE, 0, ANON, -1, 0),
        Mmap(W + 3 * PAGE, PAGE, PROT_READ, ANON, -1, 0),
        Mmap(W + 4 * PAGE, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, FD_NAMES["memfd"], 63 * PAGE),
        Touch(W, 6, 0),
        Touch(W, 6, 1),
        Touch(W, 0, 0),
        Touch(W, WORD, 3),
    )[4:] == [
        TOUCH_SIGSEGV << 2 | TOUCH_SIGSEGV << 4 | TOUCH_SIGBUS << 10,
        TOUCH_SIGSEGV << 2 | TOUCH_SIGSEGV << 4 | TOUCH_SIGSEGV << 6 | TOUCH_SIGBUS << 10,
        0,
        outcomes,
    ]


@pytest.mark.parametrize("addr", [0, 1 << 47, 1 << 63, WORD, WORD - PAGE + 1, IMAGE_BASE - 1])
def test_touch_at_wild_addresses(kernel: KernelExecutor, addr: int) -> None:
    assert run(kernel, Touch(addr, 1, 0), Touch(addr, 1, 1)) == [TOUCH_SIGSEGV, TOUCH_SIGSEGV]


def test_touch_of_its_own_mappings_does_no_harm(kernel: KernelExecutor) -> None:
    assert run(kernel, Touch(SHARED_BASE, 32, 1), Touch(IMAGE_BASE, 1, 0)) == [0, 0]
    assert run(kernel, Touch(IMAGE_BASE, 1, 1)) == [TOUCH_SIGSEGV]


def test_wild_addresses_and_lengths(kernel: KernelExecutor) -> None:
    assert run(
        kernel,
        Munmap(0, WORD),
        Mprotect(WORD & -PAGE, PAGE, RW),
        Mremap(W, WORD, 1 << 60, MREMAP_MAYMOVE, 0),
        Mmap(0, 1 << 46, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        Mmap(W, 0, RW, ANON, -1, 0),
        Mremap(W, PAGE, PAGE, 0, 0),
    ) == [-EINVAL, -ENOMEM, -EINVAL, -ENOMEM, -EINVAL, -EFAULT]


def test_sealed_mappings_refuse(kernel: KernelExecutor) -> None:
    if "sl" not in kernel.environment.initial[0].flags:
        pytest.skip("this kernel has no mseal(2)")
    (observation,) = kernel.run([(Munmap(0, kernel.environment.task_size),)])
    assert observation.loss is None
    assert values(kernel.environment, observation) == [-EPERM]


def test_objects_and_their_idents(kernel: KernelExecutor) -> None:
    private = MAP_PRIVATE | MAP_FIXED
    calls = (
        Mmap(W, PAGE, PROT_READ, private, FD_NAMES["memfd"], 0),
        Mmap(W + 2 * PAGE, PAGE, PROT_READ, private, FD_NAMES["file_ro"], PAGE),
        Mmap(W + 4 * PAGE, PAGE, PROT_READ, private, FD_NAMES["devzero"], 0),
        Mmap(W + 6 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, FD_NAMES["devzero"], 0),
        Mmap(W + 8 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0),
    )
    for _ in range(2):
        (observation,) = kernel.run([calls])
        layout = unpack(observation.data, initial(kernel.environment))[-1].layout
        ours = [m for m in layout if m.start >= W]
        fixed = [IDENT_MEMFD, IDENT_FILE, IDENT_DEVZERO]
        assert [m.ident for m in ours] == [*fixed, FIRST_NEW_IDENT, FIRST_NEW_IDENT + 1]
        assert {m.name for m in ours} == {NAME_FILE}
        assert [m.offset for m in ours] == [0, PAGE, 0, 0, 0]


def test_descriptors(kernel: KernelExecutor) -> None:
    read = PROT_READ
    assert run(
        kernel,
        Mmap(W, PAGE, read, MAP_PRIVATE, FD_NAMES["pipe"], 0),
        Mmap(W, PAGE, read, MAP_PRIVATE, FD_NAMES["uffd0"], 0),
        Mmap(W, PAGE, read, MAP_PRIVATE, 999, 0),
        Mmap(W, PAGE, read, MAP_PRIVATE, -1, 0),
        UffdRegister(FD_NAMES["memfd"], W, PAGE, UFFDIO_REGISTER_MODE_MISSING),
        UffdRegister(-1, W, PAGE, UFFDIO_REGISTER_MODE_MISSING),
    ) == [-ENODEV, -ENODEV, -EBADF, -EBADF, -ENOTTY, -EBADF]


def test_userfaultfd(kernel: KernelExecutor) -> None:
    if "uffd0" in kernel.environment.missing:
        pytest.skip(kernel.environment.missing["uffd0"])
    register = UffdRegister(FD_NAMES["uffd0"], W, 2 * PAGE, UFFDIO_REGISTER_MODE_MISSING)
    assert run(
        kernel, Mmap(W, 2 * PAGE, RW, ANON, -1, 0), Touch(W, 1, 1), register, Touch(W, 2, 1)
    )[1:] == [0, 0, TOUCH_SIGBUS << 2]


def test_names_of_heap_and_stack(kernel: KernelExecutor) -> None:
    env = kernel.environment
    calls = (
        Mmap(env.start_stack & -PAGE, PAGE, RW, ANON, -1, 0),
        Mmap(env.brk, PAGE, RW, ANON, -1, 0),
    )
    (observation,) = kernel.run([calls])
    layout = unpack(observation.data, initial(env))[-1].layout
    assert {m.start: m.name for m in layout}[env.start_stack & -PAGE] == NAME_STACK
    assert NAME_HEAP not in {m.name for m in layout}  # brk == start_brk: nothing is between them


def test_memfd_pages_are_gone_afterwards(kernel: KernelExecutor) -> None:
    """Whether a page is there decides what userfaultfd does with it."""
    if "uffd0" in kernel.environment.missing:
        pytest.skip(kernel.environment.missing["uffd0"])
    mapping = Mmap(W, PAGE, RW, MAP_SHARED | MAP_FIXED, FD_NAMES["memfd"], 0)
    fill: Program = (mapping, Touch(W, 1, 1))
    look: Program = (
        mapping,
        UffdRegister(FD_NAMES["uffd0"], W, PAGE, UFFDIO_REGISTER_MODE_MISSING),
        Touch(W, 1, 1),
    )
    for observation in kernel.run([fill, look])[1:]:
        assert values(kernel.environment, observation) == [W, 0, TOUCH_SIGBUS]


def test_one_program_a_thousand_times(kernel: KernelExecutor) -> None:
    rng = random.Random(7)
    for _ in range(3):
        one = program(rng, kernel.environment, wild=0.05)
        assert len(set(kernel.run([one] * 1000))) == 1


def test_programs_do_not_see_each_other(kernel: KernelExecutor) -> None:
    rng = random.Random(8)
    programs = [program(rng, kernel.environment, wild=0.1) for _ in range(600)]
    together = kernel.run(programs)
    assert kernel.run(programs[::-1])[::-1] == together
    assert [kernel.run([one])[0] for one in programs] == together
    assert all(o.loss is None or o.loss.kind == "refused" for o in together)


@pytest.mark.parametrize("wild", [0.0, 0.3])
def test_both_readers_agree(wild: float) -> None:
    with (
        KernelExecutor(ExecutorConfig(reader="maps")) as text,
        KernelExecutor(ExecutorConfig(reader="auto")) as query,
    ):
        if query.reader != "query":
            pytest.skip("this kernel has no PROCMAP_QUERY")
        assert text.reader == "maps"
        assert text.environment == query.environment
        rng = random.Random(9)
        programs = [program(rng, text.environment, 10, wild) for _ in range(400)]
        assert text.run(programs) == query.run(programs)


def test_both_readers_agree_on_a_large_layout() -> None:
    many: Program = (
        Mmap(W, 2000 * PAGE, RW, ANON, -1, 0),
        *(Munmap(W + 2 * i * PAGE, PAGE) for i in range(900)),
    )
    with (
        KernelExecutor(ExecutorConfig(reader="maps")) as text,
        KernelExecutor(ExecutorConfig(reader="auto")) as query,
    ):
        short = many[:300]
        assert text.run([short]) == query.run([short])
        (lost,) = query.run([many])
        assert lost.loss is not None
        assert lost.loss.kind == "too-large"
        assert query.restarts == 0


def test_results_larger_than_the_shared_memory(kernel: KernelExecutor) -> None:
    calls: Program = (
        Mmap(W, 200 * PAGE, RW, ANON, -1, 0),
        *(Munmap(W + 2 * i * PAGE, PAGE) for i in range(90)),
    )
    programs = [calls] * 60
    observations = kernel.run(programs)
    assert len(observations) == 60
    assert len(set(observations)) == 1
    assert observations[0].loss is None
    assert sum(len(o.data) for o in observations) > 4 << 20


def test_more_programs_than_the_shared_memory_holds(kernel: KernelExecutor) -> None:
    observations = kernel.run([(Munmap(W, PAGE),)] * 9000 + [(Munmap(W + 1, PAGE),)])
    assert [values(kernel.environment, o) for o in observations[-2:]] == [[0], [-EINVAL]]
    assert len(observations) == 9001


def test_submit_and_collect(kernel: KernelExecutor) -> None:
    kernel.submit([(Munmap(W, PAGE),)] * 3)
    assert [values(kernel.environment, o) for o in kernel.collect()] == [[0]] * 3


def test_recycle_keeps_everything(kernel: KernelExecutor) -> None:
    """A program that changes the executor's own mappings is followed by a fresh executor."""
    spoil: Program = (Madvise(SHARED_BASE, PAGE, MADV_DONTFORK),)
    look: Program = (Mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), Touch(W, 1, 0))
    before, restarts = kernel.recycles, kernel.restarts
    (alone,) = kernel.run([look])
    observations = kernel.run([spoil, look] * 50)
    assert kernel.recycles == before + 50
    assert kernel.restarts == restarts
    assert set(observations[1::2]) == {alone}
    assert len(set(observations[::2])) == 1
    assert "own mappings" in observations[0].dirty


def test_counters_are_checked_after_locking(kernel: KernelExecutor) -> None:
    calls = (Mmap(W, 4 * PAGE, RW, ANON | MAP_LOCKED, -1, 0), Munmap(W + PAGE, PAGE))
    assert {o.dirty for o in kernel.run([calls] * 20)} == {""}


def test_removing_its_locked_memory_fails(kernel: KernelExecutor) -> None:
    if "lo" not in kernel.environment.initial[1].flags:
        pytest.skip("RLIMIT_MEMLOCK does not let the executor lock its memory")
    assert run(kernel, Madvise(SHARED_BASE, PAGE, MADV_REMOVE)) == [-EINVAL]


def test_hints_and_fixed_over_its_image(kernel: KernelExecutor) -> None:
    flags = MAP_PRIVATE | MAP_ANONYMOUS
    hinted, refused = run(
        kernel,
        Mmap(IMAGE_BASE, PAGE, RW, flags, -1, 0),
        Mmap(IMAGE_BASE, PAGE, RW, flags | MAP_FIXED_NOREPLACE, -1, 0),
    )
    assert hinted == kernel.environment.geometry.top - PAGE
    assert refused == -17


def test_rate(kernel: KernelExecutor) -> None:
    sequences, calls, seconds = kernel.rate([(Munmap(W, PAGE),) * 8] * 100, 0.05)
    assert sequences % 100 == 0
    assert calls == 8 * sequences
    assert 0.05 <= seconds < 1


def test_rate_observes_in_full_what_it_is_told_to(kernel: KernelExecutor) -> None:
    programs: list[Program] = [(Mmap(W, 4 * PAGE, RW, ANON, -1, 0), Munmap(W, PAGE))] * 3

    def written(full: Iterable[int]) -> int:
        """Bytes of the last round's traces."""
        kernel.rate(programs, 0.01, full)
        return kernel._memory.get("out")

    assert written(()) < written((1,)) < written(range(3))
