"""Transparent huge pages, where a program has put them on."""

import pytest

from model.errors import Unmodelled
from tests.pictures import Drawing

RW = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0"
ON = "prctl(PR_SET_THP_DISABLE, 0, 0)"
ADVISED = f"mmap(W+0, 1024p, {RW}); madvise(W+0, 1024p, MADV_HUGEPAGE)"


@pytest.mark.parametrize(
    ("calls", "pages"),
    [
        (f"{ON}; {ADVISED}; touch(W+600, 1, write)", 512),
        (f"{ON}; {ADVISED}; touch(W+600, 1, write); touch(W+5, 1, write)", 1024),
        (f"{ON}; {ADVISED}; touch(W+600, 1, write); munmap(W+512, 8p)", 504),
        (f"{ADVISED}; touch(W+600, 1, write)", 1),
        (f"{ON}; mmap(W+0, 1024p, {RW}); touch(W+600, 1, write)", 1),
        (f"{ON}; mmap(W+8, 1000p, {RW}); madvise(W+8, 1000p, MADV_HUGEPAGE);"
         "touch(W+600, 1, write)", 1),
    ],
)  # fmt: skip
def test_pages(calls: str, pages: int) -> None:
    drawing = Drawing(".")
    drawing.do(calls)
    assert len(drawing.space.ptes) == pages


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        (f"{ON}; {ADVISED}; touch(W+0, 1, read)", "zeros"),
        (f"{ON}; {ADVISED}; touch(W+0, 1, write); madvise(W+0, 1024p, MADV_DONTNEED);"
         "touch(W+0, 1, write)", "page tables"),
        (f"mmap(W+0, 1p, {RW}); touch(W+0, 1, write); {ON}; {ADVISED}; touch(W+0, 1, write)",
         "page tables"),
        (f"{ON}; {ADVISED}; touch(W+0, 1, write); madvise(W+0, 1p, MADV_DONTNEED)", "khugepaged"),
    ],
)  # fmt: skip
def test_what_is_not_known(calls: str, reason: str) -> None:
    with pytest.raises(Unmodelled, match=reason):
        Drawing(".").do(calls)
