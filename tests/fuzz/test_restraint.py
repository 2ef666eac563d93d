"""What programs may not do."""

from dataclasses import replace

import pytest

from abi.calls import (
    Call,
    Madvise,
    Mlock2,
    Mmap,
    Mremap,
    Munmap,
    Prctl,
    ProcessMadvise,
    Setrlimit,
)
from abi.consts import (
    FD_NAMES,
    MADV_DONTNEED,
    MADV_HWPOISON,
    MADV_POPULATE_WRITE,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    PAGE,
    PR_SET_MDWE,
    RLIMIT_AS,
)
from fuzz.restraint import cheapen, is_costly, restrain, restrain_program
from kernel_bridge import policy

ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


@pytest.mark.parametrize("advice", [MADV_HWPOISON, MADV_SOFT_OFFLINE])
@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_poisoning_becomes_an_unknown_advice(advice: int, high: int) -> None:
    (call,) = restrain_program((Madvise(PAGE, PAGE, advice | high),))
    assert isinstance(call, Madvise)
    assert call.advice & 0xFFFFFFFF in (356, 357)
    poison = Madvise(PAGE, PAGE, advice | high)
    assert restrain(poison, unprivileged=True) == poison


@pytest.mark.parametrize(
    "call",
    [
        Mmap(0, 64 << 20, 3, ANON | MAP_POPULATE, -1, 0),
        Mmap(0, 64 << 20, 3, ANON | MAP_LOCKED, -1, 0),
        Madvise(0, 1 << 40, MADV_POPULATE_WRITE),
        ProcessMadvise(0, 1 << 40, MADV_POPULATE_WRITE, 0),
        Mlock2(0, 1 << 30, 1),
    ],
)
def test_what_costs_much_can_be_cheapened(call: Call) -> None:
    assert is_costly(call)
    assert type(cheapen(call)) is type(call)
    assert not is_costly(cheapen(call))


@pytest.mark.parametrize(
    "call",
    [
        Mmap(0, 300 << 20, 3, ANON, -1, 0),
        Mmap(0, 1 << 20, 3, ANON | MAP_POPULATE, -1, 0),
        Madvise(0, 1 << 40, MADV_DONTNEED),
        Munmap(0, 1 << 40),
    ],
)
def test_other_calls_are_left_alone(call: Call) -> None:
    assert not is_costly(call)
    assert restrain(call) is call
    assert cheapen(Munmap(0, PAGE)) == Munmap(0, PAGE)


@pytest.mark.parametrize("option", [0, 1, 39, 0x53564D41, 1 << 32])
def test_only_known_options_and_resources_are_sent(option: int) -> None:
    changed = restrain_program((Prctl(option, 1, 2), Setrlimit(option, PAGE)))
    prctl, limit = changed
    assert isinstance(prctl, Prctl)
    assert isinstance(limit, Setrlimit)
    assert (prctl.value, prctl.extra, limit.limit) == (1, 2, PAGE)
    assert policy.refusal(changed, sys_admin=False) == ""
    known = (Prctl(PR_SET_MDWE, 1, 0), Setrlimit(RLIMIT_AS | 1 << 32, PAGE))
    assert restrain_program(known) == known


@pytest.mark.parametrize("advice", [MADV_HWPOISON, MADV_SOFT_OFFLINE])
def test_poison_by_process_madvise_is_neither_made_nor_sent(advice: int) -> None:
    poison = (ProcessMadvise(PAGE, PAGE, advice, 0),)
    assert policy.refusal(poison, sys_admin=True)
    assert not policy.refusal(restrain_program(poison), sys_admin=True)
    assert not policy.refusal(poison, sys_admin=False)


@pytest.mark.parametrize("fd", [-1, FD_NAMES["hugetlb"]])
def test_private_huge_pages_are_not_reserved(fd: int) -> None:
    flags = MAP_PRIVATE | (MAP_ANONYMOUS | MAP_HUGETLB if fd < 0 else 0)
    reserving = Mmap(0, PAGE, 3, flags, fd, 0)
    moved = Mremap(0, PAGE, PAGE, 1, 0)
    assert policy.refusal((reserving, moved), sys_admin=False)
    assert not policy.refusal((reserving,), sys_admin=False)
    assert not policy.refusal((moved, reserving), sys_admin=False)
    assert restrain(reserving) == replace(reserving, flags=flags | MAP_NORESERVE)
    assert not policy.refusal(restrain_program((reserving, moved)), sys_admin=False)
