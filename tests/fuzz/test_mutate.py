"""Changed programs: near their base, within bounds, and stepped exactly."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, Program
from abi.consts import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PAGE, WORD
from abi.environment import Environment, Geometry, Object
from abi.program import format_program, parse
from fuzz.aim import Aim
from fuzz.encode import MAX_CALLS, decode, encode
from fuzz.generate import generate
from fuzz.mutate import EDITS, SHRINKING, crossover, mend, mutate
from fuzz.statistics import Statistics
from model.errors import Unmodelled
from model.profile import PROFILES
from model.run import Model

NewRun = Callable[[], Any]
Objects = tuple[Object, ...]


def _name(function: Any) -> str:
    return str(function.__name__)


@pytest.fixture(scope="session")
def bases(new_run: NewRun, geometry: Geometry, objects: Objects) -> list[Program]:
    return [generate(Random(seed), new_run(), geometry, objects) for seed in range(400)]


def test_the_seed_decides(
    bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    for seed, base in enumerate(bases[:100]):
        one = mutate(base, Random(seed), new_run(), geometry, objects)
        assert mutate(base, Random(seed), new_run(), geometry, objects) == one


def test_the_run_has_stepped_the_program(
    bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    for seed, base in enumerate(bases):
        run = new_run()
        assert mutate(base, Random(seed), run, geometry, objects) == tuple(run.stepped)
        run = new_run()
        made = crossover(base, bases[-1 - seed], Random(seed), run, geometry, objects)
        assert made == tuple(run.stepped)


def test_most_mutants_are_new_and_near(
    bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    same = kept = total = 0
    for seed, base in enumerate(bases):
        made = mutate(base, Random(seed), new_run(), geometry, objects)
        same += made == base
        kept += len(set(made) & set(base))
        total += len(set(base))
    assert same / len(bases) < 0.1
    assert kept / total > 0.6


def test_lengths_do_not_drift(new_run: NewRun, geometry: Geometry, objects: Objects) -> None:
    rng = Random(5)
    lengths = []
    for _ in range(20):
        program = generate(rng, new_run(), geometry, objects)
        for _ in range(60):
            program = mutate(program, rng, new_run(), geometry, objects)
            assert 1 <= len(program) <= MAX_CALLS
        lengths.append(len(program))
    assert 3 < sum(lengths) / len(lengths) < 26


def test_mutants_have_a_text_and_a_byte_form(
    bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    for seed, base in enumerate(bases):
        program = mutate(base, Random(seed), new_run(), geometry, objects)
        assert decode(encode(program, geometry), geometry) == program
        assert parse(format_program(program, geometry), geometry) == program


@pytest.mark.parametrize("edit", sorted({*EDITS, *SHRINKING}, key=_name))
def test_every_edit_works_on_any_program(
    edit: Any, bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    changed = 0
    for seed, base in enumerate([(), *bases[:150]]):
        aim = Aim(Random(seed), new_run(), geometry, objects)
        ahead = list(base)
        edit(aim, ahead)
        changed += (*aim.calls, *ahead) != base
        for call in ahead:
            aim.step(call)
    assert changed > 30


def test_calls_that_lost_their_mapping_are_aimed_anew(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    w, flags = geometry.window, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    lost = w + 900 * PAGE
    calls: tuple[Call, ...] = (
        Mprotect(lost, PAGE, 1),
        Madvise(lost, PAGE, 10),
        Mremap(lost, PAGE, PAGE, 3, w + 90 * PAGE),
        Mremap(lost, PAGE, 2 * PAGE, 1, 0),
    )
    for call in calls:
        kept = 0
        for seed in range(200):
            aim = Aim(Random(seed), new_run(), geometry, objects)
            assert mend(aim, call) is call, "nothing is mapped: nothing to aim at"
            aim.step(Mmap(w, 4 * PAGE, 3, flags, -1, 0))
            made = mend(aim, call)
            kept += made is call
            assert type(made) is type(call)
            assert made is call or made.addr < w + 5 * PAGE
        assert 40 < kept < 120
        fits = Munmap(w, PAGE)
        assert mend(aim, fits) is fits


def test_crossover_splices_at_calls(
    bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    mixed = 0
    for seed, (one, other) in enumerate(zip(bases, reversed(bases), strict=True)):
        made = crossover(one, other, Random(seed), new_run(), geometry, objects)
        mixed += bool(set(made) & set(one)) and bool(set(made) & set(other))
        assert len(made) <= MAX_CALLS
    assert mixed > len(bases) * 0.4


def test_harm_is_taken_out_of_the_base(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    w = geometry.window
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    base: Program = (Mmap(w, PAGE, 3, flags, -1, 0), Madvise(w, PAGE, 100 | 1 << 40))
    for seed in range(100):
        for program in (
            mutate(base, Random(seed), new_run(), geometry, objects),
            crossover(base, base, Random(seed), new_run(), geometry, objects),
        ):
            for call in program:
                if isinstance(call, Madvise):
                    assert call.advice & 0xFFFFFFFF not in (100, 101)


def test_nothing_has_mutants_and_long_programs_stay_bounded(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    long: Program = tuple(Munmap(geometry.window + i * PAGE, PAGE) for i in range(MAX_CALLS))
    for seed in range(50):
        assert mutate((), Random(seed), new_run(), geometry, objects)
        assert crossover((), (), Random(seed), new_run(), geometry, objects)
        assert len(mutate(long, Random(seed), new_run(), geometry, objects)) <= MAX_CALLS
        assert len(crossover(long, long, Random(seed), new_run(), geometry, objects)) <= MAX_CALLS


def test_any_arguments_can_be_mutated(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    base: Program = (Mremap(WORD, WORD, WORD, WORD, WORD), Munmap(0, 0), Madvise(WORD, 0, WORD))
    for seed in range(200):
        made = mutate(base, Random(seed), new_run(), geometry, objects)
        assert decode(encode(made, geometry), geometry) == made


def test_statistics_are_kept(
    bases: list[Program], new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    statistics = Statistics()
    calls = 0
    for seed, base in enumerate(bases):
        made = mutate(base, Random(seed), new_run(), geometry, objects, statistics=statistics)
        calls += len(made)
    assert (statistics.sequences, statistics.calls) == (len(bases), calls)
    assert statistics.mremaps


def test_unmodelled_reaches_the_caller(
    new_run: NewRun, geometry: Geometry, objects: Objects
) -> None:
    def refuse(call: Call) -> int:
        raise Unmodelled("for the test")

    run = new_run()
    run.step = refuse
    with pytest.raises(Unmodelled):
        mutate((Munmap(geometry.window, PAGE),) * 3, Random(1), run, geometry, objects)


def test_descent_keeps_reaching_the_rules(geometry: Geometry, objects: Objects) -> None:
    """After four generations of mutants, without any selection, mremap still works and spans."""
    heap = geometry.heap
    environment = Environment(geometry, (), objects, start_brk=heap, brk=heap)
    model = Model(environment, PROFILES["6.18"])
    rng = Random(7)
    statistics = Statistics()
    unmodelled = 0
    for _ in range(300):
        try:
            program = generate(rng, model.start(), geometry, objects)
            for _ in range(4):
                program = mutate(
                    program, rng, model.start(), geometry, objects, statistics=statistics
                )
        except Unmodelled:
            unmodelled += 1
    data = statistics.to_json()
    assert data["mremap_success"] >= 0.4, data
    assert data["multi_move_share"] >= 0.15, data
    assert unmodelled < 30
