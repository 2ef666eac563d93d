"""Which programs of many are enough: together they reach what all of them do."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.reach import NOTHING, Reach

#: Of several programs that reach as much, the one with fewer calls.
_Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """A file of a corpus. calls: their number; stays: it is kept whatever it reaches."""

    path: Path
    calls: int
    reach: Reach
    stays: bool = False


def together(items: Sequence[Measured]) -> Reach:
    """What they reach, one or the other."""
    branches = frozenset[int]().union(*(each.reach.branches for each in items))
    return Reach(branches, NOTHING.classes.union(*(each.reach.classes for each in items)))


def enough(items: Sequence[Measured]) -> list[Measured]:
    """Few of them that reach all that they do together, in their order: greedily that which adds most, then without
    those that the later ones have made superfluous."""
    chosen = [place for place, each in enumerate(items) if each.stays]
    covered = together([items[place] for place in chosen])
    # What a program adds only falls as others are chosen, so one that is still on top is the best.
    heap: list[_Place] = [
        (-each.reach.beyond(covered), each.calls, place)
        for place, each in enumerate(items)
        if not each.stays
    ]
    heapq.heapify(heap)
    while heap and heap[0][0]:
        _, calls, place = heap[0]
        added = items[place].reach.beyond(covered)
        if -added != heap[0][0]:
            heapq.heapreplace(heap, (-added, calls, place))
            continue
        heapq.heappop(heap)
        chosen.append(place)
        covered |= items[place].reach
    return [items[place] for place in sorted(_without_superfluous(items, chosen))]


def _without_superfluous(items: Sequence[Measured], chosen: Sequence[int]) -> list[int]:
    kept = list(chosen)
    for place in chosen:
        rest = [other for other in kept if other != place]
        others = together([items[other] for other in rest])
        if not items[place].stays and items[place].reach <= others:
            kept = rest
    return kept


def additional(items: Sequence[Measured], covered: Reach) -> list[Measured]:
    """Those that reach something that neither `covered` nor one before them does, the smallest first; and those that
    stay anyway."""
    kept = []
    for each in sorted(items, key=lambda each: (not each.stays, each.calls, each.path.name)):
        if each.stays or each.reach.beyond(covered):
            kept.append(each)
            covered |= each.reach
    return kept
