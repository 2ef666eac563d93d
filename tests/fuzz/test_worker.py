"""The loop, without a kernel: what is compared, confirmed, written, counted and kept."""

import errno
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from abi.calls import Mmap, Mremap, Munmap, Program
from abi.consts import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_READ,
)
from abi.program import parse, parse_all
from abi.trace import STEP
from fuzz import symbols, trials
from fuzz.findings import load
from fuzz.inflight import leftovers, read
from fuzz.produce import Prepared, Producer
from fuzz.triage import Known
from kernel_bridge import BridgeError
from model.errors import Unmodelled
from model.run import Run
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor, FakeLoss, set_up

W = ENVIRONMENT.geometry.window
MAP = Mmap(W, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
APART = Mmap(W + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
#: Moves two VMAs: possible from 6.17 on.
MOVE = Mremap(W, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, W + 64 * PAGE)
UNMAP = Munmap(W, PAGE)


def test_like_models_do_not_diverge(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW), runs=300)
    bench.fuzz()
    (last,) = bench.told.of("stats")[-1:]
    assert last["sequences"] == 300
    assert last["calls"] > 600
    assert bench.told.of("finding") == []
    assert bench.told.messages[-1] == {"kind": "done"}
    assert not (tmp_path / "findings").exists()


def test_fuzzing_two_profiles_finds_differences_and_goes_on(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD), runs=1500)
    bench.fuzz()
    findings = bench.told.of("finding")
    assert len(findings) >= 2
    assert len({finding["signature"] for finding in findings}) == len(findings)
    assert bench.told.of("stats")[-1]["sequences"] == 1500
    for finding in findings:
        path = Path(finding["path"])
        assert finding["signature"] in (path / "report.md").read_text()
        program = parse((path / "program").read_text(), ENVIRONMENT.geometry)
        data = json.loads((path / "finding.json").read_text())
        assert data["index"] == len(program) - 1, "cut after the diverging call"


def test_divergence_is_confirmed_in_three_fresh_executors(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD))
    bench.feed((MAP, APART, MOVE, UNMAP))
    assert all(executor.is_closed for executor in bench.fresh)
    assert all(executor.batches == [[(MAP, APART, MOVE)]] for executor in bench.fresh[:3])
    (finding,) = bench.told.of("finding")
    assert finding["signature"] == "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT"


def test_what_was_found_is_made_smaller_and_confirmed_again(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD))
    bench.feed((MAP, UNMAP, MAP, APART, Munmap(W + 90 * PAGE, PAGE), MOVE, UNMAP))
    (finding,) = bench.told.of("finding")
    path = Path(finding["path"])
    left = parse((path / "program").read_text(), ENVIRONMENT.geometry)
    assert len(left) == finding["calls"] == 2
    mapped, moved = left
    assert isinstance(mapped, Mmap)
    assert isinstance(moved, Mremap)
    assert mapped.addr == moved.addr == W, "the lowest is at the start of the window"
    assert mapped.length == PAGE
    assert moved.old_len == 2 * PAGE, "a hole, which only multi-VMA moves may have"
    assert [executor.batches for executor in bench.fresh[-3:]] == [[[left]]] * 3
    original = parse((path / "original").read_text(), ENVIRONMENT.geometry)
    assert len(original) == 6
    report = (path / "report.md").read_text()
    assert "2 calls from 6" in report
    assert "multi_vma_move" in report, "the change that explains it"
    assert "window is at another address, too" in report
    again = load(path)
    assert again.files() == {
        each.name: each.read_bytes() for each in path.iterdir() if each.name != "seen.json"
    }
    (elsewhere,) = bench.elsewhere
    assert elsewhere.batches[0][0][-1].addr == elsewhere.environment.geometry.window


def test_what_a_dead_worker_was_making_smaller_is_made_smaller(tmp_path: Path) -> None:
    """By whoever finds it next; but not while the other is at it."""

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        other = set_up(tmp_path, FakeExecutor(OLD), session=2)
        other.feed(program)
        assert len(other.told.of("finding")) == 1
        assert read_finding()["minimized"] == "", "somebody else is at it"
        raise Killed

    def read_finding() -> Any:
        (path,) = (tmp_path / "findings").iterdir()
        return json.loads((path / "finding.json").read_text())

    program = (MAP, UNMAP, MAP, APART, MOVE)
    dead = set_up(tmp_path, FakeExecutor(OLD))
    dead.worker._trials.minimize = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        dead.feed(program)
    assert (read_finding()["minimized"], len(dead.told.of("finding"))) == ("", 1)
    for _ in range(2):
        heir = set_up(tmp_path, FakeExecutor(OLD))
        heir.worker.take_up()
        heir.feed(program)
        assert len(heir.told.of("finding")) == 1
        assert read_finding()["minimized"].startswith("2 calls from 5")


def test_what_is_no_finding_is_not_loaded(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD))
    bench.feed((MAP, APART, MOVE))
    (finding,) = bench.told.of("finding")
    path = Path(finding["path"])
    (path / "finding.json").write_text("{}")
    with pytest.raises(ValueError, match="not a finding of this version"):
        load(path)
    with pytest.raises(OSError, match=r"finding\.json"):
        load(tmp_path)


def test_what_depends_on_the_place_is_said(tmp_path: Path) -> None:
    def here(program: Program, data: bytes) -> bytes:
        (first, *_) = program
        at_home = isinstance(first, Mmap) and first.addr < W + (1 << 30)
        return (
            STEP.pack(-errno.EIO, *STEP.unpack_from(data)[1:]) + data[STEP.size :]
            if at_home
            else data
        )

    bench = set_up(tmp_path, FakeExecutor(NEW, here))
    bench.feed((MAP, UNMAP))
    (finding,) = bench.told.of("finding")
    report = (Path(finding["path"]) / "report.md").read_text()
    assert "does not come where the window is at another address" in report


def test_same_signature_is_looked_into_once(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD))
    bench.feed((MAP, APART, MOVE), (MAP, APART, UNMAP, APART, MAP, MOVE), (MAP, APART, MOVE))
    assert len(bench.told.of("finding")) == 1
    assert len(bench.fresh) == 7, "three, the one that makes it smaller, three"
    assert list(bench.told.of("stats")[-1]["occurrences"].values()) == [3]


def test_what_does_not_come_back_is_unstable(tmp_path: Path) -> None:
    answers = iter([FakeExecutor(OLD), FakeExecutor(OLD), FakeExecutor(NEW), FakeExecutor(NEW)])
    bench = set_up(tmp_path, FakeExecutor(OLD), start=lambda: next(answers))
    bench.feed((MAP, APART, MOVE))
    assert bench.told.of("finding") == []
    assert bench.told.of("stats")[-1]["unstable"] == 1
    (report,) = (tmp_path / "unstable").glob("*/report.md")
    assert "unstable" in report.read_text()


def test_a_machine_that_changed_confirms_nothing_and_says_so_once(tmp_path: Path) -> None:
    changed = replace(ENVIRONMENT, huge_pages=16)
    bench = set_up(
        tmp_path, FakeExecutor(OLD), start=lambda: FakeExecutor(OLD, environment=changed)
    )
    bench.feed((MAP, APART, MOVE), (MAP, APART, MOVE))
    assert bench.told.of("finding") == []
    assert bench.told.of("stats")[-1]["unstable"] == 2
    (note,) = bench.told.of("note")
    assert "huge_pages from 0 to 16" in note["text"]


def test_memory_that_a_kernel_frees_late_is_no_change(tmp_path: Path) -> None:
    later = replace(ENVIRONMENT, memory_pages=ENVIRONMENT.memory_pages + 1)
    bench = set_up(tmp_path, FakeExecutor(OLD), start=lambda: FakeExecutor(OLD, environment=later))
    bench.feed((MAP, APART, MOVE))
    assert len(bench.told.of("finding")) == 1


def test_watched_blocks_are_told_with_the_first_program_that_reaches_each(tmp_path: Path) -> None:
    executor = FakeExecutor(touches=lambda program: frozenset({0, 1} if UNMAP in program else {0}))
    bench = set_up(tmp_path, executor, watched={"local": (0x1000, 0x2000, 0x3000)})
    bench.feed((MAP,), (MAP, UNMAP), (MAP,), (MAP, UNMAP))
    assert executor.watched == (0x1000, 0x2000, 0x3000)
    first, second = bench.told.of("reached")
    assert (first["places"], second["places"]) == ([0], [0, 1])
    assert parse(second["program"], ENVIRONMENT.geometry) == (MAP, UNMAP)
    begun_with = {bench.producer._worthy() for _ in range(200)}
    assert begun_with == {None, (MAP,), (MAP, UNMAP)}, "they are edited the more"


def test_programs_that_reach_new_blocks_of_the_kernel_are_kept(tmp_path: Path) -> None:
    executor = FakeExecutor(reach=lambda program: 7 if UNMAP in program else 0)
    bench = set_up(tmp_path, executor)
    for name in (tmp_path / "corpus").iterdir():
        name.unlink()
    bench.feed((MAP, APART), (MAP, UNMAP))
    assert bench.told.of("stats")[-1]["blocks"] == 7
    kept = [
        parse(path.read_text(), ENVIRONMENT.geometry) for path in (tmp_path / "corpus").iterdir()
    ]
    assert (MAP, UNMAP) in kept
    assert bench.producer.edit(b"", 4096, None)


def test_unstable_divergence_is_not_tried_for_ever(tmp_path: Path) -> None:
    started: list[FakeExecutor] = []

    def start() -> FakeExecutor:
        started.append(FakeExecutor(NEW))
        return started[-1]

    bench = set_up(tmp_path, FakeExecutor(OLD), start=start)
    bench.feed(*[(MAP, APART, MOVE)] * 20)
    assert len(started) == 6
    assert bench.told.of("stats")[-1]["unstable"] == 20


def test_loss_is_counted_and_kept_but_no_divergence(tmp_path: Path) -> None:
    def cut(program: Program, data: bytes) -> bytes:
        return data[: STEP.size] if UNMAP in program else data

    def lose(program: Program) -> FakeLoss | None:
        return FakeLoss("signal", "SIGSEGV in call 1") if UNMAP in program else None

    bench = set_up(tmp_path, FakeExecutor(NEW, cut, lose))
    bench.feed((UNMAP, MAP), (UNMAP, APART), (MAP,))
    assert bench.told.of("finding") == []
    assert bench.told.of("stats")[-1]["losses"] == 1
    (kept,) = (tmp_path / "losses").iterdir()
    assert kept.read_text().startswith("# SIGSEGV in call 1\nmunmap(W+0, 1p)\n")


def test_trace_cut_short_without_a_word_is_kept_too(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW, lambda program, data: data[: STEP.size]))
    bench.feed((UNMAP, UNMAP))
    assert bench.told.of("stats")[-1]["losses"] == 1


def test_divergence_before_a_loss_is_found(tmp_path: Path) -> None:
    lost = FakeLoss("signal", "SIGKILL")
    bench = set_up(tmp_path, FakeExecutor(OLD, lose=lambda program: lost))
    bench.feed((MAP, APART, MOVE))
    assert len(bench.told.of("finding")) == 1


def test_unmodelled_ends_the_program_not_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Run.step

    def refuse(self: Run, call: Any) -> int:
        if call == UNMAP:
            raise Unmodelled("a reason")
        return step(self, call)

    monkeypatch.setattr(Run, "step", refuse)
    bench = set_up(tmp_path, FakeExecutor(NEW))
    bench.feed((MAP, UNMAP, MAP), (UNMAP,), (MAP,))
    assert bench.executor.batches == [[(MAP,), (MAP,)]], "what comes before is compared"
    last = bench.told.of("stats")[-1]
    assert last["unmodelled"] == {"a reason": 2}
    assert last["sequences"] == 3


def test_failing_model_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Run.step

    def fail(self: Run, call: Any) -> int:
        if call == UNMAP:
            raise ZeroDivisionError("oops")
        return step(self, call)

    monkeypatch.setattr(Run, "step", fail)
    bench = set_up(tmp_path, FakeExecutor(NEW))
    bench.feed((MAP, UNMAP), (MAP, UNMAP), (MAP,))
    (finding,) = bench.told.of("finding")
    assert finding["signature"].startswith("the model failed: ZeroDivisionError: oops (test_worker")
    text = (Path(finding["path"]) / "program").read_text()
    assert parse(text, ENVIRONMENT.geometry) == (MAP, UNMAP)


def test_batch_is_written_down_before_it_runs(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW), batch=2)
    recorded = []
    submit = bench.executor.submit

    def look(programs: Any, full: Any) -> None:
        (path,) = leftovers(tmp_path)
        recorded.append(read(path) == list(programs))
        submit(programs, full)

    bench.executor.submit = look  # type: ignore[method-assign]
    bench.feed((MAP,), (APART,), (UNMAP,), (MAP, MOVE))
    assert recorded == [True, True]
    assert leftovers(tmp_path) == [], "nothing is left after an orderly end"


def test_leftovers_are_replayed_and_their_divergences_found(tmp_path: Path) -> None:
    dead = set_up(tmp_path, FakeExecutor(OLD), batch=2)
    dead.worker.accept(dead.producer.predict((MAP,)))
    dead.worker.accept(dead.producer.predict((MAP, APART, MOVE)))  # submitted, never collected
    (path,) = leftovers(tmp_path)
    heir = set_up(tmp_path, FakeExecutor(OLD))
    heir.worker.replay(path)
    heir.worker.finish()
    assert len(heir.told.of("finding")) == 1
    assert "compared 2 programs" in heir.told.of("note")[0]["text"]
    assert not path.exists()


def test_program_that_kills_the_replay_is_set_aside(tmp_path: Path) -> None:
    dead = set_up(tmp_path, FakeExecutor(NEW), batch=2)
    dead.worker.accept(dead.producer.predict((MAP,)))
    dead.worker.accept(dead.producer.predict((APART,)))
    (path,) = leftovers(tmp_path)

    class Killed(BaseException):
        pass

    def kill(program: Program, data: bytes) -> bytes:
        if program == (MAP,):
            raise Killed
        return data

    with pytest.raises(Killed):
        set_up(tmp_path, FakeExecutor(NEW, kill)).worker.replay(path)
    (path,) = leftovers(tmp_path)
    heir = set_up(tmp_path, FakeExecutor(NEW, kill))
    heir.worker.replay(path)
    heir.worker.finish()
    assert heir.told.of("stats")[-1]["sequences"] == 1
    (kept,) = (tmp_path / "losses").iterdir()
    assert kept.read_text().startswith("# the worker died while it ran\nmmap(")


def test_full_disk_loses_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD))
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if "findings" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        bench.feed((MAP, APART, MOVE))
    (finding,) = bench.told.of("finding")
    assert finding["path"] == ""
    assert ">>> mremap(" in finding["report"]
    assert list((tmp_path / "findings").iterdir()) == []


def test_known_divergence_is_not_new(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD))
    text = "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT"
    bench.worker._ledger._known.append(Known((text,), ("0.0.*",), "an old kernel"))
    bench.feed((MAP, APART, MOVE))
    (finding,) = bench.told.of("finding")
    assert finding["cause"] == "an old kernel"
    assert not (tmp_path / "findings").exists()


@pytest.mark.parametrize("reduced", [True, False])
def test_unmasked_it_is_a_finding_made_smaller_or_not(tmp_path: Path, reduced: bool) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD), unmask=True, reduce_known=reduced)
    text = "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT"
    bench.worker._ledger._known.append(Known((text,), ("0.0.*",), "an old kernel"))
    bench.feed((MAP, MAP, APART, MOVE))
    (finding,) = bench.told.of("finding")
    assert (finding["cause"], finding["calls"]) == ("", 2 if reduced else 4)
    assert ("it is known" in (Path(finding["path"]) / "report.md").read_text()) != reduced


def test_stop_finishes_what_was_begun(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD), runs=None, batch=64)
    bench.worker.accept(bench.producer.predict((MAP, APART, MOVE)))
    bench.worker.stop()
    assert bench.worker.is_over()
    bench.worker.finish()
    assert len(bench.told.of("finding")) == 1


def test_until_found_stops_at_the_first(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(OLD), runs=100_000, until_found=True)
    bench.fuzz()
    assert bench.told.of("stats")[-1]["sequences"] < 20_000
    assert bench.told.of("finding")


def test_same_seed_makes_the_same_programs(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bench = set_up(tmp_path / name, FakeExecutor(NEW), runs=128)
        bench.fuzz()
        runs.append(bench.executor.batches)
    assert runs[0] == runs[1]


def test_queue_goes_first(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW), runs=3)
    bench.producer.queue.extend([(MAP, UNMAP), (APART,)])
    bench.fuzz()
    assert list(bench.executor.batches[0][:2]) == [(MAP, UNMAP), (APART,)]


def test_memo_is_used_once_and_only_for_its_bytes(tmp_path: Path) -> None:
    producer: Producer = set_up(tmp_path, FakeExecutor(NEW)).producer
    data = producer.edit(b"", 4096, None)
    first = producer.prepare(data)
    second = producer.prepare(data)
    assert first is not second
    assert (first.program, first.expected) == (second.program, second.expected)
    assert producer.prepare(b"").program == ()


WARNED = """------------[ cut here ]------------
WARNING: CPU: 0 PID: 97 at mm/mremap.c:712 move_vma+0x123/0x456
---[ end trace 0000000000000000 ]---
"""


def test_death_of_the_kernel_is_a_finding(tmp_path: Path) -> None:
    """Tied to its program, with what ran before it, and confirmed on a fresh executor."""
    oops = "BUG: kernel NULL pointer dereference, address: 10\nRIP: 0010:move_vma+0x1/0x2\n"

    def lose(program: Program) -> FakeLoss | None:
        return FakeLoss("crash", "the kernel was lost: gone", oops) if UNMAP in program else None

    def start() -> FakeExecutor:
        return FakeExecutor(NEW, cut, lose)

    def cut(program: Program, data: bytes) -> bytes:
        return b"" if UNMAP in program else data

    bench = set_up(tmp_path, FakeExecutor(NEW, cut, lose), start=start)
    bench.feed((MAP,), (MAP, UNMAP), (UNMAP,))
    (finding,) = bench.told.of("finding")
    title = "BUG: unable to handle kernel NULL pointer dereference in move_vma"
    assert finding["signature"] == f"the kernel reported: {title}"
    path = Path(finding["path"])
    assert parse((path / "program").read_text(), ENVIRONMENT.geometry) == (MAP, UNMAP)
    assert (path / "report.md").read_text().startswith(title)
    assert "it came again alone, on a fresh executor" in (path / "report.md").read_text()
    assert "mmap(" in (path / "before").read_text()
    assert (path / "console.log").read_text() == oops


def test_silence_is_a_finding_too(tmp_path: Path) -> None:
    def lose(program: Program) -> FakeLoss | None:
        return (
            FakeLoss("crash", "the kernel was lost: it has not answered")
            if MAP in program
            else None
        )

    bench = set_up(tmp_path, FakeExecutor(NEW, lambda p, d: b"", lose))
    bench.feed((MAP,))
    assert [f["signature"] for f in bench.told.of("finding")] == [
        "the kernel reported: lost connection: the kernel was lost: it has not answered"
    ]


def dies(program: Program) -> FakeLoss | None:
    lost = "the kernel was lost: it had to be killed"
    return FakeLoss("crash", lost) if UNMAP in program else None


def test_a_lost_kernel_is_looked_into_before_more_is_sent(tmp_path: Path) -> None:
    """So that a kernel that falls silent again and again does not hide what the first time shows."""
    bench = set_up(tmp_path, FakeExecutor(NEW, lambda p, d: b"", dies), batch=4)
    bench.feed((MAP,), (MAP, UNMAP), (APART,), (UNMAP,))
    whole, rest = bench.executor.batches
    assert (len(whole), list(rest)) == (4, [(APART,), (UNMAP,)])
    (finding,) = bench.told.of("finding")
    assert "lost connection: the kernel was lost: it had to be killed" in finding["signature"]
    assert bench.told.of("stats")[-1]["sequences"] == 4
    assert leftovers(tmp_path) == []


def test_what_there_is_no_time_for_stays_in_flight(tmp_path: Path) -> None:
    """A kernel that falls silent as the time runs out: it is a finding, and the others are for the next session."""
    bench = set_up(tmp_path, FakeExecutor(NEW, lambda p, d: b"", dies), batch=3)
    for program in ((MAP,), (MAP, UNMAP), (APART,), (MAP, APART)):
        bench.worker.accept(bench.producer.predict(program))
    bench.worker.stop()
    bench.worker.finish()
    assert len(bench.told.of("finding")) == 1
    (path,) = leftovers(tmp_path)
    assert read(path) == [(APART,), (MAP, APART)]
    note = bench.told.of("note")[-1]["text"]
    assert note.startswith("the time was up before 2 programs in flight were compared: the next")
    assert bench.told.messages[-1] == {"kind": "done"}
    heir = set_up(tmp_path, FakeExecutor(NEW))
    heir.worker.stop()
    heir.worker.take_up()
    assert [read(path) for path in leftovers(tmp_path)] == [[(APART,), (MAP, APART)]]
    heir = set_up(tmp_path, FakeExecutor(NEW))
    heir.worker.take_up()
    assert heir.executor.batches == [[(APART,)], [(MAP, APART)]]
    assert leftovers(tmp_path) == []


def test_nothing_is_sent_to_a_kernel_that_was_lost_when_the_time_was_up(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW, lambda p, d: b"", dies), batch=2)
    for program in ((MAP,), (UNMAP,), (APART,)):
        bench.worker.accept(bench.producer.predict(program))
    bench.worker.stop()
    bench.worker.finish()
    assert len(bench.executor.batches) == 1
    assert [read(path) for path in leftovers(tmp_path)] == [[(APART,)]]


def test_a_crash_that_is_enough_ends_its_batch(tmp_path: Path) -> None:
    bench = set_up(
        tmp_path, FakeExecutor(NEW, lambda p, d: b"", dies), batch=3, until_found=True, runs=9
    )
    bench.feed((UNMAP,), (MAP,), (APART,))
    assert len(bench.executor.batches) == 1
    assert bench.told.of("stats")[-1]["sequences"] == 1
    assert leftovers(tmp_path) == []


def test_a_warning_is_tied_to_the_program_that_brings_it_about(tmp_path: Path) -> None:
    """The kernel goes on, and so does the worker; which of the batch it was is found by running each again."""
    bench = set_up(tmp_path, FakeExecutor(NEW, says=warn), batch=3)
    bench.feed((MAP,), (MAP, UNMAP), (APART,), (MAP, UNMAP))
    assert bench.told.of("stats")[-1]["sequences"] == 4
    assert [executor.batches for executor in bench.fresh] == [
        [[(MAP,)], [(MAP, UNMAP)]],
        [[(MAP, UNMAP)]],
    ]
    (finding,) = bench.told.of("finding")
    assert finding["signature"] == "the kernel reported: WARNING in move_vma"
    text = (Path(finding["path"]) / "program").read_text()
    assert parse(text, ENVIRONMENT.geometry) == (MAP, UNMAP)


def warn(program: Program) -> bytes:
    return WARNED.encode() if UNMAP in program else b""


def read_all(path: Path) -> list[Program]:
    return parse_all(path.read_text(), ENVIRONMENT.geometry)


def test_a_report_is_made_smaller_on_kernels_booted_for_it(tmp_path: Path) -> None:
    booted: list[FakeExecutor] = []

    def renew() -> FakeExecutor:
        booted.append(FakeExecutor(NEW, says=warn))
        return booted[-1]

    bench = set_up(tmp_path, FakeExecutor(NEW, says=warn), renew=renew, batch=3)
    bench.feed((APART,), (MAP, APART, UNMAP, MAP), (APART,))
    (finding,) = bench.told.of("finding")
    path = Path(finding["path"])
    assert read_all(path / "program") == [(MAP, APART, UNMAP, MAP)]
    assert read_all(path / "reduced") == [(UNMAP,)]
    report = (path / "report.md").read_text()
    assert "again    it came again alone, on a freshly booted kernel\n" in report
    assert "reduced  to 1 program of 1 call from 1 program of 4 calls, in " in report
    assert bench.fresh == [], "none of it on kernels that have run something"
    assert all(executor.is_closed for executor in booted)
    assert {len(executor.batches) for executor in booted[1:]} == {1}


def test_what_takes_several_programs_is_made_smaller_too(tmp_path: Path) -> None:
    """A kernel that warns at an unmapping once something was mapped apart."""

    def kernel() -> FakeExecutor:
        apart: list[Program] = []

        def says(program: Program) -> bytes:
            apart.extend([program] * (APART in program))
            return WARNED.encode() if apart and UNMAP in program else b""

        return FakeExecutor(NEW, says=says)

    bench = set_up(tmp_path, kernel(), renew=kernel, batch=2)
    bench.feed((MAP,), (MAP, APART), (MAP,), (MAP,), (MAP,), (MAP, UNMAP))
    (finding,) = bench.told.of("finding")
    path = Path(finding["path"])
    assert "it did not come again: see before" in (path / "report.md").read_text()
    assert read_all(path / "reduced") == [(APART,), (UNMAP,)]
    data = json.loads((path / "finding.json").read_text())
    assert (data["stable"], len(data["reduced"])) == (False, 2)


def test_a_report_in_a_confirmation_is_a_finding(tmp_path: Path) -> None:
    """Observed in full it complains, and only then."""

    def confirmed() -> FakeExecutor:
        return FakeExecutor(OLD, says=lambda program: WARNED.encode())

    bench = set_up(tmp_path, FakeExecutor(OLD), start=confirmed)
    bench.feed((MAP, APART, MOVE))
    texts = [finding["signature"] for finding in bench.told.of("finding")]
    assert texts == [
        "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT",
        "the kernel reported: WARNING in move_vma",
    ]


def test_what_was_reported_before_any_program_is_nobodys(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW, console=WARNED.encode()))
    bench.worker.listen()
    bench.feed((MAP,))
    (finding,) = bench.told.of("finding")
    assert "no program was running" in (Path(finding["path"]) / "report.md").read_text()
    assert bench.fresh == []


def test_known_report_is_not_new(tmp_path: Path) -> None:
    bench = set_up(tmp_path, FakeExecutor(NEW, says=warn))
    entry = Known(("the kernel reported: WARNING in move_vma",), ("0.0.*",), "mm/x.c: f()")
    bench.worker._ledger._known.append(entry)
    bench.feed((MAP, UNMAP))
    (finding,) = bench.told.of("finding")
    assert (finding["cause"], finding["path"]) == ("mm/x.c: f()", "")
    assert not (tmp_path / "findings").exists()


def test_unmasked_it_is_a_finding_and_is_not_made_smaller(tmp_path: Path) -> None:
    says = FakeExecutor(NEW, says=warn)
    bench = set_up(tmp_path, says, renew=lambda: says, unmask=True, reduce_known=False)
    entry = Known(("the kernel reported: WARNING in move_vma",), ("0.0.*",), "mm/x.c: f()")
    bench.worker._ledger._known.append(entry)
    bench.feed((MAP, UNMAP, MAP))
    (finding,) = bench.told.of("finding")
    path = Path(finding["path"])
    assert read_all(path / "program") == [(MAP, UNMAP, MAP)]
    assert not (path / "reduced").exists()


def test_what_is_known_does_not_end_the_search(tmp_path: Path) -> None:
    def boot() -> FakeExecutor:
        return FakeExecutor(OLD, says=warn)

    bench = set_up(tmp_path, boot(), renew=boot, unmask=True, until_found=True)
    entry = Known(("the kernel reported: WARNING in move_vma",), ("0.0.*",), "mm/x.c: f()")
    bench.worker._ledger._known.append(entry)
    bench.feed((MAP, UNMAP))
    assert bench.told.of("finding")
    assert not bench.worker.is_over()
    bench.feed((MAP, APART, MOVE))
    assert bench.worker.is_over()


def test_no_more_is_tried_than_there_is_time_for(tmp_path: Path) -> None:
    """Whoever asks for an end gets the finding as it is."""
    bench = set_up(
        tmp_path, FakeExecutor(NEW, says=warn), renew=lambda: FakeExecutor(NEW, says=warn)
    )
    bench.worker.accept(bench.producer.predict((MAP, UNMAP, MAP)))
    bench.worker.stop()
    bench.worker.finish()
    (finding,) = bench.told.of("finding")
    path = Path(finding["path"])
    assert "alone, on a freshly booted kernel" in (path / "report.md").read_text()
    assert "in 0 trials, and time was up" in (path / "report.md").read_text()
    assert read_all(path / "reduced") == [(MAP, UNMAP, MAP)]


def test_kernel_that_cannot_be_booted_again_costs_no_finding(tmp_path: Path) -> None:
    def refuse() -> FakeExecutor:
        raise BridgeError("the guest does not boot")

    bench = set_up(tmp_path, FakeExecutor(NEW, says=warn), renew=refuse)
    bench.feed((MAP, UNMAP), (MAP,))
    (finding,) = bench.told.of("finding")
    text = (Path(finding["path"]) / "report.md").read_text()
    assert "it could not be tried again: the guest does not boot" in text
    assert bench.told.of("stats")[-1]["sequences"] == 2


NM = "ffffffff81234000 0000000000000456 t move_vma"


def test_functions_in_a_report_get_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmlinux = tmp_path / "vmlinux"
    vmlinux.touch()

    def run_(*command: str, input_: str = "") -> list[str]:
        if command[0] == "nm":
            return [NM]
        return [line for at in input_.split() for line in (at, "move_vma", "mm/mremap.c:712")]

    monkeypatch.setattr(symbols, "_run", run_)
    bench = set_up(tmp_path, FakeExecutor(NEW, says=warn), vmlinux=vmlinux)
    bench.feed((MAP, UNMAP))
    (finding,) = bench.told.of("finding")
    assert finding["signature"] == "the kernel reported: WARNING in move_vma"
    text = (Path(finding["path"]) / "report.md").read_text()
    assert "move_vma+0x123/0x456 mm/mremap.c:712\n" in text
    assert "no file and line" not in text


def test_a_lost_kernel_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """The one that leads, too: what it was running is kept, and the others run what there is."""

    class Gone(FakeExecutor):
        def collect(self, *, until_lost: bool = False) -> Any:
            raise BridgeError("the guest does not boot")

    @dataclass
    class Other:
        is_lost: bool = False
        taken: list[Program] = field(default_factory=list)

        def take_up(self) -> None: ...
        def take(self, prepared: Prepared) -> None:
            self.taken.append(prepared.program)

        def stop(self) -> None: ...
        def finish(self) -> None: ...
        def close(self) -> None: ...

    other = Other()
    bench = set_up(tmp_path, Gone(NEW), batch=1, target="7.3.4")
    bench.worker.followers.append(other)
    bench.feed(*[(MAP,)] * 4)
    assert len(other.taken) == 4
    assert bench.told.of("left") == [
        {"kind": "left", "name": "7.3.4", "text": "the guest does not boot"}
    ]
    assert [read(path) for path in leftovers(tmp_path)] == [[(MAP,)]]
    other.is_lost = True
    with pytest.raises(BridgeError, match="every kernel was lost"):
        bench.worker.accept(bench.producer.predict((MAP,)))
    (tmp_path / "alone").mkdir()
    with pytest.raises(BridgeError, match="does not boot"):
        set_up(tmp_path / "alone", Gone(NEW)).feed((MAP,))


def test_a_console_that_is_behind_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a trial's kernel prints comes after its answer, and in pieces."""
    monkeypatch.setattr(trials, "LAG", 5.0)

    class Behind(FakeExecutor):
        asked = 0

        def printed(self) -> bytes:
            self.asked += bool(self.console)
            said, self.console = (
                self.console[: 60 * (self.asked > 3)],
                self.console[60 * (self.asked > 3) :],
            )
            return said

    bench = set_up(
        tmp_path, FakeExecutor(NEW, says=warn), start=lambda: Behind(NEW, says=warn), batch=1
    )
    bench.feed((MAP, UNMAP))
    (finding,) = bench.told.of("finding")
    assert "it came again alone" in (Path(finding["path"]) / "report.md").read_text()
