"""fill: all mappings but a few, and what calls do when few are left."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from abi.trace import NAME_FILLER, unpack_layout
from model.errors import Unmodelled
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing

FAR = 0x3000_0000_0000
MACHINE = replace(ENVIRONMENT, rlimit_as_max=512 << 20)
LIMIT = MACHINE.max_map_count
RW = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0"


def filled(picture: str, spare: int) -> Drawing:
    drawing = Drawing(picture, MACHINE)
    assert drawing.do(f"fill({FAR}, {spare})") == ["0"]
    return drawing


def test_a_few_mappings_are_left() -> None:
    drawing = filled("ww", 3)
    assert drawing.space.map_count() == LIMIT - 3
    record = unpack_layout(drawing.space.layout())[-1]
    pages = LIMIT - 3 - 3
    assert (record.start, record.end, record.name) == (FAR, FAR + pages * PAGE, NAME_FILLER)


def test_the_address_space_may_be_larger_by_as_much() -> None:
    drawing = filled(".", 0)
    calls = f"mmap(0, {(200 << 20) // PAGE}p, 0, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"
    assert drawing.do(calls)[0].startswith("T-")


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (f"fill({FAR + 1}, 0)", "EINVAL"),
        (f"fill({FAR}, {LIMIT})", "EINVAL"),
        (f"fill({FAR}, {LIMIT - 4})", "EINVAL"),
        (f"fill({FAR}, {LIMIT - 5})", "0"),
        (f"fill({FAR}, {1 << 63})", "EINVAL"),
        (f"fill({MACHINE.task_size - PAGE}, 0)", "EINVAL"),
        ("fill(W+2, 0)", "EEXIST"),
        ("fill(W+1, 0)", "EEXIST"),
        ("fill(W+3, 0)", "0"),
        (f"fill({FAR}, 0); fill({FAR + (1 << 40)}, 0)", "EEXIST"),
        (f"fill({FAR}, 0); munmap({FAR}, 0x10000000); fill({FAR}, 0)", "EEXIST"),
    ],
)
def test_what_is_refused(call: str, result: str) -> None:
    assert Drawing("ww", MACHINE).do(call)[-1] == result


def test_where_the_hard_limit_is_too_low_nothing_is_filled() -> None:
    drawing = Drawing("ww", replace(MACHINE, rlimit_as_max=MACHINE.rlimit_as))
    before = drawing.space.limits
    assert drawing.do(f"fill({FAR}, 0)") == ["ENOMEM"]
    assert (drawing.space.limits, drawing.space.map_count()) == (before, 3)


@pytest.mark.parametrize(
    ("spare", "call", "result"),
    [
        (0, f"mmap(W+20, 1p, {RW})", "W+20"),
        (0, f"mmap(W+20, 1p, {RW}); mmap(W+30, 1p, {RW})", "ENOMEM"),
        (0, "munmap(W+1, 1p)", "ENOMEM"),
        (1, "munmap(W+1, 1p)", "0"),
        (0, "munmap(W+0, 1p)", "0"),
        (1, "mprotect(W+1, 1p, PROT_READ)", "ENOMEM"),
        (2, "mprotect(W+1, 1p, PROT_READ)", "0"),
        (0, "mprotect(W+0, 1p, PROT_READ)", "ENOMEM"),
        (0, "madvise(W+0, 1p, MADV_RANDOM)", "EAGAIN"),
        (0, "mlock(W+0, 1p)", "ENOMEM"),
        (0, "mseal(W+0, 1p, 0)", "ENOMEM"),
        (6, "mremap(W+0, 1p, 1p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)", "W+20"),
        (5, "mremap(W+0, 1p, 1p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)", "ENOMEM"),
    ],
)
def test_calls_that_need_mappings(spare: int, call: str, result: str) -> None:
    assert filled("www", spare).do(call)[-1] == result


def test_a_move_of_several_stops_where_mappings_run_out() -> None:
    drawing = filled("ww.rr.ww.rr..............xxxxxxxxxxxxxxxx", 6)
    assert drawing.do("mremap(W+1, 10p, 10p, MREMAP_MAYMOVE|MREMAP_FIXED, W+28)") == ["ENOMEM"]
    assert drawing.picture == "w..rr.ww.rr..............xxxwx..xxxxxxxxx"


def test_what_would_change_the_filler_is_unmodelled() -> None:
    for call in (f"munmap({FAR}, 1p)", f"mprotect({FAR}, 1p, PROT_READ)", f"madvise({FAR}, 1p, MADV_RANDOM)",
                 f"mremap({FAR}, 1p, 1p, MREMAP_MAYMOVE|MREMAP_FIXED, W+0)"):  # fmt: skip
        with pytest.raises(Unmodelled):
            filled("ww", 9).do(call)


def test_at_the_limit_as_well() -> None:
    with pytest.raises(Unmodelled):
        filled("ww", 0).do(f"munmap({FAR + 0x2000}, 8p)")


def test_all_of_it_may_be_unmapped() -> None:
    drawing = filled("ww", 3)
    assert drawing.do(f"munmap({FAR}, 0x10000000)") == ["0"]
    assert drawing.space.map_count() == 3
