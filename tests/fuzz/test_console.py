"""How reports are cut out of a stream: prefixes, pieces, noise, the next report, and no end."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.console import KEPT, Console, strip
from fuzz.headlines import Crash, CrashKind
from tests.fuzz.reports import CUT, END, INNOCENT, MOVED, REPORTS, TRACE, warning

NAMES = st.sampled_from(sorted(REPORTS))
NOISE = st.lists(st.sampled_from(INNOCENT[:-2]), max_size=4)
#: Reports that no mark ends.
OPEN = "sleeping function"


def read(data: str | bytes) -> list[Crash]:
    console = Console()
    return console.feed(data.encode() if isinstance(data, str) else data) + console.flush()


def titles(crashes: list[Crash]) -> list[str]:
    return [crash.title for crash in crashes]


@pytest.mark.parametrize(
    "prefix",
    [
        "[    1.234567] ",
        "[12345.234567] ",
        "<4>[    1.234567] ",
        "<4>",
        "[    1.234567][  T123] ",
        "[    1.234567][    C0] ",
        "4,123,456789,-;",
        "4,123,456789,-,caller=T123;",
        "4,123,456789,c;",
        "Nov 28 04:01:38 guest kernel: [    1.234567] ",
        "Nov 28 04:01:38 guest kernel: ",
        "\x1b[0m\x1b[37m[    1.234567] ",
        "",
    ],
)
@pytest.mark.parametrize("line", ["WARNING: CPU: 0 PID: 1 at", " ? move_vma+0x1/0x2", "=====", ""])
def test_prefixes(prefix: str, line: str) -> None:
    assert strip(prefix + line).strip() == line.strip()


@pytest.mark.parametrize("prefix", ["<4>[    1.234567] ", "4,1,1234567,-;", "[   12.3456][  T87] "])
@pytest.mark.parametrize("name", REPORTS)
def test_reports_behind_prefixes(name: str, prefix: str) -> None:
    report = REPORTS[name]
    (crash,) = read(re.sub("^", prefix, report.text.rstrip("\n"), flags=re.M))
    assert (crash.title, crash.frames[: len(report.frames)]) == (report.title, report.frames)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NOISE, NAMES), max_size=3), NOISE, st.data())
def test_pieces_make_no_difference(
    parts: list[tuple[list[str], str]], tail: list[str], data: st.DataObject
) -> None:
    whole = "".join("\n".join([*noise, REPORTS[name].text]) for noise, name in parts)
    stream = (whole + "\n".join(tail)).replace("\n", "\r\n").encode() + b"\xff\0\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    console = Console()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += console.feed(stream[begin:end])
    assert found + console.flush() == read(stream)
    assert console.text.encode() == stream.replace(b"\r", b"").replace(b"\0", b"").replace(
        b"\xff", "\ufffd".encode()
    )


def test_byte_by_byte() -> None:
    stream = "".join(report.text for report in REPORTS.values()).encode()
    console = Console()
    found = [crash for byte in stream for crash in console.feed(bytes([byte]))]
    assert found + console.flush() == read(stream)


@given(st.lists(NAMES, min_size=2, max_size=4))
@settings(deadline=None, max_examples=60)
def test_reports_in_a_row_are_all_found(names: list[str]) -> None:
    found = read("".join(REPORTS[name].text for name in names))
    assert titles(found) == [REPORTS[name].title for name in names]


@given(st.binary(max_size=2000))
def test_anything_may_come(data: bytes) -> None:
    read(data)
    read(b"[    1.234567] " + data.replace(b"\n", b"\n[    1.234567] "))


def test_report_is_given_when_it_ends() -> None:
    console = Console()
    before, after = warning(MOVED).split("---[ end trace")
    assert console.feed(before.encode()) == []
    assert console.unfinished
    assert console.feed(b"---[ end trace") == []
    (crash,) = console.feed(after.encode())
    assert crash.text == warning(MOVED)
    assert not console.unfinished
    assert console.flush() == []


def test_report_is_cut_out_whole() -> None:
    (crash,) = read(f"boot\n\n{warning(MOVED)}life goes on\n")
    assert crash.text == warning(MOVED)
    for name in (
        "kasan",
        "kfence",
        "kmsan",
        "kcsan",
        "ubsan",
        "warn after a dump of the vma",
        "bug of a page",
    ):
        (crash,) = read(f"boot\n{REPORTS[name].text}life goes on\n")
        assert crash.text == REPORTS[name].text, name


def test_lines_of_others_in_between_stay_and_do_no_harm() -> None:
    lines = REPORTS["kasan"].text.splitlines()
    for at in range(2, len(lines)):
        mixed = "\n".join([*lines[:at], "vmadiff: batch 12 done", *lines[at:]])
        (crash,) = read(mixed)
        assert (crash.title, crash.frames[:2]) == (
            REPORTS["kasan"].title,
            ("move_vma", "mremap_to"),
        )
        assert "batch 12" in crash.text


def test_ordinary_lines_end_a_report_that_has_no_end() -> None:
    console = Console()
    assert console.feed(REPORTS[OPEN].text.encode()) == []
    (crash,) = console.feed(b"".join(b"audit: %d is fine\n" % n for n in range(40)))
    assert crash.title == REPORTS[OPEN].title
    assert crash.text == REPORTS[OPEN].text


def test_next_report_ends_one_that_has_no_end() -> None:
    console = Console()
    found = console.feed((REPORTS[OPEN].text + warning(MOVED)).encode())
    assert titles(found) == [REPORTS[OPEN].title, "WARNING in move_vma"]
    assert found[0].text == REPORTS[OPEN].text


def test_cut_off_console() -> None:
    text = REPORTS["null pointer"].text
    (crash,) = read(text[: text.index("do_mremap")])
    assert crash.title == "BUG: unable to handle kernel NULL pointer dereference in move_vma"
    (crash,) = read(f"{CUT}\n{MOVED}")
    assert (crash.title, crash.frames) == ("WARNING in move_vma", ())
    assert read(CUT) == []


def test_panic_after_an_oops_is_a_report_of_its_own() -> None:
    panic = "Kernel panic - not syncing: Fatal exception\nKernel Offset: disabled\n"
    found = read(REPORTS["null pointer"].text + panic)
    assert [crash.kind for crash in found] == [CrashKind.OOPS, CrashKind.PANIC]


def test_second_oops_is_another() -> None:
    text = REPORTS["null pointer"].text.replace(END + "\n", "")
    found = read(text + text.replace("[#1]", "[#2]"))
    assert titles(found) == [REPORTS["null pointer"].title] * 2


def test_marks_without_a_report_are_forgotten() -> None:
    filler = "".join(f"line {n}\n" for n in range(500))
    assert read(f"{CUT}\n{filler}{END}\n") == []
    assert read(f"Pid: 1, comm: init\n{filler}") == []
    console = Console()
    console.feed(f"{CUT}\n{filler}".encode())
    assert not console.unfinished


def test_report_without_end_is_not_kept_for_ever() -> None:
    console = Console()
    frames = TRACE.replace("</TASK>", "") * 500
    (first, *_) = console.feed((f"{CUT}\n{MOVED}\n" + frames).encode())
    assert first.text.count("\n") <= 2000


def test_only_the_last_is_kept() -> None:
    console = Console(keep=1000)
    for n in range(1000):
        console.feed(b"%050d\n" % n)
    assert len(console.text) == 1000
    assert console.text.endswith("0999\n")
    assert KEPT > 100_000


def test_long_lines_are_cut() -> None:
    data = b"x" * 100_000
    console = Console()
    assert console.feed(data) == []
    assert console.feed(b"\n" + warning(MOVED).encode()) == read(
        data + b"\n" + warning(MOVED).encode()
    )
