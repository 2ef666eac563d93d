"""Sessions that go on: what is kept, what is refused, and that a kill of everything loses no finding and no figure that
was written."""

import json
import os
import random
import signal
import subprocess
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz import history
from fuzz.inflight import leftovers
from fuzz.resume import Past, began, check_kernel, read, take_up, tidy, untold, write
from fuzz.status import UsageError
from tests.fuzz.test_cli import (
    STARTED,
    family,
    is_gone,
    mistaken,
    run,
    start,
    wait_until,
)
from tests.fuzz.test_crew import run as run_session

__all__ = ["mistaken"]

OPTIONS: dict[str, Any] = {
    "corpus": "elsewhere", "profile": "6.18", "changes": ["a", "b"], "seed": 5, "workers": 2, "seconds": 60.0,
    "runs": None, "guided": True, "seeds": False, "unmask": False, "user": True, "target": "local", "also": ["7.2.6"],
    "release": "6.18.1", "held": "",
}  # fmt: skip
SUMS = {"sequences": 100, "calls": 700, "unstable": 1, "losses": 2, "statistics": {"mremaps": 4}}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def dead() -> int:
    """A process id that is not in use."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid


def past(**fields: Any) -> Past:
    given = {"process": (dead(), 1), "at": 1000, "seconds": 20.0, "sums": SUMS, **fields}
    return Past(**{"session": "one", "options": OPTIONS, **given})


def words(state: Path, **given: Any) -> Namespace:
    """The command line."""
    nothing = dict.fromkeys(("time", "runs", "seed", "corpus", "workers", "target", "profile"))
    off = dict.fromkeys(("user", "unmask", "unguided", "unseeded"), False)
    return Namespace(**{"state": state, **nothing, **off, **given})


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    one = past(covered=[1, 5], findings={"x": {"path": "p"}})
    write(tmp_path, one, begins=True)
    assert read(tmp_path) == one
    for damage in ("{", "[]", '{"session": "one"}'):
        (tmp_path / "session.json").write_text(damage)
        assert read(tmp_path) is None


def test_it_is_that_of_the_last_session(tmp_path: Path) -> None:
    write(tmp_path, past(), begins=True)
    write(tmp_path, past(session="two"), begins=True)
    write(tmp_path, past(seconds=30.0))
    assert read(tmp_path) == past(session="two", process=read(tmp_path).process)  # type: ignore[union-attr]


def test_what_is_not_said_anew_is_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, past(), begins=True)
    options = words(tmp_path)
    assert take_up(options).sums == SUMS
    assert (options.time, options.runs, options.seed, options.workers) == (60.0, None, 5, 2)
    assert (options.target, options.profile) == (["local", "7.2.6"], None)
    assert options.corpus == Path("elsewhere")
    assert (options.user, options.unmask, options.unguided, options.unseeded) == (
        True, False, False, True,
    )  # fmt: skip
    options = words(tmp_path, time=90.0, workers=1, seed=6, target=["local", "7.2.6"])
    take_up(options)
    assert (options.time, options.seed, options.workers) == (90.0, 6, 1)


@pytest.mark.parametrize(
    ("fields", "given", "said"),
    [
        ({"process": (os.getpid(), began(os.getpid()))}, {}, "is running"),
        ({}, {"target": ["7.2.6"]}, "is on local and 7.2.6"),
        ({}, {"profile": "6.12"}, "expects no release"),
        ({"seconds": 60.0}, {}, "give a longer --time"),
        ({}, {"time": 20.0}, "has run 20 s and 100 sequences"),
        ({}, {"runs": 100}, "or more --runs"),
        ({"options": {"target": "local"}}, {}, "another version"),
    ],
)
def test_what_cannot_go_on(
    fields: dict[str, Any], given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write(tmp_path, past(**fields), begins=True)
    with pytest.raises(UsageError, match=said):
        take_up(words(tmp_path, **given))


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no session to resume"):
        take_up(words(tmp_path))


def test_another_kernel_is_refused(tmp_path: Path) -> None:
    check_kernel(past(), tmp_path, "6.18.1", "6.18", ["a", "b"])
    for kernel in (("6.18.2", "6.18", ["a", "b"]), ("6.18.1", "6.18", ["a"])):
        with pytest.raises(UsageError, match=r"was on 6.18.1 with profile 6.18"):
            check_kernel(past(), tmp_path, *kernel)


def test_findings_that_nobody_was_told_of(tmp_path: Path) -> None:
    """Written by a worker whose supervisor was dead."""
    places = {
        "findings/told": ("told", 2000), "findings/untold": ("untold", 2000), "findings/older": ("older", 500),
        "targets/7.2.6/findings/there": ("there", 1500), "findings/model": ("", 1500),
    }  # fmt: skip
    for name, (signature, at) in places.items():
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "report.md").write_text("the model failed\n\ncalls\n")
        (path / "program").touch()
        os.utime(path / "program", (at, at))
        if signature:
            (path / "finding.json").write_text(json.dumps({"signature": signature}))
    found = dict(untold(past(findings={"told": {}}), tmp_path))
    assert found == {
        "untold": f"{tmp_path}/findings/untold",
        "the model failed": f"{tmp_path}/findings/model",
        "there [7.2.6]": f"{tmp_path}/targets/7.2.6/findings/there",
    }


def test_what_was_half_written_goes(tmp_path: Path) -> None:
    corpus, gone = tmp_path / "corpus", dead()
    mine = tmp_path / f".new-{os.getpid()}-history"
    finding = tmp_path / "findings" / "x"
    for path in (corpus, finding, tmp_path / "findings" / f".new-{gone}-y", tmp_path / "losses"):
        path.mkdir(parents=True)
    (tmp_path / "findings" / f".new-{gone}-y" / "program").touch()
    for path in (
        mine, corpus / f".new-{gone}-a.prog", finding / f".new-{gone}-seen.json", tmp_path / f".new-{gone}-i",
        tmp_path / f"worker-{gone}-0.log", tmp_path / "worker-1-0.log", corpus / "a.prog",
    ):  # fmt: skip
        path.touch()
    tidy(tmp_path, corpus, gone)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {mine.name, "corpus/a.prog", "worker-1-0.log"}


def test_figures_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions, the second with what the first left; workers that stand in for real ones."""
    work = """
tell("stats", sequences=settings["runs"] or 30, calls=7, unstable=1, losses=0, occurrences={}, blocks=9,
     unmodelled={"why": 2}, executor_restarts=1, statistics={"mremaps": 5, "moves": 1}, reached=[0, settings["seed"]],
     branches=1000, made=3)
tell("follower", name="7.2.6", sequences=20, calls=10, occurrences={})
finding("x")
tell("finding", signature="k", path="", cause="explained", report="", kernel="", signature_there="k")
end()
"""
    asked: dict[str, Any] = {"also": ("7.2.6",), "workers": 2, "resumable": True}
    first, notes = run_session(tmp_path, monkeypatch, work, runs=60, **asked)
    assert [note.partition(":")[0] for note in notes] == ["NEW divergence", "known divergence"]
    one = read(tmp_path / "state")
    assert one is not None
    assert one.sums["sequences"] == 60
    assert 0 < one.seconds <= first.figures.seconds
    again, notes = run_session(tmp_path, monkeypatch, work, runs=100, past=one, **asked)
    assert notes == [], "neither is new"
    assert (list(again.new), list(again.known)) == (["x"], ["k"])
    f, was = again.figures, first.figures
    assert (was.sequences, f.sequences) == (60, 100), "what was left of the runs"
    assert (f.calls, f.unstable, f.executor_restarts, f.unmodelled) == (28, 4, 4, {"why": 8})
    assert (again.statistics, again.made) == ({"mremaps": 20, "moves": 4}, 12)
    assert (f.new, f.known, f.branches, f.blocks) == (1, 1, 1000, 9)
    assert (was.covered, f.covered) == (3, 5), "seeds were others, and all numbers count"
    assert again.also == {"7.2.6": {"sequences": 80, "calls": 40}}
    assert f.seconds > was.seconds
    points, _ = history.read(tmp_path / "state")
    assert len(history.sessions(points)) == 1
    assert [point.sequences for point in points] == sorted(point.sequences for point in points)
    two = read(tmp_path / "state")
    assert two is not None
    assert (two.session, two.resumed, two.at) == (one.session, 1, one.at)


def test_branches_of_another_instrumentation_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = "stats(1)\nend()\n"  # of no branches
    (tmp_path / "state").mkdir()
    one = past(covered=[1, 2, 3], branches=1000, options={**OPTIONS, "also": []})
    again, _ = run_session(tmp_path, monkeypatch, work, past=one, runs=101)
    assert (again.figures.covered, again.figures.branches) == (0, 0)


def kill_everything(process: subprocess.Popen[str]) -> None:
    """kill -9 of supervisor, workers and executors."""
    members = family(process.pid)
    for pid in (process.pid, *members):
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=10)
    wait_until(lambda: all(is_gone(pid) for pid in members))


def test_killed_with_all_it_started_it_goes_on(mistaken: Path, tmp_path: Path) -> None:
    """At any moment, again and again: what was written counts on, and what was found is not new again."""
    state = tmp_path / ".vmadiff"
    rng = random.Random(1)
    found = "NEW divergence: munmap result: model ENOMEM, kernel EINVAL"
    process = start("fuzz", "--time", 0, "--workers", 2, cwd=tmp_path, root=mistaken)
    wait_until(lambda: (one := read(state)) and one.findings)
    kill_everything(process)
    assert process.stdout is not None
    kept = read(state)
    assert kept is not None and not kept.is_running
    for _ in range(3):
        process = start("fuzz", "--resume", cwd=tmp_path, root=mistaken)
        wait_until(lambda: (one := read(state)) and one.is_running and leftovers(state))
        time.sleep(rng.uniform(0, 1))
        kill_everything(process)
        now = read(state)
        assert now is not None
        assert (now.session, now.resumed) == (kept.session, kept.resumed + 1)
        assert now.incarnation > kept.incarnation
        assert now.seconds > kept.seconds
        assert now.sums["sequences"] >= kept.sums["sequences"] > 0
        assert set(now.findings) >= set(kept.findings)
        assert set(now.covered) >= set(kept.covered)
        kept = now
    limit = kept.sums["sequences"] + 300
    command = ("fuzz", "--resume", "--runs", limit, "--json", "o")
    status, out, err = run(*command, cwd=tmp_path, root=mistaken)
    assert (status, err) == (1, "")
    assert found not in out
    assert "resumed after " in out
    data = json.loads((tmp_path / "o").read_text())
    assert (data["resumed"], data["workers"]) == (4, 2)
    assert data["sequences"] >= limit
    assert data["seconds"] > kept.seconds
    assert {each["signature"] for each in data["new"]} >= {found.partition(": ")[2]}
    assert len(list((state / "findings").glob("munmap-result-*"))) == 1, "of two workers"
    assert leftovers(state) == []
    assert [*state.rglob(".new-*"), *state.glob("worker-*")] == []
    points, _ = history.read(state)
    assert {point.session for point in points} == {kept.session}


def test_nothing_to_resume_is_status_2(tmp_path: Path) -> None:
    status, _, err = run("fuzz", "--resume", cwd=tmp_path)
    assert (status, err) == (2, "vmadiff: .vmadiff: there is no session to resume\n")
