"""`vmadiff report`: the index for people, results for machines, and copies that are whole."""

import json
from pathlib import Path

import pytest

from fuzz import history, seen
from fuzz.cli import main
from tests.fuzz.test_history import POINT, TEXT, finding


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    path = finding(state, "findings", TEXT, index=1, environment={"release": "6.18.1"})
    (path / "program").write_text("# a kind\n\nmunmap(W+0, 1p)\nmremap(W+0, 1p, 1p, 0, NULL)\n")
    (path / "report.md").write_text("Subject: x\n\nall of it\n")
    seen.record(path, 3, "6.18.1", 100)
    finding(state, "unstable", "brk result: model 0, kernel EINVAL")
    history.append(state, POINT)
    return state


def test_text(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(state)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "new             3  mm/mremap: mremap(FIXED) fails with EINVAL" in lines
    assert "unstable           mm/mmap: brk() fails with EINVAL" in lines
    assert lines[-1] == f"written to {state}/index.html"
    assert "mm/mremap: mremap(FIXED) fails with EINVAL" in (state / "index.html").read_text()


def test_results(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(state), "--format", "json"]) == 0
    results = {each["verdict"]: each for each in json.loads(capsys.readouterr().out)["results"]}
    assert results.keys() == {"diverges", "unknown"}
    found = results["diverges"]
    assert found["file"] == str(state / found["name"] / "program")
    assert found["line"] == 4
    title, *rest = found["detail"].splitlines()
    assert title == "mm/mremap: mremap(FIXED) fails with EINVAL (new)"
    assert rest == ["Subject: x", "", "all of it"]


def test_a_copy_has_all_that_is_linked(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a" / "copy"
    for _ in range(2):
        assert main(["report", str(state), "-o", str(copy)]) == 0
    files = {
        path.relative_to(state): path.read_bytes() for path in state.rglob("*") if path.is_file()
    }
    copied = {
        path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()
    }
    assert copied.keys() == {*files, Path("index.html")} - {Path(history.NAME)}
    assert all(files[name] == data for name, data in copied.items() if name in files)
    assert not (state / "index.html").exists()


def test_nothing_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("nothing was found\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{}/none"], "{}/none: no such directory"),
        (["{}", "-o", "{}/file"], "{}/file: not a directory"),
    ],
)
def test_complaints(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["report", *(each.format(tmp_path) for each in arguments)]) == 2
    assert complaint.format(tmp_path) in capsys.readouterr().err
