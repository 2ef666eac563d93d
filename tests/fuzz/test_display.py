"""What a session looks like."""

import io
from dataclasses import replace

import pytest

from fuzz import display
from fuzz.display import Figures, Screen, duration, status_block, status_line, summary

FIGURES = Figures(
    seconds=75.2,
    time_limit=100,
    sequences=123456,
    calls=1000000,
    sequences_per_second=1641.6,
    calls_per_second=13300,
    corpus=812,
    covered=900,
    branches=1150,
    new=1,
    known=2,
    unmodelled={"a reason": 3, "another": 4},
    mremap_success=0.5123,
    multi_vma=0.25,
)


def test_line() -> None:
    line = status_line(FIGURES)
    for part in ("1:15", "123,456 sequences (1,642/s)", "coverage 900 of 1,150", "1 new 2 known"):
        assert part in line


def test_block_fits_the_terminal() -> None:
    block = status_block(FIGURES, "title", 40)
    assert all(len(line) < 40 for line in block)
    wide = "\n".join(status_block(FIGURES, "title", 200))
    assert "1:15 elapsed, 0:24 remaining" in wide
    assert "7  another" in wide


def test_summary_counts_reasons() -> None:
    text = "\n".join(summary(FIGURES, "6.18", "local", 5))
    assert "unmodelled 7\n  4 another\n  3 a reason" in text
    assert "seed 5" in text


def test_of_a_bound_it_is_said_how_long_it_takes() -> None:
    bounded = replace(FIGURES, enumerated=True, run_limit=200_000, time_limit=None)
    left = "76,544 sequences remaining, about 0:46 left"
    assert left in status_line(bounded)
    assert left in "\n".join(status_block(bounded, "title", 200))
    for text in (
        status_line(bounded),
        "\n".join(status_block(bounded, "title", 200)),
        "\n".join(summary(bounded, "6.18", "local")),
    ):
        assert not any(word in text for word in ("corpus", "coverage", "mremap", "seed"))


def test_clock() -> None:
    assert [duration(s) for s in (0, 61.9, 3600)] == ["0:00", "1:01", "1:00:00"]


def test_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    screen = Screen(stream, columns=80)
    screen.update(FIGURES, "title")
    height = stream.getvalue().count("\n")
    screen.update(FIGURES, "title")
    assert stream.getvalue().count("\n") == height, "too soon"
    clock[0] = 1.0
    screen.update(FIGURES, "title")
    assert stream.getvalue().count(f"\x1b[{height}A\x1b[J") == 1
    screen.note("said")
    assert stream.getvalue().endswith(f"\x1b[{height}A\x1b[Jsaid\n")
    screen.close()
    assert stream.getvalue().endswith("said\n")


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    screen = Screen(stream, columns=None)
    for clock[0] in range(25):
        screen.update(FIGURES, "title")
    screen.close()
    assert stream.getvalue() == f"{status_line(FIGURES)}\n" * 2
