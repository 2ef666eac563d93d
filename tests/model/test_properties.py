"""What holds for all programs: the naive model's pages, and the invariants of the address space."""

from hypothesis import given, settings
from hypothesis import strategies as st

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, Touch
from abi.consts import (
    FD_NAMES,
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_RANDOM,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
)
from abi.trace import unpack_layout
from abi.wire import IDENT_MEMFD
from fuzz.encode import decode
from model.errors import Unmodelled
from model.run import Model
from tests.environments import ENVIRONMENT
from tests.naive import Naive, expand
from tests.pictures import PROFILE, at

PAGES = 24
MODEL = Model(ENVIRONMENT, PROFILE)
_MOVE = MREMAP_MAYMOVE | MREMAP_FIXED

addresses = st.integers(0, PAGES - 1).map(at)
lengths = st.integers(1, 8).map(lambda pages: pages * PAGE)
prots = st.sampled_from([0, 1, 3, 5, 7])
kinds = st.sampled_from([(MAP_PRIVATE | MAP_ANONYMOUS, -1)] * 3 + [
    (MAP_SHARED | MAP_ANONYMOUS, -1), (MAP_SHARED, FD_NAMES["memfd"]),
    (MAP_PRIVATE, FD_NAMES["memfd"]),
])  # fmt: skip


@st.composite
def mmaps(draw: st.DrawFn) -> Mmap:
    flags, fd = draw(kinds)
    addr = draw(addresses)
    offset = addr - at(0) if draw(st.booleans()) else draw(st.integers(0, 9)) * PAGE
    return Mmap(addr, draw(lengths), draw(prots), flags | MAP_FIXED, fd, offset)


@st.composite
def mremaps(draw: st.DrawFn) -> Mremap:
    addr, length = draw(addresses), draw(lengths)
    shorter = draw(st.integers(1, 8)) * PAGE
    if shorter < length:
        return Mremap(addr, length, shorter, 0, 0)
    flags = _MOVE | draw(st.sampled_from([0, MREMAP_DONTUNMAP]))
    return Mremap(addr, length, length, flags, draw(addresses))


calls: st.SearchStrategy[Call] = st.one_of(
    mmaps(),
    mmaps(),
    st.builds(Munmap, addresses, lengths),
    st.builds(Mprotect, addresses, lengths, prots),
    mremaps(),
    st.builds(
        Madvise, addresses, lengths, st.sampled_from([MADV_RANDOM, MADV_DONTFORK, MADV_DOFORK])
    ),
    st.builds(Touch, addresses, st.integers(1, 8), st.integers(0, 1)),
)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(calls, max_size=12))
def test_the_model_agrees_with_pages_in_a_dict(program: list[Call]) -> None:
    run, naive = MODEL.start(), Naive(IDENT_MEMFD)
    for call in program:
        expected = naive.step(call)
        value = run.step(call)
        assert expected in (None, value), call
        layout = unpack_layout(run.space.layout())
        assert expand(layout, at(0), at(2 * PAGES)) == naive.pages, call


@settings(max_examples=800, derandomize=True, deadline=None)
@given(st.binary(max_size=120))
def test_invariants_hold_after_every_step_of_any_bytes(data: bytes) -> None:
    run = MODEL.start()
    for call in decode(data, ENVIRONMENT.geometry):
        try:
            value = run.step(call)
        except Unmodelled:
            return
        assert -(1 << 63) <= value < 1 << 63
        run.space.check()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(calls, max_size=8))
def test_the_model_is_deterministic(program: list[Call]) -> None:
    assert MODEL.run(tuple(program)) == Model(ENVIRONMENT, PROFILE).run(tuple(program))
