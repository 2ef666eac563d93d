"""Whom a report is put down to, and what is kept of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from abi.calls import Munmap, Program
from abi.consts import PAGE
from fuzz import corpus
from fuzz.console import reports
from fuzz.crashes import BEFORE, CrashFinding, CrashWatch
from tests.fuzz.machine import ENVIRONMENT
from tests.fuzz.reports import MOVED, REPORTS, warning

WARN = warning(MOVED).encode()
OOPS = REPORTS["null pointer"].text.encode()
SLEEP = REPORTS["sleeping function"].text.encode()
PANIC = b"Kernel panic - not syncing: Fatal exception\n"
LOST = "it has not answered"


def program(number: int) -> Program:
    return (Munmap(number * PAGE, PAGE),)


def programs(begin: int, end: int) -> tuple[Program, ...]:
    return tuple(map(program, range(begin, end)))


@dataclass
class Watched:
    """A watch with its log, its clock, and what programs do when they run again alone."""

    again: Callable[[Program], tuple[bytes, bool]] = lambda program: (b"", False)
    data: bytes = b""
    now: float = 100.0
    count: int = 0
    reruns: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = CrashWatch(self.read, ENVIRONMENT, "6.18", clock=lambda: self.now)

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def rerun(self, suspects: Sequence[Program]) -> list[tuple[bytes, bool]]:
        self.reruns += suspects
        return [self.again(each) for each in suspects]

    def run(
        self, count: int, data: bytes = b"", lost: int | None = None, last: bool = False
    ) -> list[CrashFinding]:
        """Run the next `count` programs; the kernel prints `data` meanwhile."""
        for each in programs(self.count, self.count + count):
            self.watch.follow(each)
        self.count += count
        self.data += data
        return self.watch.look(count, self.rerun, lost, last)

    def die(self, console: bytes = b"") -> list[CrashFinding]:
        """The kernel dies of the next program."""
        found = self.watch.died(program(self.count), LOST, console.decode(), self.rerun)
        self.watch.follow(program(self.count))
        self.count += 1
        return found


def titles(findings: list[CrashFinding]) -> list[str]:
    return [finding.crash.title for finding in findings]


def only(*numbers: int, says: bytes = WARN) -> Callable[[Program], tuple[bytes, bool]]:
    """These programs bring the report about, alone."""
    return lambda each: (says if each in map(program, numbers) else b"", False)


def test_first_program_that_does_it_again_is_the_one() -> None:
    watched = Watched(only(7, 8))
    watched.run(6, b"[    1.000000] usb 1-1: new device\n")
    (seen,) = watched.run(4, WARN)
    assert (seen.program, seen.before, seen.stable) == (program(7), programs(0, 7), True)
    assert watched.reruns == [*programs(6, 10)]
    assert "usb 1-1" in seen.console
    assert seen.crash.text == WARN.decode()


def test_last_one_if_none_does() -> None:
    watched = Watched()
    watched.run(6)
    (seen,) = watched.run(4, WARN)
    assert (seen.program, seen.before, seen.stable) == (program(9), programs(0, 9), False)


def test_another_report_is_not_the_same() -> None:
    (seen,) = Watched(only(2, says=SLEEP)).run(4, WARN)
    assert not seen.stable


def test_only_so_many_are_remembered() -> None:
    watched = Watched(only(2030))
    for _ in range(40):
        watched.run(50)
    (seen,) = watched.run(50, WARN)
    assert seen.program == program(2030)
    assert seen.before == programs(2030 - BEFORE, 2030)


def test_report_that_ends_later_belongs_to_when_it_began() -> None:
    watched = Watched(only(3))
    watched.run(2)
    assert watched.run(2, WARN[:400]) == []
    assert watched.run(2) == []
    (seen,) = watched.run(2, WARN[400:])
    assert watched.reruns == [*programs(2, 4)]
    assert (seen.program, seen.before) == (program(3), programs(0, 3))


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
    (seen,) = Watched().run(0, WARN, last=True)
    assert (seen.program, seen.before) == ((), ())


def test_same_bug_is_seen_once() -> None:
    watched = Watched()
    assert len(watched.run(2, WARN + WARN)) == 1
    watched.now += 100
    assert watched.run(2, WARN) == []


def test_what_follows_from_an_oops_is_no_other_bug() -> None:
    watched = Watched()
    assert len(watched.run(2, OOPS)) == 1
    assert watched.run(2, WARN) == []
    watched.now += 60
    assert titles(watched.run(2, WARN)) == ["WARNING in move_vma"], "a machine that goes on"


def test_kernel_that_is_done_for_is_not_made_to_do_it_again() -> None:
    watched = Watched()
    watched.run(2)
    (seen,) = watched.run(4, OOPS, lost=2)
    assert (seen.program, seen.before, seen.stable) == (program(4), programs(0, 4), False)
    assert watched.reruns == []


def test_death_is_put_down_to_its_program() -> None:
    watched = Watched(only(3, says=OOPS + PANIC))
    watched.run(3)
    (seen,) = watched.die(OOPS + PANIC)
    assert seen.crash.title == REPORTS["null pointer"].title
    assert (seen.program, seen.before, seen.stable) == (program(3), programs(0, 3), True)
    (seen,) = watched.run(2, WARN)
    assert seen.before == programs(0, 5)


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
    watched = Watched(lambda each: (b"", dead))
    (seen,) = watched.die()
    assert seen.crash.title == f"lost connection: {LOST}"
    assert seen.stable == dead


def test_directory(tmp_path: Path) -> None:
    watched = Watched(only(2))
    (seen,) = watched.run(4, WARN)
    path = seen.write(tmp_path)
    assert path.name.startswith("the-kernel-reported-WARNING-in-move-vma-")
    assert sorted(file.name for file in path.iterdir()) == [
        "before.prog", "console.log", "finding.json", "program.prog", "report.txt",
    ]  # fmt: skip
    geometry = ENVIRONMENT.geometry
    assert corpus.read_program(path / "program.prog", geometry) == program(2)
    before = corpus.read_programs(path / "before.prog", geometry)
    assert tuple(each for _, each in before) == programs(0, 2)
    assert (path / "console.log").read_text() == WARN.decode()
    data = json.loads((path / "finding.json").read_text())
    assert (data["class"], data["title"]) == ("warning", "WARNING in move_vma")
    text = (path / "report.txt").read_text()
    assert "kernel   0.0.0-none x86_64\n" in text
    assert "stack    move_vma < mremap_to < " in text
    assert text.endswith(f"\nthe kernel's report\n{WARN.decode()}")


def test_name_is_that_of_the_bug_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (crash,) = reports(WARN)
    one = CrashFinding(crash, program(1), (), "", ENVIRONMENT, "6.18", stable=True)
    path = one.write(tmp_path)
    before = (path / "program.prog").read_text()
    assert replace(one, program=program(2)).write(tmp_path) == path
    assert (path / "program.prog").read_text() == before
    other = replace(one, crash=replace(crash, frames=("move_vma", "elsewhere")))
    assert other.write(tmp_path) != path
    assert replace(one, worker=1).write(tmp_path) == path
    unsure = replace(one, worker=1, stable=False)
    assert unsure.write(tmp_path).name == f"{path.name}-worker-1"
