"""fail, and what a call may do when an allocation of it fails: the states between its steps, and no others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from abi.consts import FD_NAMES, PAGE
from abi.environment import Environment
from abi.program import parse
from abi.trace import Step, describe, unpack
from fuzz.compare import initial_layout
from fuzz.settle import outcomes
from model.errors import Unmodelled
from model.profile import PROFILES
from model.run import Model, Run
from model.space import PTE_ANON, PTE_FILE, PTE_KIND, PTE_WP
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, lines

ABLE: Final = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"FAULT_INJECTION"})
WINDOW: Final = ENVIRONMENT.geometry.window


def made(picture: str, call: str) -> list[Step]:
    """The call's steps: all that may be when an allocation of it fails, the one in which that is not felt first."""
    initial = initial_layout(ABLE)
    return [unpack(run.trace(), initial)[-1] for run in runs(picture, call)]


def runs(picture: str, call: str) -> Iterator[Run]:
    """The runs that end in those steps."""
    return after("\n".join(lines(picture)), call)


def after(calls: str, call: str, able: Environment = ABLE) -> Iterator[Run]:
    """The runs of the call that come after these calls."""
    program = parse(f"{calls}\n{call}", able.geometry)
    before = (None,) * (len(program) - 1)
    return outcomes(Model(able, PROFILES["6.18"]), program, before, full=True)


def accesses(run: Run, call: str) -> str:
    """What the touch that a run ends with got, page by page."""
    touch = parse(call, ABLE.geometry)[0]
    return describe(touch, unpack(run.trace(), initial_layout(ABLE))[-1].value)


def present(run: Run) -> list[int]:
    """The pages of the window that are there after it."""
    first = WINDOW // PAGE
    ptes = run.space.ptes.items()
    return sorted(page - first for page, held in ptes if held & PTE_KIND and page >= first)


def shape(step: Step) -> str:
    """Its result, and where in the window there are VMAs (pages)."""
    ranges = (
        ((m.start - WINDOW) // PAGE, (m.end - WINDOW) // PAGE)
        for m in step.layout
        if WINDOW <= m.start < WINDOW + 128 * PAGE
    )
    result = "ok" if step.value >= 0 else {-12: "ENOMEM", -11: "EAGAIN"}[step.value]
    return " ".join([result, *(f"{low}-{high}" for low, high in ranges)])


def test_without_fault_injection_nothing_fails() -> None:
    assert Drawing(".").do("fail(1)") == ["ENOENT"]


@pytest.mark.parametrize(
    ("nth", "result"), [(0, "EINVAL"), (1, "0"), ((1 << 31) - 1, "0"), (1 << 31, "EINVAL")]
)
def test_which_allocations_there_are(nth: int, result: str) -> None:
    assert Drawing(".", ABLE).do(f"fail({nth})") == [result]


def test_a_move_of_two_vmas_stops_between_them_and_tears_neither() -> None:
    move = "mremap(W+0, 6p, 6p, MREMAP_MAYMOVE|MREMAP_FIXED, W+16)"
    shapes = {shape(step) for step in made("ww..rr", move)}
    assert shapes == {
        "ok 16-18 20-22",
        "ENOMEM 0-2 4-6",
        "ENOMEM 4-6 16-18",
        # Its source could not be unmapped: mm/mremap.c: unmap_source_vma().
        "ok 0-2 16-18 20-22",
        "ok 4-6 16-18 20-22",
    }


def test_a_cut_that_fails_leaves_what_was_cut_before() -> None:
    shapes = {shape(step) for step in made("wwwwww", "munmap(W+2, 2p)")}
    assert shapes == {"ok 0-2 4-6", "ENOMEM 0-6", "ENOMEM 0-2 2-6", "ENOMEM 0-2 2-4 4-6"}


def test_without_memory_for_a_merge_a_new_vma_stands_alone() -> None:
    call = "mmap(W+2, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
    shapes = {shape(step) for step in made("ww", call)}
    assert shapes == {"ok 0-4", "ok 0-2 2-4"}


def test_without_memory_for_a_merge_a_changed_vma_stays_as_it_was() -> None:
    shapes = {shape(step) for step in made("wwrr", "mprotect(W+2, 2p, PROT_READ|PROT_WRITE)")}
    assert shapes == {"ok 0-4", "ENOMEM 0-2 2-4"}


def test_what_could_not_be_replaced_is_gone() -> None:
    call = "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
    shapes = {shape(step) for step in made("ww", call)}
    assert shapes == {"ok 0-2", "ENOMEM 0-2", "ENOMEM"}


def test_locked_memory_may_be_locked_and_not_there() -> None:
    steps = made("ww.ss", "mlock(W+0, 2p)")
    seen = {(shape(step), len(step.pages or ())) for step in steps}
    assert seen == {("ok 0-2 3-5", 2), ("EAGAIN 0-2 3-5", 0)}


@pytest.mark.parametrize(
    ("call", "want"),
    [
        # Behind the first page of the range it is tried again: mm/gup.c: __get_user_pages().
        ("madvise(W+0, 5p, MADV_POPULATE_READ)", {("ENOMEM", ()), ("ok", (0, 1, 2, 3, 4))}),
        # Behind the first page of each VMA: mm/gup.c: __mm_populate().
        ("mlock(W+0, 5p)", {("EAGAIN", ()), ("EAGAIN", (0, 1)), ("ok", (0, 1, 2, 3, 4))}),
        ("mlockall(MCL_CURRENT)", {("ok", (2, 3, 4)), ("ok", (0, 1)), ("ok", (0, 1, 2, 3, 4))}),
    ],
)
def test_what_could_not_be_populated_is_tried_again(
    call: str, want: set[tuple[str, tuple[int, ...]]]
) -> None:
    found = {
        (shape(unpack(run.trace(), initial_layout(ABLE))[-1]).split()[0], tuple(present(run)))
        for run in runs("wwrrr", call)
    }
    assert found == want


def test_nothing_is_tried_again_where_locked_memory_becomes_writable() -> None:
    calls = """
        mmap(W+0, 3p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
        mlock(W+0, 3p)
        madvise(W+0, 3p, MADV_DONTNEED_LOCKED)
    """
    found = after(calls, "mprotect(W+0, 3p, PROT_READ|PROT_WRITE)")
    assert {tuple(present(run)) for run in found} >= {(), (0,), (0, 1), (0, 1, 2)}


def test_a_page_of_shared_memory_may_fail_where_those_around_it_come() -> None:
    calls = """
        mmap(W+0, 8p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, memfd, 0)
        mmap(W+16, 8p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 0)
        touch(W+2, 2, write)
    """
    found = after(calls, "madvise(W+16, 1p, MADV_POPULATE_READ)")
    assert {tuple(present(run)) for run in found} == {(2, 3), (2, 3, 18, 19), (2, 3, 16, 18, 19)}


def test_what_is_write_protected_stays_so_when_it_cannot_come() -> None:
    calls = """
        mmap(W+0, 1p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, memfd, 0)
        uffd_register(uffd0, W+0, 1p, UFFDIO_REGISTER_MODE_WP)
        uffd_writeprotect(uffd0, W+0, 1p, UFFDIO_WRITEPROTECT_MODE_WP)
    """
    for run in after(calls, "madvise(W+0, 1p, MADV_POPULATE_READ)"):
        assert run.space.ptes[WINDOW // PAGE] & PTE_WP


def test_a_huge_page_may_be_mapped_and_not_copied() -> None:
    calls = """
        mmap(W+0, 512p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, hugetlb, 0)
        touch(W+0, 1, write)
        mmap(W+512, 512p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_NORESERVE, hugetlb, 0)
    """
    found = after(calls, "madvise(W+512, 512p, MADV_POPULATE_WRITE)")
    kinds = {run.space.ptes.get(WINDOW // PAGE + 512, 0) & PTE_KIND for run in found}
    assert kinds == {0, PTE_FILE, PTE_ANON}


def test_accesses_are_tried_again() -> None:
    call = "touch(W+0, 8, write)"
    found = [accesses(run, call) for run in runs("ww ss mm pp", call)]
    assert found == ["ok ok ok ok ok ok ok ok"]


def test_a_stack_without_memory_does_not_grow_once() -> None:
    call = "touch(W+2, 3, write)"
    found = [accesses(run, call) for run in runs("....gg", call)]
    assert found == ["ok ok ok", "SEGV ok ok"]


@pytest.mark.parametrize("name", ["ext4", "ramfs", "hugetlb"])
def test_accesses_to_files_are_tried_again(name: str) -> None:
    call = "touch(W+511, 2, write)"
    calls = f"mmap(W+0, 1024p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, {name}, 0)"
    assert len({accesses(run, call) for run in after(calls, call)}) == 1


def test_without_memory_for_a_transparent_huge_page_it_is_for_small_ones() -> None:
    able = replace(ABLE, config=ABLE.config | {"THP_ALWAYS"})
    calls = """
        prctl(PR_SET_THP_DISABLE, 0, 0)
        mmap(W+0, 512p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
    """
    found = after(calls, "touch(W+0, 1, write)", able)
    assert len(next(found).space.ptes) >= 512
    with pytest.raises(Unmodelled, match="khugepaged"):
        next(found)


@pytest.mark.parametrize(
    ("call", "want"),
    [
        ("mincore(W+0, 2p)", ["ok", "EAGAIN"]),
        ("mincore(W+0, 4p)", ["ENOMEM", "EAGAIN"]),
        ("mincore(W+0, 0)", ["ok", "EAGAIN"]),
        ("mincore(0, 0x800000000000)", ["ENOMEM"]),
        ("msync(W+0, 2p, MS_SYNC)", ["ok"]),
        ("madvise(W+0, 1p, MADV_REMOVE)", ["ok"]),
        ("ftruncate(memfd, 0x1000)", ["ok"]),
        ("process_madvise(W+0, 2p, MADV_DONTFORK, 0)", ["ok"]),
        ("process_madvise(W+1, 1p, MADV_DONTFORK, 0)", ["ok", "EAGAIN"]),
    ],
)
def test_results_that_there_may_be(call: str, want: list[str]) -> None:
    assert [shape(step).split()[0] for step in made("mm", call)] == want


def test_a_huge_page_between_others_may_stay_reserved() -> None:
    calls = """
        mmap(W+0, 1536p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED|MAP_NORESERVE, hugetlb, 0)
        touch(W+0, 1, write)
        touch(W+512, 1, write)
        touch(W+1024, 1, write)
    """
    kept = []
    for run in after(calls, "madvise(W+512, 512p, MADV_REMOVE)"):
        inode = run.space.files[FD_NAMES["hugetlb"]].inode
        kept.append((sorted(inode.cached), sorted(inode.reserved)))
    assert kept == [([0, 2], []), ([0, 2], [1])]
    ends = list(after(calls, "madvise(W+0, 1536p, MADV_REMOVE)"))
    assert len(ends) == 1


def test_every_outcome_is_consistent() -> None:
    count = 0
    for run in runs("WW..rr.ss", "mremap(W+1, 8p, 8p, MREMAP_MAYMOVE|MREMAP_FIXED, W+32)"):
        run.space.check()
        count += 1
    assert count > 8


def test_every_outcome_says_that_an_allocation_failed() -> None:
    steps = made("ww", "munmap(W+0, 1p)")
    assert len(steps) > 2
    assert all(step.failed for step in steps)
