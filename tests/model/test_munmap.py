"""munmap(2): what goes, what is cut, what is refused."""

from dataclasses import replace

from abi.consts import PAGE
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, at, play, scenes

SCENES = {
    "the middle of a VMA leaves two": ("wwwwww", "munmap(W+2, 2p)", "0", "ww..ww"),
    "the beginning of a VMA leaves the rest": ("wwww", "munmap(W+0, 1p)", "0", ".www"),
    "the end of a VMA leaves the rest": ("wwww", "munmap(W+3, 1p)", "0", "www"),
    "a whole VMA goes": ("ww.rr", "munmap(W+0, 2p)", "0", "...rr"),
    "several VMAs and the holes between them go": (
        "ww.rr..mm", "munmap(W+1, 7p)", "0", "w.......m",
    ),
    "a hole is no error": ("ww..ww", "munmap(W+2, 2p)", "0", "ww..ww"),
    "the range may reach below and above what is mapped": (
        "..ww", "munmap(W+0, 9p)", "0", ".",
    ),
    "a length that is no multiple of a page is rounded up": (
        "wwww", "munmap(W+1, 0x1001)", "0", "w..w",
    ),
    "an address inside a page is EINVAL": ("ww", "munmap(W+0+0x10, 1p)", "EINVAL", "ww"),
    "length 0 is EINVAL": ("ww", "munmap(W+0, 0)", "EINVAL", "ww"),
    "a length that wraps to 0 is EINVAL": (
        "ww", "munmap(W+0, 0xffffffffffffffff)", "EINVAL", "ww",
    ),
    "an end beyond TASK_SIZE is EINVAL": ("ww", "munmap(W+0, 0x7fffffffffff)", "EINVAL", "ww"),
    "an address beyond TASK_SIZE is EINVAL": (
        "ww", "munmap(0x7ffffffff001000, 1p)", "EINVAL", "ww",
    ),
    "parts of a cut VMA merge again when the hole is filled": (
        "wwww", "munmap(W+1, 2p); mmap(W+1, 2p, PROT_READ|PROT_WRITE,"
        " MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)", "0, W+1", "wwww",
    ),
    "both parts of a cut faulted VMA share its anon_vma and merge again": (
        "WWWW", "munmap(W+1, 2p); mmap(W+1, 2p, PROT_READ|PROT_WRITE,"
        " MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)", "0, W+1", "WWWW",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_munmap(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_a_sealed_first_vma_is_refused_uncut() -> None:
    drawing = Drawing("ww")
    shared = ENVIRONMENT.initial[1].start
    assert drawing.do(f"munmap({shared + PAGE}, 1p)") == ["EPERM"]
    assert len(drawing.space.vmas) == 3


def test_before_a_sealed_vma_the_first_stays_cut() -> None:
    drawing = Drawing(".")
    image = ENVIRONMENT.initial[0].start
    drawing.do(f"mmap({image - 4 * PAGE}, 4p, 0, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)")
    assert drawing.do(f"munmap({image - 2 * PAGE}, 3p)") == ["EPERM"]
    sizes = [vma.end - vma.start for vma in drawing.space.vmas[:3]]
    assert sizes == [2 * PAGE, 2 * PAGE, 8 * PAGE]


def test_at_the_mapping_limit_a_hole_in_a_vma_is_refused_and_its_end_is_not() -> None:
    full = replace(ENVIRONMENT, max_map_count=3)
    play("wwww", "munmap(W+1, 1p); munmap(W+3, 1p)", "ENOMEM, 0", "www", full)


def test_pages_and_counts_go_with_the_vma() -> None:
    drawing = Drawing("LL")
    assert (drawing.space.locked_vm, len(drawing.space.ptes)) == (ENVIRONMENT.locked_pages + 2, 2)
    drawing.do("munmap(W+0, 1p)")
    assert (drawing.space.locked_vm, len(drawing.space.ptes)) == (ENVIRONMENT.locked_pages + 1, 1)
    assert drawing.space.total_vm == ENVIRONMENT.total_pages + 1
    assert at(1) >> 12 in drawing.space.ptes
