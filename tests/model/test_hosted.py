"""User-Mode-Linux: what its programs can see that cannot be predicted, and what looks like it and can."""

from dataclasses import replace

import pytest

from model.errors import Unmodelled
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing

HOSTED = replace(
    ENVIRONMENT, task_size=0x7F_C000_0000, config=ENVIRONMENT.config | {"HOSTED", "STALE_TABLES"}
)
MAP = "mmap(W+{}, {}p, {}, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0); ".format
MOVE = "mremap(W+{}, {}p, {}p, MREMAP_MAYMOVE|MREMAP_FIXED, W+{})".format
#: A page at 512 that was written to, in a page table of its own.
LONE = MAP(512, 1, 3) + "touch(W+512, 1, write); "
LEAVES = {
    "a move to where the last page of a table was": (LONE + MAP(8, 1, 3), MOVE(8, 1, 1, 512)),
    "one of the pages is replaced, another is not": (
        MAP(512, 2, 3) + "touch(W+512, 2, write); ",
        "mmap(W+512, 3p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_POPULATE, memfd, 63p)",
    ),
    "populating makes a table even where no page comes": (
        MAP(512, 1, 3) + "touch(W+512, 1, write); ",
        "mmap(W+512, 1p, PROT_READ, MAP_SHARED|MAP_FIXED|MAP_POPULATE, memfd, 64p)",
    ),
    "so does remap_file_pages": (
        "mmap(W+512, 1p, 3, MAP_SHARED|MAP_FIXED, memfd, 0); touch(W+512, 1, write); ",
        "remap_file_pages(W+512, 1p, 0, 64, 0)",
    ),
    "which pages of a disk's file were there is not known": (
        "mmap(W+512, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, ext4, 0); touch(W+512, 1, read); "
        + MAP(8, 1, 3), MOVE(8, 1, 1, 512),
    ),
}  # fmt: skip
LEAVES_NOTHING = {
    "no page was there": (MAP(512, 1, 3) + MAP(8, 1, 3), MOVE(8, 1, 1, 512)),
    "the table serves another mapping": (LONE + MAP(600, 1, 1) + MAP(8, 1, 3), MOVE(8, 1, 1, 512)),
    "a page comes to the same place": (
        LONE + MAP(8, 1, 3) + "touch(W+8, 1, write); ", MOVE(8, 1, 1, 512),
    ),
    "no other table is made": (LONE, MAP(512, 1, 0)),
    "nothing is mapped there": (LONE, "munmap(W+512, 1p)"),
    "it was another call that freed the table": (
        LONE + MAP(8, 1, 3) + "munmap(W+512, 1p); ", MOVE(8, 1, 1, 512),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "call"), LEAVES.values(), ids=LEAVES.keys())
def test_pages_may_be_left_behind(before: str, call: str) -> None:
    drawing = Drawing(".", HOSTED)
    drawing.do(before)
    with pytest.raises(Unmodelled, match="leaves behind"):
        drawing.do(call)
    Drawing(".").do(before + call)


@pytest.mark.parametrize(("before", "call"), LEAVES_NOTHING.values(), ids=LEAVES_NOTHING.keys())
def test_no_page_is_left_behind(before: str, call: str) -> None:
    assert Drawing(".", HOSTED).do(before + call) == Drawing(".").do(before + call)


def test_beyond_its_address_space_is_that_of_the_host() -> None:
    with pytest.raises(Unmodelled):
        Drawing(".", HOSTED).do("touch(0x7fffffffe000, 1, read)")
    with pytest.raises(Unmodelled):
        Drawing(".", HOSTED).do("touch(0x7fc0000000, 1, write)")
    assert Drawing(".", HOSTED).do("touch(0x800000000000, 1, read)") == ["SEGV"]
    assert Drawing(".").do("touch(0x7fffffffe000, 1, read)") == ["SEGV"]
