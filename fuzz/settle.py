"""What the model predicts of a program in which allocations were made to fail: of each such call a set of outcomes.

Which allocation it was only the kernel knows. So the kernel's trace is followed: where it says that one failed, the
model's outcomes of that call are tried. Several may look alike, and differ later: all are gone on from.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from abi.calls import Fail, Program
from abi.trace import Layout, Step, Trace, unpack
from model.run import Model, Run

#: Outcomes of one call, at most: what populates a range may fail at each of its pages.
MOST_OUTCOMES: Final = 2000
#: Ways through a program that are followed to their end.
MOST_WAYS: Final = 100

#: At which point of the model the failure of each call is felt: as `Run.step` wants it.
Points = tuple[int | None, ...]


def may_fail(program: Program) -> bool:
    """Whether the program makes allocations fail."""
    return any(isinstance(call, Fail) for call in program)


def settle(
    model: Model, program: Program, observed: Trace, initial: Layout, *, full: bool
) -> bytes:
    """The packed trace of the model that is nearest to `observed`: the same, unless the kernel did what it may not.

    `initial`: the layout before the first call. What goes on as the kernel did longest is the nearest; of a call whose
    outcome is none of those predicted, the one with the same result, or else that in which the failure was not felt.

    Raises:
        Unmodelled: the program leaves the domain of the model.
    """
    best: Points = ()
    longest = -1
    ways: list[Points] = [()]
    for _ in range(MOST_WAYS):
        if not ways:
            break
        way, agreed, more = _follow(model, program, ways.pop(), observed, initial, full)
        ways += reversed(more)
        if agreed > longest:
            longest, best = agreed, way
        if agreed == len(program):
            break
    return _walk(model, program, _padded(best, program), full).trace()


def outcomes(model: Model, program: Program, points: Points, *, full: bool) -> Iterator[Run]:
    """Runs of the program whose last call has an allocation fail: first with that not felt, then at each point of the
    model. `points`: those of the calls before it."""
    for point in range(MOST_OUTCOMES):
        run = _walk(model, program, (*points, point), full)
        if point and run.space.failing:
            return
        yield run


def _follow(
    model: Model, program: Program, way: Points, observed: Trace, initial: Layout, full: bool
) -> tuple[Points, int, list[Points]]:
    """Go on from `way` as long as the kernel did the same: how it went, how many calls agree, and the other ways that
    part from it."""
    others: list[Points] = []
    for index in range(len(way), min(len(program), len(observed))):
        last = index + 1 == len(program)
        if not observed[index].failed:
            way = (*way, None)
            continue
        agreed = _agreed(model, program, way, observed, initial, full)
        if agreed < index:
            return way, agreed, others
        points = _points(model, program[: index + 1], way, observed[index], initial, full, last)
        others += [(*way, point) for point in points[1:]]
        way = (*way, points[0])
    return way, _agreed(model, program, way, observed, initial, full), others


def _agreed(
    model: Model, program: Program, way: Points, observed: Trace, initial: Layout, full: bool
) -> int:
    """How many of the first calls went as the kernel says."""
    whole = len(way) == len(program)
    ours = unpack(_walk(model, program, way, full).trace(whole=whole), initial)
    pairs = zip(ours, observed, strict=False)
    return next((i for i, (our, their) in enumerate(pairs) if our != their), len(way))


def _points(
    model: Model,
    program: Program,
    way: Points,
    seen: Step,
    initial: Layout,
    full: bool,
    last: bool,
) -> list[int]:
    """Which outcomes of the last call look as what was seen; if none does, the nearest. Those that leave the same
    space behind are one."""
    found: list[int] = []
    spaces: list[object] = []
    nearest = 0
    for point, run in enumerate(outcomes(model, program, way, full=full)):
        step = unpack(run.trace(whole=last), initial)[-1]
        if step == seen:
            state = _state(run)
            if state not in spaces:
                spaces.append(state)
                found.append(point)
        elif not nearest and step.value == seen.value:
            nearest = point
    return found or [nearest]


def _state(run: Run) -> object:
    """What later calls may tell apart, as far as the address space goes."""
    space = run.space
    vmas = [(v.start, v.flags, v.anon_vma, v.uffd, v.policy, v.label, v.moved) for v in space.vmas]
    inodes = [*space.segments, *(file.inode for file in space.files.values())]
    inodes += [vma.file.inode for vma in space.vmas if vma.file]
    objects = {i.ident: (i.cached.copy(), i.reserved.copy()) for i in inodes}
    counts = space.total_vm, space.locked_vm, space.next_ident
    return vmas, dict(space.ptes), objects, counts


def _walk(model: Model, program: Program, points: Sequence[int | None], full: bool) -> Run:
    run = model.start(full=full)
    for call, point in zip(program, points, strict=False):
        run.step(call, point)
    return run


def _padded(way: Points, program: Program) -> Points:
    return (*way, *[None] * (len(program) - len(way)))
