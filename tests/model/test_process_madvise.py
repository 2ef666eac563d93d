"""process_madvise(2) of the process itself."""

import pytest

from model.profile import PROFILES
from tests.pictures import Drawing


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ("W+0, 0x1001, MADV_DONTFORK, 0", "0x1001"),
        ("W+0, 0, MADV_DONTFORK, 0", "0"),
        ("W+0+0x10, 1p, MADV_DONTFORK, 0", "EINVAL"),
        ("W+0+0x10, 0, MADV_DONTFORK, 0", "0"),
        ("W+0, 4p, MADV_DONTFORK, 0", "ENOMEM"),
        ("W+0, 1p, MADV_DONTFORK, 1", "EINVAL"),
        ("W+0, 1p, MADV_DONTFORK, 0x100000000", "0x1000"),
        ("W+0, 0xffffffffffffffff, MADV_DONTFORK, 0", "EINVAL"),
        ("0x7ffffffff000, 1p, 200, 0", "EFAULT"),
        ("0x7fffffffe000, 1p, MADV_DONTFORK, 0", "ENOMEM"),
        ("W+0, 1p, 200, 0", "EINVAL"),
        ("W+0, 0x7ffffffff000, MADV_DONTFORK, 0", "ENOMEM"),
    ],
)
def test_process_madvise(arguments: str, result: str) -> None:
    assert Drawing("ww.ww").do(f"process_madvise({arguments})") == [result]


def test_older_kernels_take_hints_only() -> None:
    drawing = Drawing("ww", profile=PROFILES["6.12"])
    calls = "process_madvise(W+0, 1p, MADV_DONTNEED, 0); process_madvise(W+0, 1p, MADV_COLD, 0)"
    assert drawing.do(calls) == ["EINVAL", "0x1000"]


def test_newer_kernels_look_at_the_advice_first() -> None:
    drawing = Drawing("ww", profile=PROFILES["7.3"])
    assert drawing.do("process_madvise(W+0, 0, 200, 0)") == ["EINVAL"]
    assert Drawing("ww").do("process_madvise(W+0, 0, 200, 0)") == ["0"]
