"""`fuzz.explain`: the rules a call went through, and that asking for them changes nothing."""

import sys

import pytest

from fuzz.explain import explain
from model.errors import Unmodelled
from model.run import Model
from tests.environments import ENVIRONMENT
from tests.pictures import PROFILE, Drawing

MODEL = Model(ENVIRONMENT, PROFILE)
ANON = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"


def rules(text: str) -> list[tuple[str, ...]]:
    return [rules for _, _, rules in explain(MODEL, Drawing(".").program(text))]


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ("munmap(W+0, 0)", "refused: munmap(2): the length is 0"),
        ("mprotect(W+0, 1p, 0)", "refused: mprotect(2): nothing is mapped in the range"),
        ("mremap(W+0, 1p, 1p, 8, NULL)", "refused: mremap(2): unknown flags"),
        ("mmap(W+0, 0, 0, 0, -1, 0)", "refused: mmap(2): no such descriptor"),
        ("uffd_register(uffd0, W+0, 1p, 0)", "refused: UFFDIO_REGISTER(2const): no mode"),
        ("madvise(W+0+0x10, 1p, 0)", "refused: madvise(2): the address is not page-aligned"),
    ],
)
def test_a_refusal_says_why(call: str, rule: str) -> None:
    assert rules(call)[0][-1].startswith(rule)


def test_a_refusal_is_said_once() -> None:
    refused = [rule for rule in rules("munmap(W+0, 0)")[0] if rule.startswith("refused")]
    assert len(refused) == 1


def test_rules_are_in_the_order_in_which_they_applied_and_have_sources() -> None:
    (said,) = rules(f"mmap(W+0, 2p, PROT_READ, {ANON}")
    assert said[0].startswith("mmap(2)")
    assert any("mm/vma.c: __mmap_region()" in rule for rule in said)
    assert len(set(said)) == len(said)


def test_each_call_has_its_own_rules_and_result() -> None:
    program = Drawing(".").program(f"mmap(W+0, 4p, 3, {ANON}; munmap(W+1, 1p)")
    explained = list(explain(MODEL, program))
    assert [call for call, _, _ in explained] == list(program)
    assert [value for _, value, _ in explained] == [program[0].addr, 0]
    assert explained[1][2][0].startswith("munmap(2)")


def test_yes_and_no_are_shown() -> None:
    (said,) = rules(f"mmap(W+0, 2p, PROT_READ, {ANON}")
    assert any(rule.endswith(("-- yes", "-- no")) for rule in said)


def test_explaining_is_not_another_run() -> None:
    program = Drawing(".").program(
        f"mmap(W+0, 4p, 3, {ANON}; touch(W+1, 1, write); mremap(W+1, 2p, 2p, 3, W+9)"
    )
    run = MODEL.start()
    assert [v for _, v, _ in explain(MODEL, program)] == [run.step(call) for call in program]


def test_the_trace_function_is_put_back() -> None:
    before = sys.gettrace()
    rules("munmap(W+0, 0)")
    program = Drawing(".").program(
        "mmap(NULL, 16400p, 0, MAP_SHARED|MAP_ANONYMOUS|MAP_HUGETLB, -1, 0)"
    )
    with pytest.raises(Unmodelled):
        list(explain(MODEL, program))
    assert sys.gettrace() is before
