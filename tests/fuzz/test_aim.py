"""Arguments of every kind: what they usually are, and what they are spoiled to."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from abi.calls import SIGNATURES, Kind
from abi.consts import PRCTL_NAMES, RESOURCE_NAMES, VMA_NAMES, WORD
from abi.environment import Geometry, Object
from fuzz.aim import Aim
from fuzz.odds import BITS, OTHERS, USUAL


@pytest.fixture
def aim(new_run: Callable[[], Any], geometry: Geometry, objects: tuple[Object, ...]) -> Aim:
    return Aim(Random(1), new_run(), geometry, objects)


@pytest.mark.parametrize("kind", list(Kind))
def test_spoiled_arguments_fit_and_differ(aim: Aim, kind: Kind) -> None:
    spoiled = {aim.spoil(1, kind) for _ in range(200)}
    assert len(spoiled) > 2
    assert all(0 <= value <= WORD for value in spoiled)


def test_every_kind_is_used_and_has_its_odds() -> None:
    used = {kind for signature in SIGNATURES.values() for _, kind in signature}
    assert used == set(Kind)
    measured = {Kind.ADDRESS, Kind.LENGTH, Kind.OFFSET, Kind.PAGES, Kind.FD, Kind.ACCESS}
    assert USUAL.keys() | {Kind.MAP_FLAGS, Kind.NUMBER} | measured == used
    assert BITS.keys() | OTHERS.keys() | {Kind.ADVICE, Kind.NUMBER} | measured == used


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Kind.PRCTL, PRCTL_NAMES), (Kind.RESOURCE, RESOURCE_NAMES), (Kind.NAME, VMA_NAMES)],
)
def test_what_the_executor_knows_by_number_stays_so(
    aim: Aim, kind: Kind, names: dict[str, int]
) -> None:
    drawn = {aim.spoil(0, kind) for _ in range(200)} | {aim.usual(kind) for _ in range(200)}
    assert drawn == set(names.values())
