"""The binary form of programs and the shared memory's plan."""

from itertools import pairwise
from struct import unpack

from abi.calls import CALLS, OPCODES, SIGNATURES, Mmap, Munmap, arguments, build
from abi.consts import PAGE, WORD
from abi.wire import AREAS, CONTROL, SHARED_SIZE, START_NAMES, START_STEPS, encode


def test_words() -> None:
    for cls in CALLS:
        count = len(SIGNATURES[cls])
        for start in (0, WORD - 20):
            call = build(cls, [start + i for i in range(count)])
            packed = encode((call,), flags=1)
            header, *words = unpack(f"<{len(packed) // 8}Q", packed)
            assert header == 1 | 1 << 32
            assert tuple(words) == (OPCODES[cls], *arguments(call))


def test_numbers_outside_a_word_are_cut() -> None:
    call = Munmap(-1, 1 << 64)
    assert unpack("<4Q", encode((call,))) == (1, OPCODES[Munmap], WORD, 0)
    assert encode((Mmap(0, 0, 0, 0, WORD, 0),)) == encode((Mmap(0, 0, 0, 0, -1, 0),))


def test_areas() -> None:
    areas = list(AREAS.values())
    assert all(a + size <= b for (a, size), (b, _) in pairwise(areas))
    assert sum(areas[-1]) == SHARED_SIZE
    assert len(CONTROL) * 8 <= AREAS["control"][1] == PAGE
    assert len(set(CONTROL)) == len(CONTROL)
    assert len(START_NAMES) == len(START_STEPS)
