"""Steering: what leads to watched blocks is drawn more often, and all else still is."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from abi.calls import CALLS, Call, Fail, Madvise, Mlockall, Mseal, Munmap, Program
from abi.consts import MADV_UNMERGEABLE
from abi.environment import Geometry, Object
from fuzz import confine
from fuzz.aim import Aim
from fuzz.generate import DRAWS, EACH_DRAW, EACH_OPENING, EACH_SEQUEL, OPENINGS, SEQUELS, generate
from fuzz.mutate import mutate
from fuzz.steer import Steering, Trait, earned, traits_of
from model.errors import Unmodelled
from tests.fuzz.machine import FakeExecutor, set_up

NewRun = Callable[[], Any]
Objects = tuple[Object, ...]


def learnt(*traits: Trait) -> Steering:
    """What is known after programs with these traits, and twenty times as many without."""
    steering = Steering()
    for number in range(2100):
        steering.learn(("other",) if number % 21 else traits, 0.0 if number % 21 else 1.0)
    return steering


def test_lift_is_what_programs_with_a_trait_earn_over_what_all_do() -> None:
    steering = Steering()
    assert steering.lift("a") == 1
    for _ in range(1000):
        steering.learn(("a", "all"), 1.0)
        steering.learn(("b", "all"), 0.5)
        steering.learn(("c", "all"), 0.0)
    assert steering.lift("a") == pytest.approx(2, rel=0.02)
    assert steering.lift("b") == steering.lift("all") == steering.lift("never seen") == 1
    assert steering.lift("c") == 1 / 8, "not less: it stays possible"


def test_one_program_proves_little() -> None:
    steering = Steering()
    for _ in range(100):
        steering.learn(("common",), 0.1)
    steering.learn(("once",), 0.0)
    assert 0.8 < steering.lift("once") < 1


def test_a_rare_block_counts_as_much_as_a_busy_one() -> None:
    """Thirty of a thousand programs reach the one, all reach the other: thirty times as much each, and more."""
    steering = Steering()
    for busy in range(1000):
        rare, rest = divmod(busy, 33)
        if rest:
            steering.learn(("plain",), earned(1, busy))
        else:
            steering.learn(("special",), earned(2, rare))
    assert steering.lift("special") > 10 * steering.lift("plain")
    assert earned(0, 0) == 0


def test_choices_go_by_their_lift() -> None:
    steering = learnt("a")
    draws = [steering.choose(("a", "other", "new"), number / 1000) for number in range(1000)]
    assert draws == sorted(draws)
    assert draws.count(0) > draws.count(2) > draws.count(1) > 0


def test_traits_are_calls_and_chosen_arguments() -> None:
    call = Madvise(0x1000, 0x1000, MADV_UNMERGEABLE)
    others = Madvise(0x2000, 0x3000, MADV_UNMERGEABLE)
    assert traits_of((call,)) == traits_of((others, call))
    assert len(traits_of((call, Munmap(0, 0x1000)))) == 3


def test_each_choice_is_there_and_once() -> None:
    for table, each, group in (
        (DRAWS, EACH_DRAW, confine.confining),
        (OPENINGS, EACH_OPENING, None),
        (SEQUELS, EACH_SEQUEL, confine.confine),
    ):
        assert len(each) == len(set(each))
        assert set(table) - {group} <= set(each)
        assert group not in each
    assert confine.seal in EACH_DRAW
    assert confine.seal_part in EACH_SEQUEL


def _made(
    steering: Steering | None, new_run: NewRun, geometry: Geometry, objects: Objects
) -> list[Program]:
    rng, programs = Random(1), []
    # Unsteered, one in 350 locks everything: enough of them for a ratio.
    for _ in range(12_000):
        with suppress(Unmodelled):
            programs.append(generate(rng, new_run(), geometry, objects, steering=steering))
    return programs


def _calls(programs: list[Program]) -> list[Call]:
    return [call for program in programs for call in program]


def test_what_leads_there_is_made_more_often(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    plain = _calls(_made(None, new_run, geometry, objects))
    steered = _calls(_made(learnt(confine.lock_all), new_run, geometry, objects))
    locks = [sum(isinstance(c, Mlockall) for c in calls) for calls in (plain, steered)]
    assert locks[1] > 10 * max(locks[0], 1)
    assert {type(call) for call in steered} >= set(CALLS) - {Fail}, "and all else still is"


def test_arguments_too(new_run: NewRun, geometry: Geometry, objects: Objects) -> None:
    steering = learnt(*traits_of((Madvise(0, 0, MADV_UNMERGEABLE),)))
    drawn = []
    for each in (None, steering):
        aim = Aim(Random(1), new_run(), geometry, objects, steering=each)
        drawn.append([aim.advice() for _ in range(2000)])
    assert drawn[1].count(MADV_UNMERGEABLE) > 3 * drawn[0].count(MADV_UNMERGEABLE)
    assert set(drawn[1]) == set(drawn[0]), "and all else still is"


def test_the_seed_decides(new_run: NewRun, geometry: Geometry, objects: Objects) -> None:
    made = [_made(learnt(confine.seal), new_run, geometry, objects) for _ in range(2)]
    assert made[0] == made[1]
    edited = [
        mutate(made[0][0], Random(2), new_run(), geometry, objects, steering=learnt(Mseal))
        for _ in range(2)
    ]
    assert edited[0] == edited[1]


def test_a_worker_learns_from_fresh_programs(tmp_path: Path) -> None:
    def touches(program: Program) -> frozenset[int]:
        return frozenset({0} if any(isinstance(call, Mseal) for call in program) else ())

    bench = set_up(tmp_path, FakeExecutor(touches=touches), watched={"local": (0x1000,)}, runs=600)
    bench.fuzz()
    steering = bench.producer.steering
    assert steering is not None
    assert steering.lift(Mseal) > 4
    assert steering.lift(confine.seal) > 1 or steering.lift(confine.seal_part) > 1
