"""What a program does, coarsely: a number for each combination of call, result, place and what became of the VMAs.

An engine that collects numbers is given these beside the branches of the model: branches say which rules were applied,
features to what. Numbers are hashes, so that no table is needed; two combinations may share one. Cheap, for it is done
for every call of every program.
"""

from bisect import bisect_left, bisect_right
from typing import Any, Final

from abi.calls import CALLS, Call, Fill, Madvise, Mmap, Mremap, Touch
from abi.consts import PAGE

#: How many numbers there are.
COUNT: Final = 1 << 14
_OPCODES: Final = {cls: number for number, cls in enumerate(CALLS)}
#: Bits of the flags of mmap that say what is mapped and how it is placed; the rest counts as one.
_MMAP_BITS: Final = 0x10003F
_MOST: Final = 3
#: 2^61 over the golden ratio, odd: what is near each other goes far apart.
_SPREAD: Final = 0x13C6EF372FE94F83


class Features:
    """The features of one program: call `before` and `after` around each of its calls."""

    __slots__ = ("_key", "_vmas", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._key = self._vmas = 0

    def before(self, space: Any, call: Call) -> None:
        """Take note of where the call goes. space: the model's, of which the starts and the VMAs are looked at."""
        cls = type(call)
        kind, start, length = 0, getattr(call, "addr", 0), getattr(call, "length", 0)
        target = 0
        if cls is Mremap:
            assert isinstance(call, Mremap)
            length = call.old_len
            order = (call.new_len > length) - (call.new_len < length) if length else 2
            kind = (call.flags & 7) * 4 + order + 1
            if call.flags & 2:
                target = 1 + _place(space, call.new_addr, call.new_len) // 4
        elif cls is Mmap:
            assert isinstance(call, Mmap)
            kind = (call.flags & _MMAP_BITS) * 2 + (call.fd >= 0)
        elif cls is Madvise:
            assert isinstance(call, Madvise)
            kind = call.advice & 127
        elif cls is Touch:
            assert isinstance(call, Touch)
            kind, length = call.access, PAGE
        elif cls is Fill:
            start = 0
        where = _place(space, start, length) if start else 0
        self._key = ((_OPCODES[cls] * 0x200000 + kind) * 64 + where) * 17 + target
        self._vmas = len(space.vmas)

    def after(self, space: Any, value: int) -> None:
        """Take note of what came of it."""
        outcome = -value if -4096 < value < 0 else 0
        more = min(max(len(space.vmas) - self._vmas, -_MOST), _MOST) + _MOST
        key = (self._key * 4096 + outcome) * (2 * _MOST + 1) + more
        self.seen.add((key * _SPREAD >> 40) % COUNT)


def _place(space: Any, start: int, length: int) -> int:
    """How a range lies to the VMAs: how many it overlaps, whether its ends are at an edge, inside or in a hole."""
    starts, vmas = space.starts, space.vmas
    end = start + length
    first = bisect_right(starts, start) - 1
    below = vmas[first].end if first >= 0 else 0
    if below > start:
        begins = 1 if vmas[first].start == start else 2
    else:
        begins = 3 if below == start else 0
        first += 1
    last = bisect_left(starts, end) - 1
    count = min(max(last - first + 1, 0), _MOST)
    if last < 0:
        return (count * 4 + begins) * 4
    above = vmas[last].end
    if above > end:
        ends = 2
    elif above == end:
        ends = 1
    else:
        ends = 3 if last + 1 < len(starts) and starts[last + 1] == end else 0
    return (count * 4 + begins) * 4 + ends
