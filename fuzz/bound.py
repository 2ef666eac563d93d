"""All programs up to a bound, numbered: a layout of a few VMAs of chosen kinds, then one mremap, or another call.

The arrangements and calls are those of `fuzz.moves` and `fuzz.spans`; here the VMAs get kinds. Left out of these is

- a layout whose neighbours are one VMA before the move begins, for it is one of fewer VMAs;
- of kinds that mremap tells apart by nothing (`ALIKE`), all but the first that can stand for them.

A number says the same on every machine: nothing in here looks at a kernel.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate, pairwise, product
from typing import Any, Final

from abi.calls import Call, Mremap, Program, build
from abi.consts import FD_NAMES, PAGE
from abi.environment import Environment, Geometry
from abi.program import parse
from fuzz import reference
from fuzz.kinds import SAMPLES, Sample
from fuzz.moves import ASKEW, Move, Shape, moves, shapes
from fuzz.spans import SPANNING, Span, spans
from model.profile import PROFILES
from model.run import Model

#: The call that has flags and a target.
MREMAP: Final = "mremap"
#: Where the first VMA begins: pages from the start of the window.
FIRST: Final = 16
#: The largest bound: beyond it the programs are too many to be counted in a minute.
MOST_VMAS: Final = 4
MOST_PAGES: Final = 8
#: Programs after which others are observed in full, as many layouts have as many moves as is a multiple of that.
_SHIFT: Final = 97
#: Bytes that a target inside a page is behind its beginning.
_ASKEW: Final = 0x10

#: Kinds that a mapping of any length can be of, at any place.
KINDS: Final = {
    sample.kind: sample
    for sample in SAMPLES
    if sample.pages == 4 and not (sample.aligned or sample.place) and "{n}" in sample.text
    if not sample.kind.startswith("packet ")
}
#: Kinds that moves tell apart by nothing: flags that are copied and looked at by others, files whose file systems place
#: them alike (mm/mremap.c, mm/vma.c: is_mergeable_vma()). In a layout the first of a row comes first.
ALIKE: Final = (
    ("dontfork", "dontdump", "random access", "sequential access"),
    ("memfd private", "tmpfs private"),
    ("memfd shared", "tmpfs shared"),
    ("ext4 private", "xfs private", "btrfs private"),
    ("ext4 shared", "xfs shared", "btrfs shared"),
)


@dataclass(frozen=True, slots=True)
class Bound:
    """call: mremap, or one of `fuzz.spans.SPANNING`; vmas, pages: the most there are of them; kinds: of the VMAs, names
    of `KINDS`; flags, resize: of mremap, and by how many pages its lengths may differ; full: one program in so many is
    observed in full."""

    call: str
    vmas: int
    pages: int
    kinds: tuple[str, ...]
    flags: tuple[int, ...]
    resize: int
    full: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Bound":
        """The bound that `to_json` described.

        Raises:
            TypeError, KeyError: `data` is not of that form.
        """
        return cls(**{**data, "kinds": tuple(data["kinds"]), "flags": tuple(data["flags"])})

    def missing(self, environment: Environment) -> dict[str, str]:
        """The kinds that cannot be made in `environment`, and why."""
        lacking = {}
        for kind in self.kinds:
            for name in KINDS[kind].objects:
                if environment.object(FD_NAMES[name]) is None:
                    lacking[kind] = environment.missing.get(name, f"there is no {name}")
        return lacking


class Enumeration:
    """The programs of a bound, by number; those of few VMAs come first, and all over one layout are together."""

    def __init__(self, bound: Bound) -> None:
        """Raises OSError: the reference machine cannot be read."""
        self.bound = bound
        self._joining = _joining(bound.kinds)
        self._shapes: list[tuple[Shape, list[tuple[str, ...]], tuple[Move | Span, ...]]] = []
        for shape in sorted(shapes(bound.vmas, bound.pages), key=lambda shape: (len(shape), shape)):
            kinds = list(self._assignments(shape))
            found = tuple(self._last_calls(shape)) if kinds else ()
            self._shapes.append((shape, kinds, found))
        self._ends = list(accumulate(len(kinds) * len(found) for _, kinds, found in self._shapes))

    @property
    def total(self) -> int:
        """How many programs there are."""
        return self._ends[-1]

    def program(self, number: int, geometry: Geometry) -> Program:
        """Program `number`, from 0 to `total` - 1."""
        index = bisect_right(self._ends, number)
        shape, kinds, found = self._shapes[index]
        chosen, last = divmod(number - (self._ends[index - 1] if index else 0), len(found))
        calls: list[Call] = []
        for kind, (start, end) in zip(kinds[chosen], shape, strict=True):
            calls += _mapped(KINDS[kind], start, end - start, geometry)
        return (*calls, _last_call(found[last], geometry))

    def is_full(self, number: int) -> bool:
        """It is observed in full. Which of the moves over a layout are differs between layouts."""
        return (number + number // _SHIFT) % self.bound.full == 0

    def _last_calls(self, shape: Shape) -> Iterator[Move | Span]:
        """What a program over `shape` may end with."""
        bound = self.bound
        if bound.call == MREMAP:
            return moves(shape, bound.pages, bound.flags, bound.resize)
        return spans(shape, bound.pages, bound.call)

    def _assignments(self, shape: Shape) -> Iterator[tuple[str, ...]]:
        """The kinds that the VMAs of `shape` may have, one a VMA."""
        touching = [i for i, (one, other) in enumerate(pairwise(shape)) if one[1] == other[0]]
        for kinds in product(self.bound.kinds, repeat=len(shape)):
            joined = any((kinds[i], kinds[i + 1]) in self._joining for i in touching)
            if joined or (
                self.bound.call == MREMAP and not stands_for_itself(kinds, self.bound.kinds)
            ):
                continue
            yield kinds


def stands_for_itself(kinds: Sequence[str], chosen: Sequence[str]) -> bool:
    """Of `kinds` in a layout that are alike, the first of those `chosen` comes first, then the second."""
    for row in ALIKE:
        order = [kind for kind in row if kind in chosen]
        seen = list(dict.fromkeys(kind for kind in kinds if kind in order))
        if seen != order[: len(seen)]:
            return False
    return True


@lru_cache(maxsize=1)
def _joining(kinds: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """The kinds of which two neighbours are one VMA from the beginning, by the model of the newest kernel."""
    machine = reference.environment()
    model = Model(machine, list(PROFILES.values())[-1])
    window = machine.geometry.window
    joining = set()
    for pair in ((one, other) for one in kinds for other in kinds):
        run = model.start()
        for at, kind in enumerate(pair):
            for call in _mapped(KINDS[kind], at, 1, machine.geometry):
                run.step(call)
        first = window + FIRST * PAGE
        if [vma.start for vma in run.space.between(first, first + 2 * PAGE)] == [first]:
            joining.add(pair)
    return frozenset(joining)


@lru_cache(maxsize=4096)
def _mapped(sample: Sample, at: int, pages: int, geometry: Geometry) -> tuple[Call, ...]:
    """The calls that make a VMA of a kind, `at` pages behind where the first begins."""
    return parse(sample.text.format(at=f"W+{FIRST + at}", n=pages), geometry)


@lru_cache(maxsize=4096)
def _last_call(last: Move | Span, geometry: Geometry) -> Call:
    base = geometry.window + FIRST * PAGE
    addr = base + last.source * PAGE
    if isinstance(last, Span):
        cls, _ = SPANNING[last.call]
        return build(cls, (addr, last.length * PAGE, *last.arguments))
    target = 0
    if last.is_aimed:
        target = base + last.target * PAGE + (_ASKEW if last.target == ASKEW else 0)
    return Mremap(addr, last.old * PAGE, last.new * PAGE, last.flags, target)
