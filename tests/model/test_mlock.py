"""mlock(2) and its relatives: what is locked, what is faulted in, what counts."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from model.flags import VM_LOCKED, VM_LOCKED_MASK, VM_LOCKONFAULT
from model.profile import PROFILES
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, at, play, scenes

OWN = ENVIRONMENT.locked_pages
ABLE = replace(ENVIRONMENT, capabilities=frozenset(("IPC_LOCK",)))
FOUR = replace(ENVIRONMENT, rlimit_memlock=(OWN + 4) * PAGE)

SCENES = {
    "the middle is cut out and faulted in": ("wwwwww", "mlock(W+2, 2p)", "0", "wwLLww"),
    "all pages that the range touches are locked": (
        "wwww", "mlock(W+1+0x10, 1p)", "0", "wLLw",
    ),
    "no length on a page boundary is nothing": ("ww", "mlock(W+0, 0)", "0", "ww"),
    "no length within a page is that page": ("ww", "mlock(W+0+0x1, 0)", "0", "Lw"),
    "what is locked merges with what is": ("wwww", "mlock(W+0, 2p); mlock(W+2, 2p)", "0, 0", "LLLL"),
    "on fault nothing is faulted in": ("wwww", "mlock2(W+1, 2p, MLOCK_ONFAULT)", "0", "wllw"),
    "an unknown flag is EINVAL": ("ww", "mlock2(W+0, 1p, 2)", "EINVAL", "ww"),
    "flags are an int": ("ww", "mlock2(W+0, 2p, 0x100000000)", "0", "LL"),
    "at a hole what lies before it is locked and not faulted in": (
        "ww..ww", "mlock(W+0, 6p)", "ENOMEM", "ll..ww",
    ),
    "a hole at the start is ENOMEM": ("..ww", "mlock(W+1, 3p)", "ENOMEM", "..ww"),
    "a range beyond the limit is ENOMEM, whether it wraps or not": (
        "ww", "mlock(W+0, 0xffffffffffff0000)", "ENOMEM", "ww",
    ),
    "a range that wraps to nothing is no error": (
        "ww", "mlock(W+0, 0xffffffffffffffff)", "0", "ww",
    ),
    "droppable memory is not locked, but faulted in": ("dd", "mlock(W+0, 2p)", "0", "DD"),
    "unlocking merges again, but what was faulted in stays so": (
        "wwww", "mlock(W+0, 4p); munlock(W+1, 2p)", "0, 0", "LWWL",
    ),
    "unlocking stops at a hole": ("LL..LL", "munlock(W+0, 6p)", "ENOMEM", "WW..LL"),
    "all that is mapped": ("ww..ww", "mlockall(MCL_CURRENT)", "0", "LL..LL"),
    "and on fault": ("ww..ww", "mlockall(MCL_CURRENT|MCL_ONFAULT)", "0", "ll..ll"),
    "and unlocked": ("LL..LL", "munlockall()", "0", "WW..WW"),
    "on fault alone is EINVAL": ("ww", "mlockall(MCL_ONFAULT)", "EINVAL", "ww"),
    "no flag is EINVAL": ("ww", "mlockall(0)", "EINVAL", "ww"),
    "what is locked later, until it is forgotten": (
        "ww",
        "mlockall(MCL_FUTURE);"
        " mmap(W+4, 1p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0);"
        " mlockall(MCL_CURRENT|MCL_ONFAULT);"
        " mmap(W+8, 1p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)",
        "0, W+4, 0, W+8",
        "ll..L...w",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_mlock(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(
    ("calls", "result"),
    [
        ("mlock(W+0, 4p)", "0"),
        ("mlock(W+0, 5p)", "ENOMEM"),
        ("mlock(W+0, 2p); mlock(W+1, 3p)", "0"),
        ("mlock(W+0, 2p); mlock(W+1, 4p)", "ENOMEM"),
        ("mlock2(W+0, 4p, MLOCK_ONFAULT); mlock(W+0, 4p)", "0"),
        ("mlockall(MCL_CURRENT)", "ENOMEM"),
        ("mlockall(MCL_FUTURE); mmap(0, 4p, 0, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)", "T-4"),
        ("mlockall(MCL_FUTURE); mmap(0, 5p, 0, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)", "EAGAIN"),
        ("setrlimit(RLIMIT_MEMLOCK, 0); mlock(W+0, 1p)", "EPERM"),
        ("setrlimit(RLIMIT_MEMLOCK, 0); mlockall(MCL_FUTURE)", "EPERM"),
        ("setrlimit(RLIMIT_MEMLOCK, 0); munlock(W+0, 1p)", "0"),
    ],
)
def test_the_limit(calls: str, result: str) -> None:
    drawing = Drawing("wwwwwwww", FOUR)
    assert drawing.do(calls)[-1] == result


def test_who_may_lock_everything_is_not_limited() -> None:
    drawing = Drawing(
        "wwww", replace(FOUR, rlimit_memlock=0, capabilities=frozenset(("IPC_LOCK",)))
    )
    assert drawing.do("mlock(W+0, 4p); mlockall(MCL_CURRENT)") == ["0", "0"]


def test_what_is_locked_twice_counts_once() -> None:
    drawing = Drawing("wwww")
    drawing.do("mlock(W+0, 3p); mlock2(W+1, 3p, MLOCK_ONFAULT); munlock(W+0, 1p)")
    assert drawing.space.locked_vm == OWN + 3
    assert drawing.vma(1).flags & VM_LOCKED_MASK == VM_LOCKED | VM_LOCKONFAULT


def test_pages_before_one_that_cannot_be_faulted_in_are_there() -> None:
    drawing = Drawing("ww|nww".replace("|", ""))
    assert drawing.do("mlock(W+0, 5p)") == ["ENOMEM"]
    present = [page for page in range(5) if at(page) // PAGE in drawing.space.ptes]
    assert present == [0, 1]
    assert all(drawing.vma(page).flags & VM_LOCKED for page in range(5))


def test_later_droppable_memory_is_not_locked_but_faulted_in() -> None:
    drawing = Drawing(".", profile=PROFILES["7.3"])
    drawing.do("mlockall(MCL_FUTURE|MCL_ONFAULT); mmap(W+0, 1p, PROT_READ|PROT_WRITE,"
               " MAP_DROPPABLE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)")  # fmt: skip
    assert not drawing.vma(0).flags & VM_LOCKED_MASK
    assert at(0) // PAGE in drawing.space.ptes


def test_a_range_that_wraps_is_einval() -> None:
    assert Drawing("ww", ABLE).do("mlock(W+0, 0xffffffffffff0000)") == ["EINVAL"]
