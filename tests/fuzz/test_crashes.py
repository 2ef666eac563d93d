"""Whom a report is put down to, and what is kept of it."""

import json
import math
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import which

import pytest

from abi.calls import Munmap, Program
from abi.consts import PAGE
from fuzz import corpus
from fuzz.console import reports
from fuzz.crash_finding import BEFORE, CrashFinding, Reduction
from fuzz.crashes import CrashWatch
from fuzz.headlines import Crash
from fuzz.replay import predict
from fuzz.trials import Ran
from kernel_bridge import BridgeError
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW
from tests.fuzz.reports import MOVED, REPORTS, warning

WARN = warning(MOVED).encode()
OOPS = REPORTS["null pointer"].text.encode()
SLEEP = REPORTS["sleeping function"].text.encode()
GONE = REPORTS["lost"].text.encode()
PANIC = b"Kernel panic - not syncing: Fatal exception\n"
LOST = "it has not answered"


def program(number: int) -> Program:
    return (Munmap(number * PAGE, PAGE),)


def programs(begin: int, end: int) -> list[Program]:
    return [program(number) for number in range(begin, end)]


def plain(series: Sequence[Ran]) -> list[Program]:
    return [ran.program for ran in series]


#: What the kernel prints of programs run so far, the last of them running, and whether it dies.
Kernel = Callable[[Sequence[Program]], tuple[bytes, bool]]


@dataclass
class Again:
    """Trials on a kernel that does as it is told; `boots` as theirs, `series` what was tried."""

    kernel: Kernel
    boots: bool = True
    slow: float = 1.0
    pass_time: Callable[[], None] = lambda: None
    series: list[list[Program]] = field(default_factory=list)

    def reports(self, series: Sequence[Ran]) -> Iterator[tuple[list[Crash], bool]]:
        self.series.append([])
        self.pass_time()
        for ran in series:
            self.series[-1].append(ran.program)
            printed, dead = self.kernel(self.series[-1])
            yield reports(printed), dead


@dataclass
class Watched:
    """A watch with its log, its clock, and what programs do when they run again."""

    kernel: Kernel = lambda ran: (b"", False)
    data: bytes = b""
    now: float = 100.0
    count: int = 0
    until: float = math.inf
    boots: bool = True

    def __post_init__(self) -> None:
        self.again = Again(self.kernel, self.boots, pass_time=self.wait)
        self.watch = CrashWatch(
            self.read,
            self.again,
            ENVIRONMENT,
            "6.18",
            lambda: self.until,
            clock=lambda: self.now,
        )

    def wait(self) -> None:
        """A boot takes longer than one report follows from another."""
        self.now += 30

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def run(
        self, count: int, data: bytes = b"", lost: int | None = None, last: bool = False
    ) -> list[CrashFinding]:
        """Run the next `count` programs; the kernel prints `data` meanwhile."""
        for each in programs(self.count, self.count + count):
            self.watch.follow(Ran(each))
        self.count += count
        self.data += data
        return self.watch.look(count, lost, last)

    def die(self, console: bytes = b"") -> list[CrashFinding]:
        """The kernel dies of the next program."""
        ran = Ran(program(self.count))
        found = self.watch.died(ran, LOST, console.decode())
        self.watch.follow(ran)
        self.count += 1
        return found


def titles(findings: list[CrashFinding]) -> list[str]:
    return [finding.crash.title for finding in findings]


def only(*numbers: int, says: bytes = WARN) -> Kernel:
    """These programs bring the report about, alone."""
    return lambda ran: (says if ran[-1] in map(program, numbers) else b"", False)


def test_first_program_that_does_it_again_is_the_one() -> None:
    watched = Watched(only(7, 8))
    watched.run(6, b"[    1.000000] usb 1-1: new device\n")
    (seen,) = watched.run(4, WARN)
    assert (seen.program, plain(seen.before), seen.stable) == (program(7), programs(0, 7), True)
    assert seen.again == "it came again alone, on a freshly booted kernel"
    assert watched.again.series == [programs(6, 8), programs(7, 8)]
    assert "usb 1-1" in seen.console
    assert seen.crash.text == WARN.decode()


def test_one_that_needs_those_before_it() -> None:
    watched = Watched(lambda ran: (WARN * (program(6) in ran and ran[-1] == program(8)), False))
    watched.run(6)
    (seen,) = watched.run(4, WARN)
    assert (seen.program, plain(seen.shown), seen.stable) == (program(8), programs(6, 9), False)
    assert seen.again.startswith("it came again after the 2 programs before it, not alone")


def test_what_is_printed_late() -> None:
    """When the next program runs already: in a trial, or in the campaign, where that is one of another batch."""

    def late(ran: Sequence[Program]) -> tuple[bytes, bool]:
        alone = list(ran) == [program(7)]
        return WARN * (alone or program(7) in ran[:-1]), False

    watched = Watched(late)
    watched.run(6)
    (seen,) = watched.run(4, WARN)
    assert (seen.program, plain(seen.shown), seen.stable) == (program(7), [program(7)], True)
    watched = Watched(only(5))
    watched.run(6)
    (seen,) = watched.run(4, WARN)
    assert (seen.program, plain(seen.before), seen.stable) == (program(5), programs(0, 5), True)
    assert watched.again.series == [programs(6, 10), programs(0, 6), programs(5, 6)]


def test_what_ran_on_another_boot_is_not_tried() -> None:
    watched = Watched(only(2))
    watched.run(6)
    watched.die(GONE)
    watched.again.series.clear()
    watched.run(4, WARN)
    assert watched.again.series == [programs(7, 11)]


def test_last_one_if_none_does() -> None:
    watched = Watched()
    watched.run(6)
    (seen,) = watched.run(4, WARN)
    assert (seen.program, plain(seen.before), seen.stable) == (program(9), programs(0, 9), False)
    assert (seen.shown, seen.again) == ((), "it did not come again")


def test_it_is_not_tried_for_ever() -> None:
    watched = Watched(only(1), until=0.0)
    (seen,) = watched.run(2, WARN)
    assert watched.again.series == []
    assert seen.again == "it did not come again in the time there was"


def test_kernel_that_does_not_boot_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(series: Sequence[Ran]) -> Iterator[tuple[list[Crash], bool]]:
        raise BridgeError("the guest does not boot")

    watched = Watched()
    monkeypatch.setattr(watched.again, "reports", refuse)
    (seen,) = watched.run(2, WARN)
    assert seen.again == "it could not be tried again: the guest does not boot"


def test_another_report_is_not_the_same() -> None:
    (seen,) = Watched(only(2, says=SLEEP)).run(4, WARN)
    assert not seen.stable


def test_only_so_many_are_remembered() -> None:
    watched = Watched(only(2030))
    for _ in range(40):
        watched.run(50)
    (seen,) = watched.run(50, WARN)
    assert seen.program == program(2030)
    assert plain(seen.before) == programs(2030 - BEFORE, 2030)


def test_report_that_ends_later_belongs_to_when_it_began() -> None:
    watched = Watched(only(3))
    watched.run(2)
    assert watched.run(2, WARN[:400]) == []
    assert watched.run(2) == []
    (seen,) = watched.run(2, WARN[400:])
    assert watched.again.series[0] == programs(2, 4)
    assert (seen.program, plain(seen.before)) == (program(3), programs(0, 3))


def test_report_without_an_end_is_waited_for_no_longer_than_a_second() -> None:
    watched = Watched(only(0, says=SLEEP))
    assert watched.run(2, SLEEP) == []
    watched.now += 0.5
    assert watched.run(2) == []
    watched.now += 0.6
    (seen,) = watched.run(2)
    assert (seen.program, seen.stable) == (program(0), True)
    assert seen.crash.text == SLEEP.decode()


def test_report_that_gives_way_to_the_next() -> None:
    watched = Watched()
    assert watched.run(2, SLEEP) == []
    first, second = watched.run(2, WARN)
    assert (first.program, second.program) == (program(1), program(3))


def test_last_look_takes_what_there_is() -> None:
    watched = Watched()
    assert watched.run(2, SLEEP) == []
    (seen,) = watched.run(0, last=True)
    assert seen.program == program(1)
    assert watched.run(0, last=True) == []


def test_what_is_reported_while_none_runs() -> None:
    watched = Watched()
    (seen,) = watched.run(0, WARN, last=True)
    assert (seen.program, seen.before, seen.again) == ((), (), "no program was running")
    assert watched.again.series == []


def test_same_bug_is_seen_once() -> None:
    watched = Watched()
    assert len(watched.run(2, WARN + WARN)) == 1
    watched.now += 100
    assert watched.run(2, WARN) == []


def test_what_follows_from_an_oops_is_no_other_bug() -> None:
    watched = Watched(boots=False)
    assert len(watched.run(2, OOPS)) == 1
    assert watched.run(2, WARN) == []
    watched.now += 60
    assert titles(watched.run(2, WARN)) == ["WARNING in move_vma"], "a machine that goes on"


def test_running_kernel_is_not_made_to_do_the_worst_again() -> None:
    watched = Watched(only(4, says=OOPS), boots=False)
    watched.run(2)
    (seen,) = watched.run(4, OOPS, lost=2)
    assert (seen.program, plain(seen.before), seen.stable) == (program(4), programs(0, 4), False)
    assert watched.again.series == []


def test_running_kernel_is_asked_for_a_warning_again() -> None:
    (seen,) = Watched(only(1), boots=False).run(2, WARN)
    assert (seen.program, seen.again) == (program(1), "it came again alone, on a fresh executor")


def test_panic_that_no_program_could_be_blamed_for_at_once() -> None:
    """Its batch ran again one at a time; booted anew, and all of it, it may come."""
    watched = Watched(lambda ran: (PANIC * (len(ran) == 3), len(ran) == 3))
    (seen,) = watched.run(4, PANIC + GONE)
    assert plain(seen.shown) == programs(0, 3)


def test_death_is_put_down_to_its_program() -> None:
    watched = Watched(only(3, says=OOPS + PANIC))
    watched.run(3)
    (seen,) = watched.die(OOPS + PANIC + GONE)
    assert seen.crash.title == REPORTS["null pointer"].title
    assert (seen.program, plain(seen.before), seen.stable) == (program(3), programs(0, 3), True)
    (seen,) = watched.run(2, WARN)
    assert plain(seen.before) == programs(0, 5)


def test_warning_before_a_death_is_not_hidden_by_it() -> None:
    assert titles(Watched().die(WARN + OOPS + PANIC)) == [
        "WARNING in move_vma",
        REPORTS["null pointer"].title,
    ]


def test_report_that_begins_before_a_death_and_ends_with_it() -> None:
    watched = Watched()
    assert watched.run(2, OOPS[:300]) == []
    assert titles(watched.die(OOPS[300:])) == [REPORTS["null pointer"].title]


@pytest.mark.parametrize("dead", [True, False])
def test_silence(dead: bool) -> None:
    watched = Watched(lambda ran: (b"", dead))
    (seen,) = watched.die()
    assert seen.crash.title == f"lost connection: {LOST}"
    assert seen.stable == dead


def test_death_in_silence_that_no_program_brings_about_again() -> None:
    """It is in what was printed; what the next boot says does not follow from it."""
    watched = Watched()
    first, second = watched.run(4, GONE + b"Linux version 7.3.4\n" + WARN)
    assert (first.crash.title, first.program) == (REPORTS["lost"].title, program(3))
    assert second.crash.title == "WARNING in move_vma"
    assert watched.again.series == [programs(0, 4)] * 2


def test_death_that_was_explained_is_not_silent() -> None:
    assert titles(Watched().run(4, OOPS + PANIC + GONE)) == [REPORTS["null pointer"].title]


def test_what_another_kernel_said_belongs_to_what_that_ran() -> None:
    watched = Watched(only(9))
    watched.run(4)
    (seen,) = watched.watch.overheard(Ran(program(9), full=True), WARN)
    assert (seen.ran, seen.stable) == (Ran(program(9), full=True), True)
    assert plain(seen.before) == programs(0, 4)
    assert watched.watch.overheard(Ran(program(9)), WARN) == []


def test_directory(tmp_path: Path) -> None:
    watched = Watched(only(2))
    (seen,) = watched.run(4, WARN)
    path, new = seen.write(tmp_path)
    assert new
    assert path.name.startswith("the-kernel-reported-WARNING-in-move-vma-")
    assert sorted(file.name for file in path.iterdir()) == [
        "before", "console.log", "finding.json", "program", "report.html", "report.md",
    ]  # fmt: skip
    geometry = ENVIRONMENT.geometry
    assert corpus.read_program(path / "program", geometry) == program(2)
    before = corpus.read_programs(path / "before", geometry)
    assert [each for _, each in before] == programs(0, 2)
    assert (path / "console.log").read_text() == WARN.decode()
    data = json.loads((path / "finding.json").read_text())
    assert (data["class"], data["title"]) == ("warning", "WARNING in move_vma")
    text = (path / "report.md").read_text()
    assert "kernel   0.0.0-none x86_64\n" in text
    assert "stack    move_vma < mremap_to < " in text
    assert "again    it came again alone, on a freshly booted kernel\n" in text
    assert text.endswith(f"\nthe kernel's report\n{WARN.decode()}")


def test_what_is_left_of_it_is_added(tmp_path: Path) -> None:
    (seen,) = Watched(only(2)).run(4, WARN)
    path, _ = seen.write(tmp_path)
    left = (Ran(program(1)), Ran(program(2), full=True))
    replace(seen, reduction=Reduction(left, "to 2 programs")).rewrite(path)
    read = corpus.read_programs(path / "reduced", ENVIRONMENT.geometry)
    assert [each for _, each in read] == programs(1, 3)
    text = (path / "report.md").read_text()
    assert "reduced  to 2 programs\n" in text
    assert "\nreduced\n    munmap(0x1000, 1p)\n    --\n    munmap(0x2000, 1p)\n" in text
    data = json.loads((path / "finding.json").read_text())
    assert [each["full"] for each in data["reduced"]] == [False, True]


def test_one_program_that_is_left_is_in_c_too(tmp_path: Path) -> None:
    """It says of a kernel without the fault that all is as the model says. What takes two programs is not in C."""
    (seen,) = Watched(only(2)).run(4, WARN)
    left = (Munmap(ENVIRONMENT.geometry.window, PAGE),)
    trace, *troubles = predict(Model(ENVIRONMENT, NEW), left)
    assert not any(troubles)
    reduced = replace(seen, reduction=Reduction((Ran(left),), "to 1 program"), predicted=trace)
    path, _ = reduced.write(tmp_path)
    assert "\nin C     repro.c, kselftest.c\n" in (path / "report.md").read_text()
    assert "munmap(" in (path / "kselftest.c").read_text()
    text = (path / "repro.c").read_text()
    assert text.startswith("/*\n * WARNING in move_vma\n")
    if compiler := which("cc"):
        command = [compiler, "-Wall", "-Wextra", "-Werror", path / "repro.c", "-o", tmp_path / "a"]
        subprocess.run(command, check=True)
        done = subprocess.run([tmp_path / "a"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "agrees: 1 calls\n")
    html = (path / "report.html").read_text()
    assert html.count('class="lanes"') == 1
    assert "<dt>model</dt>" in html
    assert "<dt>kernel</dt>" not in html
    two = replace(reduced, reduction=Reduction((Ran(left), Ran(left)), "to 2 programs"))
    assert (two.left, two.reproducers()) == (None, {})
    two.rewrite(path)
    assert 'class="lanes"' not in (path / "report.html").read_text()


def test_without_symbols_it_says_why(tmp_path: Path) -> None:
    (seen,) = Watched().run(1, WARN)
    assert "no file and line" not in seen.text()
    text = seen.located(None).text()
    assert "source   no file and line: there is no vmlinux beside the kernel\n" in text


def test_name_is_that_of_the_bug_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (crash,) = reports(WARN)
    ran = Ran(program(1))
    one = CrashFinding(crash, ran, (), "", ENVIRONMENT, "6.18", (ran,), "it came again")
    path, new = one.write(tmp_path)
    assert new
    before = (path / "program").read_text()
    assert replace(one, ran=Ran(program(2))).write(tmp_path) == (path, False)
    assert (path / "program").read_text() == before
    other = replace(one, crash=replace(crash, frames=("move_vma", "elsewhere")))
    assert other.write(tmp_path)[0] != path
    assert replace(one, worker=1).write(tmp_path) == (path, False)
    unsure = replace(one, worker=1, shown=())
    assert unsure.write(tmp_path)[0].name == f"{path.name}-worker-1"
