"""How far an enumeration is: nothing is lost, whatever is killed, and what kills workers is left out in the end."""

import json
from pathlib import Path

import pytest

from fuzz import progress
from fuzz.bound import Bound, Enumeration
from fuzz.exhaust import exhaust
from fuzz.progress import STRETCH, Progress, Standing, Stretch
from fuzz.settings import Settings
from tests.fuzz.machine import NEW, OLD, Bench, FakeExecutor, set_up

BOUND = Bound("mremap", 2, 2, ("anonymous private", "memfd shared"), (0, 3), 0, 5)
TOTAL = Enumeration(BOUND).total


def standing(total: int = TOTAL, first: int = 0) -> Standing:
    return Standing(BOUND, "local", "0.0.0", "7.3", total, first, first)


def test_stretches_cover_everything_once() -> None:
    here = standing(2 * STRETCH + 10)
    taken = [here.take("0"), here.take("1")]
    here.give_back("0", STRETCH)
    taken.append(here.take("0"))
    assert taken == [
        Stretch(0, STRETCH, 1),
        Stretch(STRETCH, 2 * STRETCH, 1),
        Stretch(2 * STRETCH, 2 * STRETCH + 10, 1),
    ]
    assert (here.left, here.compared) == (STRETCH + 10, STRETCH)
    here.give_back("0", 2 * STRETCH + 10)
    assert here.take("0") is None
    assert not here.is_complete
    here.give_back("1", 2 * STRETCH)
    assert here.is_complete
    assert here.compared == here.total


def test_what_was_given_back_in_part_is_taken_again() -> None:
    here = standing(STRETCH)
    here.take("0")
    here.give_back("0", 100)
    assert (here.left, here.compared) == (STRETCH - 100, 100)
    assert here.take("1") == Stretch(100, STRETCH, 1)


def test_a_successor_takes_what_its_predecessor_had_and_not_for_ever() -> None:
    here = standing(2 * STRETCH)
    taken = [here.take("0") for _ in range(4)]
    assert [stretch.begin for stretch in taken if stretch] == [0, 0, 0, STRETCH]
    here.give_back("0", 2 * STRETCH)
    assert here.left == 0
    assert not here.is_complete
    assert here.left_out == [Stretch(0, STRETCH, 3)]
    here.release()
    assert here.again == [Stretch(0, STRETCH)], "who resumes tries it once more"


def test_after_a_kill_what_was_taken_comes_first(tmp_path: Path) -> None:
    file = Progress(tmp_path)
    file.write(standing(4 * STRETCH, first=100))
    for worker in ("0", "1", "2"):
        file.change(lambda here, worker=worker: here.take(worker))
    file.change(lambda here: here.give_back("1", 100 + 2 * STRETCH))
    again = file.read()
    again.release()
    assert again.taken == {}
    assert again.compared == 100
    begins = [stretch.begin for stretch in (again.take(str(n)) for n in range(3)) if stretch]
    assert begins == [100, 100 + 2 * STRETCH, 100 + 3 * STRETCH]


def test_two_sessions_do_not_share_a_state(tmp_path: Path) -> None:
    with Progress(tmp_path).held(), pytest.raises(BlockingIOError), Progress(tmp_path).held():
        pass
    with Progress(tmp_path).held():
        pass


def test_what_is_no_state_is_said(tmp_path: Path) -> None:
    file = Progress(tmp_path)
    for text in ("", "[]", "{}", '{"bound": 1}'):
        file.path.write_text(text)
        with pytest.raises(ValueError, match=r"enumerate\.json: not the state"):
            file.read()


def at_work(tmp_path: Path, executor: FakeExecutor, worker: int = 0) -> tuple[Bench, Settings]:
    bench = set_up(tmp_path, executor, runs=None, worker=worker, enumerate=True)
    settings = Settings(
        worker, 1, -1, 1, str(tmp_path), str(tmp_path), NEW.name, (), enumerate=True
    )
    return bench, settings


def test_every_program_is_compared(tmp_path: Path) -> None:
    Progress(tmp_path).write(standing())
    executor = FakeExecutor(NEW)
    bench, settings = at_work(tmp_path, executor)
    exhaust(settings, bench.worker, bench.producer)
    sent = [program for batch in executor.batches for program in batch]
    programs = Enumeration(BOUND)
    geometry = executor.environment.geometry
    assert sent == [programs.program(number, geometry) for number in range(TOTAL)]
    assert bench.told.of("stats")[-1]["sequences"] == TOTAL
    assert bench.told.of("finding") == []
    assert Progress(tmp_path).read().is_complete


def test_divergences_are_findings(tmp_path: Path) -> None:
    Progress(tmp_path).write(standing())
    bench, settings = at_work(tmp_path, FakeExecutor(OLD))
    exhaust(settings, bench.worker, bench.producer)
    assert {each["signature"] for each in bench.told.of("finding")} == {
        "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT",
        "mremap[MAYMOVE,FIXED,same] result: model EINVAL, kernel EFAULT",
    }
    assert (Path(bench.told.of("finding")[0]["path"]) / "report.md").is_file()


def test_stopped_it_goes_on_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STRETCH", 100)
    Progress(tmp_path).write(standing())
    first = FakeExecutor(NEW)
    bench, settings = at_work(tmp_path, first)
    accept, count = bench.worker.accept, 0

    def accept_some(prepared: object) -> bool:
        nonlocal count
        count += 1
        if count == 150:
            bench.worker.stop()
        return accept(prepared)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.worker, "accept", accept_some)
    exhaust(settings, bench.worker, bench.producer)
    between = Progress(tmp_path).read()
    assert (between.compared, between.left, between.taken) == (150, TOTAL - 150, {})
    second = FakeExecutor(NEW)
    bench, settings = at_work(tmp_path, second, worker=3)
    exhaust(settings, bench.worker, bench.producer)
    sent = [len(batch) for batch in first.batches], [len(batch) for batch in second.batches]
    assert (sum(sent[0]), sum(sent[1])) == (150, TOTAL - 150)
    assert json.loads((tmp_path / progress.NAME).read_text())["next"] == TOTAL
