"""Fresh programs: deterministic, within bounds, and aimed so that the rules are reached."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from errno import errorcode
from random import Random
from typing import Any

import pytest

from abi.calls import CALLS, Call, Fail, Madvise, Mmap, Mprotect, Mremap, Program, UffdRegister
from abi.consts import (
    FD_NAMES,
    MADV_NAMES,
    MAP_FIXED,
    MAP_NAMES,
    MAP_TYPE,
    MAP_TYPE_NAMES,
    PAGE,
)
from abi.environment import Environment, Geometry, Object
from abi.program import format_program, parse
from fuzz.aim import Aim
from fuzz.encode import decode, encode
from fuzz.generate import DRAWS, OPENINGS, SEQUELS, follow, generate, share_and_duplicate
from fuzz.mutate import mutate
from fuzz.restraint import is_costly, is_filling
from fuzz.statistics import Statistics
from model.errors import Unmodelled
from model.profile import PROFILES
from model.run import Model
from tests.environments import ENVIRONMENT

NewRun = Callable[[], Any]
Objects = tuple[Object, ...]


def _name(function: Any) -> str:
    return str(function.__name__)


@pytest.fixture(scope="session")
def programs(new_run: NewRun, geometry: Geometry, objects: Objects) -> list[Program]:
    return [generate(Random(seed), new_run(), geometry, objects) for seed in range(5000)]


def test_the_seed_decides(new_run: NewRun, geometry: Geometry, objects: Objects) -> None:
    def make(seed: int) -> Program:
        return generate(Random(seed), new_run(), geometry, objects)

    assert [make(seed) for seed in range(50)] == [make(seed) for seed in range(50)]
    assert len({make(seed) for seed in range(50)}) > 45


def test_the_run_has_stepped_the_program(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    for seed in range(200):
        run = new_run()
        assert generate(Random(seed), run, geometry, objects) == tuple(run.stepped)


@pytest.mark.parametrize("length", [1, 2, 8, 20, 64])
def test_length_can_be_said(
    length: int, new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    for seed in range(20):
        assert len(generate(Random(seed), new_run(), geometry, objects, length)) == length


def test_lengths_by_themselves(programs: list[Program]) -> None:
    lengths = [len(program) for program in programs]
    assert (min(lengths), max(lengths)) == (1, 20)
    assert 7 <= sum(lengths) / len(lengths) <= 9


def test_programs_have_a_text_and_a_byte_form(programs: list[Program], geometry: Geometry) -> None:
    size = calls = 0
    for program in programs:
        assert parse(format_program(program, geometry), geometry) == program
        data = encode(program, geometry)
        assert decode(data, geometry) == program
        size, calls = size + len(data), calls + len(program)
    assert size / calls < 8


def test_nothing_harmful_is_made(programs: list[Program]) -> None:
    for call in _calls(programs):
        if isinstance(call, Madvise):
            assert call.advice & 0xFFFFFFFF not in (100, 101)
        assert not 0 <= getattr(call, "fd", -1) < 10
    assert sum(map(is_costly, _calls(programs))) <= len(_calls(programs)) // 1500


def test_every_value_with_a_name_is_used(programs: list[Program]) -> None:
    calls = _calls(programs)
    assert {type(call) for call in calls} == set(CALLS) - {Fail}
    maps = [call for call in calls if isinstance(call, Mmap)]
    assert {call.flags & MAP_TYPE for call in maps} >= set(MAP_TYPE_NAMES.values())
    unused = {name for name, bit in MAP_NAMES.items() if not any(c.flags & bit for c in maps)}
    assert not unused
    assert {call.prot & 7 for call in maps} == set(range(8))
    assert {call.fd for call in maps} >= set(FD_NAMES.values()) | {-1, 999}
    advice = {call.advice for call in calls if isinstance(call, Madvise)}
    assert advice >= set(MADV_NAMES.values()) - {100, 101}
    assert advice - set(MADV_NAMES.values()), "unknown advice too"
    assert {c.flags & 7 for c in calls if isinstance(c, Mremap)} == set(range(8))
    assert {c.mode for c in calls if isinstance(c, UffdRegister)} >= {1, 2, 3, 4}


def test_allocations_fail_where_they_can(geometry: Geometry, objects: Objects) -> None:
    able = replace(ENVIRONMENT, config=frozenset(("FAULT_INJECTION",)))
    model, rng = Model(able, PROFILES["6.18"]), Random(1)
    programs = []
    for _ in range(1000):
        with suppress(Unmodelled):
            programs.append(generate(rng, model.start(), geometry, objects, 8))
    failing = [program for program in programs if any(isinstance(c, Fail) for c in program)]
    assert 0.1 < len(failing) / len(programs) < 0.3
    calls = [call for program in failing for call in program]
    assert 0.1 < sum(isinstance(call, Fail) for call in calls) / len(calls) < 0.4
    assert {call.nth for call in calls if isinstance(call, Fail)} >= set(range(1, 12))


def test_edits_have_allocations_fail_where_they_can(geometry: Geometry, objects: Objects) -> None:
    """The rest of the program is there still: what it reached fails."""
    able = replace(ENVIRONMENT, config=frozenset(("FAULT_INJECTION",)))
    rng = Random(1)
    base = generate(Random(2), Model(ENVIRONMENT, PROFILES["6.18"]).start(), geometry, objects, 8)
    assert not any(isinstance(call, Fail) for call in base)
    edited = []
    for environment in (able, ENVIRONMENT):
        made = []
        for _ in range(300):
            with suppress(Unmodelled):
                run = Model(environment, PROFILES["6.18"]).start()
                made.append(mutate(base, rng, run, geometry, objects))
        edited.append(sum(any(isinstance(c, Fail) for c in each) for each in made) / len(made))
    assert 0.1 < edited[0] < 0.35
    assert edited[1] == 0


def test_wild_arguments_are_a_minority(programs: list[Program], geometry: Geometry) -> None:
    wild = [call for call in _calls(programs) if _is_odd(call, geometry)]
    assert 0.05 < len(wild) / len(_calls(programs)) < 0.2


def _is_odd(call: Call, geometry: Geometry) -> bool:
    addr = getattr(call, "addr", 0)
    length = getattr(call, "length", getattr(call, "old_len", PAGE))
    near = addr == 0 or geometry.window - PAGE <= addr <= geometry.top
    return bool(addr % PAGE or length % PAGE or length > 1 << 30 or not near)


def test_addresses_are_dense_in_the_window(programs: list[Program], geometry: Geometry) -> None:
    pages = Counter(
        (call.addr - geometry.window) // PAGE
        for call in _calls(programs)
        if isinstance(call, Mmap) and call.flags & MAP_FIXED
    )
    dense = sum(count for page, count in pages.items() if 0 <= page < 64)
    assert dense / pages.total() > 0.75
    assert any(500 <= page < 530 for page in pages), "2 MiB boundaries too"


@pytest.mark.parametrize("recipe", sorted({*OPENINGS, *SEQUELS}, key=_name))
def test_every_recipe_works_on_any_space(
    recipe: Any, new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    for seed in range(60):
        for given in (objects, ()):
            aim = Aim(Random(seed), new_run(), geometry, given)
            if seed % 2:
                follow(aim, OPENINGS[seed % len(OPENINGS)], 8)
            before = len(aim.calls)
            follow(aim, recipe, before + 20)
            assert before < len(aim.calls) <= before + 20


@pytest.mark.parametrize("draw", sorted(set(DRAWS), key=_name))
def test_every_draw_works_on_an_empty_space(draw: Any, new_run: NewRun, geometry: Geometry) -> None:
    for seed in range(30):
        aim = Aim(Random(seed), new_run(), geometry, ())
        aim.step(draw(aim))


def test_the_executors_own_vmas_are_left_alone(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    starts = {vma.start for vma in new_run().space.vmas}
    hits = calls = 0
    for seed in range(1500):
        for call in generate(Random(seed), new_run(), geometry, objects):
            calls += 1
            hits += getattr(call, "addr", -1) in starts
    assert hits / calls < 0.01


def test_unmodelled_reaches_the_caller(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    run = new_run()
    step = run.step

    def refuse(call: Call) -> int:
        if isinstance(call, Mprotect):
            raise Unmodelled("for the test")
        return int(step(call))

    run.step = refuse
    with pytest.raises(Unmodelled):
        generate(Random(1), run, geometry, objects, 64)


def _calls(programs: Sequence[Program]) -> list[Call]:
    return [call for program in programs for call in program]


# On the model itself.


def test_programs_reach_the_rules_of_mremap(geometry: Geometry, objects: Objects) -> None:
    heap = geometry.heap
    environment = Environment(geometry, (), objects, start_brk=heap, brk=heap)
    model = Model(environment, PROFILES["6.18"])
    statistics = Statistics()
    unmodelled = 0
    for seed in range(1500):
        try:
            generate(Random(seed), model.start(), geometry, objects, statistics=statistics)
        except Unmodelled:
            unmodelled += 1
    data = statistics.to_json()
    assert data["mremap_success"] >= 0.4, data
    assert 0.2 <= data["multi_move_share"] <= 0.45, data
    assert statistics.multi_moves_done > statistics.multi_moves * 0.4, data
    assert unmodelled < 100


def test_shared_memory_is_duplicated_beside_and_onto_itself(
    geometry: Geometry, objects: Objects
) -> None:
    """Where the target takes the source away, mremap(2) says EFAULT: mm/mremap.c: mremap_to()."""
    model = Model(ENVIRONMENT, PROFILES["6.18"])
    done: Counter[tuple[str, str]] = Counter()
    for seed in range(1500):
        run = model.start()
        with suppress(Unmodelled):
            aim = Aim(Random(seed), run, geometry, objects)
            follow(aim, share_and_duplicate, 3)
            last, again = aim.calls[-1], model.start()
            values = [again.step(call) for call in aim.calls]
            if isinstance(last, Mremap) and last.old_len == 0:
                outcome = "done" if values[-1] >= 0 else errorcode[-values[-1]]
                done["onto" if last.new_addr == last.addr else "elsewhere", outcome] += 1
    assert done["elsewhere", "done"] > 300
    assert done["onto", "EFAULT"] > 50


def test_the_limit_of_mappings_is_reached_where_that_is_cheap(
    geometry: Geometry, objects: Objects
) -> None:
    """As on guests, where it is set for that."""
    shares = []
    for limit in (1000, 65530):
        model = Model(replace(ENVIRONMENT, max_map_count=limit), PROFILES["6.18"])
        rng, made = Random(1), []
        for _ in range(500):
            with suppress(Unmodelled):
                made.append(generate(rng, model.start(), geometry, objects))
        filling = [program for program in made if any(is_filling(call) for call in program)]
        shares.append(len(filling) / len(made))
    assert 0.01 < shares[0] < 0.06
    assert shares[1] < 0.005
