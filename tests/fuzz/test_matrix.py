"""Programs on several kernels: what each says of each, and that none has to wait for one that is gone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from abi.calls import Program
from fuzz import matrix
from fuzz.matrix import Column, compare, lines, to_json
from kernel_bridge import BridgeError
from model.profile import Profile
from tests.fuzz.machine import NEW, OLD, FakeExecutor, FakeLoss
from tests.fuzz.reports import REPORTS
from tests.fuzz.test_worker import APART, MAP, MOVE, UNMAP, WARNED

OOPS = REPORTS["null pointer"]
PROGRAMS: list[tuple[str, Program]] = [
    ("map", (MAP,)), ("move", (MAP, APART, MOVE)), ("unmap", (MAP, UNMAP)),
]  # fmt: skip


class Machine(FakeExecutor):
    """One that is closed at the end of a block."""

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def dies(program: Program) -> FakeLoss | None:
    return FakeLoss("crash", "the kernel was lost", OOPS.text) if UNMAP in program else None


def cut(program: Program, data: bytes) -> bytes:
    return b"" if UNMAP in program else data


def gone() -> Machine:
    raise BridgeError("the guest does not boot")


KERNELS: dict[str, Callable[[], Machine]] = {
    "new": lambda: Machine(NEW),
    "old": lambda: Machine(OLD),
    "warns": lambda: Machine(NEW, says=lambda each: WARNED.encode() if UNMAP in each else b""),
    "dies": lambda: Machine(NEW, cut, dies),
    "gone": gone,
}


class FakeTarget:
    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> "FakeTarget":
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, *, user: bool) -> Machine:
        return KERNELS[self.name]()

    def describe(self) -> str:
        return "nothing"


class Probed:
    profile: Profile = NEW


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(matrix, "Target", FakeTarget)
    monkeypatch.setattr(matrix, "examine", lambda executor: Probed())
    return []


def ask(said: list[str], *kernels: str) -> list[Column]:
    def maker(program: Program) -> Callable[[Any], Program]:
        return lambda geometry: program

    programs = [(name, maker(program)) for name, program in PROGRAMS]
    return compare(programs, kernels, said.append)


def verdicts(column: Column) -> list[str]:
    return [cell.verdict for cell in column.cells]


def test_verdicts(said: list[str]) -> None:
    columns = dict(zip(KERNELS, ask(said, *KERNELS), strict=True))
    assert {name: verdicts(column) for name, column in columns.items()} == {
        "new": ["agrees"] * 3,
        "old": ["agrees", "diverges", "agrees"],
        "warns": ["agrees"] * 3,
        "dies": ["agrees", "agrees", "crashed"],
        "gone": ["unknown"] * 3,
    }
    assert columns["gone"].problem == "the guest does not boot"
    text = "\n".join(lines(list(columns.values())))
    assert f"crashed: the kernel reported: {OOPS.title}" in text
    assert "warns: the kernel reported: WARNING in move_vma" in text
    assert "warns: the kernel reported: WARNING in move_vma" in said
    rows = json.loads(json.dumps(to_json(list(columns.values()))))["kernels"]
    assert [len(row["reports"]) for row in rows] == [0, 0, 1, 0, 0]


def test_what_is_known_of_a_kernel_is_not_held_against_it(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "divergences"
    known.mkdir()
    (death,) = [cell.detail for cell in ask(said, "dies")[0].cells if cell.verdict == "crashed"]
    signatures = [death, "the kernel reported: WARNING in move_vma"]
    entry = {"signatures": signatures, "kernels": ["0.0.*"], "cause": "mm/x.c: f()", "fixed": ""}
    (known / "x.json").write_text(json.dumps(entry))
    (known / "x.prog").write_text("munmap(W+0, 1p)\n")
    monkeypatch.setattr(matrix.corpus, "DIVERGENCES", known)
    dead, warned = ask(said, "dies", "warns")
    assert verdicts(dead) == ["agrees", "agrees", "known"]
    assert warned.reports == ()
