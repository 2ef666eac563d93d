"""The closed list of calls and what follows from it."""

import pytest

from abi.calls import CALLS, NAMES, OPCODES, SIGNATURES, Kind, Mmap, arguments, build, signed32
from abi.consts import WORD


def test_every_call_has_a_name_an_opcode_and_a_signature() -> None:
    assert set(NAMES) == set(OPCODES) == set(SIGNATURES) == set(CALLS)
    assert [OPCODES[cls] for cls in CALLS] == list(range(len(CALLS)))
    assert len(set(NAMES.values())) == len(CALLS)


@pytest.mark.parametrize("cls", CALLS, ids=NAMES.get)
def test_build_is_the_inverse_of_arguments(cls: type) -> None:
    for first in (0, 1, WORD - 9):
        call = build(cls, [first + i for i in range(len(SIGNATURES[cls]))])
        assert build(cls, arguments(call)) == call


def test_words_are_cut_to_64_bits_and_descriptors_to_a_signed_int() -> None:
    call = build(Mmap, (WORD + 2, 0, 0, 0, 0xFFFF_FFFF, -1 & WORD))
    assert (call.addr, call.fd) == (1, -1)  # type: ignore[union-attr]
    assert arguments(call)[4] == WORD


def test_a_wrong_number_of_words_is_no_call() -> None:
    with pytest.raises(ValueError, match="argument"):
        build(Mmap, (0,))


@pytest.mark.parametrize(
    ("word", "value"), [(0, 0), (0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, -(1 << 31)), (WORD, -1)]
)
def test_signed32(word: int, value: int) -> None:
    assert signed32(word) == value


def test_every_kind_of_argument_is_in_use() -> None:
    assert {kind for signature in SIGNATURES.values() for _, kind in signature} == set(Kind)
