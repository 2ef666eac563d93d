"""shmat(2) and shmdt(2)."""

from abi.environment import Environment
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, play, scenes

H = "h" * 16
_MOVE = "MREMAP_MAYMOVE|MREMAP_FIXED"

ATTACHED = {
    "where there is room": (".", "shmat(0, NULL, 0)", "T-16", "."),
    "at an address": (".", "shmat(1, W+2, 0)", "W+2", f"..{H}"),
    "not at an unaligned one": (".", "shmat(0, W+2+0x10, 0)", "EINVAL", "."),
    "unless it may be rounded": (".", "shmat(0, W+2+0x10, SHM_RND)", "W+2", f"..{H}"),
    "not over anything": ("....w", "shmat(0, W+0, 0)", "EINVAL", "....w"),
    "unless it may replace it": ("w...w", "shmat(0, W+1, SHM_REMAP)", "W+1", f"w{H}"),
    "which takes an address": (".", "shmat(0, NULL, SHM_REMAP)", "EINVAL", "."),
    "that is not rounded to none": (".", "shmat(0, 0x800, SHM_RND|SHM_REMAP)", "EINVAL", "."),
    "no such segment": (".", "shmat(2, NULL, 0)", "EINVAL", "."),
    "read only for good": (
        ".",
        "shmat(0, W+0, SHM_RDONLY); touch(W+0, 1, write); mprotect(W+0, 1p, PROT_WRITE)",
        "W+0, SEGV, EACCES",
        H,
    ),
    "executable": (".", "shmat(0, W+0, SHM_EXEC); mprotect(W+0, 16p, PROT_READ)", "W+0, 0", H),
}


@scenes(ATTACHED)
def test_attach(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


DETACHED = {
    "as a whole": (H, "shmdt(W+0)", "0", "."),
    "not by another page": (H, "shmdt(W+1)", "EINVAL", H),
    "not unaligned": (H, "shmdt(W+0+0x1)", "EINVAL", H),
    "not what is no segment": ("ww", "shmdt(W+0)", "EINVAL", "ww"),
    "all its pieces": (H, "munmap(W+3, 1p); mprotect(W+8, 2p, PROT_READ); shmdt(W+0)",
                       "0, 0, 0", "."),
    "though it begins above": (H, "munmap(W+0, 4p); shmdt(W+0)", "0, 0", "."),
    "but for what was moved": (
        H, f"mremap(W+2, 1p, 1p, {_MOVE}, W+20); shmdt(W+0)", "W+20, 0", "." * 20 + "h"
    ),
    "which is found from where it would begin": (
        H, f"mremap(W+2, 1p, 1p, {_MOVE}, W+20); shmdt(W+20); shmdt(W+18)",
        "W+20, EINVAL, 0", "hh." + "h" * 13,
    ),
    "but for another attach": (
        f"{H}|{H}", f"mremap(W+20, 1p, 1p, {_MOVE}, W+4); shmdt(W+0)", "W+4, 0",
        "....h" + "." * 11 + "hhhh." + "h" * 11,
    ),
    "but for what is sealed": (H, "mseal(W+0, 16p, 0); shmdt(W+0)", "0, 0", H),
}  # fmt: skip


@scenes(DETACHED)
def test_detach(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


MERGED = {
    "a piece between two stays": (
        H,
        "mprotect(W+4, 2p, PROT_READ); mprotect(W+4, 2p, PROT_READ|PROT_WRITE)",
        "0, 0",
        "hhhh|hh|hhhhhhhhhh",
    ),
    "a border moves": (
        H,
        "mprotect(W+4, 2p, PROT_READ); mprotect(W+4, 1p, PROT_READ|PROT_WRITE)",
        "0, 0",
        "hhhhh|h|hhhhhhhhhh",
    ),
    "what comes back joins the piece below": (
        H,
        f"mremap(W+4, 2p, 2p, {_MOVE}, W+20); mremap(W+20, 2p, 2p, {_MOVE}, W+4)",
        "W+20, W+4",
        "hhhhhh|hhhhhhhhhh",
    ),
}


@scenes(MERGED)
def test_merges_remove_no_vma(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_attaches_of_a_segment_are_the_same_memory() -> None:
    drawing = Drawing(f"{H}|{H}")
    drawing.do("touch(W+3, 1, write)")
    inode = drawing.vma(0).file.inode  # type: ignore[union-attr]
    assert inode is drawing.vma(16).file.inode  # type: ignore[union-attr]
    assert 3 in inode.words


def test_a_segment_is_no_shared_memory_to_userfaultfd() -> None:
    play(H, "uffd_register(uffd0, W+0, 16p, UFFDIO_REGISTER_MODE_WP)", "EINVAL", H)


def test_segments_survive_the_environment_s_json_form() -> None:
    assert Environment.from_json(ENVIRONMENT.to_json()) == ENVIRONMENT
