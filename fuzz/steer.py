"""Which recipes, calls and arguments lead to blocks that are watched, learnt from the fresh programs that ran.

A program earns the more, the fewer programs before it have reached the rarest of the watched blocks that it reaches.
So all blocks count about alike, however often they are reached: the one branch of a busy function that few programs
take is worth as much as a function that few enter. What a program was made of has a part in what it earned: the lift
of a trait is what programs with it earn on average, as a multiple of what all earn. Programs that reached such a block
are kept as well, to be edited. Knows nothing of any call.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import Final

from abi.calls import SIGNATURES, Program, arguments
from fuzz.odds import USUAL

#: Draws that go by what was learnt; the others are as ever, so that all stays possible.
STEERED: Final = 0.5
#: As if each trait had been in so many average programs before the first.
_DOUBT: Final = 8.0
#: No trait is drawn more often, or more seldom, than this many times.
_MOST: Final = 32.0
_LEAST: Final = 1 / 8
#: Programs that reached blocks that are watched: how many are kept, and the share of edits that begin with one; how
#: many programs are among the first to reach a block.
_NEAR: Final = 128
NEAR: Final = 0.6
_FIRST: Final = 4

#: A recipe or draw, a kind of call, or an argument with its kind: anything that can be looked up.
Trait = object


class Steering:
    """What was learnt. `used` are the traits drawn for the program being made."""

    def __init__(self) -> None:
        self.used: set[Trait] = set()
        self._programs = 0
        self._earned = 0.0
        #: In how many programs each trait was, and what these have earned.
        self._by_trait: dict[Trait, tuple[int, float]] = {}
        self._near: deque[Program] = deque(maxlen=_NEAR)
        self._nearer: deque[Program] = deque(maxlen=_NEAR)

    def approach(self, program: Program, made_of: Iterable[Trait], near: int, rarest: int) -> None:
        """It reached `near` watched blocks, the rarest of which `rarest` programs had before it: worth editing, if any,
        and the more, if it is among the first to reach one. made_of: the recipes and draws of a fresh program."""
        if made_of:
            self.learn(traits_of(program) | set(made_of), earned(near, rarest))
        if near:
            (self._nearer if rarest < _FIRST else self._near).append(program)

    def worthy(self, rng: Random) -> Program | None:
        """A program to edit, now and then."""
        pools = [pool for pool in (self._near, self._nearer) if pool]
        if pools and rng.random() < NEAR:
            return rng.choice(rng.choice(pools))
        return None

    def learn(self, traits: Iterable[Trait], earned: float) -> None:
        """Count one program."""
        self._programs += 1
        self._earned += earned
        for trait in traits:
            programs, sum_earned = self._by_trait.get(trait, (0, 0.0))
            self._by_trait[trait] = programs + 1, sum_earned + earned

    def lift(self, trait: Trait) -> float:
        """How much more programs with this trait earn than all do: 1 where nothing is known."""
        if not self._earned:
            return 1.0
        mean = self._earned / self._programs
        programs, earned = self._by_trait.get(trait, (0, 0.0))
        lift = (earned + _DOUBT * mean) / (programs + _DOUBT) / mean
        return min(max(lift, _LEAST), _MOST)

    def choose(self, choices: Sequence[Trait], draw: float, kind: Trait = None) -> int:
        """The place of one of `choices`, by its lift; `draw` is from 0 to 1, without it. kind: the trait is not the
        choice alone but the pair of both."""
        traits = choices if kind is None else [(kind, each) for each in choices]
        sums = list(accumulate(map(self.lift, traits)))
        return next(place for place, end in enumerate(sums) if draw * sums[-1] < end)


def earned(near: int, rarest: int) -> float:
    """What a program earns that reached `near` watched blocks, the rarest of which `rarest` programs had before it."""
    return 1 / (1 + rarest) if near else 0.0


def traits_of(program: Program) -> set[Trait]:
    """Its kinds of calls, and the arguments that are chosen from a few."""
    traits: set[Trait] = set()
    for call in program:
        traits.add(type(call))
        for word, (_, kind) in zip(arguments(call), SIGNATURES[type(call)], strict=True):
            if kind in USUAL:
                traits.add((kind, word))
    return traits
