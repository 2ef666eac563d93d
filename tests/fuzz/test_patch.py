"""What a series changes, what its lines are in a kernel, how findings on both kernels are judged, and what is said."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abi.calls import Program
from fuzz import booting, findings
from fuzz.blame import Blame
from fuzz.findings import Finding
from fuzz.pages.patch import page
from fuzz.patch import judge as judging
from fuzz.patch.changed import Changed, Function, changed, functions_of, removed
from fuzz.patch.cover import ABSENT, EXECUTED, MISSED, NO_CODE, Covered, cover
from fuzz.patch.judge import (
    BEHAVIOUR,
    BREAKS,
    CRASH,
    FIXES,
    INCONSISTENT,
    MENDS,
    OLD,
    UNDECIDED,
    UNSTATED,
    Judge,
    Judged,
)
from fuzz.patch.result import MOST, Result, executed, total
from fuzz.replay import replay
from fuzz.sighting import Sighting
from fuzz.status import DIVERGES, INCOMPLETE, OK
from fuzz.triage import Known
from kernels.blocks import Block
from model.profile import Profile
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW, FakeExecutor
from tests.fuzz.machine import OLD as BEFORE
from tests.fuzz.test_worker import APART, MAP, MOVE

SOURCE = """\
#include <linux/mm.h>

#define LIMIT 3

static unsigned long
count_vmas(struct mm_struct *mm, int most)
{
	if (most > LIMIT)
		return -EINVAL;
	return mm->map_count;
}

struct vma_ops {
	int (*f)(int);
};

int move(struct vm_area_struct *vma,
		unsigned long len)
{
	VM_WARN_ON_ONCE(!len);
	if (len > 4)
		goto out;
	len++;
out:
	return len;
}
"""
DIFF = """\
diff --git a/mm/vma.c b/mm/vma.c
--- a/mm/vma.c
+++ b/mm/vma.c
@@ -9 +9 @@ count_vmas(struct mm_struct *mm, int most)
-		return 0;
+		return -EINVAL;
@@ -20,2 +19,0 @@ int move(struct vm_area_struct *vma,
-	if (!len)
-		return 0;
@@ -22,0 +22,2 @@ int move(struct vm_area_struct *vma,
+		goto out;
+	len++;
diff --git a/Documentation/mm.rst b/Documentation/mm.rst
--- a/Documentation/mm.rst
+++ b/Documentation/mm.rst
@@ -1 +1 @@
-a
+b
"""
PATH = "mm/vma.c"
COUNT = Function(PATH, "count_vmas", 5, 11)
MOVING = Function(PATH, "move", 17, 26)


@pytest.fixture
def series() -> Changed:
    return changed(DIFF, {PATH: SOURCE, "Documentation/mm.rst": "b\n"}.__getitem__)


def test_functions_in_the_kernels_style() -> None:
    assert functions_of(PATH, SOURCE.splitlines()) == [COUNT, MOVING]


def test_changed_lines_are_those_added_and_those_behind_what_was_taken_out(series: Changed) -> None:
    assert series.files == (PATH, "Documentation/mm.rst")
    assert series.sources == (PATH,)
    assert [number for _, number in series.lines] == [9, 20, 22, 23]
    assert series.functions == (COUNT, MOVING)
    assert series.text[PATH, 23] == "len++;"
    assert series.function_of((PATH, 22)) == MOVING
    assert series.function_of((PATH, 14)) is None


BASE = """\
int count(struct mm_struct *mm)
{
	if (!mm)
		return 0;
	return mm->map_count;
}
"""
BACK = """\
diff --git a/mm/vma.c b/mm/vma.c
--- a/mm/vma.c
+++ b/mm/vma.c
@@ -2,0 +3,2 @@ int count(struct mm_struct *mm)
+	if (!mm)
+		return 0;
@@ -4 +5,0 @@ int count(struct mm_struct *mm)
-	mm->map_count++;
"""


@pytest.fixture
def gone() -> Changed:
    return removed(BACK, {PATH: BASE}.__getitem__)


def test_lines_taken_out_are_those_that_only_the_base_has(gone: Changed) -> None:
    assert [number for _, number in gone.lines] == [3, 4], "none of what was only added"
    assert [function.name for function in gone.functions] == ["count"]
    own = gone.own((block(0x10, 3), block(0x20, 4), block(0x30, 5)))
    assert [each.address for each in own] == [0x10, 0x20]


def block(address: int, *numbers: int, path: str = PATH) -> Block:
    return Block(address, frozenset((path, number) for number in numbers))


BLOCKS = (block(0x10, 8), block(0x20, 9), block(0x30, 20, 21), block(0x40, 23), block(0x50, 100))


def test_aims_at_changed_functions_and_only_without_them_at_files(series: Changed) -> None:
    assert [each.address for each in series.watched(BLOCKS)] == [0x10, 0x20, 0x30, 0x40]
    macro = replace(series, lines=((PATH, 3),), functions=())
    assert [each.address for each in macro.watched(BLOCKS)] == [0x10, 0x20, 0x30, 0x40, 0x50]


def test_watching_has_a_limit_and_changed_lines_come_first(
    series: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.patch.changed.MAX_WATCHED", 3)
    assert [each.address for each in series.watched(BLOCKS)] == [0x20, 0x30, 0x40]


def test_which_changed_lines_were_executed_and_why_not(series: Changed) -> None:
    rows = cover(series, BLOCKS, {0x30: "mmap(...)"})
    assert [(row.line[1], row.state) for row in rows] == [
        (9, MISSED), (20, EXECUTED), (22, NO_CODE), (23, MISSED),
    ]  # fmt: skip
    assert rows[1].program == "mmap(...)"
    assert "no program entered count_vmas()" in rows[0].why
    assert "move() was entered" in rows[3].why
    entered = cover(series, BLOCKS, {0x10: "munmap(...)"})
    assert "an error path" in entered[0].why
    check = cover(replace(series, lines=((PATH, 20),)), BLOCKS, {0x40: "x"})
    assert "no right kernel fails" in check[0].why
    assert {row.state for row in cover(series, (), {})} == {ABSENT}
    macro = replace(series, lines=((PATH, 3),), text={(PATH, 3): "#define X"}, functions=())
    assert [row.state for row in cover(macro, (), {})] == [NO_CODE], "it may have no code anywhere"


# Judging: both kernels are fakes that do as a profile says.

KINDS = {"new": NEW, "old": BEFORE}


class FakeTarget:
    """A kernel that does as the profile of its name; "torn" as NEW, with a page less."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, *, user: bool, worker: int) -> FakeExecutor:
        return FakeExecutor(
            KINDS[self.name],
            touches=lambda program: frozenset({1}) if MOVE in program else frozenset(),
        )

    def close(self) -> None: ...


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(booting, "Target", FakeTarget)
    return tmp_path


PROGRAM: Program = (MAP, APART, MOVE)


def found(state: Path, kernel: Profile, model: Profile, **more: Any) -> Path:
    """A finding of the program on a kernel of one profile with the model of another."""
    (seen,) = replay([("", PROGRAM)], FakeExecutor(kernel), Model(ENVIRONMENT, model))
    assert seen.divergence is not None
    finding = Finding(seen, model.name, (), 1, Blame("the kernel", "it has changed"), sequences=7)
    path, _ = findings.write(state / "findings", replace(finding, **more))
    return path


def judge(
    path: Path, base: str, patched: str, side: str, profile: Profile, known: Any = ()
) -> Judged | None:
    watched = (block(0x10, 8), block(0x20, 9))
    with Judge(base, patched, profile, known, watched, user=False) as it:
        return it.judge(path, side)


def test_the_series_breaks_a_rule(state: Path) -> None:
    row = judge(found(state, BEFORE, NEW), "new", "old", "patched", NEW)
    assert row is not None
    assert (row.kind, row.verdict, row.calls, row.sequences) == (BEHAVIOUR, BREAKS, 3, 7)
    assert row.lines == ((PATH, 9),), "the lines of the watched blocks that the program reaches"
    assert row.because == "it has changed"


def test_both_do_the_same(state: Path) -> None:
    path = found(state, BEFORE, NEW)
    row = judge(path, "old", "old", "patched", NEW)
    assert row is not None
    assert (row.kind, row.verdict) == (OLD, "the base does the same")
    assert judge(path, "old", "old", "base", NEW) is None, "it is told once"


def test_the_series_mends_what_the_base_does(state: Path) -> None:
    path = found(state, BEFORE, NEW)
    row = judge(path, "old", "new", "base", NEW)
    assert row is not None
    assert (row.kind, row.verdict) == (BEHAVIOUR, MENDS)
    known = Known((row.title,), ("*",), "a bug of long ago")
    row = judge(path, "old", "new", "base", NEW, (known,))
    assert row is not None
    assert (row.verdict, row.because) == (FIXES, "a bug of long ago")


def test_the_model_states_neither(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(FakeTarget):
        def start(self, *, user: bool, worker: int) -> FakeExecutor:
            if self.name == "new":
                return FakeExecutor(
                    NEW, spoil=lambda program, data: bytes([data[0] ^ 1]) + data[1:]
                )
            return super().start(user=user, worker=worker)

    path = found(state, BEFORE, NEW)
    monkeypatch.setattr(booting, "Target", Torn)
    row = judge(path, "new", "old", "patched", NEW)
    assert row is not None
    assert (row.kind, row.verdict) == (BEHAVIOUR, UNSTATED)


def test_a_failure_of_the_model_is_no_change(state: Path) -> None:
    path = findings.write_crash(
        state / "findings", "the model failed: x (y)", "mmap\n", "Traceback"
    )
    row = judge(path, "new", "new", "patched", NEW)
    assert row is not None
    assert row.kind == OLD
    assert judge(path, "new", "new", "base", NEW) is None


# What is said.


def result(*rows: Judged, series: Changed | None = None, **more: Any) -> Result:
    covered = cover(series, BLOCKS, {0x30: "mmap(...)"}) if series else ()
    gone = (Covered((PATH, 3), "if (!mm)", None, EXECUTED), Covered((PATH, 4), "x", None, MISSED))
    return Result(
        **{
            "what": "linux: 1234 and 5678",
            "kernels": ("old", "new"),
            "profile": "7.3",
            "rows": rows,
            "changed": series,
            "covered": covered,
            "removed": gone if series else (),
            "seconds": 60.0,
            "sequences": 1000,
            "calls": 8000,
            "kasan": 0.0,
            "kasan_sequences": 0,
            "problems": (),
            "state": Path("/tmp/state"),
            "seed": 1,
            **more,
        }
    )


def row(
    kind: str, verdict: str = BREAKS, title: str = "mremap result: model 0, kernel EINVAL"
) -> Judged:
    return Judged(
        kind, title, verdict, "mmap(...)\n", 1, "/tmp/state/findings/x", lines=((PATH, 9),)
    )


def test_nothing_found_is_clean_and_says_how_far(series: Changed) -> None:
    said = result(series=series)
    assert (said.verdict, said.status) == ("clean", OK)
    assert (executed(said.covered), total(said.covered)) == (1, 3)
    assert said.sentence().endswith(
        "as far as 1,000 programs show; 2 changed lines were never executed;"
        " 1 removed line was never executed"
    )
    text = "\n".join(said.lines())
    assert "1 of 3 that have code were executed, of those removed 1 of 2 on the base" in text
    assert "mm/vma.c:4 (removed)" in text


def test_a_change_and_a_crash(series: Changed) -> None:
    said = result(row(BEHAVIOUR), row(BEHAVIOUR, FIXES), series=series)
    assert (said.verdict, said.status) == ("changes behaviour", DIVERGES)
    assert said.sentence() == "the series breaks a rule in 1 way, fixes a known divergence in 1 way"
    said = result(row(CRASH, "on the patched kernel only"), row(BEHAVIOUR))
    assert said.verdict == "crashes"
    assert result(row(INCONSISTENT)).verdict == "crashes"


def test_what_could_not_be_done_is_no_all_clear() -> None:
    said = result(problems=("the base was lost",))
    assert (said.verdict, said.status) == ("unknown", INCOMPLETE)
    assert result(sequences=0).status == INCOMPLETE
    assert result(row(OLD)).status == OK


def test_what_the_kernels_have_nothing_of_is_no_all_clear(series: Changed) -> None:
    nothing = cover(series, (), {})
    said = result(series=series, covered=nothing, removed=())
    assert (said.verdict, said.status) == ("unknown", INCOMPLETE)
    assert said.sentence() == f"nothing can be said: the kernels are built without {PATH}"
    some = result(series=series, covered=nothing)
    assert some.status == OK, "something was removed and executed"
    assert some.sentence().endswith(f"; the kernels are built without {PATH}")


@pytest.mark.parametrize("count", [0, 1, 3, 30])
def test_a_reviewer_reads_ten_lines(series: Changed, count: int) -> None:
    rows = [row(BEHAVIOUR, title="m" * 200) for _ in range(count)]
    lines = result(*rows, row(OLD), series=series, problems=("x" * 300,)).lines()
    assert len(lines) <= MOST
    assert all(len(line) <= 200 for line in lines)
    assert lines[-1].startswith("verdict: ")
    assert (f"{count} behaviour changes") in "\n".join(lines)


def test_data_has_the_names_that_scripts_rely_on(series: Changed) -> None:
    data = result(row(BEHAVIOUR), row(CRASH), row(OLD), row(UNDECIDED), series=series).to_json()
    for name in ("behaviour_changes", "crashes", "preexisting", "undecided"):
        (entry,) = data[name]
        assert {"class", "title", "program", "directory"} <= set(entry)
    assert (data["changed_lines_executed"], data["changed_lines_total"]) == (1, 3)
    assert (data["removed_lines_executed"], data["removed_lines_total"]) == (1, 2)
    assert (data["verdict"], data["seconds"]) == ("crashes", 60.0)
    assert (data["base_kernel"], data["patched_kernel"]) == ("old", "new")


def test_the_page_has_all_of_it(series: Changed) -> None:
    text = page(result(row(BEHAVIOUR), row(OLD, "the base does the same"), series=series))
    assert 'href="findings/x/report.html"' in text
    for words in (
        "Behaviour changes: 1",
        "Pre-existing: 1",
        "vmadiff run FILE --target new",
        "Coverage of the patch",
        "What it takes out, on the base",
        "1 of 2 removed lines",
        "len++;",
        "never executed",
    ):
        assert words in text


def test_lines_without_a_program_have_a_reason(series: Changed) -> None:
    rows: tuple[Covered, ...] = cover(series, BLOCKS, {})
    assert all(each.why for each in rows)


# Crashes: what a kernel shows of a program is said by a stand-in of `fuzz.sighting.look`.


def crash(state: Path, *, stable: bool = True) -> Path:
    path = state / "findings" / "WARNING"
    path.mkdir(parents=True)
    data = {
        "signature": "the kernel reported: WARNING in move_vma",
        "frames": ["move_vma"],
        "program": "munmap(W+0, 1p)\nmunmap(W+1, 1p)\n",
        "again": "it came again alone",
        "stable": stable,
        "sequences": 9,
        "seconds": 3.5,
    }
    (path / "finding.json").write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("side", "elsewhere", "stable", "expected"),
    [
        ("patched", False, True, (CRASH, "on the patched kernel only")),
        ("patched", True, True, (OLD, "the base does the same")),
        ("patched", None, True, (CRASH, "the base could not be asked: it does not boot")),
        ("base", True, True, None),
        ("base", False, True, (BEHAVIOUR, MENDS)),
        ("base", False, False, (OLD, "on the base, once")),
    ],
)
def test_reports_of_the_kernel(
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
    elsewhere: bool | None,
    stable: bool,
    expected: tuple[str, str] | None,
) -> None:
    path = crash(state, stable=stable)
    signature = json.loads((path / "finding.json").read_text())["signature"]
    asked: list[str] = []

    def look(kernel: str, text: str, *, user: bool, wanted: str) -> Sighting:
        asked.append(kernel)
        shown = (signature,) if elsewhere else ()
        return Sighting(
            kernel, signatures=shown, unseen="" if elsewhere is not None else "it does not boot"
        )

    monkeypatch.setattr(judging, "look", look)
    row = judge(path, "new", "old", side, NEW)
    assert asked == ["new" if side == "patched" else "old"]
    if expected is None:
        assert row is None
        return
    assert row is not None
    assert (row.kind, row.verdict) == expected
    assert (row.calls, row.sequences, row.seconds) == (2, 9, 3.5)


def test_the_smallest_series_of_a_crash_is_told(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crash(state)
    (path / "reduced").write_text("# smaller\nmunmap(W+0, 1p)\n")
    monkeypatch.setattr(judging, "look", lambda kernel, text, **_: Sighting(kernel))
    row = judge(path, "new", "old", "patched", NEW)
    assert row is not None
    assert row.calls == 1
