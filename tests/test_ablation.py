"""The table of bench/ablation.py."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fuzz.mistakes import MISTAKES


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    path = Path(__file__).parent.parent / "bench" / "ablation.py"
    spec = importlib.util.spec_from_file_location("ablation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(arm: str, mistake: str, sequences: int, found: bool = True) -> dict[str, Any]:
    return {
        "arm": arm,
        "mistake": mistake,
        "sequences": sequences,
        "seconds": sequences / 1000,
        "found": found,
    }


def test_arms_are_compared_by_what_a_find_takes(ablation: ModuleType) -> None:
    rows = [row("model", "a", count) for count in (90, 110, 400)]
    rows += [row("none", "a", 200), row("none", "a", 1000, found=False)]
    rows += [row("model", "b", 1000), row("none", "b", 1500, found=False)]
    text = ablation.table(rows)
    none, model = (line.split() for line in text.splitlines()[1:3])
    assert none[:4] == ["none", "1", "of", "3"]
    assert none[-8:-4] == none[-4:], "seconds are as sequences here"
    assert none[-4] == "4.24", "the mean of 6 and 3, which was never found"
    assert none[-3:] == ["(1.42", "..", "10.78)"], "had other seeds come twice"
    assert (model[0], model[-4]) == ("model", "1.00")
    a, b = (line.split() for line in text.splitlines()[-2:])
    assert a == ["a", "600", "1,200", "110", "200"]
    assert b == ["b", "1,500", ">", "1,500", "1,000", "1,000"]


def test_the_mistakes_exist(ablation: ModuleType) -> None:
    assert set(ablation.HARD) <= {mistake.name for mistake in MISTAKES}
