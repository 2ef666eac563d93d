"""remap_file_pages(2): a part of a shared mapping shows other pages of its file."""

from model.flags import VM_LOCKED, VM_RAND_READ
from tests.pictures import Drawing, play, scenes

SCENES = {
    "a part becomes a mapping of its own": ("mmmm", "remap_file_pages(W+1, 2p, 0, 9, 0)", "0", "m|mm|m"),
    "pages that continue the neighbours merge": (
        "mmmm", "remap_file_pages(W+1, 2p, 0, 9, 0); remap_file_pages(W+1, 2p, 0, 1, 0)",
        "0, 0", "mmmm",
    ),
    "several mappings alike are remapped at once": (
        "mm", "remap_file_pages(W+1, 1p, 0, 9, 0); remap_file_pages(W+0, 2p, 0, 4, 0)",
        "0, 0", "mm",
    ),
    "mappings that differ are not": ("mmii", "remap_file_pages(W+0, 4p, 0, 4, 0)", "EINVAL", "mmii"),
    "nor those of several files": ("mmff", "remap_file_pages(W+0, 4p, 0, 4, 0)", "EINVAL", "mmff"),
    "nor does a range reach into a hole": ("mm", "remap_file_pages(W+0, 3p, 0, 4, 0)", "EINVAL", "mm"),
    "what is private": ("pp", "remap_file_pages(W+0, 1p, 0, 0, 0)", "EINVAL", "pp"),
    "nothing": (".mm", "remap_file_pages(W+0, 2p, 0, 0, 0)", "EINVAL", ".mm"),
    "a protection": ("mm", "remap_file_pages(W+0, 1p, 1, 0, 0)", "EINVAL", "mm"),
    "addresses and lengths are rounded down": (
        "mmm", "remap_file_pages(W+1+0x7ff, 1p+0x7ff, 0, 9, 0)", "0", "m|m|m",
    ),
    "a length that rounds to nothing": ("mm", "remap_file_pages(W+0, 0xfff, 0, 0, 0)", "EINVAL", "mm"),
    "a range that wraps": ("mm", "remap_file_pages(W+0, 0xfffffffffffff000, 0, 0, 0)", "EINVAL", "mm"),
    "a page offset that wraps": ("mm", "remap_file_pages(W+0, 1p, 0, -1, 0)", "EINVAL", "mm"),
    "a page offset that no file has": ("mm", "remap_file_pages(W+0, 1p, 0, 0x10000000000000, 0)", "EOVERFLOW", "mm"),
    "shared memory without a descriptor": ("ssss", "remap_file_pages(W+1, 1p, 0, 0, 0)", "0", "s|s|ss"),
}  # fmt: skip


@scenes(SCENES)
def test_remap_file_pages(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_the_lock_stays_and_the_advice_goes() -> None:
    drawing = Drawing("mmm")
    drawing.do("mlock(W+0, 3p); madvise(W+0, 3p, MADV_RANDOM); remap_file_pages(W+1, 1p, 0, 9, 0)")
    flags = [drawing.vma(page).flags & (VM_LOCKED | VM_RAND_READ) for page in range(3)]
    assert flags == [VM_LOCKED | VM_RAND_READ, VM_LOCKED, VM_LOCKED | VM_RAND_READ]
    assert drawing.space.locked_vm == drawing.environment.locked_pages + 3


def test_what_is_shown_is_populated_unless_nonblock() -> None:
    drawing = Drawing("mmmm")
    drawing.do("remap_file_pages(W+0, 1p, 0, 9, 0); remap_file_pages(W+2, 1p, 0, 12, MAP_NONBLOCK)")
    first = drawing.vma(0).start >> 12
    assert sorted(page - first for page in drawing.space.ptes) == [0]
