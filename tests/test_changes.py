"""`docs/changes.md` is what the tables say."""

from pathlib import Path

import pytest

from fuzz import changes
from model.profile import CHANGES


def test_the_file_is_fresh() -> None:
    assert changes.PATH.read_text() == changes.text(), "run `python -m fuzz.changes`"


def test_every_change_is_there_with_its_witness() -> None:
    text = changes.text()
    for change in CHANGES:
        assert f"## {change.name}\n" in text
        assert f"corpus/witnesses/{change.name}.prog" in text


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        ("# One sentence.\nmunmap(0, 0)\n", "One sentence."),
        ("# One that\n# goes on. And another.\n", "One that goes on."),
        ("# No stop\n", "No stop"),
        ("munmap(0, 0)\n", ""),
    ],
)
def test_what_a_witness_shows_is_its_first_sentence(comment: str, sentence: str) -> None:
    assert changes.shows(comment) == sentence


def test_the_command_checks_writes_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(changes, "PATH", tmp_path / "changes.md")
    assert changes.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert changes.main([]) == 0
    assert changes.main(["--check"]) == 0
    assert changes.main(["--what"]) == 2
