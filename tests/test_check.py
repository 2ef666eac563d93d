"""`vmadiff check`: what headers state, whether a kernel does it, and what continuous integration is told."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from abi.calls import Program
from abi.consts import FD_NAMES
from abi.environment import CONFIGURATION
from abi.program import ProgramError, format_all
from fuzz import check, check_command
from fuzz.check import Bug, compare
from fuzz.cli import main
from fuzz.corpus import PACKAGED, shipped
from fuzz.expectation import (
    TRAITS,
    Expectation,
    Statements,
    holding,
    load_statements,
    parse,
)
from fuzz.formats import FAILED
from fuzz.probe import Probed
from fuzz.triage import Known
from fuzz.verdict import Kind, Verdict
from kernel_bridge import BridgeError
from model.profile import BY_NAME, CHANGES, Profile
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor, FakeLoss
from tests.fuzz.reports import REPORTS
from tests.fuzz.test_worker import APART, MAP, MOVE, UNMAP, WARNED
from tests.kernels import executor

ROOT = Path(__file__).parent.parent
RELEASE = "0.0.0-none"
SIGNATURE = "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT"
WARNING = "the kernel reported: WARNING in move_vma"
KNOWN = (
    Known(("one",), ("6.1.*",), "a cause", "a"),
    Known(("one", "two"), ("6.[12].*",), "a cause", "b"),
)
STATEMENTS = Statements(KNOWN, frozenset(("followed",)))


# What a header states.


@pytest.mark.parametrize(
    ("line", "expectation"),
    [
        ("# expect: agrees", Expectation()),
        ("# expect: agrees on 6.1.*", Expectation("agrees", kernels=("6.1.*",))),
        ("# expect: known a, b", Expectation("known", ("a", "b"))),
        ("# expect: known a with guard", Expectation("known", ("a",), having=("guard",))),
        ("# expect: diverges", Expectation("diverges")),
        (
            "# expect: diverges on 6.1.*, 6.2.[0-3]: mmap[x] result: model 0, kernel 1",
            Expectation(
                "diverges", (), ("6.1.*", "6.2.[0-3]"), text="mmap[x] result: model 0, kernel 1"
            ),
        ),
        (
            "# expect: unknown on 6.* with THP, guard without memfd: no answer",
            Expectation("unknown", (), ("6.*",), ("THP", "guard"), ("memfd",), "no answer"),
        ),
    ],
)
def test_lines_are_read_and_written(line: str, expectation: Expectation) -> None:
    assert parse(line) == expectation
    assert str(expectation) == line


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("# expect: passes", "cannot read"),
        ("# expect:agrees", "cannot read"),
        ("# expect : agrees", "cannot read"),
        ("#expect: agrees", "cannot read"),
        ("# Expect: agrees", "cannot read"),
        ("# expects: agrees", "cannot read"),
        ("# expected: agrees", "cannot read"),
        ("# expect: agrees because of it", "cannot read"),
        ("# expect: agrees without THP on 6.1", "cannot read"),
        ("# expect: agrees on", "cannot read"),
        ("# expect: known a; b", "cannot read"),
        ("# expect: known", "names entries"),
        ("# expect: diverges a", "names entries"),
        ("# expect: known on 6.1.*", "names entries"),
        ("# expect: known c", "has no c"),
        ("# expect: known followed", "the model follows it"),
        ("# expect: agrees with speed", "no change, object or configuration is called speed"),
        ("# expect: agrees: always", "only `diverges` has a signature"),
        ("# expect: unknown on 6.1.*", "says why"),
        ("# expect: diverges: ", "cannot read"),
    ],
)
def test_lines_that_cannot_be_read_name_file_and_number(line: str, why: str) -> None:
    with pytest.raises(ProgramError, match=f"^x.prog:2: .*{re.escape(why)}"):
        STATEMENTS.read(f"# what it shows\n{line}\nmunmap(W+0, 1p)\n", "x.prog")


def test_lines_that_never_hold_are_errors() -> None:
    for text, number in (
        ("munmap(W+0, 1p)\n# expect: agrees\n", 2),
        ("\n# expect: agrees\nmunmap(W+0, 1p)\n", 2),
        ("# expect: diverges\n# expect: agrees on 6.1.*\n", 2),
    ):
        with pytest.raises(ProgramError, match=f"^x:{number}: "):
            STATEMENTS.read(text, "x")


def test_prose_about_what_is_to_be_expected_is_prose() -> None:
    assert STATEMENTS.read("# One may expect that: it fails.\n# expecting much\n", "x") == ()


def test_the_first_line_that_applies_holds() -> None:
    stated = STATEMENTS.read(
        "# expect: unknown without guard: so\n# expect: known a, b with THP\n"
        "# expect: diverges on 6.3.*, 7.0.1\n# expect: agrees\n",
        "x",
    )

    def verdict(release: str, *traits: str) -> str:
        return str(holding(stated, release, frozenset(traits), KNOWN)).removeprefix("# expect: ")

    assert verdict("6.1.5") == "unknown without guard: so"
    assert verdict("6.1.5", "guard", "THP") == "known a, b with THP"
    assert verdict("6.1.5", "guard") == "agrees"
    assert verdict("6.2.9", "guard", "THP") == "known a, b with THP"
    assert verdict("6.3.9", "guard", "THP") == "diverges on 6.3.*, 7.0.1"
    assert verdict("7.0.1", "guard") == "diverges on 6.3.*, 7.0.1"
    assert verdict("7.0.10", "guard") == "agrees"
    assert holding((), "6.1.5", frozenset(), KNOWN) == Expectation("agrees")


def test_names_of_traits_are_of_one_kind_each() -> None:
    assert len(TRAITS) == len(CHANGES) + len(FD_NAMES) + len(CONFIGURATION)


def test_what_a_kernel_was_configured_with_can_be_asked_for() -> None:
    with executor() as kernel:
        assert kernel.environment.config <= set(CONFIGURATION)


# What is made of it.


@pytest.mark.parametrize(
    ("line", "kind", "text", "entries", "verdict"),
    [
        ("agrees", "agrees", "", (), "agrees"),
        ("agrees", "diverges", "one", (), "diverges"),
        ("agrees", "known", "one", ("a",), "diverges"),
        ("agrees", "crashed", "one", (), "crashed"),
        ("agrees", "unknown", "lost", (), "unknown"),
        ("known a", "known", "one", ("a", "b"), "known"),
        ("known b", "known", "one", ("a", "b"), "known"),
        ("known a", "agrees", "", (), "unexpected"),
        ("known a", "known", "two", ("b",), "diverges"),
        ("known a", "diverges", "three", (), "diverges"),
        ("known a", "crashed", "three", (), "crashed"),
        ("known a", "unknown", "lost", (), "unknown"),
        ("diverges", "diverges", "one", (), "known"),
        ("diverges: one", "diverges", "one", (), "known"),
        ("diverges: one", "known", "one", ("a",), "known"),
        ("diverges: one", "crashed", "one", (), "known"),
        ("diverges: one", "diverges", "two", (), "diverges"),
        ("diverges: one", "agrees", "", (), "unexpected"),
        ("diverges: one", "unknown", "lost", (), "unknown"),
        ("unknown: so", "unknown", "lost", (), "unknown"),
        ("unknown: so", "agrees", "", (), "agrees"),
        ("unknown: so", "diverges", "one", (), "diverges"),
        ("unknown: so", "known", "one", ("a",), "diverges"),
    ],
)
def test_each_verdict_both_ways(
    line: str, kind: Kind, text: str, entries: tuple[str, ...], verdict: str
) -> None:
    stated = parse(f"# expect: {line}")
    found, detail = compare(stated, Verdict(kind, text, entries), "6.1.5", KNOWN)
    assert found == verdict
    assert bool(detail) is (verdict != "agrees")
    assert text in detail


# A kernel that is another model.


class Machine(FakeExecutor):
    """One that is closed at the end of a block."""

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Start = Callable[[int], Machine]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Start]:
    """What starts executors: the last of the list; the model is NEW, and divergences/ is empty."""
    starts: list[Start] = [lambda number: Machine(NEW)]

    class FakeTarget:
        is_local = True

        def __init__(self, name: str, *, watch: bool = True) -> None: ...
        def __enter__(self) -> "FakeTarget":
            return self

        def __exit__(self, *_: object) -> None: ...
        def start(self, *, user: bool, worker: int = 0) -> Machine:
            return starts[-1](worker)

    (tmp_path / "divergences").mkdir()
    monkeypatch.setattr(check, "Target", FakeTarget)
    monkeypatch.setattr(check, "examine", lambda executor: Probed(NEW, NEW, {}))
    monkeypatch.setattr(check_command, "DIVERGENCES", tmp_path / "divergences")
    monkeypatch.chdir(tmp_path)
    return starts


def program(name: str, *calls: Program, stated: str = "") -> Path:
    path = Path("corpus") / f"{name}.prog"
    path.parent.mkdir(exist_ok=True)
    header = f"# expect: {stated}\n" if stated else ""
    path.write_text(f"# what it shows\n{header}{format_all(calls, ENVIRONMENT.geometry)}")
    return path


MOVES = (MAP, APART, MOVE)


def results(*arguments: str, path: str = "corpus") -> tuple[int, dict[str, str]]:
    """Exit status, and the verdicts by name."""
    status = main(["check", path, "--json", "out.json", *arguments])
    data = json.loads(Path("out.json").read_text())
    assert data["counts"] == {
        verdict: sum(each["verdict"] == verdict for each in data["results"])
        for verdict in data["counts"]
    }
    return status, {Path(each["name"]).name: each["verdict"] for each in data["results"]}


def test_what_agrees_agrees(start: list[Start]) -> None:
    for number in range(200):
        program(f"p{number}", (MAP, UNMAP), MOVES)
        program(f"q{number}", (MAP,) * (number % 7 + 1))
    started: list[Machine] = []

    def remember(number: int) -> Machine:
        started.append(Machine(NEW))
        return started[-1]

    start.append(remember)
    for workers in ("1", "3"):
        status, found = results("--workers", workers)
        assert status == 0
        assert len(found) == 400
        assert set(found.values()) == {"agrees"}
    assert len(started) == 4
    assert all(executor.is_closed for executor in started)
    ran = [len(executor.batches) for executor in started]
    assert ran[0] == sum(ran[1:]), "each program runs once"


def test_what_diverges_fails_and_says_where(
    start: list[Start], capsys: pytest.CaptureFixture[str]
) -> None:
    start.append(lambda number: Machine(OLD))
    program("maps", (MAP,))
    path = program("moves", (UNMAP,), MOVES, (MAP,))
    assert results("--format", "json", "-o", "out") == (1, {"maps": "agrees", "moves": "diverges"})
    (_, moves) = json.loads(Path("out").read_text())["results"]
    assert moves["detail"].startswith(f"{SIGNATURE}\n")
    assert (moves["file"], moves["line"]) == (str(path), 6)
    assert path.read_text().splitlines()[5].startswith("mremap(")
    out = capsys.readouterr()
    assert out.out == ""
    assert "1 agrees, 1 diverges" in out.err
    assert main(["check", "corpus"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "KTAP version 1"
    assert "ok 1 - corpus/maps" in lines
    assert "not ok 2 - corpus/moves" in lines


def test_what_a_header_states_is_held_against_the_kernel_both_ways(start: list[Start]) -> None:
    program("bound", MOVES, stated=f"diverges on 0.0.*: {SIGNATURE}")
    program("other", MOVES, stated="diverges: munmap result: model 0, kernel EINVAL")
    program("elsewhere", MOVES, stated="diverges on 6.*")
    program("by-change", MOVES, stated="diverges without guard_file")
    program("by-changes", MOVES, stated="diverges with guard_file, memfd without THP")
    start.append(lambda number: Machine(OLD))
    status, found = results()
    assert status == 1
    assert found == {
        "bound": "known",
        "by-change": "diverges",
        "by-changes": "known",
        "elsewhere": "diverges",
        "other": "diverges",
    }
    start.append(lambda number: Machine(NEW))
    assert results() == (
        1,
        {
            "bound": "unexpected",
            "by-change": "agrees",
            "by-changes": "unexpected",
            "elsewhere": "agrees",
            "other": "unexpected",
        },
    )
    start.append(lambda number: Machine(OLD))
    assert results(path="corpus/bound.prog") == (0, {"bound": "known"})


def entry(name: str, *signatures: str, kernels: str = "0.0.*", programs: str = "") -> None:
    data = {"signatures": signatures, "kernels": [kernels], "cause": "mm/x.c", "fixed": ""}
    (Path("divergences") / f"{name}.json").write_text(json.dumps(data))
    (Path("divergences") / f"{name}.prog").write_text(programs or "munmap(W+0, 1p)\n")


def test_known_divergences_are_those_of_their_entry_where_it_lists_the_kernel(
    start: list[Start],
) -> None:
    entry("here", SIGNATURE)
    entry("elsewhere", SIGNATURE, kernels="6.*")
    program("here", MOVES, stated="known here")
    program("there", MOVES, stated="known elsewhere")
    program("both", MOVES, stated="known elsewhere, here")
    program("silent", MOVES)
    start.append(lambda number: Machine(OLD))
    assert results() == (
        1, {"both": "known", "here": "known", "silent": "diverges", "there": "diverges"},
    )  # fmt: skip
    start.append(lambda number: Machine(NEW))
    assert results() == (
        1, {"both": "unexpected", "here": "unexpected", "silent": "agrees", "there": "agrees"},
    )  # fmt: skip


def cut(program: Program, data: bytes) -> bytes:
    return b"" if UNMAP in program else data


def test_what_was_not_compared_to_its_end_is_said(start: list[Start]) -> None:
    start.append(
        lambda number: Machine(
            NEW, cut, lambda each: FakeLoss("hang", "it hangs") if UNMAP in each else None
        )
    )
    program("fine", (MAP,))
    program("first-fine", (MAP,), (UNMAP,))
    assert results() == (4, {"fine": "agrees", "first-fine": "unknown"})
    program("first-fine", (MAP,), (UNMAP,), stated="unknown on 0.0.*: it hangs here")
    assert results() == (0, {"fine": "agrees", "first-fine": "unknown"})
    program("first-fine", (MAP,), (UNMAP,), stated="diverges: something")
    assert results()[0] == 4


def test_a_kernel_that_dies_is_a_failure_unless_it_is_stated(start: list[Start]) -> None:
    oops = REPORTS["null pointer"]
    start.append(
        lambda number: Machine(
            NEW, cut, lambda each: FakeLoss("crash", "lost", oops.text) if UNMAP in each else None
        )
    )
    program("kills", (MAP, UNMAP))
    program("fine", (MAP,))
    assert results("--format", "json", "-o", "out") == (1, {"fine": "agrees", "kills": "crashed"})
    (_, kills) = json.loads(Path("out").read_text())["results"]
    program("kills", (MAP, UNMAP), stated=f"diverges: {kills['detail'].splitlines()[0]}")
    assert results() == (0, {"fine": "agrees", "kills": "known"})


def warns(number: int) -> Machine:
    return Machine(NEW, says=lambda each: WARNED.encode() if UNMAP in each else b"")


def test_what_a_kernel_reports_and_nobody_stated_is_a_failure(start: list[Start]) -> None:
    start.append(warns)
    program("warns", (MAP, UNMAP))
    status, found = results()
    assert (status, found) == (1, {"warns": "agrees", "what the kernel reports": "crashed"})
    entry("warning", WARNING)
    assert results() == (0, {"warns": "agrees"})
    program("warns", (MAP, UNMAP), stated="known warning")
    assert results() == (0, {"warns": "known"})
    start.append(lambda number: Machine(NEW))
    assert results() == (1, {"warns": "unexpected"})


def test_a_lost_executor_does_not_take_the_others_along(
    start: list[Start], capsys: pytest.CaptureFixture[str]
) -> None:
    def loses(number: int) -> Machine:
        machine = Machine(NEW)
        if number:
            raise BridgeError("the second does not start")
        return machine

    start.append(loses)
    for number in range(70):
        program(f"p{number}", (MAP, UNMAP))
    status, found = results("--workers", "2")
    assert (status, set(found.values())) == (0, {"agrees"})
    assert "the second does not start" in capsys.readouterr().err


def test_what_nobody_is_left_for_is_unknown(start: list[Start]) -> None:
    class Mortal(Machine):
        def submit(self, programs: Sequence[Program], full: object = ()) -> None:
            if self.batches:
                raise BridgeError("it cannot be started again")
            super().submit(programs, full)  # type: ignore[arg-type]

    start.append(lambda number: Mortal(NEW))
    for number in range(70):
        program(f"p{number}", (MAP, UNMAP))
    status, found = results("--workers", "1")
    assert status == 4
    assert sorted(found.values()) == ["agrees"] * 64 + ["unknown"] * 6


def test_no_executor_at_all(start: list[Start], capsys: pytest.CaptureFixture[str]) -> None:
    def gone(number: int) -> Machine:
        raise BridgeError("no executor starts")

    start.append(gone)
    program("fine", (MAP,))
    assert main(["check", "corpus", "--workers", "3"]) == 3
    assert capsys.readouterr().err == "vmadiff: no executor starts\n"


def test_an_interrupt_ends_it(start: list[Start]) -> None:
    ran: list[int] = []

    class Interrupted(Machine):
        def submit(self, programs: Sequence[Program], full: object = ()) -> None:
            ran.append(len(programs))
            raise KeyboardInterrupt

    start.append(lambda number: Interrupted(NEW))
    for number in range(300):
        program(f"p{number}", (MAP,))
    assert main(["check", "corpus", "--workers", "1"]) == 130
    assert ran == [64]


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("a.prog", None, "a.prog: No such file"),
        ("empty", None, "empty: no programs"),
        ("a.prog", b"frob(1)\n", "a.prog:1: unknown call"),
        ("a.prog", b"munmap(W+0, 1p)\n# next program\nfrob(1)\n", "a.prog:3: unknown call"),
        ("a.prog", b"# expect: nothing\nmunmap(W+0, 1p)\n", "a.prog:1: cannot read"),
        ("a.prog", b"\xff\xfe", "a.prog: not text"),
    ],
)
def test_what_is_no_corpus_is_one_line(
    start: list[Start],
    capsys: pytest.CaptureFixture[str],
    path: str,
    text: bytes | None,
    complaint: str,
) -> None:
    Path("empty").mkdir()
    if text is not None:
        Path(path).write_bytes(text)
    assert main(["check", path]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith(f"vmadiff: {complaint}")
    assert out.err.count("\n") == 1


def test_outputs_are_looked_at_before_the_work(start: list[Start]) -> None:
    start.append(lambda number: pytest.fail("it began"))
    program("fine", (MAP,))
    assert main(["check", "corpus", "-o", "nowhere/x"]) == 2
    assert main(["check", "corpus", "--json", "corpus"]) == 2


def test_directories_are_looked_into_but_not_what_was_put_aside(start: list[Start]) -> None:
    for name in ("a", "deep/b", "quarantine/c", "deep/dropped/d", ".new-7-e"):
        path = Path("corpus") / f"{name}.prog"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("munmap(W+0, 1p)\n")
    status = main(["check", "corpus", "corpus/a.prog", "--json", "out.json"])
    names = [each["name"] for each in json.loads(Path("out.json").read_text())["results"]]
    assert (status, names) == (0, ["corpus/a", "corpus/deep/b"])


# The bugs that the model follows.


@pytest.mark.parametrize(
    ("release", "has", "there", "undecided", "verdict"),
    [
        ("6.1.5", True, True, False, "known"),
        ("6.1.5", True, False, False, "unexpected"),
        ("6.1.5", False, False, False, "known"),
        ("6.1.5", False, True, False, "unexpected"),
        ("6.1.5", True, False, True, "unknown"),
        ("6.9.5", True, False, False, "unknown"),
    ],
)
def test_a_kernel_that_is_said_to_have_a_bug_has_it(
    release: str, has: bool, there: bool, undecided: bool, verdict: str
) -> None:
    change = BY_NAME["guard"]
    profile = Profile("x", frozenset((change,)) if there else frozenset())
    probed = Probed(profile, NEW, {"guard": "why"} if undecided else {})
    bug = Bug("x", "x.json", KNOWN[0], change, has)
    assert check._look_for(bug, release, probed).verdict == verdict


# The shipped corpus.


def test_every_header_of_the_shipped_corpus_can_be_read() -> None:
    statements = load_statements(PACKAGED / "divergences")
    stated = [
        each
        for directory in (*shipped(), PACKAGED / "divergences")
        for path in directory.glob("*.prog")
        for each in statements.read(path.read_text(), str(path))
    ]
    assert {each.verdict for each in stated} == {"known", "unknown"}
    for path in (PACKAGED / "divergences").glob("*.prog"):
        (each,) = statements.read(path.read_text(), str(path))
        assert each.entries == (path.stem,), "evidence states what it is evidence of"


def test_the_running_kernel_does_as_stated_and_a_model_without_a_change_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with executor():
        pass
    witnesses = str(PACKAGED / "witnesses")
    json_path = tmp_path / "out.json"
    assert main(["check", witnesses, "--json", str(json_path)]) == 0
    data = json.loads(json_path.read_text())
    verdicts = {Path(each["name"]).stem: each["verdict"] for each in data["results"]}
    assert set(verdicts) == {change.name for change in CHANGES}
    had = [change for change in CHANGES if verdicts[change.name] == "agrees"]

    real = check.examine

    def wrong(kernel: object) -> Probed:
        probed = real(kernel)  # type: ignore[arg-type]
        changes = probed.profile.changes ^ {BY_NAME["seal_keeps_all_anonymous"]}
        return replace(probed, profile=Profile("wrong", changes))

    assert BY_NAME["seal_keeps_all_anonymous"] in had
    monkeypatch.setattr(check, "examine", wrong)
    assert main(["check", witnesses, "--json", str(json_path)]) == 1
    data = json.loads(json_path.read_text())
    failed = {Path(each["name"]).stem for each in data["results"] if each["verdict"] in FAILED}
    assert "seal_keeps_all_anonymous" in failed
    capsys.readouterr()


@pytest.mark.slow
def test_the_shipped_corpus_is_as_stated_and_fast(tmp_path: Path) -> None:
    with executor():
        pass
    for rights in ([], ["--user"]):
        command = [sys.executable, "-P", "-m", "fuzz.cli", "check", "--json", "out.json", *rights]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        data = json.loads((tmp_path / "out.json").read_text())
        assert len(data["results"]) > 1300
        assert data["seconds"] < 60


@pytest.mark.slow
def test_a_planted_mistake_is_noticed(tmp_path: Path) -> None:
    """The corpus tells a wrong model from a right one."""
    with executor():
        pass
    root = tmp_path / "wrong"
    root.mkdir()
    for name in ("abi", "cachedir", "fuzz", "kernel_bridge", "kernels", "model", "corpus"):
        subprocess.run(["cp", "-r", ROOT / name, root / name], check=True)
    source = (root / "model" / "munmap.py").read_text()
    assert "raise SyscallError(EINVAL)" in source
    wrong = source.replace("import EINVAL", "import EINVAL, ENOMEM")
    wrong = wrong.replace("raise SyscallError(EINVAL)", "raise SyscallError(ENOMEM)")
    (root / "model" / "munmap.py").write_text(wrong)
    command = [sys.executable, "-P", "-m", "fuzz.cli", "check", str(root / "corpus" / "classes")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "munmap result: model ENOMEM, kernel EINVAL" in done.stdout
