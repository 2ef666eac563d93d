"""Since when and until when: what is asked of which kernels, what their answers mean, and how it is said."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi.calls import Program
from abi.consts import PAGE
from abi.environment import Environment
from abi.program import format_all, parse
from abi.trace import unpack
from fuzz import bisect_command, kept_profiles, sighting
from fuzz.behaviour import behaviour, difference, idle
from fuzz.bisect import History, has, history, of_behaviour, of_signature, search
from fuzz.cli import main
from fuzz.compare import initial_layout
from fuzz.sighting import Sighting, lacking, look
from kernel_bridge import BridgeError
from model.profile import Profile
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor, FakeLoss
from tests.fuzz.reports import REPORTS
from tests.fuzz.test_worker import APART, MAP, MOVE, WARNED

BUG = "mremap[MAYMOVE,same] result: model address, kernel EFAULT"
OTHER = "munmap result: model 0, kernel EINVAL"
OOPS = REPORTS["null pointer"]


def seen(letter: str, number: int) -> Sighting:
    """b: shows BUG, g: agrees, o: diverges otherwise, ?: cannot be asked; others: does something of its own."""
    name = f"k{number}"
    if letter == "?":
        return Sighting(name, unseen="it does not boot")
    signatures = {"b": (BUG,), "o": (OTHER,)}.get(letter, ())
    return Sighting(name, f"{number}.0", signatures, ({"result": letter},), seconds=1.0)


def asked(kernels: str, **options: bool | int | None) -> tuple[list[int], History]:
    """In which order kernels are asked, and what they say."""
    order: list[int] = []

    def ask(index: int) -> Sighting:
        order.append(index)
        return seen(kernels[index], index)

    found = search(len(kernels), ask, lambda each: has(each, BUG), **options)  # type: ignore[arg-type]
    return order, of_signature(BUG, [f"k{i}" for i in range(len(kernels))], found)


@pytest.mark.parametrize(
    ("kernels", "order", "lines"),
    [
        ("gggbbb", [0, 5, 2, 3, 1, 4],
         ["since k3 (k2 has it not), still in k5, the newest that was asked"]),
        ("bbbbgg", [0, 5, 2, 3, 4],
         ["in k0 already, the oldest that was asked, until k3 (k4 has it not)"]),
        ("bbbb", [0, 3],
         ["in k0 already, the oldest that was asked, still in k3, the newest that was asked"]),
        ("gggg", [0, 3, 1, 2], ["on none of the 4 kernels that were asked"]),
        ("????", [0, 1, 2, 3], ["no kernel could be asked"]),
        ("?gb?", [0, 1, 3, 2],
         ["since k2 (k1 has it not), still in k2, the newest that was asked; nothing is known of k3"]),
        ("g?ob", [0, 3, 1, 2],
         ["since k3 (k0 has it not), still in k3, the newest that was asked; nothing is known of k1, k2"]),
        ("g", [0], ["on none of the 1 kernels that were asked"]),
    ],
)  # fmt: skip
def test_what_is_asked_and_said(kernels: str, order: list[int], lines: list[str]) -> None:
    found, history_ = asked(kernels)
    assert history_.lines() == lines
    assert sorted(found) == sorted(order)
    assert found[: len(order)] == order


def test_a_bug_that_came_and_went_between_two_that_agree() -> None:
    order, found = asked("gggggbggggg")
    assert order[:3] == [0, 10, 5]
    assert (found.since, found.until) == ("k5", "k5")
    data = json.loads(json.dumps(found.to_json()))
    assert (data["last_good"], data["first_bad"]) == ("k4", "k5")
    assert (data["last_bad"], data["first_good"]) == ("k5", "k6")
    assert {each["verdict"] for each in data["tried"]} == {"good", "bad"}
    assert data["untried"] == [f"k{i}" for i in range(11) if i not in order]


def test_a_hint_is_taken_after_the_ends() -> None:
    assert asked("gggggggbgg", hint=7)[0][:3] == [0, 9, 7]


def test_all_are_asked_where_that_is_wanted() -> None:
    order, found = asked("gbgbb", everything=True)
    assert order == [0, 1, 2, 3, 4]
    assert found.lines() == [
        "since k1 (k0 has it not), until k1 (k2 has it not)",
        "since k3 (k2 has it not), still in k4, the newest that was asked",
    ]
    assert found.untried == ()


@given(st.text("gbo?", min_size=1, max_size=24))
def test_neighbours_that_answer_otherwise_are_all_known(kernels: str) -> None:
    order, found = asked(kernels)
    assert len(order) == len(set(order))
    verdicts = {each.kernel: each.verdict for each in found.tried}
    if "skipped" not in verdicts.values():
        for span in found.spans:
            for inner, outer in ((span.first, span.before), (span.last, span.after)):
                assert outer == "" or abs(int(inner[1:]) - int(outer[1:])) == 1
                assert not outer or (verdicts[inner], verdicts[outer]) == ("bad", "good")
    if not found.spans:
        assert "b" not in kernels


@given(st.integers(1, 200), st.integers(0, 200))
def test_few_are_asked(good: int, bad: int) -> None:
    order, found = asked("g" * good + "b" * bad)
    if bad:
        assert (found.since, found.spans[0].before) == (f"k{good}", f"k{good - 1}")
        assert len(order) <= 2 + log2(good + bad) + 1 + 2


def test_behaviour_is_compared_with_the_oldest_and_with_the_neighbour() -> None:
    kernels = "aab?ca"
    sightings = {i: seen(letter, i) for i, letter in enumerate(kernels)}
    found = of_behaviour([(MAP,)], [f"k{i}" for i in range(6)], sightings)
    assert [each.verdict for each in found.tried] == [
        "good", "good", "bad", "skipped", "bad", "good"
    ]  # fmt: skip
    assert found.lines() == [
        "k2 does otherwise than k1: call 1 (mmap) result: b, was a",
        "k4 does otherwise than k2: call 1 (mmap) result: c, was b",
        "k5 does otherwise than k4: call 1 (mmap) result: a, was c",
    ]
    assert found.to_json()["first_bad"] == "k2"
    assert found.to_json()["first_good"] == "k5"
    same = of_behaviour([(MAP,)], ["k0", "k1"], {0: sightings[0], 1: sightings[1]})
    assert same.lines() == ["all 2 kernels that were asked do the same"]


def moved(environment: Environment, by: int) -> Environment:
    """The same machine with everything of a program elsewhere."""
    g = environment.geometry
    geometry = replace(g, window=g.window + by, top=g.top - by)
    return replace(environment, geometry=geometry, total_pages=environment.total_pages + 7)


def does(
    program: Program, profile: Profile, environment: Environment
) -> tuple[dict[str, str], ...]:
    model, initial = Model(environment, profile), initial_layout(environment)
    traces = [
        unpack(model.run(each, full=True), initial)
        for each in (idle(environment.geometry), program)
    ]
    return behaviour([program], traces[1:], traces[0], environment)


def test_behaviour_does_not_depend_on_where_things_are() -> None:
    text = """\
mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
touch(W+1, 2, 1)
mmap(NULL, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)
mmap(W+2, 2p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)
mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)
fork()
"""
    here, there = ENVIRONMENT, moved(ENVIRONMENT, 64 * PAGE)
    one = does(parse(text, here.geometry), NEW, here)
    other = does(parse(text, there.geometry), NEW, there)
    assert one == other
    assert one[1]["pages" if "pages" in one[1] else "result"]
    assert "written by call 2 at W+1" in one[-1]["contents"]
    old = does(parse(text, here.geometry), OLD, here)
    assert difference([parse(text, here.geometry)], one, old) == (
        "call 5 (mremap) result: W+20, was -1 EFAULT"
    )


class Machine(FakeExecutor):
    """One that is closed at the end of a block."""

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gone() -> Machine:
    raise BridgeError("the guest does not boot")


class Moody(Machine):
    """One that does something else each time."""

    mood = 0

    def collect(self) -> list[object]:  # type: ignore[override]
        self.mood += 1
        self.profile = (NEW, OLD)[self.mood % 2]
        return list(super().collect())


def dies(program: Program) -> FakeLoss | None:
    return FakeLoss("crash", "the kernel was lost", OOPS.text) if MOVE in program else None


LACKS = replace(ENVIRONMENT, missing={"memfd": "memfd_create: no such call"})
KERNELS: dict[str, Callable[[], Machine]] = {
    "6.1": lambda: Machine(NEW),
    "6.12.3": lambda: Machine(NEW, environment=LACKS),
    "6.16": lambda: Machine(OLD),
    "6.17": lambda: Machine(OLD),
    "6.18": lambda: Machine(NEW),
    "moody": lambda: Moody(NEW),
    "dies": lambda: Machine(NEW, lambda p, data: b"" if MOVE in p else data, dies),
    "warns": lambda: Machine(NEW, says=lambda p: WARNED.encode() if MOVE in p else b""),
    "stuck": lambda: Machine(
        NEW, lambda p, data: b"", lambda p: FakeLoss("timeout", "it takes too long")
    ),
    "gone": gone,
}


class FakeTarget:
    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> "FakeTarget":
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, *, user: bool) -> Machine:
        return KERNELS[self.name]()

    def site(self, *, user: bool, worker: int) -> "FakeTarget":
        return self

    def slow(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sighting, "Target", FakeTarget)
    monkeypatch.setattr(sighting, "image_checksum", lambda name: "")
    monkeypatch.setattr(sighting, "profile_of", lambda executor, image: NEW)


TEXT = format_all([(MAP, APART, MOVE)], ENVIRONMENT.geometry)


def test_what_is_seen_of_a_kernel() -> None:
    sightings = {name: look(name, TEXT) for name in KERNELS}
    assert sightings["6.1"].signatures == ()
    assert sightings["6.1"].behaviour == sightings["6.18"].behaviour != ()
    assert sightings["6.1"].release == ENVIRONMENT.release
    (bug,) = sightings["6.16"].signatures
    assert has(sightings["6.16"], bug)
    assert has(sightings["6.1"], bug) is False
    assert sightings["gone"].unseen == "the guest does not boot"
    assert sightings["moody"].undecided == "it does not do the same each time"
    assert (sightings["moody"].behaviour, sightings["moody"].unseen) == ((), "")
    assert sightings["dies"].signatures[0].startswith("the kernel reported: ")
    assert sightings["warns"].signatures == ("the kernel reported: WARNING in move_vma",)
    assert "it takes too long" in sightings["stuck"].undecided
    assert [has(sightings[name], bug) for name in ("gone", "stuck")] == [None, None]
    for each in sightings.values():
        assert Sighting.from_json(json.loads(json.dumps(each.to_json()))) == each


def test_the_model_is_not_asked_where_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(executor: object, image: str) -> Profile:
        raise AssertionError

    plain = look("6.16", TEXT)
    monkeypatch.setattr(sighting, "profile_of", refuse)
    assert look("6.16", TEXT, wanted=None).behaviour == plain.behaviour
    assert look("moody", TEXT, wanted=None).undecided == "it does not do the same each time"
    assert look("stuck", TEXT, wanted=None).undecided == "it takes too long"
    warning = "the kernel reported: WARNING in move_vma"
    assert has(look("warns", TEXT, wanted=warning), warning)
    assert has(look("6.1", TEXT, wanted=warning), warning) is False


def test_a_program_whose_object_is_missing_is_another_program() -> None:
    program = "mmap(W+0, 1p, PROT_READ, MAP_PRIVATE, memfd, 0)\n"
    assert look("6.12.3", program).unseen == (
        "it has not what the program needs: memfd: memfd_create: no such call"
    )
    assert look("6.12.3", TEXT).unseen == ""
    assert lacking([], LACKS) == []


def test_a_history_for_a_report() -> None:
    (bug,) = look("6.16", TEXT).signatures
    told: list[Sighting] = []
    found = history(TEXT, bug, ["6.1", "gone", "6.16", "6.17", "6.18"], say=told.append)
    assert (found.since, found.until) == ("6.16", "6.17")
    assert found.lines() == [
        "since 6.16 (6.1 has it not), until 6.17 (6.18 has it not); nothing is known of gone"
    ]
    assert len(told) == len(found.tried) == 5
    assert (found.agree, found.diverge) == (("6.1", "6.18"), ("6.16", "6.17"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "move.prog"
    path.write_text(TEXT)
    return path


def test_the_command(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    words = ["bisect", str(file), "--kernels", "6.1,6.16,6.17,6.18", "--json", str(out)]
    assert main(words) == 0
    data = json.loads(out.read_text())
    assert (data["last_good"], data["first_bad"]) == ("6.1", "6.16")
    assert (data["last_bad"], data["first_good"]) == ("6.17", "6.18")
    assert data["signature"] in capsys.readouterr().out
    assert main([*words, "--behaviour"]) == 0
    data = json.loads(out.read_text())
    assert data["signature"] is None
    assert [(each["older"], each["newer"]) for each in data["changes"]] == [
        ("6.1", "6.16"),
        ("6.17", "6.18"),
    ]
    assert main(["bisect", str(file), "--kernels", "6.1,6.18"]) == 0
    assert "all 2 kernels that were asked do the same" in capsys.readouterr().out
    assert main(["bisect", str(file), "--kernels", "gone"]) == 4


def test_what_users_get_wrong(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.prog"
    bad.write_text("unmap()\n")
    monkeypatch.setattr(bisect_command, "installed", list)
    for words, text in (
        ([str(bad)], "bad.prog:1"),
        ([str(tmp_path / "none")], "No such file"),
        ([str(file), "--good", "v1"], "go with --tree"),
        ([str(file), "--tree", str(tmp_path)], "goes with --good"),
        ([str(file), "--tree", str(tmp_path), "--good", "a", "--bad", "b"], "not a git repository"),
        ([str(file), "--json", str(tmp_path)], "cannot be written"),
        ([str(file)], "no prebuilt kernel at hand"),
    ):
        assert main(["bisect", *words]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1


def test_a_profile_is_probed_once_for_an_image_and_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    probed: list[Environment] = []

    def probe(executor: FakeExecutor) -> object:
        probed.append(executor.environment)
        return type("Probed", (), {"profile": replace(NEW, verified=True)})()

    monkeypatch.setattr(kept_profiles, "examine", probe)
    volatile = replace(ENVIRONMENT, memory_pages=7, missing={"xdp": "no"})
    other = replace(ENVIRONMENT, config=frozenset(("THP",)))
    for environment, image, count in (
        (ENVIRONMENT, "a", 1), (volatile, "a", 1), (other, "a", 2), (ENVIRONMENT, "b", 3),
        (ENVIRONMENT, "", 4), (ENVIRONMENT, "", 5), (ENVIRONMENT, "b", 5),
    ):  # fmt: skip
        found = kept_profiles.profile_of(FakeExecutor(environment=environment), image)
        assert (found.name, found.changes, found.verified) == (NEW.name, NEW.changes, True)
        assert len(probed) == count
    for path in (tmp_path / "vmadiff" / "profiles").iterdir():
        path.write_text("{")
    kept_profiles.profile_of(FakeExecutor(), "a")
    assert len(probed) == 6
