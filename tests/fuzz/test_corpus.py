"""Directories of programs: what is none is an entry with a problem, never an exception."""

from pathlib import Path

import pytest

from abi.calls import Munmap
from abi.environment import Geometry
from abi.program import ProgramError
from fuzz import corpus

GEOMETRY = Geometry()
PROGRAM = (Munmap(GEOMETRY.window, 4096),)


def test_saved_programs_come_back(tmp_path: Path) -> None:
    name = corpus.save(tmp_path, PROGRAM, GEOMETRY)
    assert corpus.save(tmp_path, PROGRAM, GEOMETRY) == name
    (entry,) = corpus.load(tmp_path, GEOMETRY)
    assert (entry.path.name, entry.program, entry.problem) == (name, PROGRAM, "")


def test_problems_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.prog").write_text("munmap(W+0, 1p)\nfrobnicate(1)\n")
    (tmp_path / "b.prog").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.prog").mkdir()
    (tmp_path / "d.prog").write_text("munmap(W+0, 1p)")
    (tmp_path / "notes.txt").write_text("not a program")
    (tmp_path / ".new-7-e.prog").write_text("munm")
    entries = {entry.path.name: entry for entry in corpus.load(tmp_path, GEOMETRY)}
    assert sorted(entries) == ["a.prog", "b.prog", "c.prog", "d.prog"]
    assert "a.prog:2: unknown call 'frobnicate'" in entries["a.prog"].problem
    assert "not text" in entries["b.prog"].problem
    assert "Is a directory" in entries["c.prog"].problem
    assert entries["d.prog"].program == PROGRAM


def test_known_names_are_skipped(tmp_path: Path) -> None:
    name = corpus.save(tmp_path, PROGRAM, GEOMETRY)
    assert list(corpus.load(tmp_path, GEOMETRY, skip={name})) == []


def test_one_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.prog").write_bytes(b"\xff")
    with pytest.raises(ProgramError, match=r"a\.prog: not text"):
        corpus.read_program(tmp_path / "a.prog", GEOMETRY)


def test_several_programs_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.prog"
    path.write_text("munmap(W+0, 1p)\n# next program\nmunmap(W+1, 1p)\nmunmap(W+2, 1p)\n")
    (first, one), (second, two) = corpus.read_programs(path, GEOMETRY)
    assert (first, second) == (f"{path}#1", f"{path}#2")
    assert (one, len(two)) == (PROGRAM, 2)
    path.write_text("munmap(W+0, 1p)\n")
    assert corpus.read_programs(path, GEOMETRY) == [(str(path), PROGRAM)]
    path.write_text("munmap(W+0, 1p)\n# next program\nfrobnicate(1)\n")
    with pytest.raises(ProgramError, match=r"a\.prog:3: unknown call"):
        corpus.read_programs(path, GEOMETRY)
