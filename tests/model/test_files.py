"""Kinds of files: where they are placed, when they merge and move, what each refuses."""

import pytest

from abi.trace import NAME_FILE
from model.flags import (
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_IO,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYWRITE,
    VM_PFNMAP,
)
from tests.pictures import Drawing, at

RW = "PROT_READ|PROT_WRITE"
KINDS = ("tmpfs", "ext4", "xfs", "btrfs", "overlay", "ramfs")


def mapped(page: int, name: str, kind: str = "MAP_SHARED", pages: int = 2, offset: int = 0) -> str:
    return f"mmap(W+{page}, {pages}p, {RW}, {kind}|MAP_FIXED, {name}, {offset}p)"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("place", ["alone", "first", "last"])
def test_only_ramfs_moves_only_alone(name: str, place: str) -> None:
    drawing = Drawing(".")
    if place != "alone":
        other = 2 if place == "first" else 0
        drawing.do(f"mmap(W+{other}, 2p, {RW}, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)")
    drawing.do(mapped(2 if place == "last" else 0, name))
    length = 2 if place == "alone" else 4
    moved = drawing.do(f"mremap(W+0, {length}p, {length}p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)")
    refused = name == "ramfs" and place != "alone"
    assert moved == ["EFAULT" if refused else "W+20"]
    assert drawing.space.lookup(at(0)) is None or place == "first"


@pytest.mark.parametrize("name", KINDS)
def test_only_overlay_does_not_merge_when_it_is_mapped(name: str) -> None:
    drawing = Drawing(".")
    drawing.do(f"{mapped(0, name)}; {mapped(2, name, offset=2)}")
    assert (drawing.vma(0) is drawing.vma(2)) == (name != "overlay")
    drawing.do(f"mprotect(W+2, 1p, PROT_READ); mprotect(W+2, 1p, {RW})")
    assert drawing.vma(0) is drawing.vma(2)


@pytest.mark.parametrize("name", KINDS)
def test_holes_can_be_punched_but_in_ramfs(name: str) -> None:
    drawing = Drawing(".")
    drawing.do(mapped(0, name))
    inode = drawing.vma(0).file.inode  # type: ignore[union-attr]
    done = drawing.do("madvise(W+0, 1p, MADV_REMOVE)")
    assert (done, bool(inode.word(0))) == (
        (["ENOTSUP"], True) if name == "ramfs" else (["0"], False)
    )


@pytest.mark.parametrize(
    ("name", "aligned"),
    [("tmpfs", False), ("ext4", True), ("btrfs", True), ("overlay", False), ("ramfs", False)],
)
def test_which_are_placed_for_huge_pages(name: str, aligned: bool) -> None:
    drawing = Drawing(".")
    drawing.do("mmap(0, 1p, 0, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)")
    (place,) = drawing.do(f"mmap(0, 512p, PROT_READ, MAP_SHARED, {name}, 0)")
    assert (place == "T-513") != aligned


def test_memory_of_the_kernel() -> None:
    drawing = Drawing(".")
    flags = "MAP_PRIVATE|MAP_FIXED|MAP_LOCKED"
    assert drawing.do(f"mmap(W+0, 4p, PROT_READ, {flags}, sysfs, 0)") == ["W+0"]
    vma = drawing.vma(0)
    special = VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP
    assert vma.flags & special == special
    assert not vma.flags & (VM_MAYWRITE | VM_MAYEXEC | VM_LOCKED)
    assert drawing.space.locked_vm == drawing.environment.locked_pages
    assert drawing.do("touch(W+0, 4, read); touch(W+0, 1, write)") == ["ok ok ok ok", "SEGV"]
    assert drawing.do("mremap(W+1, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+9)") == ["W+9"]
    assert drawing.do("mprotect(W+9, 1p, PROT_NONE); touch(W+9, 2, read)") == ["0", "SEGV ok"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("1p, PROT_READ, MAP_PRIVATE|MAP_FIXED, sysfs, 1p", "EINVAL"),
        ("1p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, sysfs, 0", "EACCES"),
        ("1p, PROT_READ, MAP_SHARED|MAP_FIXED, sysfs, 0", "EACCES"),
        ("1001p, PROT_READ, MAP_PRIVATE|MAP_FIXED, sysfs, 0", "EINVAL"),
        ("1p, PROT_READ, MAP_PRIVATE|MAP_FIXED, proc, 0", "EIO"),
    ],
)
def test_a_file_of_the_kernel_that_refuses_leaves_a_hole(call: str, error: str) -> None:
    drawing = Drawing("www")
    assert drawing.do(f"mmap(W+1, {call})") == [error]
    assert drawing.picture in ("w", "w.w")


def test_the_layout_shows_the_file_that_was_opened() -> None:
    drawing = Drawing(".")
    drawing.do(mapped(0, "overlay"))
    vma = drawing.vma(0)
    assert vma.file is not drawing.space.files[27]
    assert vma.file.inode is drawing.space.files[27].inode  # type: ignore[union-attr]
    assert vma.name is None
    assert vma.pack(drawing.space.brk)[-2:] == NAME_FILE.to_bytes(2, "little")
