"""mremap(2): the matrix at the top of model/mremap.py, row by row."""

from dataclasses import replace
from errno import EINVAL

import pytest

from abi.consts import PAGE
from abi.environment import Environment
from model.flags import VM_ACCOUNT, VM_DONTEXPAND, VM_SEALED
from model.profile import PROFILES
from tests.environments import ENVIRONMENT, IMAGE
from tests.pictures import PROFILE, Drawing, at, play, scenes

MOVE = "MREMAP_MAYMOVE|MREMAP_FIXED"
COPY = "MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP"
HINT = "MREMAP_MAYMOVE|MREMAP_DONTUNMAP"
RW = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0"

IN_PLACE = {
    "the same length does nothing": ("wwww", "mremap(W+1, 2p, 2p, 0, NULL)", "W+1", "wwww"),
    "the same length may end in a hole": ("ww", "mremap(W+0, 9p, 9p, 0, NULL)", "W+0", "ww"),
    "shrinking unmaps the tail": ("wwww", "mremap(W+0, 4p, 1p, 0, NULL)", "W+0", "w"),
    "shrinking unmaps whatever the tail covers": (
        "wwww.rrmm", "mremap(W+0, 8p, 2p, 0, NULL)", "W+0", "ww......m",
    ),
    "lengths are rounded up": ("wwww", "mremap(W+0, 0x3001, 0x1, 0, NULL)", "W+0", "w"),
    "growing fills the hole behind": ("ww..rr", "mremap(W+0, 2p, 4p, 0, NULL)", "W+0", "wwwwrr"),
    "growing into the next mapping merges with it": (
        "ww..ww", "mremap(W+0, 2p, 4p, 0, NULL)", "W+0", "wwwwww",
    ),
    "growing does not merge with what differs": (
        "WW..WW", "mremap(W+0, 2p, 4p, 0, NULL)", "W+0", "WWWW|WW",
    ),
    "growing a file merges where offsets continue": (
        "mm..mm", "mremap(W+0, 2p, 4p, 0, NULL)", "W+0", "mmmmmm",
    ),
    "growing needs the end of the VMA": ("wwww", "mremap(W+0, 2p, 5p, 0, NULL)", "ENOMEM", "wwww"),
    "growing needs room": ("ww.r", "mremap(W+0, 2p, 4p, 0, NULL)", "ENOMEM", "ww.r"),
    "growing part of a VMA up to its end": (
        "wwww", "mremap(W+2, 2p, 4p, 0, NULL)", "W+2", "wwwwww",
    ),
    "growing from beyond the VMA is EFAULT": (
        "ww.ww", "mremap(W+0, 3p, 4p, 0, NULL)", "EFAULT", "ww.ww",
    ),
    "locked memory that grows is populated": (
        "LL", "mremap(W+0, 2p, 3p, 0, NULL)", "W+0", "LLL",
    ),
    "a stack above needs no guard gap of what grows": (
        "ww....gg", "mremap(W+0, 2p, 6p, 0, NULL)", "W+0", "wwwwwwgg",
    ),
    "growing with MAYMOVE stays where there is room": (
        "ww..r", "mremap(W+0, 2p, 4p, MREMAP_MAYMOVE, NULL)", "W+0", "wwwwr",
    ),
    "growing with MAYMOVE moves where there is none": (
        "ww.r", "mremap(W+0, 2p, 4p, MREMAP_MAYMOVE, NULL)", "T-4", "...r",
    ),
    "growing part of a VMA moves the part": (
        "wwww", "mremap(W+1, 1p, 2p, MREMAP_MAYMOVE, NULL)", "T-2", "w.ww",
    ),
    "locked memory that moves to grow is populated": (
        "LLr", "mremap(W+0, 2p, 4p, MREMAP_MAYMOVE, NULL); mremap(T-4, 4p, 4p,"
        " MREMAP_MAYMOVE|MREMAP_FIXED, W+10)", "T-4, W+10", "..r.......LLLL",
    ),
    "an old length of 0 duplicates shared memory": (
        "ss", "mremap(W+0, 0, 2p, MREMAP_MAYMOVE, NULL)", "T-2", "ss",
    ),
    "an old length of 0 duplicates no private memory": (
        "ww", "mremap(W+0, 0, 2p, MREMAP_MAYMOVE, NULL)", "EINVAL", "ww",
    ),
    "an old length of 0 duplicates within the VMA too": (
        "ssss", "mremap(W+1, 0, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+9)", "W+9", "ssss.....ss",
    ),
    "an old length of 0 without MAYMOVE has no room": (
        "ss", "mremap(W+0, 0, 2p, 0, NULL)", "ENOMEM", "ss",
    ),
    "an old length of 0 of a shared read-only descriptor": (
        ".", "mmap(W+0, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd_ro, 0);"
        " mremap(W+0, 0, 1p, MREMAP_MAYMOVE, NULL)", "W+0, T-1", "?",
    ),
}  # fmt: skip

REFUSED = {
    "unknown flags come first": ("mremap(W+0+0x10, 0, 0, 8, NULL)", "EINVAL"),
    "an address inside a page": ("mremap(W+0+0x10, 1p, 1p, 0, NULL)", "EINVAL"),
    "a new length of 0": ("mremap(W+0, 1p, 0, 0, NULL)", "EINVAL"),
    "a new length that wraps to 0": ("mremap(W+0, 1p, 0xffffffffffffffff, 0, NULL)", "EINVAL"),
    "a new length beyond TASK_SIZE": (
        "mremap(W+0, 1p, 0x800000000000, MREMAP_MAYMOVE, NULL)", "EINVAL",
    ),
    "FIXED without MAYMOVE": ("mremap(W+0, 1p, 1p, MREMAP_FIXED, W+9)", "EINVAL"),
    "DONTUNMAP without MAYMOVE": ("mremap(W+0, 1p, 1p, MREMAP_DONTUNMAP, NULL)", "EINVAL"),
    "DONTUNMAP that grows": (f"mremap(W+0, 1p, 2p, {HINT}, NULL)", "EINVAL"),
    "DONTUNMAP that shrinks": (f"mremap(W+0, 2p, 1p, {HINT}, NULL)", "EINVAL"),
    "a target beyond TASK_SIZE": (f"mremap(W+0, 1p, 1p, {MOVE}, 0x7ffffffff000)", "EINVAL"),
    "a target inside a page": (f"mremap(W+0, 1p, 1p, {MOVE}, W+9+0x10)", "EINVAL"),
    "a target that overlaps from above": (f"mremap(W+0, 2p, 2p, {MOVE}, W+1)", "EINVAL"),
    "a target that overlaps from below": (f"mremap(W+1, 2p, 2p, {MOVE}, W+0)", "EINVAL"),
    "a target that is the source": (f"mremap(W+0, 2p, 2p, {MOVE}, W+0)", "EINVAL"),
    "a hint that overlaps": (f"mremap(W+0, 2p, 2p, {HINT}, W+1)", "EINVAL"),
    "a hint inside a page": (f"mremap(W+0, 2p, 2p, {HINT}, W+9+0x10)", "EINVAL"),
    "a hole": ("mremap(W+9, 1p, 1p, 0, NULL)", "EFAULT"),
    "a hole comes after bad parameters": (f"mremap(W+9, 1p, 1p, {MOVE}, W+9)", "EINVAL"),
    "a new address below the minimum": (f"mremap(W+0, 1p, 1p, {MOVE}, NULL)", "EPERM"),
    "an old range beyond the VMA": ("mremap(W+2, 4p, 5p, MREMAP_MAYMOVE, NULL)", "EFAULT"),
    "an old length that wraps to 0": (
        "mremap(W+0, 0xffffffffffffffff, 1p, MREMAP_MAYMOVE, NULL)", "EINVAL",
    ),
    "growing beyond the address space limit": (
        "mremap(W+0, 1p, 0x10000000, MREMAP_MAYMOVE, NULL)", "ENOMEM",
    ),
}  # fmt: skip

MOVED = {
    "a VMA moves": ("ww", f"mremap(W+0, 2p, 2p, {MOVE}, W+4)", "W+4", "....ww"),
    "part of a VMA moves": ("wwww", f"mremap(W+1, 2p, 2p, {MOVE}, W+6)", "W+6", "w..w..ww"),
    "it replaces what is at the target": (
        "ww..rrrr", f"mremap(W+0, 2p, 2p, {MOVE}, W+5)", "W+5", "....rwwr",
    ),
    "unfaulted memory merges at its new place": (
        "ww..ww", f"mremap(W+0, 2p, 2p, {MOVE}, W+6)", "W+6", "....wwww",
    ),
    "faulted memory keeps its page offsets and does not": (
        "WW..ww", f"mremap(W+0, 2p, 2p, {MOVE}, W+6)", "W+6", "....wwWW",
    ),
    "faulted memory that comes home merges": (
        "WWWW", f"mremap(W+2, 2p, 2p, {MOVE}, W+9); mremap(W+9, 2p, 2p, {MOVE}, W+2)",
        "W+9, W+2", "WWWW",
    ),
    "files merge where their offsets continue": (
        "mm......mm", f"mremap(W+8, 2p, 2p, {MOVE}, W+2); mremap(W+2, 2p, 2p, {MOVE}, W+8)",
        "W+2, W+8", "mm......mm",
    ),
    "moving next to its own rest": (
        "wwww", f"mremap(W+0, 2p, 2p, {MOVE}, W+4)", "W+4", "..wwww",
    ),
    "shrinking moves what is left and unmaps the rest": (
        "wwww", f"mremap(W+0, 4p, 2p, {MOVE}, W+6)", "W+6", "......ww",
    ),
    "shrinking unmaps beyond the VMA too": (
        "ww.rr", f"mremap(W+0, 4p, 1p, {MOVE}, W+8)", "W+8", "....r...w",
    ),
    "growing moves and extends": (
        "ww.rr", f"mremap(W+0, 2p, 4p, {MOVE}, W+8)", "W+8", "...rr...wwww",
    ),
    "growing part of a VMA takes no more of it": (
        "wwww", f"mremap(W+0, 1p, 2p, {MOVE}, W+8)", "W+8", ".www....ww",
    ),
    "growing may not begin beyond the VMA, and is refused before the target goes": (
        "ww.rr", f"mremap(W+0, 3p, 4p, {MOVE}, W+3)", "EFAULT", "ww.rr",
    ),
    "the target of a shrinking move may end at the source": (
        "..rrwwww", f"mremap(W+4, 4p, 2p, {MOVE}, W+2)", "W+2", "..ww",
    ),
    "where old and new overlap after shrinking it is still refused": (
        "wwww", f"mremap(W+0, 4p, 1p, {MOVE}, W+3)", "EINVAL", "wwww",
    ),
    "pages travel": (
        "WW", f"mremap(W+0, 2p, 2p, {MOVE}, W+4); mprotect(W+4, 2p, PROT_READ);"
        " mprotect(W+4, 2p, PROT_READ|PROT_WRITE)", "W+4, 0, 0", "....WW",
    ),
    "locked memory stays locked": ("LL", f"mremap(W+0, 2p, 2p, {MOVE}, W+4)", "W+4", "....LL"),
    "what is registered loses its registration": (
        "uu", f"mremap(W+0, 2p, 2p, {MOVE}, W+4)", "W+4", "....ww",
    ),
}  # fmt: skip

RANGES = {
    "several VMAs move": ("wwrr", f"mremap(W+0, 4p, 4p, {MOVE}, W+6)", "W+6", "......wwrr"),
    "gaps between them travel": (
        "w.r..x", f"mremap(W+0, 6p, 6p, {MOVE}, W+8)", "W+8", "........w.r..x",
    ),
    "a gap at the end moves nothing": (
        "ww..", f"mremap(W+0, 4p, 4p, {MOVE}, W+6)", "W+6", "......ww",
    ),
    "a gap at the beginning is EFAULT": (
        "..ww", f"mremap(W+0, 4p, 4p, {MOVE}, W+6)", "EFAULT", "..ww",
    ),
    "a gap all over is EFAULT": ("ww", f"mremap(W+4, 2p, 2p, {MOVE}, W+8)", "EFAULT", "ww"),
    "the first and the last are cut": (
        "wwwrrr", f"mremap(W+1, 4p, 4p, {MOVE}, W+8)", "W+8", "w....r..wwrr",
    ),
    "what lies in the target's gaps survives": (
        "w..r..xxxxxx", f"mremap(W+0, 4p, 4p, {MOVE}, W+7)", "W+7", "......xwxxrx",
    ),
    "what is moved there merges": (
        "wwrr..ww", f"mremap(W+0, 4p, 4p, {MOVE}, W+8)", "W+8", "......wwwwrr",
    ),
    "files and shared memory go along": (
        "wwmmss", f"mremap(W+0, 6p, 6p, {MOVE}, W+8)", "W+8", "........wwmmss",
    ),
    "a file placed for huge pages goes along": (
        "ffww", f"mremap(W+0, 4p, 4p, {MOVE}, W+8)", "W+8", "........ffww",
    ),
    "private /dev/zero first: nothing moves": (
        "zzww", f"mremap(W+0, 4p, 4p, {MOVE}, W+8)", "EFAULT", "zzww",
    ),
    "private /dev/zero alone moves": (
        "zzww", f"mremap(W+0, 2p, 2p, {MOVE}, W+8)", "W+8", "..ww....zz",
    ),
    "private /dev/zero later: those before it have moved": (
        "wwzz", f"mremap(W+0, 4p, 4p, {MOVE}, W+8)", "EFAULT", "..zz....ww",
    ),
    "registered first: nothing moves": (
        "uuww", f"mremap(W+0, 4p, 4p, {MOVE}, W+8)", "EFAULT", "uuww",
    ),
    "registered later: those before it have moved": (
        "wwuu", f"mremap(W+0, 4p, 4p, {MOVE}, W+8)", "EFAULT", "..uu....ww",
    ),
    "the new length decides too: a range that resizes is one VMA's": (
        "wwrr", f"mremap(W+0, 4p, 5p, {MOVE}, W+8)", "EFAULT", "wwrr",
    ),
}  # fmt: skip

COPIED = {
    "the source of DONTUNMAP stays": ("ww", f"mremap(W+0, 2p, 2p, {COPY}, W+4)", "W+4", "ww..ww"),
    "the source is unfaulted afterwards": (
        "WW", f"mremap(W+0, 2p, 2p, {COPY}, W+4)", "W+4", "ww..WW",
    ),
    "part of a VMA stays faulted": (
        "WWWW", f"mremap(W+1, 2p, 2p, {COPY}, W+6)", "W+6", "WWWW..WW",
    ),
    "the source is unlocked": ("LL", f"mremap(W+0, 2p, 2p, {COPY}, W+4)", "W+4", "ww..LL"),
    "a hint that is free": ("ww", f"mremap(W+0, 2p, 2p, {HINT}, W+4)", "W+4", "ww..ww"),
    "a hint that is taken": ("ww..r", f"mremap(W+0, 2p, 2p, {HINT}, W+3)", "T-2", "ww..r"),
    "no hint": ("ww", f"mremap(W+0, 2p, 2p, {HINT}, NULL)", "T-2", "ww"),
    "a range of VMAs is copied": (
        "w.r", f"mremap(W+0, 3p, 3p, {COPY}, W+4)", "W+4", "w.r.w.r",
    ),
    "a hint copies one VMA only": (
        "wwrr", f"mremap(W+0, 4p, 4p, {HINT}, W+8)", "EFAULT", "wwrr",
    ),
    "shared memory": ("ss", f"mremap(W+0, 2p, 2p, {COPY}, W+4)", "W+4", "ss..ss"),
    "what is unfaulted merges with its own source": (
        "ww", f"mremap(W+0, 2p, 2p, {COPY}, W+2)", "W+2", "wwww",
    ),
    "the source's registration stays": (
        "uu", f"mremap(W+0, 2p, 2p, {COPY}, W+4)", "W+4", "uu..ww",
    ),
    "the source can be touched again": (
        "WW", f"mremap(W+0, 2p, 2p, {COPY}, W+4); touch(W+0, 2, write)", "W+4, ok ok", "WW..WW",
    ),
}  # fmt: skip


@scenes(IN_PLACE)
def test_mremap_in_place(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@scenes(MOVED)
def test_mremap_moves(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@scenes(RANGES)
def test_mremap_moves_ranges(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@scenes(COPIED)
def test_mremap_dontunmap(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(("call", "errno"), REFUSED.values(), ids=REFUSED.keys())
def test_mremap_is_refused(call: str, errno: str) -> None:
    play("wwwr", call, errno, "wwwr")


@pytest.mark.parametrize("flags", ["0", "MREMAP_MAYMOVE", MOVE, COPY, HINT])
def test_a_sealed_vma_is_not_remapped(flags: str) -> None:
    drawing = Drawing(".")
    assert drawing.do(f"mremap({IMAGE.start}, 1p, 1p, {flags}, W+9)") == ["EPERM"]


def test_vmas_before_a_sealed_one_have_moved() -> None:
    drawing = Drawing("wwrr")
    drawing.vma(2).flags |= VM_SEALED
    assert drawing.do(f"mremap(W+0, 4p, 4p, {MOVE}, W+8)") == ["EPERM"]
    assert drawing.picture == "..rr....ww"


def test_a_sealed_target_is_not_replaced() -> None:
    play("ww", f"mremap(W+0, 1p, 1p, {MOVE}, {IMAGE.start})", "EPERM", "ww")


def test_a_sealed_tail_is_not_cut_off() -> None:
    drawing = Drawing("wwrr")
    drawing.vma(2).flags |= VM_SEALED
    assert drawing.do("mremap(W+0, 4p, 1p, 0, NULL)") == ["EPERM"]


def test_near_the_mapping_limit_no_move_begins() -> None:
    call = f"mremap(W+1, 2p, 2p, {MOVE}, W+9)"
    play("wwww", call, "W+9", "w..w.....ww", replace(ENVIRONMENT, max_map_count=9))
    play("wwww", call, "ENOMEM", "wwww", replace(ENVIRONMENT, max_map_count=8))


def test_near_the_mapping_limit_growth_that_moves_has_a_limit_of_its_own() -> None:
    call = "mremap(W+1, 1p, 2p, MREMAP_MAYMOVE, NULL)"
    play("www", call, "T-2", "w.w", replace(ENVIRONMENT, max_map_count=7))
    play("www", call, "ENOMEM", "www", replace(ENVIRONMENT, max_map_count=6))


def test_near_the_mapping_limit_a_range_stops_where_it_is_reached() -> None:
    limited = replace(ENVIRONMENT, max_map_count=11)
    call = f"mremap(W+1, 5p, 5p, {MOVE}, W+19)"
    play("wwwnrrr", call, "W+19", "w.....r............wwnrr", limited)


@pytest.mark.parametrize("flags", [HINT, "MREMAP_MAYMOVE"])
def test_special_memory_is_neither_copied_nor_grown(flags: str) -> None:
    drawing = Drawing("ww")
    drawing.vma(0).flags |= VM_DONTEXPAND
    new_len = 2 if flags == HINT else 3
    expected = ["EINVAL"] if flags == HINT else ["EFAULT"]
    assert drawing.do(f"mremap(W+0, 2p, {new_len}p, {flags}, NULL)") == expected


def test_a_page_offset_that_would_wrap_does_not_grow() -> None:
    drawing = Drawing("mm")
    drawing.vma(0).pgoff = (1 << 64) - 2
    drawing.vma(0).record = None
    call = "mremap(W+0, 2p, 3p, 0, NULL)"
    assert drawing.run.step(*drawing.program(call)) == -EINVAL


@pytest.mark.parametrize(
    ("environment", "errno"),
    [
        (replace(ENVIRONMENT, rlimit_memlock=(ENVIRONMENT.locked_pages + 2) * PAGE), "EAGAIN"),
        (replace(ENVIRONMENT, rlimit_as=(ENVIRONMENT.total_pages + 2) * PAGE), "ENOMEM"),
        (replace(ENVIRONMENT, rlimit_data=2 * PAGE), "ENOMEM"),
    ],
    ids=["RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_DATA"],
)
def test_growth_obeys_limits(environment: Environment, errno: str) -> None:
    play("LL", "mremap(W+0, 2p, 3p, 0, NULL)", errno, "LL", environment)


def test_a_copy_beyond_the_address_space_limit_fails_when_the_target_is_gone() -> None:
    little = replace(ENVIRONMENT, rlimit_as=(ENVIRONMENT.total_pages + 5) * PAGE)
    play("wwww.r", f"mremap(W+0, 4p, 4p, {COPY}, W+5)", "ENOMEM", "wwww", little)


def test_growing_in_place_stops_at_task_size() -> None:
    drawing = Drawing(".")
    last = ENVIRONMENT.task_size - PAGE
    drawing.do(f"mmap({last}, 1p, {RW})")
    assert drawing.do(f"mremap({last}, 1p, 2p, 0, NULL)") == ["ENOMEM"]
    assert drawing.do(f"mremap({last}, 1p, 2p, MREMAP_MAYMOVE, NULL)") == ["T-2"]


def test_growing_in_place_by_almost_everything_is_refused_without_wrapping() -> None:
    endless = replace(ENVIRONMENT, rlimit_as=(1 << 64) - 1)
    call = "mremap(W+0, 1p, {}, 0, NULL)".format
    play("w", call("0x7ffffffff000"), "ENOMEM", "w", endless)
    older = PROFILES["6.16"]
    play("w", call("0xfffffffffffff000"), "ENOMEM", "w", endless, older)


def test_an_old_length_that_wraps_hides_that_the_target_is_the_source() -> None:
    play("ww", f"mremap(W+0, {(1 << 64) - PAGE:#x}, 1p, {MOVE}, W+0)", "EFAULT", ".w")


def test_special_memory_that_grows_does_not_merge() -> None:
    drawing = Drawing("ww")
    drawing.vma(0).flags |= 0x10000000  # VM_MIXEDMAP
    assert drawing.do("mremap(W+0, 2p, 3p, 0, NULL)") == ["ENOMEM"]


def test_duplicating_accounts_for_what_is_new() -> None:
    drawing = Drawing("ss")
    drawing.do(f"mremap(W+0, 0, 4p, {MOVE}, W+8)")
    assert drawing.space.total_vm == ENVIRONMENT.total_pages + 6
    assert drawing.vma(8).page_offset(at(8)) == 0


def test_the_emptied_source_is_accounted_as_before() -> None:
    drawing = Drawing("WW", profile=PROFILE)
    drawing.do(f"mremap(W+0, 2p, 2p, {COPY}, W+4)")
    assert drawing.vma(0).flags & VM_ACCOUNT


def test_older_kernels_look_at_the_source_first() -> None:
    older = PROFILES["6.12"]
    play("ww", f"mremap(W+9, 1p, 1p, {MOVE}, W+9)", "EFAULT", "ww", profile=older)
    play("ww", f"mremap(W+0, 1p, 1p, {MOVE}, W+0)", "EINVAL", "ww", profile=older)
    play("ww.rr", f"mremap(W+0, 3p, 4p, {MOVE}, W+4)", "EFAULT", "ww.r", profile=older)


def test_copies_of_locked_memory_cut_it_or_not() -> None:
    call = f"mremap(W+1, 2p, 2p, {COPY}, W+6)"
    play("LLLL", call, "W+6", "WWWW..LL")
    play("LLLL", call, "W+6", "LwwL..LL", profile=PROFILES["7.3"])
    end = f"mremap(W+2, 2p, 2p, {COPY}, W+6)"
    play("LLLL", end, "W+6", "LLww..LL", profile=PROFILES["7.3"])
    start = f"mremap(W+0, 2p, 2p, {COPY}, W+6)"
    play("LLLL", start, "W+6", "wwLL..LL", profile=PROFILES["7.3"])


def test_an_old_length_that_wraps_lets_the_target_take_the_source() -> None:
    call = f"mremap(W+0, 0xfffffffffffff000, 1p, {MOVE}, W+0)"
    play("w", call, "EFAULT", ".")
    play("w", call, "EINVAL", ".", profile=PROFILES["6.12"])
