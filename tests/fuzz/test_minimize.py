"""The smallest program that shows it: fewest calls, simplest arguments, in the time there is; nothing else is kept."""

import time
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from abi.calls import Madvise, Mmap, Mremap, Munmap, Program, Touch
from abi.consts import FD_NAMES, MAP_ANONYMOUS, MAP_PRIVATE, PAGE
from abi.environment import Geometry
from abi.program import format_program, parse
from fuzz.generate import generate
from fuzz.minimize import Minimized, Showing, minimize
from fuzz.simplify import cost, shorter, simpler
from fuzz.statistics import Statistics
from kernel_bridge import BridgeError
from model.errors import Unmodelled
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor

GEOMETRY = Geometry()
PROGRAM = """\
mmap(W+100, 7p, PROT_READ, MAP_SHARED|MAP_FIXED|MAP_POPULATE, memfd, 9p)
madvise(W+100, 2p, MADV_DONTNEED)
mmap(W+200, 4p+0x123, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
touch(W+201, 3, write)
mprotect(W+202, 1p, PROT_READ)
mremap(W+200, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+900)
"""


def program(text: str = PROGRAM) -> Program:
    return parse(text, GEOMETRY)


def each(shows: Callable[[Program], bool]) -> Callable[[Sequence[Program]], list[bool]]:
    return lambda programs: [shows(one) for one in programs]


def smallest(shows: Callable[[Program], bool], start: Program, width: int = 8) -> Minimized:
    return minimize(start, GEOMETRY, each(shows), until=time.monotonic() + 60, width=width)


def moves(one: Program) -> bool:
    """A mapping and, behind it, a move of something."""
    kinds = [type(call) for call in one]
    return Mremap in kinds and Mmap in kinds[: kinds.index(Mremap)]


@pytest.mark.parametrize("width", [1, 8, 100])
def test_what_is_left_is_as_simple_as_can_be(width: int) -> None:
    left = smallest(moves, program(), width).program
    text = format_program(left, GEOMETRY)
    assert len(left) == 2
    assert "W+0, 1p" in text
    first, last = left
    assert isinstance(first, Mmap)
    assert isinstance(last, Mremap)
    assert first.flags & ~0x10 == MAP_PRIVATE | MAP_ANONYMOUS
    assert last.flags == 0
    assert last.old_len == last.new_len == PAGE


def test_ranges_that_touch_stay_together() -> None:
    """What shows it only where the mapping holds the page that is touched, and the move begins before it."""

    def shows(one: Program) -> bool:
        holds = [
            touch
            for mapped in one
            for touch in one
            if isinstance(mapped, Mmap)
            and isinstance(touch, Touch)
            and mapped.addr < touch.addr < mapped.addr + mapped.length
        ]
        return bool(holds)

    left = smallest(shows, program()).program
    assert format_program(left, GEOMETRY) == (
        "mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\ntouch(W+1, 1, read)\n"
    )


def test_objects_become_plainer_only_where_that_shows_it_too() -> None:
    start = program("mmap(W+3, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, file, 5p)\nmunmap(W+3, 1p)\n")
    of_file = smallest(lambda one: any(getattr(c, "fd", -1) != -1 for c in one), start).program
    assert format_program(of_file, GEOMETRY).startswith("mmap(W+0, 1p, PROT_READ|PROT_WRITE,")
    assert [getattr(call, "fd", None) for call in of_file] == [FD_NAMES["memfd"]]


def test_equal_lengths_shrink_together() -> None:
    """A move of equal sizes is one still, at both of its places."""

    def shows(one: Program) -> bool:
        return all(c.old_len == c.new_len for c in one if isinstance(c, Mremap)) and moves(one)

    left = smallest(shows, program()).program
    assert [c.old_len for c in left if isinstance(c, Mremap)] == [PAGE]


@settings(max_examples=40)
@given(st.integers(0, 1 << 30))
def test_every_proposal_is_simpler_and_none_is_lost_on_the_way(seed: int) -> None:
    run = Model(ENVIRONMENT, NEW).start()
    try:
        made = generate(
            Random(seed),
            run,
            GEOMETRY,
            ENVIRONMENT.objects,
            unprivileged=True,
            statistics=Statistics(),
        )
    except Unmodelled:
        reject()
    for proposal in simpler(made, GEOMETRY):
        other = tuple(call for call in proposal if call is not None)
        assert len(proposal) == len(made)
        assert cost(other, GEOMETRY) < cost(made, GEOMETRY)
        assert parse(format_program(other, GEOMETRY), GEOMETRY) == other
    for proposal in shorter(made):
        assert len(proposal) == len(made)
        assert None in proposal


@settings(max_examples=40)
@given(st.integers(0, 1 << 30), st.integers(1, 64))
def test_it_ends_and_shows_it_whatever_it_is(seed: int, width: int) -> None:
    """Of any property that a program has, a program that has it is left, and none of its calls can go."""
    rng = Random(seed)
    start = program() * rng.randrange(1, 4)
    wanted = {type(rng.choice(start)) for _ in range(rng.randrange(1, 4))}
    left = smallest(lambda one: wanted <= {type(call) for call in one}, start, width).program
    assert {type(call) for call in left} == wanted
    assert len(left) == len(wanted)


def test_nothing_is_tried_twice() -> None:
    seen: list[Program] = []

    def shows(programs: Sequence[Program]) -> list[bool]:
        seen.extend(programs)
        return [moves(one) for one in programs]

    minimize(program(), GEOMETRY, shows, until=time.monotonic() + 60)
    assert len(seen) == len(set(seen))
    assert program() not in seen


def test_what_is_small_alone_but_not_together() -> None:
    """Either of two calls will do, and both can go alone."""

    def shows(one: Program) -> bool:
        return any(isinstance(call, Madvise | Munmap) for call in one)

    start = program("madvise(W+0, 1p, MADV_DONTNEED)\nmunmap(W+0, 1p)\n")
    assert len(smallest(shows, start).program) == 1


def test_it_stops_in_time_with_the_smallest_so_far() -> None:
    count = 0

    def over() -> bool:
        nonlocal count
        count += 1
        return count > 2

    found = minimize(
        program() * 8, GEOMETRY, each(moves), until=time.monotonic() + 60, is_over=over, width=2
    )
    assert moves(found.program)
    assert len(found.program) < 48
    assert found.cut == ", and it was stopped"
    late = minimize(program(), GEOMETRY, each(moves), until=time.monotonic())
    assert late == Minimized(program(), late.tried, late.seconds, ", and time was up")


def test_a_lost_executor_costs_what_was_not_tried_yet() -> None:
    rounds = 0

    def shows(programs: Sequence[Program]) -> list[bool]:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise BridgeError("the guest is gone")
        return [moves(one) for one in programs]

    found = minimize(program(), GEOMETRY, shows, until=time.monotonic() + 60)
    assert moves(found.program)
    assert found.program != program()
    assert found.cut == ", which ended because the guest is gone"


def test_only_the_same_divergence_at_the_last_call_counts() -> None:
    two = program(
        "mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\n"
        "mmap(W+2, 1p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\n"
        "mremap(W+0, 3p, 3p, MREMAP_MAYMOVE|MREMAP_FIXED, W+9)\n"
    )
    text = "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT"
    shows = Showing(text, FakeExecutor(OLD), Model(ENVIRONMENT, NEW), full=True)
    behind = (*two, Munmap(GEOMETRY.window, PAGE))
    assert shows([two, two[1:], behind, two[:2]]) == [True, False, False, False]
    another = Showing("another", FakeExecutor(OLD), Model(ENVIRONMENT, NEW), full=True)
    assert another([two]) == [False]
