"""`vmadiff patch`: what is searched for how long, what goes on where it was, how it ends. No kernel is run."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fuzz import booting, history
from fuzz.cli import main
from fuzz.display import Figures
from fuzz.history import Point
from fuzz.patch import command
from fuzz.patch.changed import changed, removed
from fuzz.patch.judge import BEHAVIOUR, BREAKS, CRASH, OLD, Judged
from fuzz.patch.pair import Pair
from fuzz.session import Options, Outcome
from kernel_bridge import BridgeError
from kernels import KernelError
from kernels.build import BuildFailed
from kernels.commits import Commit
from kernels.workshop import SeriesError
from model.profile import PROFILES
from tests.fuzz.machine import NEW, FakeExecutor
from tests.fuzz.test_patch import BACK, BLOCKS, DIFF, PATH, SOURCE, block
from tests.fuzz.test_patch import BASE as BEFORE

BASE, TIP = Commit("1" * 40, "one"), Commit("2" * 40, "two")


@dataclass
class World:
    """What happens, and what was asked. sessions: all; found: what the next ones find; trouble: what building raises;
    dead: kernels that do not boot; seconds: for which a session runs, None for all it may."""

    state: Path
    sessions: list[Options] = field(default_factory=list)
    built: list[tuple[str, ...]] = field(default_factory=list)
    found: list[Judged] = field(default_factory=list)
    trouble: Exception | None = None
    no_kasan: bool = False
    dead: set[str] = field(default_factory=set)
    seconds: float | None = None
    interrupted: bool = False
    failure: str = ""
    in_flight: bool = False


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    it = World(tmp_path / "state")

    class FakeWorkshop:
        def __init__(self, tree: str, say: Callable[[str], object]) -> None:
            if it.trouble:
                raise it.trouble

        def locked(self) -> AbstractContextManager[None]:
            return nullcontext()

    class FakeBuilder:
        base, patched = BASE, TIP

        def __init__(self, *_: Any) -> None: ...

        def locked(self) -> AbstractContextManager[None]:
            return nullcontext()

        def pair(self) -> Pair:
            what = changed(DIFF, {PATH: SOURCE}.__getitem__)
            gone = removed(BACK, {PATH: BEFORE}.__getitem__)
            only_base = (block(0x90, 5), block(0x99, 3))
            title = "linux: one and two"
            return Pair("base", "patched", title, "key", what, gone, BLOCKS, only_base)

        def build(self, commit: Commit, role: str, features: tuple[str, ...]) -> str:
            if it.no_kasan:
                raise KernelError("no room")
            it.built.append(features)
            return "patched-kasan"

    class FakeTarget:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> "FakeTarget":
            return self

        def __exit__(self, *_: object) -> None: ...
        def close(self) -> None: ...

        def start(self, *, user: bool, worker: int = 0) -> FakeExecutor:
            if self.name in it.dead:
                raise BridgeError("the guest does not boot")
            return FakeExecutor(NEW)

    class FakeSession:
        def __init__(self, options: Options, *_: object) -> None:
            self.options = options
            it.sessions.append(options)

        def run(self) -> Outcome:
            o = self.options
            assert o.seconds is not None
            spent = o.seconds if it.seconds is None else it.seconds
            for row in it.found:
                (o.state / "findings" / row.title).mkdir(parents=True, exist_ok=True)
            if it.in_flight:
                (o.state / "inflight-1-0.bin").touch()
            numbers = dict.fromkeys(Point.__dataclass_fields__, 0)
            point = {**numbers, "session": str(len(it.sessions)), "kernel": "", "profile": ""}
            point |= {"seconds": spent, "sequences": 500, "calls": 4000}
            history.append(o.state, Point(**point))  # type: ignore[arg-type]
            return Outcome(
                Figures(),
                reached={
                    name: {1 % len(places): "mmap(...)"} for name, places in o.watched.items()
                },
                interrupted=it.interrupted,
                failure=it.failure,
            )

    class FakeJudge:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> "FakeJudge":
            return self

        def __exit__(self, *_: object) -> None: ...

        def judge(self, directory: Path, side: str) -> Judged | None:
            return next((row for row in it.found if row.title == directory.name), None)

    monkeypatch.setattr(booting, "Target", FakeTarget)
    for name, fake in (
        ("Workshop", FakeWorkshop),
        ("Builder", FakeBuilder),
        ("Target", FakeTarget),
        ("Session", FakeSession),
        ("Judge", FakeJudge),
        ("profile_of", lambda *_: PROFILES["7.3"]),
        ("image_checksum", lambda name: name),
    ):
        monkeypatch.setattr(command, name, fake)
    return it


def patch(world: World, *words: str, series: bool = True) -> tuple[int, dict[str, Any]]:
    """Run it; the exit status and the data."""
    result = world.state.parent / "result.json"
    result.unlink(missing_ok=True)
    given = ("--tree", "linux", "--series", "a.patch") if series else ()
    where = ("--state", str(world.state), "--json", str(result))
    status = main(("patch", *given, *where, *words))
    return status, json.loads(result.read_text()) if result.exists() else {}


def row(kind: str, verdict: str = BREAKS) -> Judged:
    return Judged(kind, kind, verdict, "mmap(...)", 1, "x")


def test_both_are_searched_and_a_share_of_the_time_is_with_kasan(world: World) -> None:
    status, data = patch(world, "--time", "100", "--seed", "5")
    assert status == 0
    both, kasan = world.sessions
    assert (both.target, both.also, both.seconds, both.seed) == ("patched", ("base",), 80, 5)
    assert both.like and both.unmask and not both.reduce_known
    assert both.watched == {
        "patched": (0x10, 0x20, 0x30, 0x40),
        "base": (0x99,),
    }, "blocks of changed functions; those that only the base has"
    assert (kasan.target, kasan.also, kasan.seconds) == ("patched-kasan", (), 20)
    assert "kasan" in world.built[0]
    assert (data["verdict"], data["seconds"], data["kasan_seconds"]) == ("clean", 100, 20)
    assert (data["changed_lines_executed"], data["changed_lines_total"]) == (1, 3)
    assert (data["removed_lines_executed"], data["removed_lines_total"]) == (1, 1)
    assert (world.state / "patch-key" / "report.html").exists()


def test_without_kasan(world: World) -> None:
    patch(world, "--time", "100", "--kasan", "0")
    assert [each.seconds for each in world.sessions] == [100]
    assert world.built == []


def test_what_was_stopped_goes_on(world: World) -> None:
    world.seconds, world.interrupted = 30, True
    status, data = patch(world, "--time", "100", "--kasan", "0", "--seed", "5")
    assert (status, data["seconds"]) == (130, 30)
    world.seconds, world.interrupted = None, False
    status, data = patch(world, "--time", "100", "--kasan", "0")
    assert (status, data["seconds"], data["seed"]) == (0, 100, 5)
    assert [each.seconds for each in world.sessions] == [100, 70]
    assert world.sessions[1].seed == 6, "the same programs are not run again"
    patch(world, "--time", "100", "--kasan", "0")
    assert len(world.sessions) == 2, "its time is over"
    patch(world, "--time", "100", "--kasan", "0", "--restart", "--seed", "7")
    assert (world.sessions[-1].seconds, world.sessions[-1].seed) == (100, 7)


def test_another_seed_is_another_campaign(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    patch(world, "--seed", "5")
    status, _ = patch(world, "--seed", "6")
    assert status == 2
    assert "--restart" in capsys.readouterr().err


def test_a_change_is_status_1(world: World) -> None:
    world.found = [row(BEHAVIOUR)]
    status, data = patch(world)
    assert status == 1
    (found,) = data["behaviour_changes"][:1]
    assert found["class"] == BEHAVIOUR
    assert found["verdict"] == BREAKS


def test_what_was_so_before_is_status_0(world: World) -> None:
    world.found = [row(OLD)]
    status, data = patch(world)
    assert (status, data["verdict"]) == (0, "clean")
    assert data["preexisting"]


def test_a_patched_kernel_that_does_not_boot(world: World) -> None:
    world.dead = {"patched"}
    status, data = patch(world)
    assert (status, data["verdict"]) == (1, "crashes")
    assert data["crashes"][0]["title"] == "the kernel reported: it does not boot"
    assert world.sessions == []


def test_a_base_that_does_not_boot_says_nothing_of_the_series(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.dead = {"base"}
    assert patch(world)[0] == 3
    assert "the base does not run" in capsys.readouterr().err


def test_what_could_not_be_done_is_no_all_clear(world: World) -> None:
    world.no_kasan = True
    status, data = patch(world)
    assert (status, data["verdict"]) == (4, "unknown")
    assert data["problems"] == ["no kernel with KASAN: no room"]


def test_what_is_in_flight_is_no_all_clear_and_no_excuse(world: World) -> None:
    """A worker was lost when the time was up: nobody knows what it ran. A crash that was found is one."""
    world.in_flight = True
    for _ in range(2):
        status, data = patch(world)
        assert (status, data["verdict"]) == (4, "unknown")
        assert data["problems"] == ["there was no time for programs in flight: give more --time"]
    world.found = [row(CRASH)]
    status, data = patch(world, "--restart")
    assert (status, data["verdict"]) == (1, "crashes")
    assert len(data["crashes"]) == 2, "of both kernels that were searched"


@pytest.mark.parametrize(
    ("trouble", "status", "said"),
    [
        (SeriesError(Path("a.patch"), BASE, ["patch failed: mm/vma.c:7"]), 2, "does not apply"),
        (BuildFailed("x", ["mm/vma.c:7: error: expected"], Path("log")), 2, "does not build"),
        (KernelError("install flex"), 3, "install flex"),
    ],
)
def test_what_cannot_be_built_is_said_with_the_lines(
    world: World, capsys: pytest.CaptureFixture[str], trouble: Exception, status: int, said: str
) -> None:
    world.trouble = trouble
    assert patch(world)[0] == status
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    for line in getattr(trouble, "lines", ()):
        assert line in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --tree DIR"),
        (("--tree", "linux"), "give the patches"),
        (("--tree", "linux", "--range", "A"), "not of the form A..B"),
        (("--tree", "linux", "--range", "A..B", "--series", "x"), "give the patches"),
        (("--base-image", "a"), "go together"),
        (("--base-image", "a", "--patched-image", "b", "--tree", "c"), "go together"),
    ],
)
def test_wrong_usage_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    status, _ = patch(world, *words, series=False)
    assert status == 2
    assert said in capsys.readouterr().err


def test_two_images(world: World) -> None:
    status, data = patch(
        world, "--base-image", "7.2.6", "--patched-image", "7.2.12", "--time", "50", series=False
    )
    assert status == 0
    (session,) = world.sessions
    assert (session.target, session.also, session.seconds) == ("7.2.12", ("7.2.6",), 50)
    assert data["changed_lines_total"] == 0
