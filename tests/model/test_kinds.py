"""Special kinds of mappings: what their mmap() checks and sets, and what is done to them afterwards."""

import pytest

from abi.trace import CODES
from model.errors import Unmodelled
from model.flags import CODES as VM_CODES
from model.profile import PROFILES
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, play, scenes

_SHARED = "MAP_SHARED|MAP_FIXED"
_RW = "PROT_READ|PROT_WRITE"
_MOVE = "MREMAP_MAYMOVE|MREMAP_FIXED"


def codes(drawing: Drawing, page: int) -> str:
    """The VmFlags of the VMA at a page, as smaps shows them."""
    flags = drawing.vma(page).flags
    return " ".join(code for code in CODES if flags & VM_CODES.get(code, 0))


@pytest.mark.parametrize(
    ("letter", "pages", "flags"),
    [
        ("e", 2, "rd wr sh mr mw ms lo dd"),
        ("y", 3, "rd wr sh mr mw ms pf io dc de dd"),
        ("b", 2, "rd wr sh mr mw ms de dd mm"),
        ("k", 4, "rd wr sh mr mw ms mm"),
        ("c", 2, "rd sh mr ms mm"),
        ("j", 2, "rd wr sh mr mw ms de dd mm"),
        ("h", 16, "rd wr sh mr mw me ms"),
    ],
)
def test_flags_of_each_kind(letter: str, pages: int, flags: str) -> None:
    assert codes(Drawing(letter * pages), 0) == flags


def test_flags_of_an_iouring() -> None:
    drawing = Drawing(".")
    assert drawing.do(f"mmap(NULL, 2p, {_RW}, MAP_SHARED, iouring, 0)") == ["T-2"]
    vma = drawing.space.vmas[-1]
    assert " ".join(c for c in CODES if vma.flags & VM_CODES.get(c, 0)) == (
        "rd wr sh mr mw ms de mm"
    )


ALONE = {
    "a bpf array moves alone": ("bbb", f"mremap(W+0, 3p, 3p, {_MOVE}, W+8)", "W+8", "........bbb"),
    "a segment moves alone": (
        "h" * 16, f"mremap(W+0, 16p, 16p, {_MOVE}, W+20)", "W+20", "." * 20 + "h" * 16
    ),
    "a segment is not first of several": (
        "h" * 16 + "w", f"mremap(W+0, 17p, 17p, {_MOVE}, W+20)", "EFAULT", "h" * 16 + "w"
    ),
    "a segment is not last of several": (
        "w" + "h" * 16,
        f"mremap(W+0, 17p, 17p, {_MOVE}, W+20)",
        "EFAULT",
        "." + "h" * 16 + "...w",
    ),
    "a bpf array is not in the middle of several": (
        "wbbw", f"mremap(W+0, 4p, 4p, {_MOVE}, W+8)", "EFAULT", ".bbw....w"
    ),
}  # fmt: skip


@scenes(ALONE)
def test_what_moves_alone_only(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize("kind", ["ee", "yyy", "kkkk", "ccc", "jj"])
def test_what_has_no_handler_of_its_own_is_one_of_several(kind: str) -> None:
    n = len(kind) + 2
    play(f"w{kind}w", f"mremap(W+0, {n}p, {n}p, {_MOVE}, W+16)", "W+16", "." * 16 + f"w{kind}w")


MAPPED = {
    "secret memory is shared": (
        "www", f"mmap(W+1, 1p, {_RW}, MAP_PRIVATE|MAP_FIXED, secretmem, 0)", "EINVAL", "w.w"
    ),
    "a perf buffer has 1 + 2^n pages": (
        ".", f"mmap(W+0, 4p, {_RW}, {_SHARED}, perf, 0)", "EINVAL", "."
    ),
    "a perf buffer begins at 0": (
        ".", f"mmap(W+0, 3p, {_RW}, {_SHARED}, perf, 1p)", "EINVAL", "."
    ),
    "a mapped perf buffer has its size": (
        "yyy", f"mmap(W+8, 5p, {_RW}, {_SHARED}, perf, 0)", "EINVAL", "yyy"
    ),
    "a perf buffer that is replaced may have another": (
        "yyy", f"mmap(W+0, 5p, {_RW}, {_SHARED}, perf, 0)", "W+0", "yyyyy"
    ),
    "a bpf array ends": (".", f"mmap(W+0, 2p, {_RW}, {_SHARED}, bpf, 7p)", "EINVAL", "."),
    "a bpf array that cannot be written to": (
        ".",
        f"mmap(W+0, 2p, PROT_READ, {_SHARED}, bpf, 0); mprotect(W+0, 2p, {_RW})",
        "W+0, EACCES",
        "bb",
    ),
    "a bpf ring buffer has one writable page": (
        ".", f"mmap(W+0, 2p, {_RW}, {_SHARED}, bpf_ring, 0)", "EPERM", "."
    ),
    "a packet ring is mapped whole": (
        "ww", f"mmap(W+0, 3p, {_RW}, {_SHARED}, packet, 0)", "EINVAL", "."
    ),
    "a TCP socket's memory is read only": (
        "ww", f"mmap(W+0, 1p, {_RW}, {_SHARED}, tcp, 0); mprotect(W+1, 1p, PROT_READ)",
        "EPERM, 0",
        ".r",
    ),
    "an XDP socket's ring ends": (
        ".", f"mmap(W+0, 3p, {_RW}, {_SHARED}, xdp, 0)", "EINVAL", "."
    ),
    "another socket cannot be mapped": (
        "ww", f"mmap(W+0, 1p, {_RW}, {_SHARED}, unix, 0)", "ENODEV", ".w"
    ),
    "an io_uring takes no address": (
        "ww", f"mmap(W+0, 1p, {_RW}, {_SHARED}, iouring, 0)", "EINVAL", "ww"
    ),
    "of an io_uring's entries all are mapped": (
        ".", f"mmap(NULL, 1p, {_RW}, MAP_SHARED, iouring, 0x10000000)", "EFAULT", "."
    ),
    "an io_uring does not move": (
        "ww",
        f"mmap(NULL, 2p, {_RW}, MAP_SHARED, iouring, 0); mremap(T-2, 2p, 2p, {_MOVE}, W+0)",
        "T-2, EINVAL",
        ".",
    ),
}  # fmt: skip


@scenes(MAPPED)
def test_what_can_be_mapped(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


DONE = {
    "a perf buffer is not cut": (
        "yyyyy",
        "munmap(W+0, 1p); mprotect(W+1, 1p, PROT_READ); madvise(W+4, 1p, MADV_RANDOM)",
        "EINVAL, EINVAL, EINVAL",
        "yyyyy",
    ),
    "a part of a perf buffer does not move": (
        "yyyyy..w", f"mremap(W+0, 1p, 1p, {_MOVE}, W+7)", "EINVAL", "yyyyy"
    ),
    "only the first page of a perf buffer is writable": (
        "yyy", "touch(W+0, 3, write); touch(W+0, 3, read)", "ok BUS BUS, ok ok ok", "yyy"
    ),
    "what is discarded of a ring does not come back": (
        "kkkk", "madvise(W+0, 1p, MADV_DONTNEED); touch(W+0, 2, read)", "0, BUS ok", "kkkk"
    ),
    "a ring grows by moving, with nothing behind": (
        "kkkkw",
        f"mremap(W+0, 4p, 5p, MREMAP_MAYMOVE, NULL); mremap(T-5, 5p, 5p, {_MOVE}, W+8);"
        "touch(W+11, 2, read)",
        "T-5, W+8, ok BUS",
        "....w...kkkkk",
    ),
    "a ring does not grow in place": (
        "kkkk", "mremap(W+0, 4p, 5p, MREMAP_MAYMOVE, NULL)", "ENOMEM", "kkkk"
    ),
    "an XDP socket's ring does not grow, but shrinks": (
        "jj",
        "mremap(W+0, 2p, 3p, MREMAP_MAYMOVE, NULL); mremap(W+0, 2p, 1p, 0, NULL)",
        "EFAULT, W+0",
        "j",
    ),
    "a perf buffer does not grow": (
        "yyy", "mremap(W+0, 3p, 5p, MREMAP_MAYMOVE, NULL)", "EFAULT", "yyy"
    ),
    "the kernel does not reach secret memory": (
        "ee",
        "madvise(W+0, 2p, MADV_POPULATE_READ); mlock(W+0, 2p); munlock(W+0, 2p);"
        "touch(W+0, 2, write)",
        "EINVAL, ENOMEM, 0, ok ok",
        "ee",
    ),
    "secret memory merges": (
        "eeee", f"mremap(W+1, 1p, 1p, {_MOVE}, W+8); mremap(W+8, 1p, 1p, {_MOVE}, W+1)",
        "W+8, W+1",
        "eeee",
    ),
    "a socket's memory is empty": ("cc", "touch(W+0, 2, read)", "BUS BUS", "cc"),
    "there is no hole to be punched": (
        "yyyee",
        "madvise(W+0, 3p, MADV_REMOVE); madvise(W+3, 2p, MADV_REMOVE)",
        "ENODEV, EINVAL",
        "yyyee",
    ),
    "none has a size": (
        ".",
        "ftruncate(secretmem, 1p); ftruncate(perf, 0); ftruncate(tcp, 0)",
        "EINVAL, EINVAL, EINVAL",
        ".",
    ),
}  # fmt: skip


@scenes(DONE)
def test_what_is_done_to_them(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_secret_memory_is_as_large_as_what_may_be_locked() -> None:
    pages = (ENVIRONMENT.rlimit_memlock >> 12) - ENVIRONMENT.locked_pages
    play(
        ".",
        f"mmap(W+0, {pages}p, {_RW}, {_SHARED}, secretmem, 0);"
        f"mmap(W+{pages}, 1p, {_RW}, {_SHARED}, secretmem, 0)",
        "W+0, EAGAIN",
        "e" * 128,
    )


def test_secret_memory_behind_the_largest_offset_is_before_its_end() -> None:
    """The offset in bytes is signed where it asks for its size."""
    drawing = Drawing(".", profile=PROFILES["7.3"])
    high = f"mmap(W+0, 1p, {_RW}, {_SHARED}, secretmem, 0x7fffffffffffe000); mremap(W+0, 1p, 4p, 0, NULL)"
    assert drawing.do(high) == ["W+0", "W+0"]
    assert drawing.do("touch(W+0, 4, read)") == ["BUS BUS ok ok"]
    with pytest.raises(Unmodelled, match="behind 2"):
        drawing.do("touch(W+2, 1, write)")


def test_later_kernels_do_not_lock_secret_memory() -> None:
    drawing = Drawing("ee", profile=PROFILES["7.3"])
    assert codes(drawing, 0) == "rd wr sh mr mw ms dd"
    assert drawing.do("madvise(W+0, 2p, MADV_REMOVE)") == ["ENOTSUP"]


def test_older_kernels_let_a_perf_buffer_fault() -> None:
    drawing = Drawing("yyy", profile=PROFILES["6.12"])
    assert codes(drawing, 0) == "rd wr sh mr mw ms dc de dd"
    assert drawing.do("madvise(W+0, 3p, MADV_DONTNEED); touch(W+0, 3, write)") == [
        "0",
        "ok BUS BUS",
    ]
