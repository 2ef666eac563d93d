"""Two packed traces in, the first difference out. Nothing is forgiven and nothing after it is looked at.

That the kernel contradicts itself is a difference too: named where the model agrees with everything else.
"""

from dataclasses import dataclass
from typing import Final, Literal

from abi.environment import Environment
from abi.trace import Layout, Mapping, Step, Trace, unpack

Field = Literal[
    "result", "layout", "counters", "flags", "pages", "events", "child", "contents", "consistency"
]

#: What is compared of a step, in the order in which a difference is named: members of `Step`. `consistency`, the
#: kernel's own views against each other, is last.
_FIELDS: Final[tuple[tuple[Field, tuple[str, ...]], ...]] = (
    ("result", ("value",)),
    ("layout", ("layout",)),
    ("counters", ("size", "data", "counters")),
    ("flags", ("flags",)),
    ("pages", ("pages",)),
    ("events", ("events",)),
    ("child", ("child",)),
    ("contents", ("contents",)),
    ("consistency", ("inconsistent",)),
)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first step in which two traces differ, and in what; `before` is the layout that both had before the call."""

    index: int
    field: Field
    before: Layout
    ours: Step
    theirs: Step


def first_divergence(expected: bytes, observed: bytes, initial: Layout) -> Divergence | None:
    """The first step in which the packed traces, the model's and the kernel's, differ; None where all steps that both
    have are equal. `initial` is the layout before the first call."""
    return diverging_step(unpack(expected, initial), unpack(observed, initial), initial)


def diverging_step(ours: Trace, theirs: Trace, initial: Layout) -> Divergence | None:
    """As `first_divergence`, of unpacked traces."""
    before = initial
    contradiction: Divergence | None = None
    for index, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            divergence = Divergence(index, _field(our, their), before, our, their)
            if divergence.field != "consistency":
                return divergence
            contradiction = contradiction or divergence
        before = our.layout
    return contradiction


def agrees(expected: bytes, observed: bytes, initial: Layout) -> bool:
    """Whether both traces are the same, the kernel's contradictions of itself apart."""
    ours, theirs = unpack(expected, initial), unpack(observed, initial)
    divergence = diverging_step(ours, theirs, initial)
    return len(ours) == len(theirs) and (divergence is None or divergence.field == "consistency")


def _field(our: Step, their: Step) -> Field:
    return next(
        field
        for field, members in _FIELDS
        if any(getattr(our, member) != getattr(their, member) for member in members)
    )


def initial_layout(environment: Environment) -> Layout:
    """The layout before the first call."""
    return tuple(
        Mapping(v.start, v.end, v.offset, v.ident, v.perms, v.name) for v in environment.initial
    )
