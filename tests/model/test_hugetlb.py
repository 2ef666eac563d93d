"""hugetlb: lengths, splits, moves, faults and the pool, in huge pages of 512 pages."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from abi.environment import Environment
from model.errors import Unmodelled
from model.hugetlb import taken
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, at

PRIVATE = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_HUGETLB"
LAZY = f"{PRIVATE}|MAP_NORESERVE, -1, 0"
SHARED = "PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED|MAP_HUGETLB, -1, 0"
OBJECT = "PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, hugetlb"
SMALL = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0"
MOVE = "MREMAP_MAYMOVE|MREMAP_FIXED"
EMPTY = replace(ENVIRONMENT, huge_pages=0)
UNKNOWN = replace(ENVIRONMENT, huge_pages=-1)


def mapped(drawing: Drawing) -> list[tuple[int, int]]:
    """The program's mappings: first page in the window, pages."""
    window = ENVIRONMENT.geometry.window
    return [
        ((vma.start - window) // PAGE, (vma.end - vma.start) // PAGE)
        for vma in drawing.space.vmas
        if vma.name is None
    ]


def played(calls: str, environment: Environment = ENVIRONMENT) -> tuple[list[str], Drawing]:
    drawing = Drawing(".", environment)
    return drawing.do(calls), drawing


@pytest.mark.parametrize(
    ("calls", "results", "layout"),
    [
        pytest.param(
            f"mmap(W+512, 1p, {LAZY}); mmap(W+1024, 513p, {SHARED})",
            ["W+512", "W+1024"],
            [(512, 512), (1024, 1024)],
            id="lengths are rounded up",
        ),
        pytest.param(
            f"mmap(W+513, 1p, {LAZY})", ["EINVAL"], [], id="a fixed address is at a huge page"
        ),
        pytest.param(
            f"mmap(W+512, 2p, {SMALL}); mmap(W+512, 1p, {OBJECT}, 1p)",
            ["W+512", "EINVAL"],
            [],
            id="a misaligned offset is found when the place is cleared",
        ),
        pytest.param(
            f"mmap(W+0, 1024p, {LAZY}); munmap(W+1, 1p); munmap(W+0, 1p); munmap(W+512, 512p)",
            ["W+0", "EINVAL", "EINVAL", "0"],
            [(0, 512)],
            id="never cut inside a huge page",
        ),
        pytest.param(
            f"mmap(W+0, 1024p, {LAZY}); mremap(W+0, 1p, 1p, {MOVE}, W+2048)",
            ["W+0", "W+2048"],
            [(512, 512), (2048, 512)],
            id="a move takes whole huge pages",
        ),
        pytest.param(
            f"mmap(W+0, 512p, {LAZY}); mremap(W+0, 512p, 512p, 0, W+1)",
            ["W+0", "EINVAL"],
            [(0, 512)],
            id="the new address counts where it means nothing",
        ),
        pytest.param(
            f"mmap(W+0, 512p, {SHARED}); mremap(W+0, 512p, 513p, MREMAP_MAYMOVE, W+0);"
            "mremap(W+0, 0, 512p, MREMAP_MAYMOVE, W+0)",
            ["W+0", "EINVAL", "EINVAL"],
            [(0, 512)],
            id="neither growth nor a duplicate",
        ),
        pytest.param(
            f"mmap(W+510, 2p, {SMALL}); mmap(W+512, 1024p, {LAZY}); mmap(W+2049, 2p, {SMALL});"
            f"mremap(W+510, 3p, 3p, {MOVE}, W+2046)",
            ["W+510", "W+512", "W+2049", "W+2046"],
            [(1024, 512), (2046, 2), (2048, 512)],
            id="more is moved than was asked for, and replaces what is there",
        ),
        pytest.param(
            f"mmap(W+510, 2p, {SMALL}); mmap(W+512, 512p, {LAZY});"
            f"mremap(W+510, 514p, 514p, {MOVE}, W+2047)",
            ["W+510", "W+512", "EINVAL"],
            [(512, 512), (2047, 2)],
            id="what lies before a misaligned piece has moved",
        ),
    ],
)
def test_layout(calls: str, results: list[str], layout: list[tuple[int, int]]) -> None:
    done, drawing = played(calls)
    assert (done, mapped(drawing)) == (results, layout)


def test_a_fault_fills_a_huge_page() -> None:
    _, drawing = played(f"mmap(W+0, 1024p, {LAZY}); touch(W+3, 1, read)")
    pages = [page - at(0) // PAGE for page in sorted(drawing.space.ptes)]
    assert pages == list(range(512))
    drawing.do("madvise(W+0, 511p, MADV_DONTNEED)")
    assert len(drawing.space.ptes) == 512, "the end is rounded down"
    assert drawing.do("madvise(W+0, 513p, MADV_DONTNEED)") == ["0"]
    assert not drawing.space.ptes


def test_the_end_of_the_object() -> None:
    done, _ = played(
        "mmap(W+0, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, hugetlb, 2048p); touch(W+0, 1, read);"
        f"mmap(W+512, 1p, {OBJECT}, 2048p); touch(W+0, 1, read)"
    )
    assert done == ["W+0", "BUS", "W+512", "ok"]


def test_an_empty_pool() -> None:
    done, _ = played(
        f"mmap(W+0, 1p, {SHARED}); mmap(W+0, 1p, {PRIVATE}, -1, 0); mmap(W+0, 1p, {LAZY});"
        "touch(W+0, 1, read)",
        EMPTY,
    )
    assert done == ["ENOMEM", "ENOMEM", "W+0", "BUS"]


def test_what_is_taken_from_the_pool() -> None:
    done, drawing = played(
        f"mmap(W+0, 1024p, {PRIVATE}, -1, 0); mmap(W+1024, 512p, {OBJECT}, 512p);"
        f"mmap(W+1536, 1024p, {LAZY}); touch(W+1536, 1, write); touch(W+0, 1, write);"
        "munmap(W+1024, 512p)"
    )
    assert done[-1] == "0"
    assert taken(drawing.space) == 2 + 1 + 1, "an object keeps what is reserved for it"
    drawing.do("ftruncate(hugetlb, 0)")
    assert taken(drawing.space) == 3


@pytest.mark.parametrize(
    ("calls", "environment", "reason"),
    [
        (f"mmap(W+0, 8705p, {SHARED})", ENVIRONMENT, "more huge pages"),
        (f"mmap(W+0, 1p, {LAZY})", UNKNOWN, "others may use"),
        (
            f"mmap(W+0, 1024p, {PRIVATE}, -1, 0); mremap(W+0, 1p, 1p, {MOVE}, W+2048)",
            ENVIRONMENT,
            "which may leak",
        ),
    ],
)
def test_what_depends_on_the_whole_machine(
    calls: str, environment: Environment, reason: str
) -> None:
    with pytest.raises(Unmodelled, match=reason):
        played(calls, environment)
