"""Where a mapping goes: hints, the top of the search area, guard gaps, alignment for huge pages."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from abi.environment import Geometry
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, play

ANON = "MAP_PRIVATE|MAP_ANONYMOUS"
SCENES = {
    "no hint: below the top": (f"mmap(NULL, 1p, 0, {ANON}, -1, 0)", "T-1"),
    "the next goes below the last": (
        f"mmap(NULL, 1p, 0, {ANON}, -1, 0); mmap(NULL, 3p, 1, {ANON}, -1, 0)", "T-1, T-4",
    ),
    "the highest gap that is large enough": (
        f"mmap(T-4, 1p, 0, {ANON}, -1, 0); mmap(NULL, 4p, 1, {ANON}, -1, 0);"
        f" mmap(NULL, 3p, 1, {ANON}, -1, 0)", "T-4, T-8, T-3",
    ),
    "a hint that is free": (f"mmap(W+3, 1p, 0, {ANON}, -1, 0)", "W+3"),
    "a hint is rounded down": (f"mmap(W+3+0x10, 1p, 0, {ANON}, -1, 0)", "W+3"),
    "a hint below the minimum is raised to it": (f"mmap(0x1000, 1p, 0, {ANON}, -1, 0)", "0x10000"),
    "a hint within the first page is none": (f"mmap(0x10, 1p, 0, {ANON}, -1, 0)", "T-1"),
    "a hint that is taken is ignored": (
        f"mmap(W+0, 2p, 0, {ANON}, -1, 0); mmap(W+1, 2p, 1, {ANON}, -1, 0)", "W+0, T-2",
    ),
    "a hint beyond TASK_SIZE is ignored": (
        f"mmap(0x7ffffffff000, 1p, 0, {ANON}, -1, 0)", "T-1",
    ),
    "a hint so high that the end is beyond TASK_SIZE is ignored": (
        f"mmap(0x7fffffffe000, 2p, 0, {ANON}, -1, 0)", "T-2",
    ),
    "a stack above wants its guard gap of a hint": (
        f"mmap(T-1, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0); mmap(T-257, 1p, 0, {ANON}, -1, 0);"
        f" mmap(T-257, 1p, 1, {ANON}, -1, 0)", "T-1, T-258, T-259",
    ),
    "a hint just below the guard gap is free": (
        f"mmap(T-1, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0); mmap(T-258, 1p, 0, {ANON}, -1, 0)",
        "T-1, T-258",
    ),
    "a stack above wants its guard gap of the search": (
        f"mmap(T-1, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0); mmap(NULL, 1p, 0, {ANON}, -1, 0)",
        "T-1, T-258",
    ),
    "MAP_FIXED does not care about a guard gap": (
        f"mmap(T-1, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0);"
        f" mmap(T-2, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "T-1, T-2",
    ),
    "a stack in a gap below a stack keeps the gap too": (
        f"mmap(T-1, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0);"
        f" mmap(NULL, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0)", "T-1, T-258",
    ),
    "2 MiB of anonymous memory is aligned": (
        f"mmap(NULL, 512p, 0, {ANON}, -1, 0)", "T-1023",
    ),
    "2 MiB with a hint that is taken is not": (
        f"mmap(W+0, 1p, 0, {ANON}, -1, 0); mmap(W+0, 512p, 1, {ANON}, -1, 0)", "W+0, T-512",
    ),
    "a page less is not aligned": (f"mmap(NULL, 511p, 0, {ANON}, -1, 0)", "T-511"),
    "a page more is not aligned": (f"mmap(NULL, 513p, 0, {ANON}, -1, 0)", "T-513"),
    "2 MiB of shared anonymous memory is not aligned": (
        "mmap(NULL, 512p, 0, MAP_SHARED|MAP_ANONYMOUS, -1, 0)", "T-512",
    ),
    "a file that has a huge page's worth in it is aligned": (
        "mmap(NULL, 513p, 0, MAP_SHARED, file, 0)", "T-1023",
    ),
    "and its offset with it": ("mmap(NULL, 1024p, 0, MAP_SHARED, file, 5p)", "T-1530"),
    "a file that has none is not": ("mmap(NULL, 512p, 0, MAP_SHARED, file, 5p)", "T-512"),
    "a file with a hint is aligned unless the hint is taken as it is": (
        "mmap(W+512, 512p, 0, MAP_SHARED, file, 0)", "W+512",
    ),
    "a memfd is not aligned": ("mmap(NULL, 512p, 0, MAP_SHARED, memfd, 0)", "T-512"),
    "private /dev/zero is aligned": ("mmap(NULL, 512p, 0, MAP_PRIVATE, devzero, 0)", "T-1023"),
    "shared /dev/zero is not": ("mmap(NULL, 512p, 0, MAP_SHARED, devzero, 0)", "T-512"),
    "an offset so large that it counts as negative is aligned from there": (
        "mmap(NULL, 512p, 0, MAP_PRIVATE, devzero, 0xffffffff80000000)", "T-1023",
    ),
    "unless offset and padding wrap": (
        "mmap(NULL, 512p, 0, MAP_PRIVATE, devzero, 0xffffffffffc00000)", "T-512",
    ),
    "32BIT goes to the lowest gap above 1 GiB": (
        f"mmap(NULL, 1p, 0, {ANON}|MAP_32BIT, -1, 0); mmap(NULL, 1p, 1, {ANON}|MAP_32BIT, -1, 0)",
        "0x40000000, 0x40001000",
    ),
    "32BIT ignores a hint above 2 GiB": (
        f"mmap(W+0, 1p, 0, {ANON}|MAP_32BIT, -1, 0)", "0x40000000",
    ),
    "32BIT takes a hint below": (
        f"mmap(0x50000000, 1p, 0, {ANON}|MAP_32BIT, -1, 0)", "0x50000000",
    ),
    "32BIT leaves a hint that is taken": (
        f"mmap(0x20000000, 1p, 0, {ANON}|MAP_32BIT, -1, 0)", "0x40000000",
    ),
    "32BIT leaves a stack its guard gap": (
        f"mmap(0x40010000, 1p, 3, {ANON}|MAP_GROWSDOWN|MAP_FIXED, -1, 0);"
        f" mmap(NULL, 1p, 0, {ANON}|MAP_32BIT, -1, 0)", "0x40010000, 0x40011000",
    ),
    "32BIT uses the room below a distant stack": (
        f"mmap(0x50000000, 1p, 3, {ANON}|MAP_GROWSDOWN|MAP_FIXED, -1, 0);"
        f" mmap(NULL, 1p, 0, {ANON}|MAP_32BIT, -1, 0)", "0x50000000, 0x40000000",
    ),
    "32BIT begins above what covers its start": (
        f"mmap(0x3ffff000, 3p, 0, {ANON}|MAP_FIXED, -1, 0);"
        f" mmap(NULL, 1p, 1, {ANON}|MAP_32BIT, -1, 0)", "0x3ffff000, 0x40002000",
    ),
    "32BIT passes gaps that are too small": (
        f"mmap(0x40001000, 1p, 0, {ANON}|MAP_FIXED, -1, 0);"
        f" mmap(NULL, 2p, 1, {ANON}|MAP_32BIT, -1, 0)", "0x40001000, 0x40002000",
    ),
    "32BIT has room for less than 2 GiB": (
        f"mmap(NULL, 0x80001000, 0, {ANON}|MAP_32BIT, -1, 0)", "ENOMEM",
    ),
    "32BIT has 1 GiB at most": (f"mmap(NULL, 0x40001000, 0, {ANON}|MAP_32BIT, -1, 0)", "ENOMEM"),
    "FIXED at the very top is taken for an errno": (
        f"mmap(0xfffffffffffff000, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "ENOMEM",
    ),
    "so is FIXED at an address that is an errno": (
        f"mmap(0xfffffffffffff001, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "4095",
    ),
    "FIXED beyond TASK_SIZE": (f"mmap(0x7ffffffff000, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "ENOMEM"),
    "FIXED below the minimum address": (f"mmap(NULL, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "EPERM"),
    "FIXED between the two minimums is allowed": (
        f"mmap(0x1000, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "0x1000",
    ),
    "FIXED up to the last page": (
        f"mmap(0x7fffffffe000, 1p, 0, {ANON}|MAP_FIXED, -1, 0)", "T+32767",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "results"), SCENES.values(), ids=SCENES.keys())
def test_placement(calls: str, results: str) -> None:
    assert ", ".join(Drawing(".").do(calls)) == results


def test_where_everything_below_the_top_is_taken_the_search_goes_up_from_a_third() -> None:
    low, high = 1 << 16, ENVIRONMENT.geometry.top
    roomy = replace(ENVIRONMENT, rlimit_as=1 << 48, initial=())
    drawing = Drawing(".", replace(roomy, total_pages=0))
    fill = f"mmap({low:#x}, {high - low:#x}, 0, {ANON}|MAP_FIXED, -1, 0)"
    results = drawing.do(f"{fill}; mmap(NULL, 1p, 0, {ANON}, -1, 0)")
    assert results[1] == "T+0"


def test_where_nothing_at_all_is_free_there_is_no_memory() -> None:
    low, high = 1 << 16, ENVIRONMENT.task_size
    roomy = replace(ENVIRONMENT, rlimit_as=1 << 48, initial=(), total_pages=0)
    drawing = Drawing(".", roomy)
    fill = f"mmap({low:#x}, {high - low:#x}, 0, {ANON}|MAP_FIXED, -1, 0)"
    calls = f"{fill}; mmap(NULL, 1p, 0, {ANON}, -1, 0); mmap(NULL, 512p, 0, {ANON}, -1, 0)"
    assert drawing.do(calls)[1:] == ["ENOMEM", "ENOMEM"]


def test_above4g_keeps_the_search_above_4_gib() -> None:
    low, high = 1 << 32, ENVIRONMENT.task_size
    roomy = replace(ENVIRONMENT, rlimit_as=1 << 48, initial=(), total_pages=0)
    drawing = Drawing(".", roomy)
    drawing.do(f"mmap({low:#x}, {high - low:#x}, 0, {ANON}|MAP_FIXED, -1, 0)")
    assert drawing.do(f"mmap(NULL, 1p, 0, {ANON}|MAP_ABOVE4G, -1, 0)") == ["ENOMEM"]
    assert drawing.do(f"mmap(NULL, 1p, 1, {ANON}, -1, 0)") == [hex(low - PAGE)]


def test_with_five_levels_of_page_tables_a_high_hint_opens_the_high_half() -> None:
    high = 1 << 50
    large = replace(ENVIRONMENT, task_size=(1 << 56) - PAGE)
    taken = f"mmap({high:#x}, 1p, 0, {ANON}, -1, 0); mmap({high:#x}, 1p, 1, {ANON}, -1, 0)"
    results = Drawing(".", large).do(taken)
    assert results[0] == hex(high)
    assert int(results[1], 16) > 1 << 55
    straddles = f"mmap({(1 << 47) - 2 * PAGE:#x}, 3p, 0, {ANON}, -1, 0)"
    assert Drawing(".", large).do(straddles) == ["T-3"]


def test_the_capability_for_raw_io_lifts_the_minimum_address() -> None:
    able = replace(ENVIRONMENT, capabilities=frozenset(("SYS_RAWIO",)))
    drawing = Drawing(".", able)
    assert drawing.do(f"mmap(NULL, 1p, 0, {ANON}|MAP_FIXED, -1, 0)") == ["0"]


def test_a_hint_into_a_hole_of_the_window_fits_exactly_or_not() -> None:
    play("ww..ww", f"mmap(W+2, 2p, 1, {ANON}, -1, 0)", "W+2", "wwrrww")
    play("ww..ww", f"mmap(W+2, 3p, 1, {ANON}, -1, 0)", "T-3", "ww..ww")


HUGE = {
    "2 MiB of a memfd is aligned": ("mmap(NULL, 512p, 0, MAP_SHARED, memfd, 0)", "T-1023"),
    "so is shared anonymous memory": (
        "mmap(NULL, 512p, 0, MAP_SHARED|MAP_ANONYMOUS, -1, 0)", "T-1023",
    ),
    "and shared /dev/zero": ("mmap(NULL, 512p, 0, MAP_SHARED, devzero, 0)", "T-1023"),
    "a page less is not": ("mmap(NULL, 511p, 0, MAP_SHARED, memfd, 0)", "T-511"),
    "an offset within a huge page needs room for a whole one": (
        "mmap(NULL, 1018p, 0, MAP_SHARED, memfd, 5p); mmap(NULL, 1019p, 1, MAP_SHARED, memfd, 5p)",
        "T-1018, T-2042",
    ),
    "a hint that is free is taken": ("mmap(W+1, 512p, 0, MAP_SHARED, memfd, 0)", "W+1"),
    "what is aligned already stays": (
        f"mmap(NULL, 511p, 0, {ANON}, -1, 0); mmap(NULL, 512p, 0, MAP_SHARED, memfd, 0)",
        "T-511, T-1023",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "results"), HUGE.values(), ids=HUGE.keys())
def test_where_shared_memory_may_have_huge_pages(calls: str, results: str) -> None:
    huge = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"SHMEM_HUGE"})
    assert ", ".join(Drawing(".", huge).do(calls)) == results


def test_without_room_to_align_shared_memory_is_not() -> None:
    huge = replace(ENVIRONMENT, config=frozenset(("SHMEM_HUGE",)), rlimit_as=1 << 48)
    drawing = Drawing(".", replace(huge, initial=(), total_pages=0))
    low, top = 1 << 16, ENVIRONMENT.geometry.top
    room = top - 600 * PAGE
    drawing.do(f"mmap({low:#x}, {room - low:#x}, 0, {ANON}|MAP_FIXED, -1, 0)")
    drawing.do(f"mmap({top:#x}, {ENVIRONMENT.task_size - top:#x}, 0, {ANON}|MAP_FIXED, -1, 0)")
    assert drawing.do("mmap(NULL, 512p, 0, MAP_SHARED, memfd, 0)") == ["T-512"]


def test_room_to_align_may_be_more_than_there_can_be() -> None:
    huge = replace(ENVIRONMENT, config=frozenset(("SHMEM_HUGE",)), rlimit_as=1 << 48)
    whole = replace(huge, initial=(), total_pages=0, geometry=Geometry(top=huge.task_size))
    length = huge.task_size - (1 << 20)
    call = f"mmap(NULL, {length:#x}, 0, MAP_SHARED|MAP_ANONYMOUS, -1, 0)"
    assert Drawing(".", whole).do(call) == ["0x100000"]


#: Laid out as User-Mode-Linux does: from 1 GiB upwards, the window above.
UPWARDS = replace(
    ENVIRONMENT,
    geometry=replace(ENVIRONMENT.geometry, top=0x4000_0000),
    task_size=0x7F_C000_0000,
    config=frozenset(("BOTTOM_UP",)),
)
BOTTOM_UP = {
    "no hint: at the bottom": (f"mmap(NULL, 1p, 0, {ANON}, -1, 0)", "T+0"),
    "the next goes above the last": (
        f"mmap(NULL, 1p, 0, {ANON}, -1, 0); mmap(NULL, 3p, 1, {ANON}, -1, 0)", "T+0, T+1",
    ),
    "the lowest gap that is large enough": (
        f"mmap(T+2, 1p, 0, {ANON}, -1, 0); mmap(NULL, 3p, 1, {ANON}, -1, 0);"
        f" mmap(NULL, 2p, 1, {ANON}, -1, 0)", "T+2, T+3, T+0",
    ),
    "a hint that is free, be it below the bottom": (f"mmap(T-3, 1p, 0, {ANON}, -1, 0)", "T-3"),
    "a hint that is taken is ignored": (
        f"mmap(W+0, 2p, 0, {ANON}, -1, 0); mmap(W+1, 2p, 1, {ANON}, -1, 0)", "W+0, T+0",
    ),
    "a hint so high that the end is beyond TASK_SIZE is ignored": (
        f"mmap(0x7fbffff000, 2p, 0, {ANON}, -1, 0)", "T+0",
    ),
    "a stack above wants its guard gap": (
        f"mmap(T+256, 1p, 3, {ANON}|MAP_GROWSDOWN, -1, 0); mmap(NULL, 1p, 0, {ANON}, -1, 0)",
        "T+256, T+257",
    ),
    "MAP_32BIT changes nothing": (f"mmap(W+0, 1p, 0, {ANON}|MAP_32BIT, -1, 0)", "W+0"),
    "longer than the address space": (f"mmap(NULL, 0x7fbffff000, 0, {ANON}, -1, 0)", "ENOMEM"),
    "nothing is aligned for huge pages that are none": (
        f"mmap(NULL, 1p, 0, {ANON}, -1, 0); mmap(NULL, 512p, 0, {ANON}, -1, 0);"
        " mmap(NULL, 512p, 0, MAP_PRIVATE, ext4, 0)", "T+0, T+1, T+513",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "results"), BOTTOM_UP.values(), ids=BOTTOM_UP.keys())
def test_placement_from_the_bottom_up(calls: str, results: str) -> None:
    assert ", ".join(Drawing(".", UPWARDS).do(calls)) == results


def test_from_the_bottom_up_nothing_is_looked_for_below_the_bottom() -> None:
    roomy = replace(UPWARDS, rlimit_as=1 << 48, initial=(), total_pages=0)
    drawing = Drawing(".", roomy)
    top = roomy.geometry.top
    drawing.do(f"mmap({top:#x}, {roomy.task_size - top:#x}, 0, {ANON}|MAP_FIXED, -1, 0)")
    assert drawing.do(f"mmap(NULL, 1p, 1, {ANON}, -1, 0)") == ["ENOMEM"]
