"""Less that shows the same: as few as it takes, in an order that is easy to foresee, and in the time there is."""

from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi.calls import Munmap, Program
from abi.consts import PAGE
from fuzz.crash_finding import CrashFinding
from fuzz.reduce import shorten
from fuzz.reduction import Reduction, reduce_crash
from fuzz.trials import Ran
from tests.fuzz.machine import ENVIRONMENT
from tests.fuzz.test_crashes import WARN, Again, Kernel, plain, reports


def calls(*numbers: int) -> Program:
    return tuple(Munmap(number * PAGE, PAGE) for number in numbers)


@given(st.integers(1, 40), st.data())
def test_what_it_takes_is_what_is_left(size: int, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    tried: list[tuple[int, ...]] = []

    def shows(items: tuple[int, ...]) -> bool:
        assert items
        tried.append(items)
        return needed <= set(items)

    assert shorten(range(size), shows) == tuple(sorted(needed))
    assert list(range(size)) not in tried


def test_one_of_many_takes_few_trials() -> None:
    tried = []

    def shows(items: tuple[int, ...]) -> bool:
        tried.append(items)
        return 700 in items

    assert shorten(range(1000), shows) == (700,)
    assert len(tried) < 25


def test_either_of_two_is_enough() -> None:
    assert shorten("abcabc", lambda items: "c" in items) == ("c",)


def test_without_luck_nothing_is_lost() -> None:
    rng = Random(1)
    kept = shorten(range(50), lambda items: 25 in items and rng.random() < 0.2)
    assert 25 in kept


def finding(series: Sequence[Program], shown: int = 0) -> CrashFinding:
    """A report put down to the last; `shown`: of how many it was seen that they bring it about."""
    (crash,) = reports(WARN)
    *before, last = map(Ran, series)
    known = tuple(map(Ran, series[-shown:])) if shown else ()
    return CrashFinding(crash, last, tuple(before), "", ENVIRONMENT, "", known, "")


def needs(*numbers: int, in_programs: int = 0) -> Kernel:
    """A kernel that warns once it has run these calls, and at least so many programs."""

    def kernel(ran: Sequence[Program]) -> tuple[bytes, bool]:
        done = {call.addr // PAGE for each in ran for call in each}
        return WARN * (set(numbers) <= done and len(ran) >= in_programs), False

    return kernel


@pytest.mark.parametrize(
    ("series", "shown", "kernel", "left"),
    [
        ([calls(1), calls(2, 3, 4)], 1, needs(3), [calls(3)]),
        ([calls(1), calls(2, 3, 4)], 2, needs(1, 4), [calls(1), calls(4)]),
        ([calls(1, 5), calls(2), calls(3, 6), calls(4)], 0, needs(5, 6), [calls(5), calls(6)]),
        ([calls(1), calls(2), calls(3), calls(4)], 0, needs(2), [calls(2)]),
        ([calls(1, 2), calls(3), calls(4, 5)], 0, needs(in_programs=2), [calls(2), calls(3)]),
    ],
)
def test_fewest_programs_then_fewest_calls(
    series: list[Program], shown: int, kernel: Kernel, left: list[Program]
) -> None:
    reduction = reduce_crash(finding(series, shown), Again(kernel), lambda: False)
    assert reduction is not None
    assert plain(reduction.series) == left


def test_it_says_how_it_went() -> None:
    again = Again(needs(3))
    reduction = reduce_crash(finding([calls(1, 2, 3, 4)], 1), again, lambda: False)
    trials = len(again.series)
    assert reduction == Reduction(
        (Ran(calls(3)),), f"to 1 program of 1 call from 1 program of 4 calls, in {trials} trials"
    )


def test_how_a_program_was_observed_stays() -> None:
    made = finding([calls(1, 2)], 1)
    observed = (Ran(calls(1, 2), full=True),)
    (left,) = (
        reduce_crash(made_again, Again(needs(2)), lambda: False).series  # type: ignore[union-attr]
        for made_again in [
            CrashFinding(made.crash, observed[0], (), "", ENVIRONMENT, "", observed, "")
        ]
    )
    assert left == (Ran(calls(2), full=True),)


def test_what_does_not_come_again_cannot_be_made_smaller() -> None:
    again = Again(needs(99))
    assert reduce_crash(finding([calls(1), calls(2)]), again, lambda: False) is None
    assert again.series == [[calls(1), calls(2)]]


def test_a_kernel_that_cannot_be_booted_is_spared() -> None:
    again = Again(needs(2), boots=False)
    assert reduce_crash(finding([calls(1, 2)], 1), again, lambda: False) is None
    assert again.series == []


@pytest.mark.parametrize("over", [lambda again: len(again.series) >= 3, None])
def test_it_ends_in_time(over: Callable[[Again], bool] | None) -> None:
    again = Again(needs(7))
    series = [calls(*range(64))]
    if over is None:
        reduction = reduce_crash(finding(series, 1), again, lambda: False, seconds=0)
    else:
        reduction = reduce_crash(finding(series, 1), again, lambda: over(again))
    assert reduction is not None
    assert reduction.how.endswith(", and time was up")
    assert len(again.series) == (0 if over is None else 3)
    assert 7 * PAGE in {call.addr for call in reduction.series[0].program}
