"""The byte form: total, exact for every program, short, and friendly to deletion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi.calls import CALLS, OPCODES, SIGNATURES, Call, Kind, Madvise, Mmap, Mremap, Munmap, build
from abi.consts import (
    FIRST_OBJECT_FD,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_READ,
    PROT_WRITE,
    WORD,
)
from abi.environment import Geometry
from fuzz.encode import MAX_CALLS, decode, encode

GEOMETRY = Geometry()
W, T = GEOMETRY.window, GEOMETRY.top

words = st.one_of(
    st.integers(0, WORD),
    st.integers(0, 300),
    st.integers(-3, 5000).map(lambda n: n * PAGE & WORD),
    st.builds(
        lambda base, pages, rest: (base + pages * PAGE + rest) & WORD,
        st.sampled_from((0, W, T)),
        st.integers(-40000, 40000),
        st.sampled_from((0, 0, 1, -1, 127, 128, -128, -129, 2047, 2048)),
    ),
)
fds = st.one_of(st.integers(FIRST_OBJECT_FD, 2**31 - 1), st.integers(-(2**31), -1))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    cls = draw(st.sampled_from(CALLS))
    return build(cls, [draw(fds if k is Kind.FD else words) for _, k in SIGNATURES[cls]])


programs = st.lists(calls(), max_size=MAX_CALLS).map(tuple)


@given(programs)
def test_every_program_has_a_byte_form(program: tuple[Call, ...]) -> None:
    assert decode(encode(program, GEOMETRY), GEOMETRY) == program


@given(st.binary(max_size=300))
def test_every_byte_string_is_a_program_and_has_a_shorter_form(data: bytes) -> None:
    program = decode(data, GEOMETRY)
    assert len(program) <= MAX_CALLS
    again = encode(program, GEOMETRY)
    assert decode(again, GEOMETRY) == program
    assert all(build(type(c), list(_words(c))) == c for c in program), "words as build() keeps them"
    assert not any(0 <= getattr(c, "fd", -1) < FIRST_OBJECT_FD for c in program)


def _words(call: Call) -> list[int]:
    return [getattr(call, name) for name, _ in SIGNATURES[type(call)]]


@given(st.binary(max_size=100), st.integers(0, 99), st.integers(1, 20))
def test_deleting_bytes_leaves_a_program(data: bytes, start: int, count: int) -> None:
    decode(data[:start] + data[start + count :], GEOMETRY)


@given(programs.filter(len), st.data())
def test_deleting_a_record_leaves_the_others(
    program: tuple[Call, ...], data: st.DataObject
) -> None:
    i = data.draw(st.integers(0, len(program) - 1))
    records = [encode((call,), GEOMETRY) for call in program]
    assert b"".join(records) == encode(program, GEOMETRY)
    assert decode(b"".join(records[:i] + records[i + 1 :]), GEOMETRY) == (
        program[:i] + program[i + 1 :]
    )


@given(calls(), st.data())
def test_past_the_end_every_draw_is_zero(call: Call, data: st.DataObject) -> None:
    record = encode((call,), GEOMETRY)
    cut = record[: data.draw(st.integers(1, len(record)))]
    assert decode(cut, GEOMETRY)[0] == decode(cut + bytes(60), GEOMETRY)[0]


def test_nothing_is_the_empty_program() -> None:
    assert decode(b"", GEOMETRY) == ()
    assert encode((), GEOMETRY) == b""


def test_zero_is_the_plainest_call() -> None:
    rw, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    assert decode(b"\0", GEOMETRY) == (Mmap(W, PAGE, rw, flags, -1, 0),)
    assert decode(bytes((OPCODES[Munmap],)), GEOMETRY) == (Munmap(W, PAGE),)


def test_usual_calls_are_short() -> None:
    rw, fixed = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    mmap = Mmap(W + 5 * PAGE, 3 * PAGE, rw, fixed, -1, 0)
    move = MREMAP_MAYMOVE | MREMAP_FIXED
    assert len(encode((mmap,), GEOMETRY)) == 7
    assert len(encode((Mremap(W, 2 * PAGE, 2 * PAGE, move, W + 20 * PAGE),), GEOMETRY)) == 6
    assert len(encode((Mremap(W + 1, 512 * PAGE, PAGE - 1, move, T - PAGE),), GEOMETRY)) <= 16
    assert len(encode((Mmap(0, PAGE, rw, fixed ^ MAP_FIXED, -1, 0),), GEOMETRY)) == 7


def test_the_form_is_relative_to_the_geometry() -> None:
    elsewhere = Geometry(window=0x3_0000_0000, top=T - 64 * PAGE)
    data = encode((Munmap(W + 3 * PAGE, PAGE), Munmap(T - PAGE, PAGE)), GEOMETRY)
    assert decode(data, elsewhere) == (
        Munmap(elsewhere.window + 3 * PAGE, PAGE),
        Munmap(elsewhere.top - PAGE, PAGE),
    )


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 64"):
        encode((Munmap(W, PAGE),) * (MAX_CALLS + 1), GEOMETRY)
    with pytest.raises(ValueError, match="belongs to the executor"):
        encode((Mmap(W, PAGE, 0, 0, 3, 0),), GEOMETRY)


def test_calls_behind_the_bound_mean_nothing() -> None:
    assert len(decode(bytes(7 * 100), GEOMETRY)) == MAX_CALLS


def test_every_advice_has_a_form() -> None:
    for advice in range(256):
        call = (Madvise(W, PAGE, advice),)
        assert decode(encode(call, GEOMETRY), GEOMETRY) == call
