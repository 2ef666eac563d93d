"""What is said of a report: its kind, its title, its frames; and which follows from which."""

import pytest

from fuzz.console import reports
from fuzz.headlines import (
    HEADLINES,
    Crash,
    CrashKind,
    Headline,
    causes,
    gravest,
    headline,
    silence,
    steady,
)
from tests.fuzz.reports import INNOCENT, REPORTS, Report


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_report(report: Report) -> None:
    (crash,) = reports(report.text.encode())
    assert (crash.kind, crash.title) == (report.kind, report.title)
    assert crash.frames[: len(report.frames)] == report.frames


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_key_is_that_of_the_bug(report: Report) -> None:
    """The same at other addresses, in other processes and places of the source."""
    (crash,) = reports(report.text.encode())
    other = report.text.replace("ffff888004", "ffff88801f").replace("+0x2b1/0x5d0", "+0x2c7/0x5f0")
    other = other.replace("87", "2345").replace("1192", "1204")
    (again,) = reports(other.encode())
    assert again.key == crash.key
    assert (again.text == crash.text) == (other == report.text)


@pytest.mark.parametrize("line", INNOCENT)
def test_no_report(line: str) -> None:
    assert headline(line) is None
    assert reports(f"[    1.234567] {line}\n".encode() * 3) == []


def test_every_kind_of_report_is_there() -> None:
    assert {report.kind for report in REPORTS.values()} == {*CrashKind}


@pytest.mark.parametrize("each", HEADLINES, ids=lambda each: each.pattern.pattern)
def test_titles_are_made_of_what_their_patterns_give(each: Headline) -> None:
    words = {name: name for name in each.pattern.groupindex if name != "func"}
    title = each.title.format(func="f", access="", **words)
    assert title.endswith(" in f") == each.title.endswith(" in {func}") == ("{func}" in each.title)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Attempted to kill init! exitcode=0x0000000b", "Attempted to kill init!"),
        ("System is deadlocked on memory", "System is deadlocked on memory"),
        ("bad mm at ffff888004b0a000, 3 users", "bad mm at ADDR, NUM users"),
        ("value 0x12 and (____ptrval____)", "value ADDR and ADDR"),
        (
            "Couldn't open N_TTY ldisc for ptm1 --- error -12.",
            "Couldn't open N_TTY ldisc for ptm1 --- error -NUM",
        ),
        ("x" * 500, "x" * 120),
    ],
)
def test_steady(text: str, expected: str) -> None:
    assert steady(text) == expected


def crash(kind: CrashKind, title: str = "") -> Crash:
    return Crash(kind, title or str(kind))


OOPS, WARN, HANG = crash(CrashKind.OOPS), crash(CrashKind.WARNING), crash(CrashKind.HANG)
KASAN, LOCKDEP = crash(CrashKind.KASAN), crash(CrashKind.LOCKDEP)
PANIC = crash(CrashKind.PANIC, "kernel panic: Fatal exception")
INIT = crash(CrashKind.PANIC, "kernel panic: Attempted to kill init")
LOST = silence("lost connection to the guest")


@pytest.mark.parametrize(
    ("crashes", "named", "kept"),
    [
        ([], None, []),
        ([OOPS, PANIC, LOST], OOPS, [OOPS]),
        ([OOPS, OOPS, WARN, HANG], OOPS, [OOPS]),
        ([WARN, OOPS, PANIC], OOPS, [WARN, OOPS]),
        ([WARN, crash(CrashKind.PANIC, "kernel panic: kernel: panic_on_warn set")], WARN, [WARN]),
        ([WARN, INIT], INIT, [WARN, INIT]),
        ([WARN, LOST], WARN, [WARN, LOST]),
        ([KASAN, OOPS, PANIC], KASAN, [KASAN]),
        ([LOCKDEP, KASAN], KASAN, [LOCKDEP, KASAN]),
        ([HANG, crash(CrashKind.PANIC, "kernel panic: hung_task: blocked tasks"), LOST], HANG, [HANG]),
        ([HANG, HANG, LOST], HANG, [HANG]),
        ([HANG, WARN], WARN, [HANG, WARN]),
        ([INIT, LOST], INIT, [INIT]),
        ([LOST], LOST, [LOST]),
    ],
)  # fmt: skip
def test_what_follows_is_not_named(
    crashes: list[Crash], named: Crash | None, kept: list[Crash]
) -> None:
    assert causes(crashes) == kept
    assert gravest(crashes) == named


def test_like_titles_with_other_stacks_have_other_keys() -> None:
    one = Crash(
        CrashKind.WARNING, "WARNING in vma_merge", ("vma_merge", "move_vma", "do_mremap", "x")
    )
    other = Crash(CrashKind.WARNING, "WARNING in vma_merge", ("vma_merge", "mprotect_fixup", "y"))
    assert one.key == "WARNING in vma_merge < move_vma < do_mremap"
    assert one.key != other.key
