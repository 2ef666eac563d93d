"""Further kernels beside the one that leads: the same programs, findings of their own, and no waiting for the dead."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from abi.calls import Program
from abi.program import parse
from fuzz import booting, follow
from fuzz.booting import Booting
from fuzz.follow import Follower
from fuzz.produce import Prepared
from fuzz.replay import predict
from fuzz.settings import Settings
from fuzz.site import Site
from kernel_bridge import BridgeError
from model.profile import Profile
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor, Told, set_up
from tests.fuzz.test_cli import run
from tests.fuzz.test_worker import APART, MAP, MOVE, UNMAP, warn


class Probed:
    """What a probe of a kernel says."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile


class FakeTarget:
    """A kernel of a profile; `closed` counts its ends."""

    profile = NEW
    closed = 0
    batch = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, *, user: bool, worker: int) -> FakeExecutor:
        return FakeExecutor(self.profile, says=warn)

    def site(self, *, user: bool, worker: int) -> Site:
        def start() -> FakeExecutor:
            return self.start(user=user, worker=worker)

        return Site(start, start, end=self.close)

    def close(self) -> None:
        FakeTarget.closed += 1


def boot() -> Booting:
    return Booting("7.2.6", user=False)


def settings(state: Path) -> Settings:
    return Settings(
        worker=0, session=1, pipe=-1, seed=1, state=str(state), corpus=str(state), profile="", changes=(), batch=2
    )  # fmt: skip


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(booting, "Target", FakeTarget)
    monkeypatch.setattr(follow, "examine", lambda executor: Probed(NEW))
    return Told()


def prepared(program: Program) -> Prepared:
    """As the leading kernel's producer has it."""
    return Prepared(b"", program, b"", frozenset())


def test_what_differs_there_is_found_there(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTarget, "profile", OLD)
    follower = Follower(boot(), settings(tmp_path), ENVIRONMENT, told)
    for program in [(MAP,), (MAP, APART, MOVE), (MAP,)]:
        follower.take(prepared(program))
    follower.finish()
    follower.close()
    (finding,) = told.of("finding")
    assert finding["signature"].endswith(" [7.2.6]")
    assert Path(finding["path"]).is_relative_to(tmp_path / "targets" / "7.2.6")
    assert told.of("follower")[-1]["sequences"] == 3
    assert told.of("stats") == told.of("done") == [], (
        "only the leading kernel speaks for the session"
    )
    assert FakeTarget.closed >= 1


def test_blocks_that_are_reached_there_steer_the_lead(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touching(self: FakeTarget, *, user: bool, worker: int) -> FakeExecutor:
        return FakeExecutor(NEW, touches=lambda p: frozenset({0} if UNMAP in p else ()))

    monkeypatch.setattr(FakeTarget, "start", touching)
    (tmp_path / "lead").mkdir()
    watched = {"7.2.6": (0x1000,)}
    lead = set_up(tmp_path / "lead", FakeExecutor(NEW), batch=2, watched=watched)
    steering = lead.producer.steering
    assert steering is not None
    own = replace(settings(tmp_path), watched=watched)
    lead.worker.followers.append(Follower(boot(), own, ENVIRONMENT, told, steering))
    lead.feed((MAP,), (MAP, UNMAP), (MAP,), (MAP,))
    lead.worker.close()
    (reached,) = told.of("reached")
    assert (reached["name"], reached["places"]) == ("7.2.6", [0])
    rng = Random(1)
    assert {steering.worthy(rng) for _ in range(50)} == {None, (MAP, UNMAP)}


def test_a_dead_kernel_is_left_behind(told: Told, tmp_path: Path) -> None:
    follower = Follower(boot(), settings(tmp_path), ENVIRONMENT, told)

    def die(*_: Any) -> None:
        raise BridgeError("the guest does not boot")

    follower._worker.accept = die  # type: ignore[method-assign]
    for _ in range(3):
        follower.take(prepared((MAP,)))
    follower.finish()
    assert told.of("left") == [{"kind": "left", "name": "7.2.6", "text": "the guest does not boot"}]
    assert follower.is_lost


def test_what_a_kernel_reports_is_its_own(told: Told, tmp_path: Path) -> None:
    """The one that leads runs the same and says nothing."""
    (tmp_path / "lead").mkdir()
    lead = set_up(tmp_path / "lead", FakeExecutor(NEW), batch=2)
    lead.worker.followers.append(Follower(boot(), settings(tmp_path), ENVIRONMENT, told))
    lead.feed((MAP,), (MAP, UNMAP), (MAP,))
    lead.worker.close()
    assert lead.told.of("finding") == []
    (finding,) = told.of("finding")
    assert finding["signature"] == "the kernel reported: WARNING in move_vma [7.2.6]"
    path = Path(finding["path"])
    assert path.is_relative_to(tmp_path / "targets" / "7.2.6")
    text = (path / "program").read_text()
    assert parse(text, lead.executor.environment.geometry) == (MAP, UNMAP)


def test_what_a_dead_worker_ran_there_is_compared(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTarget, "profile", OLD)
    dead = Follower(boot(), settings(tmp_path), ENVIRONMENT, told)
    for program in ((MAP,), (MAP, APART, MOVE)):
        dead.take(dead._producer.predict(program))  # sent, never collected
    lead = set_up(tmp_path, FakeExecutor(NEW))
    lead.worker.followers.append(Follower(boot(), settings(tmp_path), ENVIRONMENT, told))
    lead.worker.take_up()
    (finding,) = told.of("finding")
    assert finding["signature"].startswith("mremap[")
    assert not [*(tmp_path / "targets" / "7.2.6").glob("inflight-*")]


def test_a_kernel_that_does_not_start_is_said_when_it_is_asked_for(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FakeTarget, *, user: bool, worker: int) -> FakeExecutor:
        raise BridgeError("the guest does not boot")

    monkeypatch.setattr(FakeTarget, "start", fail)
    closed = FakeTarget.closed
    with boot() as booting, pytest.raises(BridgeError, match="does not boot"):
        Follower(booting, settings(tmp_path), ENVIRONMENT, told)
    assert FakeTarget.closed == closed + 1


def test_what_boots_is_ended_if_it_is_not_needed(told: Told) -> None:
    with boot() as booting:
        executor = booting.executor()
    assert executor.is_closed


def test_a_stop_reaches_the_others(told: Told, tmp_path: Path) -> None:
    lead = set_up(tmp_path, FakeExecutor(NEW))
    follower = Follower(boot(), settings(tmp_path), ENVIRONMENT, told)
    lead.worker.followers.append(follower)
    lead.worker.stop()
    assert follower._worker.is_over()


def test_both_run_the_same_number_of_programs(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ("--target", "local", "--target", "local", "--runs", "100", "--seed", "3", "--user")
    status, text, err = run("fuzz", *arguments, "--json", str(out), cwd=tmp_path)
    assert status == 0, text + err
    data = json.loads(out.read_text())
    assert data["also"]["local"]["calls"] == data["calls"]
    assert "also local: " in text


def test_predictions_serve_both_where_all_is_the_same(told: Told, tmp_path: Path) -> None:
    """The kernel of a patch is held to what the base is held to."""
    like = replace(settings(tmp_path), like=True, profile=NEW.name)
    follower = Follower(boot(), like, ENVIRONMENT, told)
    model = Model(ENVIRONMENT, NEW)
    expected, *_ = predict(model, (MAP,), full=False)

    def refuse(*_: Any, **__: Any) -> Prepared:
        raise AssertionError("it was predicted before")

    follower._producer.predict = refuse  # type: ignore[method-assign]
    for crash in ("", "Traceback", ""):
        follower.take(Prepared(b"", (MAP,), expected, frozenset(), crash=crash))
    follower.finish()
    assert told.of("finding") == []
    assert told.of("follower")[-1]["sequences"] == 2, "what the model failed on is told once"


def test_another_machine_has_its_own_predictions(told: Told, tmp_path: Path) -> None:
    like = replace(settings(tmp_path), like=True, profile=NEW.name)
    follower = Follower(boot(), like, replace(ENVIRONMENT, overcommit=2), told)
    follower.take(prepared((MAP,)))
    follower.finish()
    assert told.of("finding") == []
