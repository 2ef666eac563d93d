"""fail, and what a call may do when an allocation of it fails: the states between its steps, and no others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from abi.consts import PAGE
from abi.program import parse
from abi.trace import Step, unpack
from fuzz.compare import initial_layout
from fuzz.settle import outcomes
from model.profile import PROFILES
from model.run import Model, Run
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, lines

ABLE: Final = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"FAULT_INJECTION"})
WINDOW: Final = ENVIRONMENT.geometry.window


def made(picture: str, call: str) -> list[Step]:
    """The call's steps: all that may be when an allocation of it fails, the one in which that is not felt first."""
    initial = initial_layout(ABLE)
    return [unpack(run.trace(), initial)[-1] for run in runs(picture, call)]


def runs(picture: str, call: str) -> Iterator[Run]:
    """The runs that end in those steps."""
    program = parse("\n".join([*lines(picture), call]), ABLE.geometry)
    before = (None,) * (len(program) - 1)
    return outcomes(Model(ABLE, PROFILES["6.18"]), program, before, full=True)


def shape(step: Step) -> str:
    """Its result, and where in the window there are VMAs (pages)."""
    ranges = (
        ((m.start - WINDOW) // PAGE, (m.end - WINDOW) // PAGE)
        for m in step.layout
        if WINDOW <= m.start < WINDOW + 128 * PAGE
    )
    result = "ok" if step.value >= 0 else {-12: "ENOMEM", -11: "EAGAIN"}[step.value]
    return " ".join([result, *(f"{low}-{high}" for low, high in ranges)])


def test_without_fault_injection_nothing_fails() -> None:
    assert Drawing(".").do("fail(1)") == ["ENOENT"]


@pytest.mark.parametrize(
    ("nth", "result"), [(0, "EINVAL"), (1, "0"), ((1 << 31) - 1, "0"), (1 << 31, "EINVAL")]
)
def test_which_allocations_there_are(nth: int, result: str) -> None:
    assert Drawing(".", ABLE).do(f"fail({nth})") == [result]


def test_a_move_of_two_vmas_stops_between_them_and_tears_neither() -> None:
    move = "mremap(W+0, 6p, 6p, MREMAP_MAYMOVE|MREMAP_FIXED, W+16)"
    shapes = {shape(step) for step in made("ww..rr", move)}
    assert shapes == {
        "ok 16-18 20-22",
        "ENOMEM 0-2 4-6",
        "ENOMEM 4-6 16-18",
        # Its source could not be unmapped: mm/mremap.c: unmap_source_vma().
        "ok 0-2 16-18 20-22",
        "ok 4-6 16-18 20-22",
    }


def test_a_cut_that_fails_leaves_what_was_cut_before() -> None:
    shapes = {shape(step) for step in made("wwwwww", "munmap(W+2, 2p)")}
    assert shapes == {"ok 0-2 4-6", "ENOMEM 0-6", "ENOMEM 0-2 2-6", "ENOMEM 0-2 2-4 4-6"}


def test_without_memory_for_a_merge_a_new_vma_stands_alone() -> None:
    call = "mmap(W+2, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
    shapes = {shape(step) for step in made("ww", call)}
    assert shapes == {"ok 0-4", "ok 0-2 2-4"}


def test_without_memory_for_a_merge_a_changed_vma_stays_as_it_was() -> None:
    shapes = {shape(step) for step in made("wwrr", "mprotect(W+2, 2p, PROT_READ|PROT_WRITE)")}
    assert shapes == {"ok 0-4", "ENOMEM 0-2 2-4"}


def test_what_could_not_be_replaced_is_gone() -> None:
    call = "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
    shapes = {shape(step) for step in made("ww", call)}
    assert shapes == {"ok 0-2", "ENOMEM 0-2", "ENOMEM"}


def test_locked_memory_may_be_locked_and_not_there() -> None:
    steps = made("ww", "mlock(W+0, 2p)")
    seen = {(shape(step), len(step.pages or ())) for step in steps}
    assert seen == {("ok 0-2", 2), ("EAGAIN 0-2", 0), ("EAGAIN 0-2", 1)}


def test_every_outcome_is_consistent() -> None:
    count = 0
    for run in runs("WW..rr.ss", "mremap(W+1, 8p, 8p, MREMAP_MAYMOVE|MREMAP_FIXED, W+32)"):
        run.space.check()
        count += 1
    assert count > 8


def test_every_outcome_says_that_an_allocation_failed() -> None:
    steps = made("ww", "munmap(W+0, 1p)")
    assert len(steps) > 2
    assert all(step.failed for step in steps)
