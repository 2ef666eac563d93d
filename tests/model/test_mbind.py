"""mbind(2): a policy is part of what makes neighbours alike."""

from dataclasses import replace

import pytest

from model.errors import Unmodelled
from tests.environments import ENVIRONMENT, IMAGE
from tests.pictures import Drawing, play, scenes

SCENES = {
    "a policy cuts its range out": ("wwww", "mbind(W+1, 2p, MPOL_BIND, 1, 0)", "0", "w|ww|w"),
    "the default policy is none": (
        "wwww", "mbind(W+1, 2p, MPOL_BIND, 1, 0); mbind(W+1, 2p, MPOL_DEFAULT, 0, 0)",
        "0, 0", "wwww",
    ),
    "neighbours with the same policy are one": (
        "wwww", "mbind(W+0, 2p, MPOL_LOCAL, 0, 0); mbind(W+2, 2p, MPOL_PREFERRED, 0, 0)",
        "0, 0", "wwww",
    ),
    "with another flag it is another policy": (
        "wwww",
        "mbind(W+0, 2p, MPOL_BIND, 1, 0); mbind(W+2, 2p, MPOL_BIND|MPOL_F_STATIC_NODES, 1, 0)",
        "0, 0", "ww|ww",
    ),
    "nodes that were asked for differently differ where the flags keep them": (
        "wwww",
        "mbind(W+0, 2p, MPOL_BIND|MPOL_F_RELATIVE_NODES, 1, 0);"
        "mbind(W+2, 2p, MPOL_BIND|MPOL_F_RELATIVE_NODES, 2, 0)",
        "0, 0", "ww|ww",
    ),
    "nodes that are not there do not count": (
        "wwww", "mbind(W+0, 2p, MPOL_BIND, 3, 0); mbind(W+2, 2p, MPOL_BIND, 1, 0)",
        "0, 0", "wwww",
    ),
    "a new mapping has none": (
        "ww",
        "mbind(W+0, 2p, MPOL_BIND, 1, 0);"
        "mmap(W+2, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        "0, W+2", "ww|ww",
    ),
    "a hole at the beginning is EFAULT": (".ww", "mbind(W+0, 3p, MPOL_BIND, 1, 0)", "EFAULT", ".ww"),
    "a hole within is EFAULT": ("w.w", "mbind(W+0, 3p, MPOL_BIND, 1, 0)", "EFAULT", "w.w"),
    "a hole at the end is EFAULT": ("ww", "mbind(W+0, 3p, MPOL_BIND, 1, 0)", "EFAULT", "ww"),
    "the default policy goes over holes": ("w.w", "mbind(W+0, 4p, MPOL_DEFAULT, 0, 0)", "0", "w.w"),
    "but not where nothing is mapped": ("w", "mbind(W+2, 1p, MPOL_DEFAULT, 0, 0)", "EFAULT", "w"),
    "a length that wraps to 0 is none": (
        "w", "mbind(W+0, 0xffffffffffffffff, MPOL_BIND, 0, 0)", "0", "w",
    ),
    "MPOL_MF_STRICT sees pages": (
        "ww.WW",
        "mbind(W+0, 2p, MPOL_LOCAL, 0, MPOL_MF_STRICT); touch(W+0, 1, read);"
        "mbind(W+0, 2p, MPOL_LOCAL, 0, MPOL_MF_STRICT);"
        "mbind(W+3, 2p, MPOL_BIND, 1, MPOL_MF_STRICT); mbind(W+3, 2p, MPOL_LOCAL, 0, MPOL_MF_STRICT);"
        "mbind(W+3, 2p, MPOL_LOCAL, 0, MPOL_MF_STRICT|MPOL_MF_MOVE)",
        "0, ok, 0, 0, EIO, 0", "ww.WW",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_mbind(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(
    "arguments",
    [
        "7, 1, 0",
        "0xffffffff, 1, 0",
        "MPOL_BIND|MPOL_F_STATIC_NODES|MPOL_F_RELATIVE_NODES, 1, 0",
        "MPOL_INTERLEAVE|MPOL_F_NUMA_BALANCING, 1, 0",
        "MPOL_BIND, 1, 8",
        "MPOL_BIND, 0, 0",
        "MPOL_BIND, 2, 0",
        "MPOL_DEFAULT, 1, 0",
        "MPOL_LOCAL, 1, 0",
        "MPOL_PREFERRED|MPOL_F_STATIC_NODES, 0, 0",
    ],
)
def test_policies_that_are_none(arguments: str) -> None:
    assert Drawing("ww").do(f"mbind(W+0, 1p, {arguments})") == ["EINVAL"]


def test_who_moves_pages_of_others_needs_the_right() -> None:
    call = "mbind(W+0, 1p, MPOL_BIND, 1, MPOL_MF_MOVE_ALL)"
    assert Drawing("ww").do(call) == ["EPERM"]
    may = replace(ENVIRONMENT, capabilities=frozenset(("SYS_NICE",)))
    assert Drawing("ww", may).do(call) == ["0"]


def test_a_page_that_is_mapped_twice_is_taken_once() -> None:
    may = replace(ENVIRONMENT, capabilities=frozenset(("SYS_NICE",)))
    drawing = Drawing("mm", may)
    drawing.do("mremap(W+0, 0, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+2)")
    drawing.do("touch(W+0, 1, write); touch(W+2, 1, read)")
    strict = "MPOL_MF_STRICT|MPOL_MF_MOVE"
    assert drawing.do(f"mbind(W+0, 4p, MPOL_LOCAL, 0, {strict})") == ["0"]
    assert drawing.do(f"mbind(W+0, 4p, MPOL_LOCAL, 0, {strict}|MPOL_MF_MOVE_ALL)") == ["EIO"]


def test_kernels_without_nodes_and_nodes_beyond_those_of_the_kernel() -> None:
    without = replace(ENVIRONMENT, node_bits=0)
    assert Drawing("ww", without).do("mbind(W+0, 1p, 7, 1, 0)") == ["ENOSYS"]
    few = replace(ENVIRONMENT, node_bits=4)
    assert Drawing("ww", few).do("mbind(W+0, 0, MPOL_BIND, 0x11, 0)") == ["EINVAL"]
    assert Drawing("ww", few).do("mbind(W+0, 0, MPOL_BIND, 9, 0)") == ["0"]


def test_where_pages_are_on_several_nodes_is_not_known() -> None:
    two = replace(ENVIRONMENT, nodes=5)
    drawing = Drawing("WW", two)
    assert drawing.do("mbind(W+0, 1p, MPOL_BIND|MPOL_F_RELATIVE_NODES, 2, 0)") == ["0"]
    assert drawing.vma(0).policy == (2, 1 << 14, 4, 2)
    with pytest.raises(Unmodelled):
        drawing.do("mbind(W+0, 1p, MPOL_BIND, 1, MPOL_MF_STRICT)")


def test_at_the_mapping_limit_there_is_no_policy() -> None:
    full = replace(ENVIRONMENT, max_map_count=3)
    play("wwww", "mbind(W+1, 2p, MPOL_BIND, 1, 0)", "ENOMEM", "wwww", full)


def test_the_executors_own_pages_are_where_they_are() -> None:
    drawing = Drawing(".")
    call = f"mbind({IMAGE.start}, 1p, MPOL_LOCAL, 0, MPOL_MF_STRICT"
    assert drawing.do(f"{call})") == ["EIO"]
    assert drawing.do(f"{call}|MPOL_MF_MOVE)") == ["0"]
