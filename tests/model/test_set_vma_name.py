"""PR_SET_VMA_ANON_NAME, on a kernel that has it."""

from dataclasses import replace

import pytest

from abi.trace import NAME_ANON, NAME_FILE, unpack_layout
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, play, scenes

NAMELESS = replace(ENVIRONMENT, config=ENVIRONMENT.config - {"ANON_VMA_NAME"})

SCENES = {
    "a name cuts its range out": ("wwww", "set_vma_name(W+1, 2p, a)", "0", "w|ww|w"),
    "no name takes it away": (
        "wwww", "set_vma_name(W+1, 2p, a); set_vma_name(W+1, 2p, NULL)", "0, 0", "wwww",
    ),
    "neighbours of one name are one": (
        "wwww", "set_vma_name(W+0, 2p, a); set_vma_name(W+2, 2p, b); set_vma_name(W+2, 2p, a)",
        "0, 0, 0", "wwww",
    ),
    "a new mapping has none": (
        "ww",
        "set_vma_name(W+0, 2p, a);"
        "mmap(W+2, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        "0, W+2", "ww|ww",
    ),
    "a moved mapping keeps it": (
        "ww..ww",
        "set_vma_name(W+0, 2p, a);"
        "mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+2)",
        "0, W+2", "..ww|ww",
    ),
    "holes are skipped": ("w.w", "set_vma_name(W+0, 4p, a)", "ENOMEM", "w.w"),
    "a file ends it, and what is before it is named": (
        "wwqq", "set_vma_name(W+1, 3p, a)", "EBADF", "w|wqq",
    ),
    "unlinked files on tmpfs can be named": ("pppp", "set_vma_name(W+1, 2p, a)", "0", "p|pp|p"),
    "/dev/zero is a file": ("zz", "set_vma_name(W+0, 2p, a)", "EBADF", "zz"),
    "shared anonymous memory can be named": ("ssss", "set_vma_name(W+0, 2p, a)", "0", "ss|ss"),
    "bad names and ranges are EINVAL, no range is none": (
        "ww",
        "set_vma_name(W+0, 1p, bad[); set_vma_name(W+0, 1p, long); set_vma_name(W+0+0x10, 0, a);"
        "set_vma_name(W+0, 0xffffffffffffffff, a); set_vma_name(W+0, 0xfffffffffffff000, a);"
        "set_vma_name(W+9, 0, a)",
        "EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, 0", "ww",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_set_vma_name(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(("picture", "name"), [("ww", NAME_ANON), ("ss", NAME_FILE)])
def test_the_name_is_shown_where_there_is_no_object(picture: str, name: int) -> None:
    drawing = Drawing(picture)
    drawing.do("set_vma_name(W+0, 2p, a)")
    shown = {m.start: m.name for m in unpack_layout(drawing.space.layout())}
    assert shown[ENVIRONMENT.geometry.window] == name


def test_a_split_beyond_the_mapping_limit_is_eagain() -> None:
    full = replace(ENVIRONMENT, max_map_count=3)
    play("wwww", "set_vma_name(W+1, 2p, a)", "EAGAIN", "wwww", full)


def test_kernels_without_names() -> None:
    assert Drawing("ww", NAMELESS).do("set_vma_name(W+0, 1p, NULL)") == ["EINVAL"]
