"""Jumping over trace calls changes what is traced, and nothing else."""

import random
import sys
from types import CodeType
from typing import Any

import pytest

from fuzz.tracing import without_calls

atheris = pytest.importorskip("atheris", reason="Atheris has no wheel for this machine")

SOURCE = """
def f(x, y=3):
    out = []
    for i in range(x):
        try:
            if i % 3 == 0 and y or i > 4:
                out.append(g(i if i & 1 else -i, [k * 2 for k in range(i) if k & 1]))
            elif i == 5:
                raise ValueError(i)
            else:
                out.append((lambda q: q if q else y)(i))
        except ValueError as e:
            out.append(str(e))
        finally:
            y ^= 1
    match x:
        case 1:
            out.append("one")
        case 2 | 3:
            out.append("few")
        case _:
            out.append("many")
    while y < 4:
        y += 1
        if y == 2:
            continue
    return out, y

def g(a, b):
    return (a and b) or max([a, *b], default=0) if b else a
"""


def results(code: CodeType) -> list[Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return [names["f"](x) for x in range(12)]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    numbers: set[int] = set()
    monkeypatch.setattr(atheris, "_trace_branch", numbers.add)
    return numbers


def test_any_subset_can_be_skipped(traced: set[int]) -> None:
    plain = compile(SOURCE, "plain", "exec")
    first = atheris._reserve_counter()
    instrumented = atheris.patch_code(plain, False)
    numbers = range(first + 1, atheris._reserve_counter())
    assert results(instrumented) == results(plain)
    whole = set(traced)
    assert len(whole) > 30
    rng = random.Random(1)
    for _ in range(50):
        skipped = set(rng.sample(numbers, rng.randrange(len(numbers) + 1)))
        traced.clear()
        assert results(without_calls(instrumented, atheris, skipped)) == results(plain)
        assert traced == whole - skipped


def test_skipping_twice_is_skipping_once(traced: set[int]) -> None:
    first = atheris._reserve_counter()
    instrumented = atheris.patch_code(compile(SOURCE, "plain", "exec"), False)
    every = range(first, atheris._reserve_counter())
    skipped = without_calls(instrumented, atheris, every)
    assert without_calls(skipped, atheris, every) is skipped
    results(skipped)
    assert not traced


def test_code_without_calls_is_left_alone() -> None:
    code = compile(SOURCE, "plain", "exec")
    assert without_calls(code, sys, range(1000)) is code
