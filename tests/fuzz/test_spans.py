"""Which calls over ranges are tried, and that nothing is lost by leaving out the others.

As of mremap (`tests/fuzz/test_moves.py`): a case and the one that stands for it give the same on the model.
"""

from collections.abc import Iterator
from itertools import combinations, product

import pytest

from abi.calls import build
from abi.consts import PAGE
from abi.program import parse
from fuzz.bound import KINDS, Bound, Enumeration
from fuzz.moves import NOWHERE, Shape, shapes
from fuzz.spans import SPANNING, Span, canonical, spans
from model.profile import PROFILES
from model.run import Model
from tests.environments import ENVIRONMENT

WINDOW = ENVIRONMENT.geometry.window + 16 * PAGE
MODEL = Model(ENVIRONMENT, PROFILES["7.3"])
PAGES = 3
#: start, end (pages), what it is, which pages of it are there.
Vma = tuple[int, int, str, tuple[int, ...]]


def outcome(shape: Shape, kinds: tuple[str, ...], span: Span) -> tuple[int, list[Vma]]:
    """The result, and the VMAs."""
    run = MODEL.start()
    for kind, (start, end) in zip(kinds, shape, strict=True):
        text = KINDS[kind].text.format(at=f"W+{16 + start}", n=end - start)
        for call in parse(text, ENVIRONMENT.geometry):
            run.step(call)
    words = (WINDOW + span.source * PAGE, span.length * PAGE, *span.arguments)
    result = run.step(build(SPANNING[span.call][0], words))
    vmas = []
    for vma in run.space.between(WINDOW - 8 * PAGE, WINDOW + 4096 * PAGE):
        start, end = (vma.start - WINDOW) // PAGE, (vma.end - WINDOW) // PAGE
        what = f"{vma.flags:#x} {vma.file and vma.file.inode.ident} {vma.uffd} {bool(vma.anon_vma)}"
        there = tuple(
            at - start for at in range(start, end) if WINDOW // PAGE + at in run.space.ptes
        )
        vmas.append((start, end, what, there))
    return result, vmas


def placements(vmas: int, begin: int, end: int) -> Iterator[Shape]:
    yield ()
    if vmas:
        for start, stop in combinations(range(begin, end + 1), 2):
            for rest in placements(vmas - 1, stop, end):
                yield ((start, stop), *rest)


@pytest.mark.parametrize("call", SPANNING)
@pytest.mark.parametrize("chosen", [("faulted", "memfd shared"), ("read-only", "faulted")])
def test_nothing_is_lost(call: str, chosen: tuple[str, str]) -> None:
    kept = {(shape, span) for shape in shapes(2, PAGES) for span in spans(shape, PAGES, call)}
    lengths = product(range(-1, PAGES + 2), range(PAGES + 3), SPANNING[call][1])
    ranges = [each for each in lengths if each[0] + each[1] <= PAGES + 1]
    for shape, (source, length, given) in product(placements(2, 0, PAGES), ranges):
        span = Span(call, source, length, given)
        left, other = canonical(shape, span)
        assert (left, other) in kept
        shift = other.source - source if other.source != NOWHERE else 0
        kinds = chosen[: len(shape)]
        bystanders = [v for v in shape if (v[0] + shift, v[1] + shift) not in left]
        staying = tuple(k for k, v in zip(kinds, shape, strict=True) if v not in bystanders)
        result, vmas = outcome(shape, kinds, span)
        stands = outcome(left, staying, other)
        rest = [vma for vma in vmas if vma[:2] not in bystanders]
        assert len(vmas) - len(rest) == len(bystanders), "a bystander is what it was"
        assert (result, [(a + shift, b + shift, *more) for a, b, *more in rest]) == stands


def test_every_case_is_tried_once() -> None:
    for call, shape in product(SPANNING, shapes(3, PAGES)):
        tried = list(spans(shape, PAGES, call))
        assert len(set(tried)) == len(tried) > 0


def test_programs_end_with_the_call() -> None:
    for call, (cls, arguments) in SPANNING.items():
        programs = Enumeration(Bound(call, 1, 1, ("faulted",), (), 0, 1))
        made = [programs.program(number, ENVIRONMENT.geometry) for number in range(programs.total)]
        assert {type(program[-1]) for program in made} == {cls}
        assert len(set(made)) == len(made)
        assert len(made) % len(arguments) == 0
