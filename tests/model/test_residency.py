"""mincore(2), and what MADV_FREE and MADV_PAGEOUT leave."""

import pytest

from tests.environments import SHARED
from tests.pictures import Drawing


@pytest.mark.parametrize(
    ("picture", "calls", "bits"),
    [
        ("wwww", "touch(W+1, 1, read); touch(W+3, 1, write)", "0101"),
        ("ssss", "touch(W+1, 1, read); madvise(W+0, 4p, MADV_DONTNEED)", "0100"),
        ("ssss", "touch(W+1, 1, read); madvise(W+0, 4p, MADV_REMOVE)", "0000"),
        ("qqqq", "touch(W+0, 1, read); touch(W+2, 1, write)", "0010"),
        ("zzzz", "touch(W+2, 1, read)", "0010"),
        ("wwww", "touch(W+0, 4, write); madvise(W+1, 1p, MADV_GUARD_INSTALL)", "1011"),
        ("wwww", "touch(W+0, 4, write); madvise(W+0, 4p, MADV_FREE)", "1111"),
        ("wwww", "touch(W+0, 4, write); madvise(W+0, 4p, MADV_PAGEOUT)", "1111"),
        (
            "wwww",
            "touch(W+0, 3, write); touch(W+3, 1, read); madvise(W+0, 4p, MADV_FREE);"
            "touch(W+1, 1, write); touch(W+2, 1, read); madvise(W+0, 4p, MADV_PAGEOUT)",
            "0101",
        ),
        (
            "dddd",
            "touch(W+0, 2, write); touch(W+2, 1, read); madvise(W+0, 4p, MADV_PAGEOUT)",
            "0010",
        ),
    ],
)
def test_which_pages_are_in_memory(picture: str, calls: str, bits: str) -> None:
    drawing = Drawing(picture)
    drawing.do(calls)
    assert drawing.do("mincore(W+0, 4p)") == [f"[{bits}]"]


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ("W+0+0x10, 1p", "EINVAL"),
        ("W+0, 3p", "ENOMEM"),
        ("W+2, 1p", "ENOMEM"),
        ("W+1, 4p", "ENOMEM"),
        ("0x7ffffffff000, 1p", "ENOMEM"),
        ("W+0, 0xffffffffffffffff", "ENOMEM"),
        ("W+9, 0", "[]"),
        ("W+0, 0x1001", "[00]"),
        (f"{SHARED.start}, 2p", "[11]"),
    ],
)
def test_ranges(arguments: str, result: str) -> None:
    assert Drawing("ww.ww").do(f"mincore({arguments})") == [result]


def test_no_more_pages_than_a_word_tells() -> None:
    drawing = Drawing("w" * 64)
    drawing.do("touch(W+0, 32, write); touch(W+32, 32, write)")
    assert drawing.run.step(drawing.program("mincore(W+0, 64p)")[0]) == (1 << 62) - 1
