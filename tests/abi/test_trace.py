"""Packed traces and how results are written."""

import pytest

from abi.calls import Munmap, Touch
from abi.trace import RECORD, STEP, UNCHANGED, Mapping, Step, describe, unpack, unpack_layout

ONE = Mapping(0x1000, 0x2000, 0, 0, 3, 0)
TWO = Mapping(0x2000, 0x3000, 0x4000, 64, 15, 1)


def test_a_layout_is_its_records() -> None:
    assert unpack_layout(ONE.pack() + TWO.pack()) == (ONE, TWO)
    assert len(ONE.pack()) == RECORD.size


def test_an_unchanged_layout_is_that_before() -> None:
    packed = STEP.pack(0, 1, 0, 0, 0) + TWO.pack() + STEP.pack(-22, UNCHANGED, 0, 0, 0)
    assert unpack(packed, (ONE,)) == (Step(0, (TWO,)), Step(-22, (TWO,)))
    assert unpack(STEP.pack(5, UNCHANGED, 0, 0, 0), (ONE,)) == (Step(5, (ONE,)),)


@pytest.mark.parametrize("cut", range(STEP.size + RECORD.size))
def test_a_trace_cut_short_has_the_whole_steps_before_the_cut(cut: int) -> None:
    first = STEP.pack(0, 0, 0, 0, 0)
    second = STEP.pack(1, 1, 0, 0, 0) + ONE.pack()
    assert unpack(first + second[:cut], (ONE,)) == (Step(0, ()),)


@pytest.mark.parametrize(("mapping", "text"), [(ONE, "rw-p"), (TWO, "rwxs")])
def test_permissions_look_as_in_maps(mapping: Mapping, text: str) -> None:
    assert mapping.permissions() == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (5, "5"),
        (0x1000, "0x1000"),
        (-22, "-1 EINVAL"),
        (-4000, "-1 4000"),
        (-(1 << 62), hex((1 << 64) - (1 << 62))),
    ],
)
def test_results_look_as_in_strace(value: int, text: str) -> None:
    assert describe(Munmap(0, 0), value) == text


def test_touches_are_told_page_by_page() -> None:
    assert describe(Touch(0, 3, 0), 0b100100) == "ok SEGV BUS"
    assert describe(Touch(0, 0, 0), 0) == "nothing"
    assert describe(Touch(0, 99, 0), -1).split() == ["endless"] * 32
