"""`vmadiff run` on a kernel that complains: that it does is said, and is no success."""

import json
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuzz import commands
from tests.fuzz.machine import NEW, OLD, FakeExecutor
from tests.fuzz.reports import REPORTS
from tests.fuzz.test_matrix import cut, dies
from tests.fuzz.test_worker import WARNED, warn

PROGRAM = "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\nmunmap(W+0, 1p)\n"
GUARD = (
    "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
    "madvise(W+0, 1p, MADV_GUARD_INSTALL)\n"
)


def run(
    executor: FakeExecutor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[str]]:
    """The exit status, and what the kernel is said to have reported."""

    @contextmanager
    def lend(options: Namespace) -> Iterator[FakeExecutor]:
        yield executor

    monkeypatch.setattr(commands, "_executor", lend)
    monkeypatch.setattr(commands, "profile_for", lambda executor, release: NEW)
    program, out = directory / "a.prog", directory / "out.json"
    program.write_text(PROGRAM)
    status = commands.run(
        Namespace(
            files=[program], layouts=False, vma_tests=None, json=out, format="text", profile=None
        )
    )
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


def test_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def lend(options: Namespace) -> Iterator[FakeExecutor]:
        yield FakeExecutor(OLD)

    monkeypatch.setattr(commands, "_executor", lend)
    monkeypatch.setattr(commands, "profile_for", lambda executor, release: NEW)
    path = tmp_path / "a.prog"
    path.write_text(f"# a comment\n{PROGRAM}# next program\n\n{GUARD}")
    options = Namespace(
        files=[path], layouts=False, vma_tests=None, json=None, format="json", profile=None
    )
    assert commands.run(options) == 1
    agrees, diverges = json.loads(capsys.readouterr().out)["results"]
    assert (agrees["name"], agrees["verdict"], agrees["line"]) == (f"{path}#1", "agrees", 0)
    assert (diverges["name"], diverges["verdict"]) == (f"{path}#2", "diverges")
    assert (diverges["file"], diverges["line"]) == (str(path), 7)
    gist, told, *_ = diverges["detail"].splitlines()
    assert gist == "madvise[GUARD_INSTALL] result: model 0, kernel EINVAL"
    assert told == f"{path}#2: diverges at call 2 in its result"


def test_format_tells_what_the_kernel_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def lend(options: Namespace) -> Iterator[FakeExecutor]:
        yield FakeExecutor(NEW, says=warn)

    monkeypatch.setattr(commands, "_executor", lend)
    monkeypatch.setattr(commands, "profile_for", lambda executor, release: NEW)
    path = tmp_path / "a.prog"
    path.write_text(PROGRAM)
    options = Namespace(
        files=[path], layouts=False, vma_tests=None, json=None, format="json", profile=None
    )
    assert commands.run(options) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(each["name"], each["verdict"]) for each in results] == [
        (str(path), "agrees"),
        ("WARNING in move_vma", "crashed"),
    ]
