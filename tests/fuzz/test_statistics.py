"""What is counted, and what counts as a move over several VMAs."""

from dataclasses import dataclass

import pytest

from abi.calls import Call, Mremap, Munmap, Touch
from abi.consts import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE, WORD
from abi.trace import Mapping, Step
from fuzz.statistics import Statistics, spanned

MOVE = MREMAP_MAYMOVE | MREMAP_FIXED


@dataclass
class Piece:
    start: int
    end: int


def draw(picture: str) -> list[Piece]:
    """A letter is a page of a VMA, another letter another VMA, `.` a hole."""
    pieces: list[Piece] = []
    for i, letter in enumerate(picture):
        if letter == ".":
            continue
        if i and picture[i - 1] == letter:
            pieces[-1].end += PAGE
        else:
            pieces.append(Piece(i * PAGE, (i + 1) * PAGE))
    return pieces


def move(start: int, pages: int, target: int, flags: int = MOVE) -> Mremap:
    return Mremap(start * PAGE, pages * PAGE, pages * PAGE, flags, target * PAGE)


@pytest.mark.parametrize(
    ("call", "vmas"),
    [
        (move(0, 2, 40), 1),
        (move(0, 3, 40), 2),
        (move(1, 1, 40), 1),
        (move(1, 3, 40), 2),
        (move(0, 8, 40), 3),
        (move(0, 8, 40, MOVE | MREMAP_DONTUNMAP), 3),
        (move(4, 1, 40), 0),
        (move(0, 3, 2), None),
        (move(0, 3, 3), 2),
        (move(0, 3, 40, MREMAP_MAYMOVE), None),
        (move(0, 3, 40, MOVE | 8), None),
        (Mremap(0, 3 * PAGE - 1, 2 * PAGE + 1, MOVE, 40 * PAGE), 2),
        (Mremap(0, 3 * PAGE, 2 * PAGE, MOVE, 40 * PAGE), None),
        (Mremap(1, 3 * PAGE, 3 * PAGE, MOVE, 40 * PAGE), None),
        (Mremap(0, 3 * PAGE, 3 * PAGE, MOVE, 40 * PAGE + 1), None),
        (Mremap(0, 3 * PAGE, 3 * PAGE, MOVE, 1 << 47), None),
        (Mremap(0, 0, 0, MOVE, 40 * PAGE), None),
        (Mremap(0, WORD, WORD, MOVE, 40 * PAGE), None),
        (Munmap(0, 3 * PAGE), None),
    ],
)
def test_spanned(call: Call, vmas: int | None) -> None:
    assert spanned(draw("aabb.cc."), call) == vmas


def test_observe_counts_by_call_and_outcome() -> None:
    statistics = Statistics()
    vmas = draw("aabb.cc.")
    statistics.observe(vmas, move(0, 3, 40), 40 * PAGE)
    statistics.observe(vmas, move(0, 7, 40), -14)
    statistics.observe(vmas, move(0, 1, 40), 40 * PAGE)
    statistics.observe(vmas, Mremap(0, PAGE, PAGE, 0, 0), 0)
    statistics.observe(vmas, Munmap(0, PAGE), -22)
    statistics.observe(vmas, Touch(0, 2, 1), 4)
    assert (statistics.calls, statistics.mremaps, statistics.mremaps_done) == (6, 4, 3)
    assert (statistics.moves, statistics.multi_moves) == (3, 2)
    assert (statistics.moves_done, statistics.multi_moves_done) == (2, 1)
    data = statistics.to_json()
    assert data["outcomes"] == {
        "mremap EFAULT": 1,
        "mremap ok": 3,
        "munmap EINVAL": 1,
        "touch faults": 1,
    }
    assert data["mremap_success"] == 0.75
    assert data["multi_move_share"] == 0.6667


def test_traces_are_observed_against_the_layout_before_each_call() -> None:
    before = tuple(Mapping(v.start, v.end, 0, 0, 3, 0) for v in draw("aabb"))
    after = tuple(Mapping(v.start, v.end, 0, 0, 3, 0) for v in draw("........aabb"))
    program = (move(0, 4, 8), move(0, 4, 16), move(8, 4, 16))
    steps = [Step(8 * PAGE, after), Step(-14, after), Step(16 * PAGE, ())]
    statistics = Statistics()
    statistics.observe_trace(program, before, steps)
    assert (statistics.sequences, statistics.moves, statistics.multi_moves) == (1, 3, 2)


def test_workers_add_up() -> None:
    one, other = Statistics(), Statistics()
    one.observe(draw("ab"), move(0, 2, 8), 8 * PAGE)
    other.observe(draw("ab"), move(0, 1, 8), -12)
    one.add(other)
    assert (one.calls, one.moves, one.multi_moves) == (2, 2, 1)
    assert one.to_json()["outcomes"] == {"mremap ok": 1, "mremap ENOMEM": 1}
    assert Statistics().to_json()["mremap_success"] == 0.0
