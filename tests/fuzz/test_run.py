"""`vmadiff run` on a kernel that complains: that it does is said, and is no success."""

import json
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuzz import commands
from tests.fuzz.machine import NEW, FakeExecutor
from tests.fuzz.reports import REPORTS
from tests.fuzz.test_matrix import cut, dies
from tests.fuzz.test_worker import WARNED, warn

PROGRAM = "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\nmunmap(W+0, 1p)\n"


def run(
    executor: FakeExecutor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[str]]:
    """The exit status, and what the kernel is said to have reported."""

    @contextmanager
    def lend(options: Namespace) -> Iterator[FakeExecutor]:
        yield executor

    monkeypatch.setattr(commands, "_executor", lend)
    monkeypatch.setattr(commands, "probe_profile", lambda executor: NEW)
    program, out = directory / "a.prog", directory / "out.json"
    program.write_text(PROGRAM)
    status = commands.run(Namespace(files=[program], layouts=False, json=out))
    return status, json.loads(out.read_text())["reports"]


@pytest.mark.parametrize(
    ("executor", "status", "reports"),
    [
        (FakeExecutor(NEW), 0, []),
        (FakeExecutor(NEW, console=WARNED.encode()), 0, []),
        (FakeExecutor(NEW, says=warn), 1, ["the kernel reported: WARNING in move_vma"]),
        (
            FakeExecutor(NEW, cut, dies),
            1,
            [f"the kernel reported: {REPORTS['null pointer'].title}"],
        ),
    ],
    ids=["silent", "before", "warns", "dies"],
)
def test_reports(
    executor: FakeExecutor,
    status: int,
    reports: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    got, told = run(executor, tmp_path, monkeypatch)
    assert (got, [text.partition(" < ")[0] for text in told]) == (status, reports)
    printed = capsys.readouterr().out
    assert all(text in printed for text in told)
    assert ("Call Trace" in printed or "end trace" in printed) == bool(reports)
