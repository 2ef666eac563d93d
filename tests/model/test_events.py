"""What a userfaultfd is told: kinds, arguments and order of events (tests/pictures.py draws pages)."""

from typing import Final

import pytest

from abi.program import parse
from abi.trace import unpack
from model.profile import PROFILES
from model.run import Model
from tests.environments import ENVIRONMENT, initial_layout

W: Final = ENVIRONMENT.geometry.window
NAMES: Final = {0x13: "fork", 0x14: "remap", 0x15: "remove", 0x16: "unmap"}
FOUR: Final = "mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
REGISTER: Final = "uffd_register(uffd2, W+{}, {}p, UFFDIO_REGISTER_MODE_WP)".format
MOVE: Final = "mremap(W+{}, {}p, {}p, MREMAP_MAYMOVE|MREMAP_FIXED, W+{})".format


def told(*calls: str, profile: str = "7.3") -> str:
    """The events of the last call: kinds and arguments, in pages of the window."""
    program = parse("\n".join(calls), ENVIRONMENT.geometry)
    model = Model(ENVIRONMENT, PROFILES[profile])
    last = unpack(model.run(program), initial_layout(ENVIRONMENT))[-1]
    texts = []
    for kind, fd, first, second, third in last.events:
        assert fd == 18
        pages = [f"{word - W >> 12}" for word in (first, second)]
        texts.append(" ".join([NAMES[kind], *pages, *([f"{third >> 12}p"] if third else [])]))
    return ", ".join(texts)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("munmap(W+1, 20p)", "unmap 1 21"),
        ("munmap(W+4, 20p)", ""),
        (FOUR.replace("4p", "2p"), "unmap 0 2"),
        (FOUR.replace("4p", "99999p"), "unmap 0 99999"),
        (MOVE(0, 4, 4, 20), "remap 0 20 4p, unmap 0 4"),
        (MOVE(1, 2, 2, 20), "remap 1 20 2p, unmap 1 3"),
        (MOVE(0, 2, 2, 2), "unmap 2 4, remap 0 2 2p, unmap 0 2"),
        (MOVE(0, 4, 1, 20), "remap 0 20 1p, unmap 1 4, unmap 0 1"),
        (MOVE(0, 4, 6, 20), "remap 0 20 4p, unmap 0 4"),
        ("mremap(W+0, 4p, 1p, 0, NULL)", "unmap 1 4"),
        ("mremap(W+0, 4p, 9p, 0, NULL)", ""),
        ("mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, W+20)", "remap 0 20 4p"),
        ("madvise(W+1, 2p, MADV_DONTNEED)", "remove 1 3"),
        ("madvise(W+1, 2p, MADV_FREE)", "remove 1 3"),
        ("madvise(W+1, 2p, MADV_REMOVE)", ""),
        ("madvise(W+1, 2p, MADV_PAGEOUT)", ""),
        ("uffd_unregister(uffd2, W+0, 4p)", ""),
        ("mprotect(W+0, 4p, PROT_READ)", ""),
        ("fork()", ""),
    ],
)
def test_events_of_one_vma(call: str, expected: str) -> None:
    assert told(FOUR, REGISTER(0, 4), call) == expected


def test_others_are_told_nothing() -> None:
    for fd in ("uffd0", "uffd1"):
        assert told(FOUR, REGISTER(0, 4).replace("uffd2", fd), MOVE(0, 4, 4, 20)) == ""


def test_discards_are_told_vma_by_vma() -> None:
    calls = FOUR, REGISTER(0, 4), "mprotect(W+2, 2p, PROT_READ)"
    assert told(*calls, "madvise(W+1, 2p, MADV_DONTNEED)") == "remove 1 2, remove 2 3"
    shared = FOUR.replace("MAP_PRIVATE", "MAP_SHARED")
    assert told(shared, REGISTER(0, 4), "madvise(W+0, 4p, MADV_FREE)") == "remove 0 4"
    assert told(shared, REGISTER(0, 4), "madvise(W+1, 3p, MADV_REMOVE)") == "remove 1 4"
    locked = "mlock(W+0, 4p)"
    assert told(FOUR, REGISTER(0, 4), locked, "madvise(W+0, 4p, MADV_DONTNEED)") == ""


def test_unmapping_is_told_even_if_it_fails() -> None:
    seal = "mseal(W+{}, 1p, 0)".format
    assert told(FOUR, REGISTER(0, 4), seal(3), "munmap(W+0, 4p)") == "unmap 0 4"
    assert told(FOUR, REGISTER(0, 4), seal(0), "munmap(W+0, 4p)") == ""


def test_a_target_is_told_segment_by_segment_from_6_17_on() -> None:
    calls = (
        FOUR,
        "mprotect(W+2, 1p, PROT_READ)",
        FOUR.replace("W+0", "W+20"),
        REGISTER(20, 4),
        MOVE(0, 4, 4, 20),
    )
    assert told(*calls) == "unmap 20 22, unmap 22 23, unmap 23 24"
    assert told(*calls, profile="6.16") == "unmap 20 24"
    whole = FOUR, FOUR.replace("W+0", "W+20"), REGISTER(20, 4), MOVE(0, 4, 4, 20)
    assert told(*whole, profile="6.16") == "unmap 20 24"


def test_what_is_not_mmap_does_not_tell() -> None:
    shared = FOUR.replace("MAP_PRIVATE", "MAP_SHARED")
    assert told(shared, REGISTER(0, 4), "remap_file_pages(W+0, 2p, 0, 1, 0)") == ""


def test_registered_alike_after_a_move() -> None:
    calls = FOUR, FOUR.replace("W+0", "W+20"), REGISTER(0, 4), REGISTER(20, 4)
    program = parse("\n".join([*calls, MOVE(20, 4, 4, 4)]), ENVIRONMENT.geometry)
    trace = Model(ENVIRONMENT, PROFILES["7.3"]).run(program)
    layout = unpack(trace, initial_layout(ENVIRONMENT))[-1].layout
    assert [(m.start - W >> 12, m.end - W >> 12) for m in layout[2:]] == [(0, 8)]
