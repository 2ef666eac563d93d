"""mseal(2): what is sealed, and what a seal forbids."""

import pytest

from model.flags import VM_SEALED
from model.profile import PROFILES
from tests.pictures import Drawing, play, scenes

SCENES = {
    "the middle is cut out": ("wwwwww", "mseal(W+2, 2p, 0)", "0", "ww|ww|ww"),
    "sealing twice changes nothing": (
        "wwww", "mseal(W+2, 2p, 0); mseal(W+2, 2p, 0)", "0, 0", "ww|ww",
    ),
    "what is sealed merges with what is": (
        "wwww", "mseal(W+0, 2p, 0); mseal(W+2, 2p, 0)", "0, 0", "wwww",
    ),
    "flags are EINVAL": ("ww", "mseal(W+0, 1p, 1)", "EINVAL", "ww"),
    "an address inside a page is EINVAL": ("ww", "mseal(W+0+0x10, 1p, 0)", "EINVAL", "ww"),
    "a length that wraps to 0 is EINVAL": (
        "ww", "mseal(W+0, 0xffffffffffffffff, 0)", "EINVAL", "ww",
    ),
    "a range that wraps is EINVAL": ("ww", "mseal(W+0, 0xfffffffffffff000, 0)", "EINVAL", "ww"),
    "no length is nothing": ("ww", "mseal(W+8, 0, 0)", "0", "ww"),
    "a length is rounded up": ("wwww", "mseal(W+0, 1p+0x1, 0)", "0", "ww|ww"),
    "a hole in the middle is ENOMEM and seals nothing": (
        "ww.ww", "mseal(W+0, 5p, 0); munmap(W+0, 2p)", "ENOMEM, 0", "...ww",
    ),
    "a hole at the end too": ("ww", "mseal(W+0, 3p, 0); munmap(W+0, 2p)", "ENOMEM, 0", "."),
    "a hole at the start too": (".ww", "mseal(W+0, 3p, 0); munmap(W+1, 2p)", "ENOMEM, 0", "."),
    "unmapping is EPERM": ("ww", "mseal(W+0, 2p, 0); munmap(W+0, 1p)", "0, EPERM", "ww"),
    "what precedes it stays cut": (
        "wwrr", "mseal(W+2, 2p, 0); munmap(W+1, 2p)", "0, EPERM", "w|wrr",
    ),
    "moving is EPERM": (
        "ww", "mseal(W+0, 2p, 0); mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+8)",
        "0, EPERM", "ww",
    ),
    "nothing at all is EPERM to mremap": (
        "ww", "mseal(W+0, 2p, 0); mremap(W+0, 2p, 2p, 0, 0)", "0, EPERM", "ww",
    ),
    "the same protection is EPERM": (
        "ww", "mseal(W+0, 2p, 0); mprotect(W+0, 1p, PROT_READ|PROT_WRITE)", "0, EPERM", "ww",
    ),
    "locking is allowed": ("ww", "mseal(W+0, 2p, 0); mlock(W+0, 1p)", "0, 0", "Lw"),
    "discarding what can be written is allowed": (
        "ww", "mseal(W+0, 2p, 0); madvise(W+0, 2p, MADV_DONTNEED)", "0, 0", "ww",
    ),
    "discarding what cannot is EPERM": (
        "rr", "mseal(W+0, 2p, 0); madvise(W+0, 2p, MADV_DONTNEED)", "0, EPERM", "rr",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_mseal(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(
    ("profile", "picture"), [("6.12", "wwwwwwww"), ("6.17", "wwww|ww|ww"), ("7.3", "wwwwwwww")]
)
def test_after_a_merge(profile: str, picture: str) -> None:
    drawing = Drawing("wwwwwwww", profile=PROFILES[profile])
    drawing.do("mseal(W+2, 2p, 0); mseal(W+6, 2p, 0); mseal(W+0, 8p, 0)")
    assert drawing.picture == picture
    assert all(vma.flags & VM_SEALED for vma in drawing.space.vmas)


def test_what_a_seal_does_not_reach_moves() -> None:
    drawing = Drawing("wwrr..ww")
    calls = "mseal(W+6, 2p, 0); mremap(W+0, 8p, 8p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)"
    assert drawing.do(calls) == ["0", "EPERM"]
    assert drawing.picture == "......ww............wwrr"
