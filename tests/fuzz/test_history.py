"""What sessions write down of themselves: nothing is lost, nothing of others is overwritten."""

import json
import os
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from fuzz import history, seen
from fuzz.catalog import Catalog, Row
from fuzz.chronicle import Chronicle
from fuzz.display import Figures
from fuzz.findings import name_of
from fuzz.history import Point
from fuzz.triage import Known

POINT = Point(
    at=1_000, session="a", kernel="6.18", profile="6.18", seconds=10.0, sequences=100, calls=900,
    sequences_per_second=10.0, calls_per_second=90.0, corpus=5, coverage=70, branches=100, blocks=0,
    findings=1, new=1, known=0, unstable=0, losses=0,
)  # fmt: skip
TEXT = "mremap[FIXED] result: model 0, kernel EINVAL"


def later(seconds: float, session: str = "a", began: int = 990) -> Point:
    return replace(POINT, at=began + int(seconds), seconds=seconds, session=session)


def finding(state: Path, place: str, text: str, **data: object) -> Path:
    path = state / place / name_of(text)
    path.mkdir(parents=True)
    (path / "finding.json").write_text(json.dumps({"signature": text, "field": "result", **data}))
    (path / "report.html").write_text("")
    return path


def rows(state: Path, *known: Known) -> list[Row]:
    return Catalog(state, list(known)).rows()


def test_history_is_appended_to(tmp_path: Path) -> None:
    assert history.read(tmp_path) == ([], 0)
    for seconds in (10.0, 20.0):
        history.append(tmp_path, later(seconds))
    assert history.read(tmp_path) == ([later(10.0), later(20.0)], 0)


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    history.append(tmp_path, later(10.0))
    with (tmp_path / history.NAME).open("a") as file:
        file.write('{"at": 17, "ses')
    assert history.read(tmp_path) == ([later(10.0)], 1)
    history.append(tmp_path, later(20.0))
    assert history.read(tmp_path) == ([later(10.0), later(20.0)], 1)


@pytest.mark.parametrize("line", ["[]", "3", '{"at": 1}', "\xff", '{"at": "x"}'])
def test_damaged_lines_are_counted(tmp_path: Path, line: str) -> None:
    history.append(tmp_path, POINT)
    with (tmp_path / history.NAME).open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    assert history.read(tmp_path) == ([POINT], 1)


def test_sessions_are_told_apart() -> None:
    first, second = later(10.0, "z", 0), later(5.0, "b", 500)
    assert history.sessions([second, later(20.0, "z", 0), first]) == [
        [first, later(20.0, "z", 0)],
        [second],
    ]


def test_seen_adds_up(tmp_path: Path) -> None:
    assert seen.read(tmp_path) is None
    seen.record(tmp_path, 3, "6.18", 100)
    seen.record(tmp_path, 4, "6.12", 90)
    assert seen.read(tmp_path) == seen.Seen(90, 100, 7, ("6.12", "6.18"))


def test_a_damaged_seen_begins_anew(tmp_path: Path) -> None:
    (tmp_path / seen.NAME).write_text("{")
    seen.record(tmp_path, 1, "6.18", 100)
    assert seen.read(tmp_path) == seen.Seen(100, 100, 1, ("6.18",))


def _record_often(path: Path) -> None:
    for now in range(50):
        seen.record(path, 1, "6.18", now)


def test_sessions_that_share_a_finding_lose_no_count(tmp_path: Path) -> None:
    context = get_context("fork")
    processes = [context.Process(target=_record_often, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert seen.read(tmp_path) == seen.Seen(0, 49, 200, ("6.18",))


def test_catalog_tells_what_is_there(tmp_path: Path) -> None:
    path = finding(tmp_path, "findings", TEXT, index=1, environment={"release": "6.18.1"})
    os.utime(path / "finding.json", (50, 50))
    name = f"findings/{path.name}"
    (row,) = rows(tmp_path)
    wanted = Row(
        "mm/mremap: mremap(FIXED) fails with EINVAL", TEXT, "result", "new", 50, 50, 0, ("6.18.1",),
        name, "report.html", "", 1,
    )  # fmt: skip
    assert row == wanted
    seen.record(path, 3, "6.18.2", 200)
    (row,) = rows(tmp_path)
    assert row == replace(wanted, first=200, last=200, count=3, kernels=("6.18.2",))


def test_statuses(tmp_path: Path) -> None:
    finding(tmp_path, "findings", TEXT, environment={"release": "6.18.1"})
    finding(tmp_path, "unstable", "brk result: model 0, kernel EINVAL")
    finding(tmp_path, "findings", "the kernel reported BUG", **{"class": "BUG", "title": "BUG"})
    finding(tmp_path, "targets/7.2/findings", "mseal result: model 0, kernel EPERM")
    found = {row.signature: row.status for row in rows(tmp_path)}
    assert found == {
        TEXT: "new",
        "brk result: model 0, kernel EINVAL": "unstable",
        "the kernel reported BUG": "crash",
        "mseal result: model 0, kernel EPERM": "new",
    }
    known = Known((TEXT,), ("6.18.*",), "a bug")
    (row,) = (row for row in rows(tmp_path, known) if row.signature == TEXT)
    assert (row.status, row.detail) == ("known", "a bug")


def test_what_is_known_of_one_kernel_is_new_on_another(tmp_path: Path) -> None:
    path = finding(tmp_path, "findings", TEXT)
    seen.record(path, 1, "6.18.1", 100)
    seen.record(path, 1, "7.2.0", 100)
    (row,) = rows(tmp_path, Known((TEXT,), ("6.18.*",), "a bug"))
    assert row.status == "new"


def test_the_maintainers_status_stays(tmp_path: Path) -> None:
    path = finding(tmp_path, "findings", TEXT)
    (path / "status").write_text("reported\nhttps://example.org/1\n")
    chronicle = Chronicle(tmp_path, "s", "6.18", "6.18", lambda: 100.0)
    chronicle.found(TEXT, str(path), "", "6.18")
    chronicle.hear(0, {TEXT: 5})
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    chronicle.write(Figures())
    (row,) = rows(tmp_path)
    assert (row.status, row.count) == ("reported", 5)
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {seen.NAME}


def test_damaged_findings_are_listed(tmp_path: Path) -> None:
    path = finding(tmp_path, "findings", TEXT)
    (path / "finding.json").write_text("{")
    (tmp_path / "findings" / "empty").mkdir()
    assert {row.detail for row in rows(tmp_path)} == {"finding.json is damaged", "no finding.json"}


def test_chronicle_counts_each_sighting_once(tmp_path: Path) -> None:
    path = finding(tmp_path, "findings", TEXT)
    now = [100.0]
    chronicle = Chronicle(tmp_path, "s", "6.18", "6.18", lambda: now[0])
    chronicle.hear(0, {TEXT: 2})
    chronicle.found(TEXT, str(path), "", "6.18")
    chronicle.write(Figures(seconds=10.0))
    chronicle.hear(0, {TEXT: 5})
    chronicle.hear(1, {TEXT: 1})
    now[0] = 200.0
    chronicle.write(Figures(seconds=20.0))
    assert seen.read(path) == seen.Seen(100, 200, 6, ("6.18",))
    chronicle.forget(0)
    chronicle.hear(0, {TEXT: 1})
    now[0] = 300.0
    chronicle.write(Figures(seconds=30.0))
    chronicle.write(Figures(seconds=40.0))
    assert seen.read(path) == seen.Seen(100, 300, 7, ("6.18",))
    points, damaged = history.read(tmp_path)
    assert [(point.at, point.seconds, point.findings) for point in points] == [
        (100, 10.0, 1), (200, 20.0, 1), (300, 30.0, 1), (300, 40.0, 1),
    ]  # fmt: skip
    assert not damaged


def test_chronicle_keeps_known_divergences(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path, "s", "6.18", "6.18", lambda: 100.0)
    chronicle.found(TEXT, "", "a bug", "6.18")
    chronicle.hear(0, {TEXT: 2})
    chronicle.write(Figures(seconds=10.0))
    (row,) = rows(tmp_path)
    assert (row.status, row.count, row.detail, row.page) == ("known", 2, "a bug", "")
    assert "a bug" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (TEXT, "result"),
        ("the kernel reported: WARNING in mmap_region < do_mmap", "crash"),
        ("the model failed: KeyError: 1 (space.py:10)", "model"),
    ],
)
def test_what_is_known_says_what_it_is_of(tmp_path: Path, text: str, kind: str) -> None:
    chronicle = Chronicle(tmp_path, "s", "6.18", "6.18", lambda: 100.0)
    chronicle.found(text, "", "a bug", "6.18")
    assert [row.kind for row in rows(tmp_path)] == [kind]


def test_what_several_kernels_show_is_known_once(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path, "s", "6.18", "6.18", lambda: 100.0)
    chronicle.found(TEXT, "", "a bug", "6.18.1")
    chronicle.found(f"{TEXT} [7.2]", "", "a bug", "7.2.6", TEXT)
    chronicle.hear(0, {TEXT: 2})
    chronicle.hear((0, "7.2"), {f"{TEXT} [7.2]": 3})
    chronicle.write(Figures(seconds=10.0))
    (row,) = rows(tmp_path)
    assert (row.title, row.count) == ("mm/mremap: mremap(FIXED) fails with EINVAL", 5)
    assert row.kernels == ("6.18.1", "7.2.6")


def test_chronicle_is_written_at_intervals(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path, "s", "6.18", "6.18", lambda: 100.0)
    assert [chronicle.is_due(at) for at in (0.0, 9.9, 10.0)] == [False, False, True]
    chronicle.write(Figures(seconds=10.0))
    assert [chronicle.is_due(at) for at in (19.9, 20.0)] == [False, True]
    chronicle.write(Figures(seconds=100_000.0))
    assert [chronicle.is_due(at) for at in (100_400.0, 100_500.0)] == [False, True]
    chronicle.found(TEXT, "", "a bug", "6.18")
    assert [chronicle.is_due(at) for at in (100_009.0, 100_010.0)] == [False, True]
