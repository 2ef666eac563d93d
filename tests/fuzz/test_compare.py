"""The first difference of two packed traces."""

from abi.trace import INCONSISTENT_LOCKED, RECORD, STEP, UNCHANGED, Layout, Mapping
from fuzz.compare import agrees, first_divergence

A = Mapping(0x1000, 0x3000, 0, 0, 3, 0)
B = Mapping(0x4000, 0x5000, 0, 0, 1, 0)


def pack(*steps: tuple[int, Layout | None]) -> bytes:
    """A packed trace of (value, layout) steps; None is an unchanged layout."""
    parts = []
    for value, layout in steps:
        count = UNCHANGED if layout is None else len(layout)
        parts.append(STEP.pack(value, count, 0, 0, 0))
        parts += [mapping.pack() for mapping in layout or ()]
    return b"".join(parts)


def test_equal_traces_have_none() -> None:
    trace = pack((0, (A,)), (-22, None), (0, ()))
    assert first_divergence(trace, trace, ()) is None


def test_result_is_looked_at_before_the_layout() -> None:
    found = first_divergence(pack((0, (A,))), pack((-12, (B,))), ())
    assert found is not None
    assert (found.index, found.field, found.ours.value, found.theirs.value) == (0, "result", 0, -12)
    assert (found.before, found.ours.layout, found.theirs.layout) == ((), (A,), (B,))


def test_layout_differs_with_like_results() -> None:
    found = first_divergence(pack((0, (A,)), (0, None)), pack((0, (A,)), (0, (A, B))), ())
    assert found is not None
    assert (found.index, found.field) == (1, "layout")
    assert (found.before, found.ours.layout, found.theirs.layout) == ((A,), (A,), (A, B))


def test_only_the_first_counts() -> None:
    found = first_divergence(
        pack((0, None), (1, None), (2, None)), pack((0, None), (5, None), (6, (A,))), (B,)
    )
    assert found is not None
    assert (found.index, found.before) == (1, (B,))


def test_a_contradiction_is_named_where_nothing_else_differs() -> None:
    ours = pack((0, (A,)), (0, None), (0, None))
    contradicts = STEP.pack(0, UNCHANGED, INCONSISTENT_LOCKED, 0, 0)
    theirs = pack((0, (A,))) + contradicts * 2
    found = first_divergence(ours, theirs, ())
    assert found is not None
    assert (found.index, found.field) == (1, "consistency")
    assert agrees(ours, theirs, ())
    theirs = pack((0, (A,))) + contradicts + pack((7, None))
    found = first_divergence(ours, theirs, ())
    assert found is not None
    assert (found.index, found.field) == (2, "result")
    assert not agrees(ours, theirs, ())
    assert not agrees(ours, ours + pack((0, None)), ())


def test_trace_cut_short_is_compared_as_far_as_it_goes() -> None:
    whole = pack((0, (A,)), (0, (A, B)))
    assert first_divergence(whole, whole[: STEP.size + RECORD.size + STEP.size + 3], ()) is None
