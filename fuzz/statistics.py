"""What programs were made of and how they fared: the figures that say whether generation reaches the rules.

Counts; judges nothing. `observe` costs little for anything but mremap, which is looked at closely: the share that
succeeds, and how many fixed moves of unchanged size span several VMAs.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from errno import errorcode
from itertools import chain
from typing import Any, Protocol

from abi.calls import NAMES, Call, Mremap, Program, Touch
from abi.consts import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE, WORD
from abi.trace import Layout, Step

_FIXED_MOVE = MREMAP_MAYMOVE | MREMAP_FIXED
_KNOWN = _FIXED_MOVE | MREMAP_DONTUNMAP
_TASK_SIZE = 0x7FFF_FFFF_F000


class Extent(Protocol):
    """A VMA or a mapping of a layout: all that is asked of it is where it is."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


@dataclass(slots=True)
class Statistics:
    """Counters over the programs observed. Every field adds up over workers."""

    sequences: int = 0
    calls: int = 0
    mremaps: int = 0
    mremaps_done: int = 0
    #: Fixed moves of unchanged size with valid parameters; of these, over two or more VMAs.
    moves: int = 0
    moves_done: int = 0
    multi_moves: int = 0
    multi_moves_done: int = 0
    #: (call, 0 or the negative errno; of a touch, 1 if a page faulted) -> how often.
    outcomes: Counter[tuple[type[Call], int]] = field(default_factory=Counter)

    def observe(self, vmas: Sequence[Extent], call: Call, value: int) -> None:
        """Count one call; `vmas` is the address space before it, in order, and `value` its raw result."""
        self.count(call, value, spanned(vmas, call))

    def count(self, call: Call, value: int, vmas: int | None) -> None:
        """Count one call; `vmas` is what `spanned` said before it was made."""
        self.calls += 1
        cls = type(call)
        failed = -4096 < value < 0
        if cls is Touch:
            self.outcomes[cls, int(value != 0)] += 1
        else:
            self.outcomes[cls, value if failed else 0] += 1
        if cls is not Mremap:
            return
        self.mremaps += 1
        self.mremaps_done += not failed
        if vmas is not None:
            self.moves += 1
            self.moves_done += not failed
            self.multi_moves += vmas > 1
            self.multi_moves_done += vmas > 1 and not failed

    def observe_trace(self, program: Program, initial: Layout, steps: Sequence[Step]) -> None:
        """Count one program from its unpacked trace."""
        layouts = chain((initial,), (step.layout for step in steps))
        for call, layout, step in zip(program, layouts, steps, strict=False):
            self.observe(layout, call, step.value)
        self.sequences += 1

    def add(self, other: "Statistics") -> None:
        """Count what `other` has counted."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "outcomes":
                mine.update(theirs)
            else:
                setattr(self, each.name, mine + theirs)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the shares that are looked at."""
        data: dict[str, Any] = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "outcomes"
        }
        data["mremap_success"] = _share(self.mremaps_done, self.mremaps)
        data["multi_move_share"] = _share(self.multi_moves, self.moves)
        named = {
            f"{NAMES[cls]} {_outcome(cls, value)}": count
            for (cls, value), count in self.outcomes.items()
        }
        data["outcomes"] = dict(sorted(named.items()))
        return data


def spanned(vmas: Sequence[Extent], call: Call) -> int | None:
    """How many VMAs a fixed move of unchanged size moves from.

    None for any other call, and if its parameters are not valid (mm/mremap.c: check_mremap_params()).
    """
    if not isinstance(call, Mremap) or call.flags & _FIXED_MOVE != _FIXED_MOVE:
        return None
    start, target = call.addr, call.new_addr
    length = (call.old_len + PAGE - 1 & WORD) // PAGE * PAGE
    if (
        length == 0
        or length != (call.new_len + PAGE - 1 & WORD) // PAGE * PAGE
        or call.flags & ~_KNOWN
        or (start | target) % PAGE
        or target > _TASK_SIZE - length
        or (start < target + length and target < start + length)
    ):
        return None
    end = start + length
    return sum(1 for vma in vmas if vma.start < end and start < vma.end)


def _outcome(cls: type[Call], value: int) -> str:
    if cls is Touch:
        return "faults" if value else "ok"
    return errorcode.get(-value, str(-value)) if value else "ok"


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
