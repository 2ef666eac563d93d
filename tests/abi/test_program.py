"""The text form: what is read, what is written, and that both are inverse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abi.calls import CALLS, SIGNATURES, Call, Kind, Madvise, Mmap, Munmap, Touch, build, signed32
from abi.consts import FIRST_OBJECT_FD, PAGE, WORD
from abi.environment import Geometry
from abi.program import (
    ProgramError,
    format_address,
    format_call,
    format_program,
    format_word,
    parse,
    parse_call,
)

GEOMETRY = Geometry()
W, T = GEOMETRY.window, GEOMETRY.top

words = st.one_of(
    st.integers(0, WORD),
    st.integers(0, 64).map(lambda n: n * PAGE),
    st.integers(-99, 99).map(lambda n: W + n * PAGE),
    st.integers(-99, 99).map(lambda n: T + n),
    st.integers(0, 300),
)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    cls = draw(st.sampled_from(CALLS))
    chosen = [draw(words) for _ in SIGNATURES[cls]]
    for i, (_, kind) in enumerate(SIGNATURES[cls]):
        if kind is Kind.FD and 0 <= signed32(chosen[i]) < FIRST_OBJECT_FD:
            chosen[i] = FIRST_OBJECT_FD
    return build(cls, chosen)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(calls(), max_size=4).map(tuple))
def test_parse_is_the_inverse_of_format(program: tuple[Call, ...]) -> None:
    assert parse(format_program(program, GEOMETRY), GEOMETRY) == program


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("munmap(W, 1p)", Munmap(W, PAGE)),
        ("munmap(W+2, 1p+0x10)", Munmap(W + 2 * PAGE, PAGE + 16)),
        ("munmap(W-2+0x8, 0x10)", Munmap(W - 2 * PAGE + 8, 16)),
        ("munmap(T-1, 0)", Munmap(T - PAGE, 0)),
        ("munmap(NULL, -1)", Munmap(0, WORD)),
        ("munmap ( W , 2p ) = 0", Munmap(W, 2 * PAGE)),
        ("madvise(W, 1p, MADV_FREE)", Madvise(W, PAGE, 8)),
        ("madvise(W, 1p, 77)", Madvise(W, PAGE, 77)),
        ("touch(W, 3, write)", Touch(W, 3, 1)),
        ("mmap(W, 1p, PROT_NONE, 0, memfd, 0)", Mmap(W, PAGE, 0, 0, 10, 0)),
        ("mmap(0, 0, PROT_READ|0x40, MAP_PRIVATE | 0x20, -1, 0)", Mmap(0, 0, 0x41, 0x22, -1, 0)),
    ],
)
def test_what_is_read(text: str, call: Call) -> None:
    assert parse_call(text, GEOMETRY) == call


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unmap(W, 1p)", "unmap"),
        ("munmap W", "not a call"),
        ("munmap(W)", "takes 2 arguments, here are 1"),
        ("munmap()", "takes 2 arguments, here are 0"),
        ("munmap(X, 1p)", "cannot read 'X'"),
        ("munmap(W, 0x10000000000000000)", "does not fit"),
        ("mmap(W, 1p, PROT_REED, 0, -1, 0)", "cannot read 'PROT_REED'"),
        ("mmap(W, 1p, 0, 0, 3, 0)", "belong to the executor"),
        ("uffd_register(0, W, 1p, 1)", "belong to the executor"),
    ],
)
def test_what_is_not_a_call(text: str, problem: str) -> None:
    with pytest.raises(ProgramError, match=problem):
        parse_call(text, GEOMETRY)


def test_an_error_names_file_and_line() -> None:
    with pytest.raises(ProgramError, match=r"some\.prog:3: "):
        parse("# a comment\n\nmunmap(W)\n", GEOMETRY, "some.prog")


def test_comments_and_blank_lines_mean_nothing() -> None:
    text = "# one\n\nmunmap(W, 1p)  # two\n"
    assert parse(text, GEOMETRY) == (Munmap(W, PAGE),)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (0, "NULL"),
        (W, "W+0"),
        (W + PAGE + 1, "W+1+0x1"),
        (W - PAGE, "W-1"),
        (T, "T+0"),
        (T - 1, "T-1+0xfff"),
        (1 << 45, hex(1 << 45)),
    ],
)
def test_addresses(address: int, text: str) -> None:
    assert format_address(address, GEOMETRY) == text


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, Kind.PROT, "PROT_NONE"),
        (0x103, Kind.PROT, "PROT_READ|PROT_WRITE|0x100"),
        (0, Kind.MAP_FLAGS, "0"),
        (0x22, Kind.MAP_FLAGS, "MAP_PRIVATE|MAP_ANONYMOUS"),
        (0x25, Kind.MAP_FLAGS, "MAP_ANONYMOUS|0x5"),
        (0, Kind.MREMAP_FLAGS, "0"),
        (4, Kind.ADVICE, "MADV_DONTNEED"),
        (77, Kind.ADVICE, "77"),
        (1 << 40, Kind.ADVICE, "0x10000000000"),
        (-1, Kind.FD, "-1"),
        (16, Kind.FD, "uffd0"),
        (1, Kind.ACCESS, "write"),
        (0, Kind.LENGTH, "0"),
        (9, Kind.LENGTH, "0x9"),
        (PAGE, Kind.OFFSET, "1p"),
        (PAGE + 9, Kind.LENGTH, "1p+0x9"),
        (1 << 60, Kind.LENGTH, hex(1 << 60)),
    ],
)
def test_words(value: int, kind: Kind, text: str) -> None:
    assert format_word(value, kind, GEOMETRY) == text


def test_a_call_is_one_line() -> None:
    assert format_call(Munmap(W, 3 * PAGE), GEOMETRY) == "munmap(W+0, 3p)"
