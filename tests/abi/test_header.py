"""The generated C header."""

from pathlib import Path

import pytest

from abi import header


def test_the_file_is_fresh() -> None:
    assert header.PATH.read_text() == header.text(), "run `python -m abi.header`"


def test_the_hash_is_part_of_it_and_positive() -> None:
    assert f"{header.abi_hash():#x}" in header.text()
    assert 0 < header.abi_hash() < 1 << 63


def test_the_command_checks_writes_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(header, "PATH", tmp_path / "abi.gen.h")
    assert header.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert header.main([]) == 0
    assert header.main(["--check"]) == 0
    assert header.main(["--what"]) == 2
