"""The address space itself: looking up, cutting, merging, counting."""

import pytest

from abi.consts import PAGE
from model.flags import VM_GROWSDOWN, VM_IO, VM_SOFTDIRTY, VM_UFFD_WP
from model.space import (
    PTE_ANON,
    PTE_FILE,
    PTE_GUARD,
    PTE_WP,
    AddressSpace,
    guard_start,
    same_attributes,
)
from model.vma import Vma
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, at, play, scenes

MERGES = {
    "a hole between faulted and unfaulted memory": (
        "WW..ww", "mmap(W+2, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)",
        "W+2", "WWWWWW",
    ),
    "advice that makes three VMAs one": ("wwaaww", "madvise(W+2, 2p, MADV_NORMAL)", "0", "wwwwww"),
    "three, the middle faulted": ("wwAAww", "madvise(W+2, 2p, MADV_NORMAL)", "0", "WWWWWW"),
    "three, the outer faulted and different": (
        "WWaaWW", "madvise(W+2, 2p, MADV_NORMAL)", "0", "WWWW|WW",
    ),
    "three, all faulted and different": (
        "WWAAWW", "madvise(W+2, 2p, MADV_NORMAL)", "0", "WW|WW|WW",
    ),
    "part of a VMA goes over to the lower neighbour": (
        "wwaaaa", "madvise(W+2, 2p, MADV_NORMAL)", "0", "wwwwaa",
    ),
    "part of a VMA goes over to the upper neighbour": (
        "aaaaww", "madvise(W+2, 2p, MADV_NORMAL)", "0", "aawwww",
    ),
    "part of a faulted VMA makes the neighbour faulted": (
        "wwAAAA", "madvise(W+2, 2p, MADV_NORMAL)", "0", "WWWWAA",
    ),
    "part of a faulted VMA makes the upper neighbour faulted": (
        "AAAAww", "madvise(W+2, 2p, MADV_NORMAL)", "0", "AAWWWW",
    ),
    "the middle of a VMA merges with none": (
        "wwaaaaww", "madvise(W+3, 2p, MADV_NORMAL)", "0", "wwawwaww",
    ),
    "a hole keeps like VMAs apart": ("ww.aa.ww", "madvise(W+3, 2p, MADV_NORMAL)", "0", "ww.ww.ww"),
    "files whose offsets do not continue": (
        "mm", "mmap(W+2, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 9p);"
        " mprotect(W+2, 2p, PROT_READ|PROT_WRITE)", "W+2, 0", "mm|mm",
    ),
    "upwards neither": (
        "..mm", "mmap(W+0, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 9p);"
        " mprotect(W+0, 2p, PROT_READ|PROT_WRITE)", "W+0, 0", "mm|mm",
    ),
}  # fmt: skip


@scenes(MERGES)
def test_merging(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_special_memory_never_merges() -> None:
    drawing = Drawing("wwaa")
    for page in (0, 2):
        drawing.vma(page).flags |= VM_IO
    drawing.space.modify(drawing.vma(2), at(2), at(4), drawing.vma(0).flags, 0)
    assert len(drawing.space.vmas) == len(ENVIRONMENT.initial) + 2


def test_soft_dirtiness_is_no_difference() -> None:
    drawing = Drawing("ww.rr")
    low, high = drawing.vma(0), drawing.vma(0).copy()
    high.flags |= VM_SOFTDIRTY
    assert same_attributes(low, high)
    assert not same_attributes(low, drawing.vma(3))


def test_looking_up() -> None:
    space = Drawing("..ww.r").space
    own = len(ENVIRONMENT.initial)
    assert [space.find(at(page)) - own for page in range(7)] == [0, 0, 0, 0, 1, 1, 2]
    assert space.lookup(at(1)) is space.lookup(at(4)) is None
    assert space.lookup(0) is None
    assert space.lookup(at(3)) is space.vmas[own]
    assert space.intersects(at(0), at(3))
    assert not space.intersects(at(0), at(2))
    assert len(space.between(at(3), at(6))) == 2
    assert space.between(at(4), at(5)) == []


def test_a_copy_shares_nothing_that_changes() -> None:
    drawing = Drawing("WW")
    copy = drawing.space.copy()
    before = copy.layout(), dict(copy.ptes), copy.total_vm
    drawing.do("munmap(W+0, 1p); touch(W+1, 1, write)")
    copy.check()
    assert (copy.layout(), copy.ptes, copy.total_vm) == before
    assert copy.new_anon_vma() == copy.new_anon_vma() - 1


@pytest.mark.parametrize("pages", [1, 9])
def test_zapping_keeps_guards(pages: int) -> None:
    space = AddressSpace(ENVIRONMENT, frozenset())
    space.ptes = {0: PTE_ANON, 1: PTE_GUARD, 99: PTE_ANON}
    space.zap(Vma(0, 9 * PAGE, 0, None, 0, anonymous=True), 0, pages * PAGE)
    assert space.ptes == {1: PTE_GUARD, 99: PTE_ANON}


def test_zapping_a_file_keeps_write_protection() -> None:
    space = AddressSpace(ENVIRONMENT, frozenset())
    vma = Vma(0, 9 * PAGE, VM_UFFD_WP, None, 0, anonymous=False)
    space.ptes = {0: PTE_ANON, 1: PTE_FILE | PTE_WP, 2: PTE_WP, 3: PTE_FILE}
    space.zap(vma, 0, 9 * PAGE)
    assert space.ptes == {1: PTE_WP, 2: PTE_WP}
    space.ptes[0] = PTE_FILE | PTE_WP
    vma.flags = 0
    space.zap(vma, 0, 9 * PAGE)
    assert space.ptes == {1: PTE_WP, 2: PTE_WP}, "a marker stays, registered or not"


def test_moving_page_table_entries() -> None:
    space = AddressSpace(ENVIRONMENT, frozenset())
    space.ptes = {1: PTE_ANON, 2: PTE_GUARD, 3: PTE_ANON}
    space.move_ptes(PAGE, 3 * PAGE, 2 * PAGE)
    assert space.ptes == {2: PTE_ANON, 3: PTE_GUARD}


def test_a_guard_gap_stops_at_0() -> None:
    low = Vma(PAGE, 2 * PAGE, VM_GROWSDOWN, None, 0, anonymous=True)
    assert guard_start(low, 9 * PAGE) == 0
    low.flags = 0
    assert guard_start(low, 9 * PAGE) == PAGE


def test_check_notices_what_is_wrong() -> None:
    drawing = Drawing("ww.rr")
    drawing.space.total_vm += 1
    with pytest.raises(AssertionError):
        drawing.space.check()
    drawing.space.total_vm -= 1
    drawing.vma(0).end = at(4)
    with pytest.raises(AssertionError):
        drawing.space.check()
