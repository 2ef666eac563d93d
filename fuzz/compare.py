"""Two packed traces in, the first difference out. Nothing is forgiven and nothing after it is looked at."""

from dataclasses import dataclass
from typing import Literal

from abi.trace import Layout, Trace, unpack

Field = Literal["result", "layout"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first step in which two traces differ; `ours` is the model's side, `theirs` the kernel's.

    before: the layout that both had before the call; values are raw results, -errno for an error.
    """

    index: int
    field: Field
    our_value: int
    their_value: int
    before: Layout
    our_layout: Layout
    their_layout: Layout


def first_divergence(expected: bytes, observed: bytes, initial: Layout) -> Divergence | None:
    """The first step in which the packed traces differ, None where all steps that both have are equal.

    A result is looked at before the layout of the same step. `initial` is the layout before the first call.
    """
    return diverging_step(unpack(expected, initial), unpack(observed, initial), initial)


def diverging_step(ours: Trace, theirs: Trace, initial: Layout) -> Divergence | None:
    """As `first_divergence`, of unpacked traces."""
    before = initial
    for index, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            field: Field = "result" if our.value != their.value else "layout"
            return Divergence(
                index, field, our.value, their.value, before, our.layout, their.layout
            )
        before = our.layout
    return None
