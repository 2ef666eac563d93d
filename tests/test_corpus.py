"""The seed corpus as text: every file is a program, says what it shows and where the rule comes from."""

import re
from pathlib import Path

import pytest

from abi.environment import Geometry
from abi.program import format_program, parse

SEEDS = Path(__file__).parent.parent / "corpus" / "seeds"
FILES = sorted(SEEDS.glob("*.prog"))
GEOMETRY = Geometry()
#: A man page, a function of a source file, or a commit.
CITATION = re.compile(r"\w+\(2\)|\w\.[ch]: \w+|commit [0-9a-f]{12}")


def header(text: str) -> list[str]:
    """The comment lines before the first call, without their marks."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].strip())
    return lines


def test_there_are_enough_seeds() -> None:
    assert len(FILES) >= 90


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_seed_parses_and_round_trips(path: Path) -> None:
    program = parse(path.read_text(), GEOMETRY, path.name)
    assert 1 <= len(program) <= (30 if path.stem.startswith("import-") else 14)
    assert parse(format_program(program, GEOMETRY), GEOMETRY) == program


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_seed_says_what_it_shows_and_cites_the_rule(path: Path) -> None:
    lines = header(path.read_text())
    assert lines, "no comment before the first call"
    assert any(CITATION.search(line) for line in lines), "no man page, function or commit"


def test_names_are_words_and_unique() -> None:
    assert [p.name for p in FILES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", p.stem)] == []
    assert [p.name for p in SEEDS.iterdir() if p.suffix != ".prog"] == []
    folded = [p.stem.replace("-", "") for p in FILES]
    assert sorted(set(folded)) == sorted(folded)


def test_no_two_seeds_are_the_same_program() -> None:
    seen: dict[object, str] = {}
    twins = []
    for path in FILES:
        program = parse(path.read_text(), GEOMETRY, path.name)
        if program in seen:
            twins.append((seen[program], path.name))
        seen[program] = path.name
    assert twins == []
