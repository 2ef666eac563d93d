"""What is predicted of programs that make allocations fail follows the kernel among what it may do, and no further."""

from dataclasses import replace
from typing import Final

import pytest

from abi.program import parse
from abi.trace import Mapping, Step, Trace, unpack
from fuzz.compare import diverging_step, initial_layout
from fuzz.settle import may_fail, settle
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW

ABLE: Final = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"FAULT_INJECTION"})
INITIAL: Final = initial_layout(ABLE)
MODEL: Final = Model(ABLE, NEW)
PROGRAM: Final = parse(
    """
    mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
    mmap(W+4, 2p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
    fail(5)
    mremap(W+0, 6p, 6p, MREMAP_MAYMOVE|MREMAP_FIXED, W+16)
    fail(2)
    munmap(W+5, 20p)
    touch(W+17, 1, write)
    """,
    ABLE.geometry,
)


def kernel(*points: int | None) -> Trace:
    """What a kernel might do: where the failures are felt, of the move and of the unmapping."""
    run = MODEL.start(full=True)
    for call, point in zip(
        PROGRAM, (None, None, None, points[0], None, points[1], None), strict=True
    ):
        run.step(call, point)
    return unpack(run.trace(), INITIAL)


def prediction(seen: Trace) -> Trace:
    return unpack(settle(MODEL, PROGRAM, seen, INITIAL, full=True), INITIAL)


@pytest.mark.parametrize("unmap", [None, 0, 1, 2])
@pytest.mark.parametrize("move", [None, 0, 1, 2, 3, 4, 5, 6])
def test_what_may_be_is_predicted(move: int | None, unmap: int | None) -> None:
    seen = kernel(move, unmap)
    assert prediction(seen) == seen


def test_the_kernel_says_that_an_allocation_failed_and_where_it_did_not() -> None:
    assert [step.failed for step in kernel(1, None)] == [False, False, False, True] + [False] * 3


@pytest.mark.parametrize("change", ["torn", "result", "locked"])
def test_what_may_not_be_is_a_divergence(change: str) -> None:
    seen = list(kernel(3, None))
    seen[3] = spoilt(seen[3], change)
    divergence = diverging_step(prediction(tuple(seen)), tuple(seen), INITIAL)
    assert divergence is not None
    assert divergence.index == 3
    assert divergence.field == {"torn": "layout", "result": "result", "locked": "counters"}[change]


def spoilt(step: Step, change: str) -> Step:
    if change == "result":
        return replace(step, value=-14)
    if change == "locked":
        assert step.counters is not None
        return replace(step, counters=(step.counters[0] + 1, *step.counters[1:]))
    torn: list[Mapping] = []
    for mapping in step.layout:
        half = mapping.end - 0x1000
        torn.append(
            replace(mapping, end=half) if mapping.end - mapping.start == 0x2000 else mapping
        )
    return replace(step, layout=tuple(torn))


def test_a_kernel_that_went_no_further_is_followed_as_far() -> None:
    seen = kernel(4, None)[:4]
    assert prediction(seen)[:4] == seen


def test_only_programs_that_make_allocations_fail_are_settled() -> None:
    assert may_fail(PROGRAM)
    assert not may_fail(PROGRAM[:2])
