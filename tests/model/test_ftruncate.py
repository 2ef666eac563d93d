"""ftruncate(2): what mappings show of a file that is cut off, and of one that grows."""

import pytest

from abi.trace import file_tag, written_tag
from abi.wire import IDENT_EXT4
from model.errors import Unmodelled
from model.space import PTE_GUARD
from tests.environments import FILE_PAGES
from tests.pictures import Drawing, at, play, scenes

MAP = "mmap(W+0, 4p, PROT_READ|PROT_WRITE, {kind}|MAP_FIXED, {fd}, {offset}p)"

SCENES = {
    "pages that are cut off raise SIGBUS": (
        "mmmm", "touch(W+0, 4, write); ftruncate(memfd, 2p); touch(W+0, 4, read)",
        "ok ok ok ok, 0, ok ok BUS BUS", "mmmm",
    ),
    "private copies are cut off too, and the VMA stays faulted": (
        "pppp", "touch(W+0, 4, write); ftruncate(memfd, 2p); touch(W+0, 4, read)",
        "ok ok ok ok, 0, ok ok BUS BUS", "PPPP",
    ),
    "what grew can be touched": (
        "ffff", "ftruncate(file, 1p); ftruncate(file, 3p); touch(W+0, 4, write)",
        "0, 0, ok ok ok BUS", "ffff",
    ),
    "the page that a file ends in is part of it": (
        "ff", "ftruncate(file, 1p+0x1); touch(W+0, 2, read)", "0, ok ok", "ff",
    ),
    "another file is left alone": (
        "ff", "ftruncate(ext4, 0); touch(W+0, 2, read)", "0, ok ok", "ff",
    ),
    "a negative length is EINVAL, before the descriptor": (
        ".", "ftruncate(999, 0x8000000000000000); ftruncate(999, 0)", "EINVAL, EBADF", ".",
    ),
    "what is not a regular file is EINVAL": (
        ".", "ftruncate(pipe, 0); ftruncate(devzero, 0); ftruncate(uffd0, 0)",
        "EINVAL, EINVAL, EINVAL", ".",
    ),
    "a descriptor that only reads is EINVAL": (
        ".", "ftruncate(memfd_ro, 0); ftruncate(sysfs, 0)", "EINVAL, EINVAL", ".",
    ),
    "a length that the file system does not know is EFBIG": (
        ".", "ftruncate(ext4, 0x100000000001); ftruncate(memfd, 0x7fffffffffffffff)",
        "EFBIG, 0", ".",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_ftruncate(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_what_was_cut_off_is_zero_when_the_file_grows_again() -> None:
    drawing = Drawing(".")
    inode = drawing.space.files[21].inode
    assert inode.word(3) == file_tag(IDENT_EXT4, 3)
    drawing.do("ftruncate(ext4, 2p); ftruncate(ext4, 8p)")
    assert (inode.word(1), inode.word(3), inode.pages) == (file_tag(IDENT_EXT4, 1), 0, 8)


def test_every_run_begins_with_the_whole_file() -> None:
    Drawing(".").do("ftruncate(tmpfs, 0)")
    inode = Drawing(".").space.files[19].inode
    assert inode.pages == FILE_PAGES
    assert inode.cached == inode.dirty == set(range(48))


def test_the_bytes_behind_the_end_become_zero() -> None:
    drawing = Drawing(".")
    drawing.do(MAP.format(kind="MAP_SHARED", fd="ext4", offset=0))
    drawing.do("touch(W+1, 1, write); ftruncate(ext4, 1p+0x3)")
    assert drawing.space.files[21].inode.word(1) == written_tag(1, at(1) >> 12) & 0xFFFFFF


def test_what_is_written_behind_the_end_of_a_page_is_unmodelled() -> None:
    drawing = Drawing("ff")
    drawing.do("ftruncate(file, 1p+0x3); touch(W+0, 1, write)")
    with pytest.raises(Unmodelled, match="behind the end"):
        drawing.do("touch(W+1, 1, write)")


def test_guards_stay() -> None:
    drawing = Drawing(".")
    drawing.do(MAP.format(kind="MAP_PRIVATE", fd="xfs", offset=0))
    drawing.do("touch(W+0, 4, write); madvise(W+2, 1p, MADV_GUARD_INSTALL); ftruncate(xfs, 1p)")
    pages = drawing.space.pages_of(at(0), at(4))
    assert [page - (at(0) >> 12) for page in sorted(pages)] == [0, 2]
    assert drawing.space.ptes[at(2) >> 12] == PTE_GUARD
