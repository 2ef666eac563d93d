"""Which mremaps over which arrangements are tried, and that nothing is lost by leaving out the others.

A case is laid out on the model, which then says what comes of it: the result, and every VMA with what no layout shows.
The case that stands for it has to say the same, moved to where that one has it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from errno import errorcode
from functools import cache, lru_cache
from itertools import combinations, product

import pytest

from abi.calls import Call, Mremap
from abi.consts import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE
from abi.program import parse
from fuzz.bound import ALIKE, KINDS
from fuzz.moves import ASKEW, FREE, NOWHERE, Case, Move, Shape, canonical, moves, shapes
from model.profile import PROFILES
from model.run import Model
from tests.environments import ENVIRONMENT

BASE = 16
WINDOW = ENVIRONMENT.geometry.window + BASE * PAGE
MOVE, AIM, KEEP = (
    MREMAP_MAYMOVE,
    MREMAP_MAYMOVE | MREMAP_FIXED,
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
)
FLAGS = (0, MOVE, AIM, KEEP, AIM | KEEP, MREMAP_FIXED)
PAGES = 3

#: start, end (pages), what it is, whether it is faulted.
Vma = tuple[int, int, str, bool]
#: The page that the result is, or its errno; the VMAs; the pages that are there.
Outcome = tuple[int | str, tuple[Vma, ...], tuple[int, ...]]


@lru_cache(maxsize=8)
def model_of(profile: str) -> Model:
    return Model(ENVIRONMENT, PROFILES[profile])


@lru_cache(maxsize=4096)
def mapped(kind: str, start: int, end: int) -> tuple[Call, ...]:
    text = KINDS[kind].text.format(at=f"W+{BASE + start}", n=end - start)
    return parse(text, ENVIRONMENT.geometry)


def outcome(case: Case, kinds: tuple[str, ...], profile: str) -> Outcome:
    """What comes of it, in pages from where the arrangement has its 0."""
    shape, move = case
    run = model_of(profile).start()
    for kind, vma in zip(kinds, shape, strict=True):
        for call in mapped(kind, *vma):
            run.step(call)
    target = WINDOW + move.target * PAGE + 0x10 * (move.target == ASKEW) if move.is_aimed else 0
    lengths = move.old * PAGE, move.new * PAGE
    result = run.step(Mremap(WINDOW + move.source * PAGE, *lengths, move.flags, target))
    vmas = []
    for vma in run.space.vmas:
        if vma.start < WINDOW - 64 * PAGE:
            continue  # the executor's own
        place = vma.pgoff if vma.file else 0
        what = f"{vma.flags:#x} {vma.file and vma.file.inode.ident} {place} {vma.uffd}"
        vmas.append((page(vma.start), page(vma.end), what, bool(vma.anon_vma)))
    ptes = sorted(number - WINDOW // PAGE for number in run.space.ptes)
    value = errorcode[-result] if result < 0 else page(result)
    return value, tuple(sorted(vmas)), tuple(ptes)


def page(address: int) -> int:
    return (address - WINDOW) // PAGE


def placed(move: Move, other: Move, shape: Shape, left: Shape) -> Callable[[int], int]:
    """Where a page of the case of `move` over `shape` is in that of `other` over `left`, which stands for it."""
    aimed = move.is_aimed and move.target not in (FREE, ASKEW)
    if other.source != NOWHERE:
        shift = other.source - move.source
    elif aimed and other.target != FREE:
        shift = other.target - move.target
    else:
        assert left in ((), shape), "nothing is near what is far"
        shift = 0

    def place(number: int) -> int:
        if aimed and other.target == FREE and move.target <= number < move.target + move.new:
            return number - move.target + FREE
        return number + shift if number < FREE else number

    return place


def moved(case: Case, other: Case, kinds: tuple[str, ...], found: Outcome) -> Outcome:
    """What came of `case`, where `other` has it, without bystanders."""
    (shape, move), (left, there) = case, other
    place = placed(move, there, shape, left)
    gone = [vma for vma in shape if (place(vma[0]), place(vma[1] - 1) + 1) not in left]
    result, vmas, ptes = found
    for start, end in gone:
        assert [vma for vma in vmas if vma[0] < end and start < vma[1]] == [
            vma for vma in vmas if vma[:2] == (start, end)
        ], "a bystander is what it was"
    stays = [vma for vma in vmas if vma[:2] not in gone]
    here = [number for number in ptes if not any(a <= number < b for a, b in gone)]
    return (
        result if isinstance(result, str) else place(result),
        tuple(sorted((place(a), place(b - 1) + 1, *rest) for a, b, *rest in stays)),  # type: ignore[misc]
        tuple(sorted(map(place, here))),
    )


def everything(pages: int, vmas: int) -> Iterator[Case]:
    """Every case in a window, none left out."""
    for shape in placements(vmas, 0, pages):
        for source, old in product(range(-1, pages + 2), range(pages + 3)):
            for flags, new in product(FLAGS, range(max(old - 1, 0), old + 2)):
                if source + old > pages + 1:
                    continue
                move = Move(flags, source, old, new)
                near = range(-2 - new, pages + 3) if move.is_aimed else ()
                for target in (*near, FREE, ASKEW) if move.is_aimed else (0,):
                    yield shape, replace(move, target=target)


def placements(vmas: int, begin: int, end: int) -> Iterator[Shape]:
    yield ()
    if vmas:
        for vma in combinations(range(begin, end + 1), 2):
            for rest in placements(vmas - 1, vma[1], end):
                yield (vma, *rest)  # type: ignore[misc]  # two of a range


@pytest.mark.parametrize(
    ("profile", "chosen"),
    [("7.3", ("faulted", "memfd shared")), ("6.12", ("uffd missing", "anonymous private"))],
)
def test_nothing_is_lost(profile: str, chosen: tuple[str, str]) -> None:
    @cache
    def stands(case: Case, kinds: tuple[str, ...]) -> Outcome:
        return outcome(case, kinds, profile)

    kept = {
        (shape, move) for shape in shapes(2, PAGES) for move in moves(shape, PAGES, FLAGS, resize=1)
    }
    count = 0
    for number, case in enumerate(everything(PAGES, 2)):
        other = canonical(*case)
        assert other in kept
        assert canonical(*other) == other
        if number % 5:
            continue  # all of them take half a minute
        shape, move = case
        kinds = chosen[: len(shape)]
        place = placed(move, other[1], shape, other[0])
        left = tuple(
            kind
            for kind, vma in zip(kinds, shape, strict=True)
            if (place(vma[0]), place(vma[1] - 1) + 1) in other[0]
        )
        assert moved(case, other, kinds, outcome(case, kinds, profile)) == stands(other, left), case
        count += 1
    assert count > len(kept) / 2


def test_every_case_is_tried_once_and_stands_for_itself() -> None:
    for shape in shapes(3, PAGES):
        tried = list(moves(shape, PAGES, range(8), resize=2))
        assert len(set(tried)) == len(tried) > 0
        for move in tried:
            assert canonical(shape, move) == (shape, move)
            assert abs(move.new - move.old) <= 2


def test_arrangements_are_all_there_are() -> None:
    assert set(shapes(2, 3)) == {
        (),
        ((0, 1),), ((0, 2),), ((0, 3),),
        ((0, 1), (1, 2)), ((0, 1), (1, 3)), ((0, 1), (2, 3)), ((0, 2), (2, 3)),
    }  # fmt: skip
    listed = list(shapes(3, 5))
    assert len(set(listed)) == len(listed) == 47
    assert set(listed) == {shape for shape in placements(3, 0, 5) if not shape or not shape[0][0]}


@pytest.mark.parametrize(
    ("case", "stands"),
    [
        # What is out of reach of both ranges does not count; a target without neighbours is any.
        (
            (((0, 1), (3, 4)), Move(AIM, 3, 1, 1, 6)),
            (((0, 1),), Move(AIM, 0, 1, 1, FREE)),
        ),
        # Neither does where nothing is mapped, nor a target that nobody reads.
        ((((0, 1),), Move(0, 2, 1, 2, 7)), ((), Move(0, NOWHERE, 1, 2))),
        # Wrong flags are seen before anything else.
        (
            (((0, 1),), Move(MREMAP_FIXED, 0, 1, 1, 0)),
            ((), Move(MREMAP_FIXED, NOWHERE, 1, 1, FREE)),
        ),
        # What is beside the source's VMA counts, and what is beside the target; what is beside that does not.
        (
            (((1, 3), (3, 4), (5, 6), (6, 7)), Move(AIM, 1, 1, 1, 7)),
            (((0, 2), (2, 3), (5, 6)), Move(AIM, 0, 1, 1, 6)),
        ),
    ],
)
def test_what_stands_for_what(case: Case, stands: Case) -> None:
    assert canonical(*case) == stands


@pytest.mark.parametrize("row", ALIKE, ids=lambda row: row[0])
def test_kinds_that_are_alike(row: tuple[str, ...]) -> None:
    """Exchanged for each other, they give the same, but for their own flag or object."""
    cases = [(shape, move) for shape in shapes(2, 2) for move in moves(shape, 2, FLAGS, resize=1)]
    for one, other in combinations(row, 2):
        marks = [mark_of(kind) for kind in (one, other)]
        for shape, move in cases[::11]:
            for kinds in product((one, other, "faulted"), repeat=len(shape)):
                exchanged = tuple({one: other, other: one}.get(kind, kind) for kind in kinds)
                first, second = (outcome((shape, move), k, "7.3") for k in (kinds, exchanged))
                assert first[0] == second[0]
                assert first[2] == second[2]
                assert [exchange(vma, marks) for vma in first[1]] == list(second[1])


def mark_of(kind: str) -> tuple[int, str]:
    """The flags and the object that a VMA of it has."""
    (((_, _, what, _),), *_) = outcome((((0, 1),), Move(0, 0, 1, 1)), (kind,), "7.3")[1:]
    flags, ident, *_ = what.split()
    return int(flags, 16), ident


def exchange(vma: Vma, marks: list[tuple[int, str]]) -> Vma:
    start, end, what, faulted = vma
    flags, ident, *rest = what.split()
    (one, own), (other, its) = marks
    bits = int(flags, 16)
    if bits & (one ^ other) in (one & ~other, other & ~one):
        bits ^= one ^ other
    ident = {own: its, its: own}.get(ident, ident)
    return start, end, " ".join((f"{bits:#x}", ident, *rest)), faulted
