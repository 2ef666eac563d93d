"""Model and kernel side by side: a program grows by one call, and the whole of it is run on both each time."""

from contextlib import ExitStack
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, Touch, UffdRegister
from abi.consts import (
    FD_NAMES,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_GUARD_INSTALL,
    MADV_NORMAL,
    MADV_RANDOM,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
)
from abi.program import format_program
from fuzz.compare import first_divergence
from fuzz.probe import probe
from kernel_bridge import KernelExecutor
from model.run import Model, Run
from tests.environments import initial_layout
from tests.kernels import executor

pages = st.integers(0, 9)
counts = st.integers(1, 4)
prots = st.sampled_from([3, 3, 3, 1])
mappings = st.sampled_from([
    (MAP_PRIVATE | MAP_ANONYMOUS, -1),
    (MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1),
    (MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1),
    (MAP_SHARED | MAP_ANONYMOUS, -1),
    (MAP_SHARED, FD_NAMES["memfd"]),
    (MAP_PRIVATE, FD_NAMES["memfd"]),
    (MAP_PRIVATE, FD_NAMES["file"]),
    (MAP_PRIVATE, FD_NAMES["devzero"]),
])  # fmt: skip
moves = st.sampled_from([
    0,
    MREMAP_MAYMOVE,
    MREMAP_MAYMOVE | MREMAP_FIXED,
    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
])  # fmt: skip
advices = st.sampled_from(
    [MADV_NORMAL, MADV_RANDOM, MADV_DONTFORK, MADV_DONTNEED, MADV_GUARD_INSTALL]
)


class SideBySide(RuleBasedStateMachine):
    """Every rule makes one call more; both sides must then give the same trace."""

    kernel: ClassVar[KernelExecutor]
    model: ClassVar[Model]

    @initialize()
    def begin(self) -> None:
        self.window = self.kernel.environment.geometry.window
        self.program: tuple[Call, ...] = ()
        self.run: Run = self.model.start()

    @rule(page=pages, count=counts, prot=prots, mapping=mappings, fixed=st.booleans())
    def mmap(self, page: int, count: int, prot: int, mapping: tuple[int, int], fixed: bool) -> None:
        flags, fd = mapping
        flags |= MAP_FIXED if fixed else 0
        self._step(Mmap(self._at(page), count * PAGE, prot, flags, fd, page * PAGE))

    @rule(page=pages, count=counts)
    def munmap(self, page: int, count: int) -> None:
        self._step(Munmap(self._at(page), count * PAGE))

    @rule(page=pages, count=counts, prot=prots)
    def mprotect(self, page: int, count: int, prot: int) -> None:
        self._step(Mprotect(self._at(page), count * PAGE, prot))

    @rule(page=pages, old=counts, new=counts, same=st.booleans(), flags=moves, to=pages)
    def mremap(self, page: int, old: int, new: int, same: bool, flags: int, to: int) -> None:
        new = old if same else new
        self._step(Mremap(self._at(page), old * PAGE, new * PAGE, flags, self._at(to)))

    @rule(page=pages, count=counts, advice=advices)
    def madvise(self, page: int, count: int, advice: int) -> None:
        self._step(Madvise(self._at(page), count * PAGE, advice))

    @rule(page=pages, count=counts, access=st.integers(0, 1))
    def touch(self, page: int, count: int, access: int) -> None:
        self._step(Touch(self._at(page), count, access))

    @rule(page=pages, count=counts, mode=st.sampled_from([1, 2]))
    def register(self, page: int, count: int, mode: int) -> None:
        self._step(UffdRegister(FD_NAMES["uffd0"], self._at(page), count * PAGE, mode))

    def _at(self, page: int) -> int:
        return self.window + page * PAGE

    def _step(self, call: Call) -> None:
        self.program += (call,)
        self.run.step(call)
        self.run.space.check()
        (observed,) = self.kernel.run([self.program])
        assert observed.loss is None, observed.loss
        expected = self.run.trace()
        if observed.data != expected:
            environment = self.kernel.environment
            divergence = first_divergence(expected, observed.data, initial_layout(environment))
            pytest.fail(f"{format_program(self.program, environment.geometry)}{divergence}")


def test_model_and_kernel_side_by_side() -> None:
    with ExitStack() as stack:
        SideBySide.kernel = stack.enter_context(executor())
        SideBySide.model = Model(SideBySide.kernel.environment, probe(SideBySide.kernel))
        run_state_machine_as_test(
            SideBySide,
            settings=settings(
                max_examples=200, stateful_step_count=30, derandomize=True, deadline=None
            ),
        )
