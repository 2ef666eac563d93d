"""setrlimit(2): soft limits below hard ones, and what they do from then on."""

from dataclasses import replace

import pytest

from abi.calls import Setrlimit
from abi.consts import PAGE
from model.errors import Unmodelled
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing

OWN = ENVIRONMENT.total_pages
ANON = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0"
RW = "PROT_READ|PROT_WRITE"


def last(calls: str) -> str:
    return Drawing("ww").do(calls)[-1]


def test_above_the_hard_limit_is_einval() -> None:
    machine = replace(ENVIRONMENT, rlimit_memlock_max=5 * PAGE)
    drawing = Drawing(".", machine)
    calls = "setrlimit(RLIMIT_MEMLOCK, 5p); setrlimit(RLIMIT_MEMLOCK, 5p+0x1)"
    assert drawing.do(calls) == ["0", "EINVAL"]


def test_another_resource_is_not_known() -> None:
    with pytest.raises(Unmodelled):
        Drawing(".").make(Setrlimit(1, 0))


@pytest.mark.parametrize(
    ("calls", "result"),
    [
        (f"setrlimit(RLIMIT_AS, {OWN + 4}p); mmap(W+2, 2p, 0, {ANON})", "W+2"),
        (f"setrlimit(RLIMIT_AS, {OWN + 4}p); mmap(W+2, 3p, 0, {ANON})", "ENOMEM"),
        (f"setrlimit(RLIMIT_AS, 0); mmap(W+0, 2p, 0, {ANON})", "ENOMEM"),
        (f"setrlimit(RLIMIT_DATA, 3p); mmap(W+2, 1p, {RW}, {ANON})", "W+2"),
        (f"setrlimit(RLIMIT_DATA, 3p); mmap(W+2, 2p, {RW}, {ANON})", "ENOMEM"),
        (f"setrlimit(RLIMIT_DATA, 3p); mmap(W+2, 2p, PROT_READ, {ANON})", "W+2"),
        (f"setrlimit(RLIMIT_DATA, 0); mmap(W+2, 2p, {RW}, {ANON})", "W+2"),
        (f"setrlimit(RLIMIT_DATA, 1); mmap(W+2, 2p, {RW}, {ANON})", "ENOMEM"),
    ],
)
def test_what_it_does(calls: str, result: str) -> None:
    assert last(calls) == result


def test_a_soft_limit_of_no_data_means_the_hard_one() -> None:
    machine = replace(ENVIRONMENT, rlimit_data=0, rlimit_data_max=3 * PAGE)
    drawing = Drawing("ww", machine)
    calls = f"mmap(W+2, 1p, {RW}, {ANON}); mmap(W+3, 1p, {RW}, {ANON})"
    assert drawing.do(calls) == ["W+2", "ENOMEM"]


def test_a_stack_grows_up_to_its_limit() -> None:
    drawing = Drawing(".......gg")
    calls = "setrlimit(RLIMIT_STACK, 4p); touch(W+4, 1, write); touch(W+5, 1, write)"
    assert drawing.do(calls) == ["0", "SEGV", "ok"]


def test_limits_are_those_of_one_program() -> None:
    drawing = Drawing("ww")
    copy = drawing.space.copy()
    drawing.do("setrlimit(RLIMIT_AS, 0)")
    assert copy.limits != drawing.space.limits
