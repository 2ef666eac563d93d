"""UFFDIO_WRITEPROTECT: which pages it protects, and what becomes of that."""

import pytest

from abi.environment import Environment
from model.errors import Unmodelled
from model.profile import GUARD_INSTALL_LOOPS, PROFILES, Profile
from model.space import PTE_WP
from tests.environments import ENVIRONMENT, SHARED
from tests.pictures import Drawing

REGISTER = "uffd_register({}, W+0, {}p, UFFDIO_REGISTER_MODE_WP)".format
PROTECT = "uffd_writeprotect({}, W+{}, {}p, UFFDIO_WRITEPROTECT_MODE_WP)".format
WRITE = "touch(W+0, 4, write)"
#: Where a registration for another mode leaves pages marked.
OLD = PROFILES["6.18"]


def results(
    picture: str,
    *calls: str,
    profile: Profile = PROFILES["7.3"],
    environment: Environment = ENVIRONMENT,
) -> str:
    """The result of the last call."""
    return Drawing(picture, environment, profile).do(";".join(calls))[-1]


@pytest.mark.parametrize(
    ("picture", "fd", "before", "expected"),
    [
        ("wwww", "uffd0", "touch(W+1, 1, write)", "ok BUS ok ok"),
        ("wwww", "uffd0", "touch(W+1, 1, read)", "ok BUS ok ok"),
        ("wwww", "uffd2", "touch(W+1, 1, write)", "BUS BUS BUS ok"),
        ("mmmm", "uffd0", "touch(W+1, 1, write)", "BUS BUS BUS ok"),
        ("pppp", "uffd0", "touch(W+1, 1, read)", "BUS BUS BUS ok"),
        ("ssss", "uffd2", "touch(W+1, 1, read)", "BUS BUS BUS ok"),
    ],
)
def test_what_is_protected(picture: str, fd: str, before: str, expected: str) -> None:
    assert results(picture, REGISTER(fd, 4), before, PROTECT(fd, 0, 3), WRITE) == expected


@pytest.mark.parametrize(
    ("picture", "call", "expected"),
    [
        ("wwww", "madvise(W+1, 1p, MADV_DONTNEED)", "BUS ok BUS ok"),
        ("mmmm", "madvise(W+1, 1p, MADV_DONTNEED)", "BUS BUS BUS ok"),
        ("mmmm", "madvise(W+1, 2p, MADV_REMOVE)", "BUS BUS BUS ok"),
        ("mmmm", "madvise(W+0, 4p, MADV_PAGEOUT)", "BUS BUS BUS ok"),
        ("wwww", "madvise(W+0, 4p, MADV_FREE)", "BUS BUS BUS ok"),
        ("wwww", "mprotect(W+0, 4p, PROT_READ); mprotect(W+0, 4p, 3)", "BUS BUS BUS ok"),
        ("wwww", "uffd_writeprotect(uffd1, W+0, 2p, 0)", "ok ok BUS ok"),
        ("mmmm", "uffd_unregister(uffd0, W+1, 1p)", "BUS ok BUS ok"),
        ("wwww", "fork()", "BUS BUS BUS ok"),
    ],
)
def test_what_becomes_of_it(picture: str, call: str, expected: str) -> None:
    before = REGISTER("uffd0", 4), WRITE, PROTECT("uffd0", 0, 3)
    assert results(picture, *before, call, WRITE) == expected


@pytest.mark.parametrize("picture", ["wwww", "mmmm"])
@pytest.mark.parametrize(
    ("fd", "expected"), [("uffd0", "ok ok ok ok"), ("uffd2", "BUS BUS BUS ok")]
)
def test_a_move_forgets_unless_it_is_reported(picture: str, fd: str, expected: str) -> None:
    move = "mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)"
    calls = REGISTER(fd, 4), WRITE, PROTECT(fd, 0, 3), move, "touch(W+20, 4, write)"
    assert results(picture, *calls) == expected


@pytest.mark.parametrize(
    ("picture", "touched", "pages"),
    [
        ("wwww", "write", "BUS BUS ok ok"),  # marked still, and writable
        ("wwww", "read", "ok ok ok ok"),  # the copy of the zero page is not marked
        ("pppp", "read", "ok ok ok ok"),
    ],
)
def test_marks_outlive_their_registration(picture: str, touched: str, pages: str) -> None:
    drawing = Drawing(picture, profile=OLD)
    drawing.do(f"{REGISTER('uffd0', 4)}; touch(W+0, 2, {touched}); {PROTECT('uffd0', 0, 2)}")
    other = "UFFDIO_REGISTER_MODE_MISSING"
    drawing.do(f"uffd_register(uffd0, W+0, 4p, {other}); touch(W+0, 2, write)")
    marked = [bool(drawing.space.ptes[(W0 >> 12) + i] & PTE_WP) for i in range(2)]
    assert marked == [page == "BUS" for page in pages.split()[:2]]
    assert drawing.do(f"{REGISTER('uffd0', 4)}; touch(W+0, 2, write)")[-1] == "ok ok"
    drawing.do("fork()")
    assert drawing.do("touch(W+0, 2, write)")[-1].split() == pages.split()[:2]


W0 = ENVIRONMENT.geometry.window


def test_old_marks_follow_the_protection_of_the_mapping() -> None:
    for picture, again in (("wwww", "ok"), ("mmmm", "ok")):
        drawing = Drawing(picture, profile=OLD)
        drawing.do(f"{REGISTER('uffd0', 4)}; {WRITE}; {PROTECT('uffd0', 0, 1)}")
        drawing.do("uffd_register(uffd0, W+0, 4p, 4)" if picture == "mmmm" else
                   "uffd_register(uffd0, W+0, 4p, 1)")  # fmt: skip
        drawing.do("mprotect(W+0, 4p, PROT_READ); mprotect(W+0, 4p, 3)")
        assert drawing.do(f"{REGISTER('uffd0', 4)}; touch(W+0, 1, write)")[-1] == again
        drawing.do("mprotect(W+0, 4p, PROT_READ); mprotect(W+0, 4p, 3)")
        assert drawing.do("touch(W+0, 1, write)") == ["BUS"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (PROTECT("uffd0", 0, 2), "ENOENT"),
        (PROTECT("uffd0", 1, 3), "ENOENT"),
        (PROTECT("uffd0", 9, 1), "ENOENT"),
        (PROTECT("memfd", 2, 1), "ENOTTY"),
        (PROTECT("999", 2, 1), "EBADF"),
        ("uffd_writeprotect(uffd0, W+2, 0, 0)", "EINVAL"),
        ("uffd_writeprotect(uffd0, W+2, 1p, 4)", "EINVAL"),
        ("uffd_writeprotect(uffd0, W+2, 1p, 3)", "EINVAL"),
        ("uffd_writeprotect(uffd1, W+2, 1p, 2)", "0"),
    ],
)
def test_refusals(call: str, expected: str) -> None:
    register = "uffd_register(uffd0, W+2, 2p, UFFDIO_REGISTER_MODE_WP)"
    assert results("wwww", register, call) == expected


def test_populating_stops_at_a_protected_page() -> None:
    calls = REGISTER("uffd0", 4), "touch(W+2, 1, write)", PROTECT("uffd0", 0, 4)
    assert results("wwww", *calls, "madvise(W+0, 4p, MADV_POPULATE_WRITE)") == "EFAULT"


def test_the_executors_own_memory() -> None:
    at = f"{SHARED.start:#x}"
    with pytest.raises(Unmodelled, match="own memory"):
        results(
            "w",
            f"uffd_register(uffd0, {at}, 1p, UFFDIO_REGISTER_MODE_WP)",
            f"uffd_writeprotect(uffd0, {at}, 1p, UFFDIO_WRITEPROTECT_MODE_WP)",
        )


def test_guards_over_shared_memory_never_end() -> None:
    assert GUARD_INSTALL_LOOPS in PROFILES["7.3"].changes
    calls = REGISTER("uffd0", 4), PROTECT("uffd0", 1, 2), "madvise(W+0, 4p, MADV_GUARD_INSTALL)"
    assert results("mmmm", *calls) == "ETIME"
    assert results("mmmm", *calls, "touch(W+0, 4, write)") == "SEGV BUS BUS ok"
    assert results("wwww", *calls) == "0"
    with pytest.raises(Unmodelled, match="never ends"):
        results("mmmm", *calls[:2], "process_madvise(W+0, 4p, MADV_GUARD_INSTALL, 0)")
