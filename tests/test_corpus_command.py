"""`vmadiff corpus`: findings become regressions; corpora are merged, thinned out, counted and looked after."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from abi.environment import Geometry
from abi.program import calls_only, format_all, format_program, parse_all
from fuzz import corpus_command, reference
from fuzz.cli import main
from fuzz.corpus import PACKAGED, files_of, load, name_of, read_program
from fuzz.cover import Measured, additional, enough, together
from fuzz.reach import Meter, Reach
from tests.fuzz.machine import ENVIRONMENT, OLD, FakeExecutor, set_up
from tests.fuzz.test_worker import APART, MAP, MOVE, UNMAP

ROOT = Path(__file__).parent.parent
SIGNATURE = "mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT"
STATED = f"# expect: diverges on 0.0.0-none: {SIGNATURE}"
#: Small programs that reach different things, and two that reach what others do.
SEEDS = sorted((PACKAGED / "seeds").glob("mprotect-*.prog"))[:12]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def meter() -> Meter:
    return Meter(reference.machines())


def corpus_of(name: str, files: list[Path]) -> Path:
    directory = Path(name)
    directory.mkdir(exist_ok=True)
    for file in files:
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def reached(meter: Meter, directory: Path) -> Reach:
    items = [
        Measured(path, len(program), meter.measure(program))
        for path in sorted(directory.glob("*.prog"))
        for program in [read_program(path, Geometry())]
    ]
    return together(items)


def listed(directory: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def finding() -> Path:
    """The directory of one, as fuzzing writes it."""
    state = Path("state")
    state.mkdir()
    bench = set_up(state, FakeExecutor(OLD))
    bench.feed((MAP, APART, MOVE, UNMAP))
    (found,) = bench.told.of("finding")
    return Path(found["path"])


# add


def test_a_finding_becomes_a_regression_with_one_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = finding()
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    (file,) = Path("kept").iterdir()
    calls = calls_only((path / "program").read_text())
    assert "mremap" in calls
    assert file.name == name_of(calls)
    lines = file.read_text().splitlines()
    assert lines[0] == f"# {SIGNATURE}"
    assert "0.0.0-none, profile" in lines[1]
    assert lines[2] == STATED
    assert "\n".join(lines[3:]) + "\n" == calls
    assert STATED in capsys.readouterr().out
    before = listed("kept")
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    assert "is there" in capsys.readouterr().out
    assert listed("kept") == before, "never twice"


def test_what_was_fixed_is_to_agree() -> None:
    path = finding()
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    assert main(["corpus", "add", str(path), "--corpus", "kept", "--fixed"]) == 0
    (file,) = Path("kept").iterdir()
    text = file.read_text()
    assert "# expect: agrees\n" in text
    assert "diverges on" not in text
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    assert file.read_text().splitlines()[2:4] == [STATED, "# expect: agrees"]


def test_what_other_kernels_do_is_added_to_what_is_stated() -> None:
    path = finding()
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    for name in ("finding.json", "kernel.json"):
        if (path / name).exists():
            text = (path / name).read_text().replace("0.0.0-none", "6.16.12[x]")
            (path / name).write_text(text)
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    (file,) = Path("kept").iterdir()
    stated = [line for line in file.read_text().splitlines() if line.startswith("# expect")]
    assert stated == [f"# expect: diverges on 6.16.12[[]x]: {SIGNATURE}", STATED]


def test_a_finding_that_is_explained_names_its_entry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = finding()
    (tmp_path / "divergences").mkdir()
    entry = {"signatures": [SIGNATURE], "kernels": ["0.0.*"], "cause": "mm/x.c", "fixed": ""}
    (tmp_path / "divergences" / "explained.json").write_text(json.dumps(entry))
    monkeypatch.setattr(corpus_command, "DIVERGENCES", tmp_path / "divergences")
    assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 0
    (file,) = Path("kept").iterdir()
    assert "# expect: known explained\n" in file.read_text()


def test_a_program_is_kept_with_its_header_whatever_it_is_written_like(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("a.prog").write_text("# shows this\n# mm/x.c: f()\nmunmap( W+0,1p ) = 0  # a hole\n")
    Path("b.prog").write_text("munmap(W+0, 1p)\n")
    Path("series").write_text("# both\nmunmap(W+0, 1p)\n# next program\nmunmap(W+1, 1p)\n")
    assert main(["corpus", "add", "a.prog", "b.prog", "series", "--corpus", "kept"]) == 0
    texts = sorted(path.read_text() for path in Path("kept").iterdir())
    assert texts == [
        "# both\n# expect: agrees\nmunmap(W+0, 1p)\n# next program\nmunmap(W+1, 1p)\n",
        "# shows this\n# mm/x.c: f()\n# expect: agrees\nmunmap(W+0, 1p)\n",
    ]
    assert capsys.readouterr().out.count("is there") == 1
    Path("a.prog").write_text("# expect: diverges on 6.1.*\nmunmap(W+0, 1p)\n")
    assert main(["corpus", "add", "a.prog", "--corpus", "kept"]) == 0
    assert main(["corpus", "add", "b.prog", "--corpus", "kept"]) == 0
    (file,) = [path for path in Path("kept").iterdir() if "shows this" in path.read_text()]
    assert "# expect: diverges on 6.1.*\n# expect: agrees\nmunmap" in file.read_text()


def test_without_a_directory_it_is_that_of_fuzzing() -> None:
    Path("b.prog").write_text("munmap(W+0, 1p)\n")
    assert main(["corpus", "add", "b.prog"]) == 0
    (entry,) = load(Path(".vmadiff/corpus"), Geometry())
    assert entry.path.name == name_of("munmap(W+0, 1p)\n")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("gone", None, "gone: No such file"),
        ("a.prog", b"frob(1)\n", "a.prog:1: unknown call"),
        ("a.prog", b"# nothing\n", "a.prog: no calls in it"),
        ("a.prog", b"# expect: luck\nmunmap(W+0, 1p)\n", "a.prog:1: cannot read"),
        ("d/other", b"", "d: neither a program nor a finding"),
    ],
)
def test_what_cannot_be_added_is_one_line(
    capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, complaint: str
) -> None:
    path = Path(name)
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    Path("b.prog").write_text("munmap(W+0, 1p)\n")
    what = name if "/" not in name else "d"
    assert main(["corpus", "add", "b.prog", what, "--corpus", "kept"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"vmadiff: {complaint}")
    assert err.count("\n") == 1
    assert listed("kept") == {}, "all or nothing"


def test_a_finding_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = finding()
    for text in ("{", "{}", '{"signature": "x", "environment": 7}'):
        (path / "finding.json").write_text(text)
        (path / "kernel.json").unlink(missing_ok=True)
        assert main(["corpus", "add", str(path), "--corpus", "kept"]) == 2
        assert "finding.json: not of a finding" in capsys.readouterr().err


def test_of_a_report_of_the_kernel_the_smallest_series_is_kept() -> None:
    path = Path("the-kernel-reported")
    path.mkdir()
    signature = "the kernel reported: WARNING in move_vma < mremap_to"
    data = {"signature": signature, "environment": {"release": "7.3.4"}}
    (path / "finding.json").write_text(json.dumps(data))
    series = format_all([(MAP,), (UNMAP,)], ENVIRONMENT.geometry)
    (path / "program").write_text(format_program((MAP, APART, UNMAP), ENVIRONMENT.geometry))
    (path / "reduced").write_text(f"# WARNING in move_vma\n{series}")
    for what in (path, path / "reduced"):
        assert main(["corpus", "add", str(what), "--corpus", "kept"]) == 0
    (file,) = Path("kept").iterdir()
    stated = f"# expect: diverges on 7.3.4: {signature}"
    assert file.read_text() == f"# WARNING in move_vma\n{stated}\n{series}"


# merge and min


def test_merging_keeps_what_adds_and_does_nothing_the_second_time(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = corpus_of("one", SEEDS[:8]), corpus_of("other", SEEDS[4:])
    before = listed(one), listed(other)
    assert main(["corpus", "merge", "one", "other", "--corpus", "both"]) == 0
    merged = listed("both")
    assert 1 < len(merged) <= len(SEEDS)
    assert all(name == name_of(text.decode()) for name, text in merged.items())
    both = reached(meter, Path("both"))
    assert both == together([Measured(one, 0, reached(meter, each)) for each in (one, other)])
    assert (listed(one), listed(other)) == before
    capsys.readouterr()
    assert main(["corpus", "merge", "other", "one", "both", "--corpus", "both"]) == 0
    assert listed("both") == merged, "nothing is new"
    assert "0 of" in capsys.readouterr().out


def test_merging_joins_what_is_stated_and_keeps_what_states() -> None:
    calls = "munmap(W+0, 1p)\n"
    for name, stated in (("ours", "diverges on 6.1.*"), ("theirs", "diverges on 6.2.*")):
        Path(name).mkdir()
        (Path(name) / name_of(calls)).write_text(f"# {name}\n# expect: {stated}\n{calls}")
    (Path("theirs") / "b.prog").write_text(f"# expect: agrees\n{calls}{calls}")
    (Path("theirs") / "c.prog").write_text(f"{calls}{calls}{calls}")
    for _ in range(2):
        assert main(["corpus", "merge", "theirs", "--corpus", "ours"]) == 0
        texts = sorted(text.decode() for text in listed("ours").values())
        assert texts == [
            f"# expect: agrees\n{calls}{calls}",
            f"# ours\n# expect: diverges on 6.1.*\n# expect: diverges on 6.2.*\n{calls}",
        ]


def test_thinning_out_keeps_coverage_and_loses_no_file(
    meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = corpus_of("c", SEEDS)
    text = SEEDS[0].read_text()
    (directory / "again.prog").write_text(calls_only(text) * 2)
    (directory / "stated.prog").write_text(f"# expect: agrees\n{calls_only(text)}{text}")
    before, covered = listed(directory), reached(meter, directory)
    assert main(["corpus", "min", "--corpus", "c", "--dry-run"]) == 0
    assert "would go to" in capsys.readouterr().out
    assert listed(directory) == before
    assert not Path("dropped").exists()
    assert main(["corpus", "min", "--corpus", "c"]) == 0
    out = capsys.readouterr().out
    figures = f"{len(covered.branches)} branches, {len(covered.classes)} classes"
    assert out.count(figures) == 2
    kept, dropped = listed(directory), listed("dropped")
    assert "stated.prog" in kept
    assert dropped
    assert {**kept, **dropped} == before
    assert not kept.keys() & dropped.keys()
    again = reached(meter, directory)
    assert (again.branches, again.classes) == (covered.branches, covered.classes)
    assert main(["corpus", "min", "--corpus", "c"]) == 0
    assert listed(directory) == kept, "there is nothing more to drop"


def test_nothing_that_was_put_aside_is_overwritten() -> None:
    for text in ("munmap(W+0, 1p)\n", "munmap(W+1, 1p)\n", "munmap(W+1, 1p)\n"):
        Path("c").mkdir(exist_ok=True)
        (Path("c") / "big.prog").write_text(text * 3)
        (Path("c") / "small.prog").write_text("munmap(W+0, 1p)\n")
        assert main(["corpus", "min", "--corpus", "c"]) == 0
        assert list(listed("c")) == ["small.prog"]
    assert sorted(listed("dropped")) == ["big-2.prog", "big.prog"]


KILLED = """
    import os, signal, sys
    from fuzz.cli import main
    rename, count = os.rename, 0
    def deadly(*names):
        global count
        count += 1
        if count == {after}:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*names)
    os.rename = deadly
    sys.exit(main({arguments}))
"""


@pytest.mark.parametrize("after", [1, 3])
def test_a_kill_in_between_loses_nothing(meter: Meter, after: int) -> None:
    directory = corpus_of("c", SEEDS)
    for number, seed in enumerate(SEEDS[:4]):
        (directory / f"again-{number}.prog").write_text(calls_only(seed.read_text()) * 2)
    before, covered = listed(directory), reached(meter, directory)
    code = KILLED.format(after=after, arguments=["corpus", "min", "--corpus", "c"])
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    dropped = listed("dropped") if Path("dropped").exists() else {}
    assert len(dropped) == after - 1
    assert {**listed(directory), **dropped} == before
    assert main(["corpus", "min", "--corpus", "c"]) == 0
    assert reached(meter, directory).classes == covered.classes
    assert {**listed(directory), **listed("dropped")} == before


def test_a_kill_while_merging_leaves_whole_programs() -> None:
    corpus_of("one", SEEDS)
    code = KILLED.format(after=4, arguments=["corpus", "merge", "one", "--corpus", "c"])
    code = code.replace("os.rename", "os.replace")
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert len(files_of(Path("c"))) == 3
    assert main(["corpus", "verify", "--corpus", "c"]) == 0
    for directory in ("c", "fresh"):
        assert main(["corpus", "merge", "one", "--corpus", directory]) == 0
    assert [path.name for path in files_of(Path("c"))] == sorted(listed("fresh"))


# What is enough.


def measured(name: str, calls: int, branches: str, stays: bool = False) -> Measured:
    return Measured(Path(name), calls, Reach(frozenset(map(ord, branches)), frozenset()), stays)


def names(items: list[Measured]) -> str:
    return "".join(item.path.name for item in items)


def test_the_greediest_choice_is_cheap_and_without_superfluous_ones() -> None:
    assert enough([]) == []
    assert names(enough([measured("a", 3, "x"), measured("b", 2, "x")])) == "b"
    assert names(enough([measured("a", 1, "x"), measured("b", 9, "xy")])) == "b"
    assert names(enough([measured("a", 1, ""), measured("b", 1, "x")])) == "b"
    assert names(enough([measured("a", 1, "", True), measured("b", 1, "x")])) == "ab"
    three = [measured("a", 1, "wxyz"), measured("b", 1, "uwxv"), measured("c", 1, "yzut")]
    assert names(enough(three)) == "bc", "a was first, and is not needed any more"


def test_what_is_additional() -> None:
    items = [measured("a", 9, "xyz"), measured("b", 1, "xy"), measured("c", 5, "q", True)]
    covered = Reach(frozenset(map(ord, "x")), frozenset())
    assert names(additional(items, covered)) == "cba"
    assert names(additional(items, Reach(frozenset(map(ord, "xyzq")), frozenset()))) == "c"


def test_branches_are_those_of_the_model_and_tracing_ends() -> None:
    before = sys.gettrace()
    fresh = Meter(reference.machines())
    first, other = (parse_all(each.read_text(), Geometry())[0] for each in SEEDS[:2])
    assert fresh.measure(first) == fresh.measure(first)
    assert fresh.measure(first) != fresh.measure(other)
    assert fresh.measure(first[:1]) <= fresh.measure(first)
    assert not fresh.measure(first) <= fresh.measure(first[:1])
    assert sys.gettrace() is before
    assert {name for name, _, _ in fresh._numbers} <= {
        path.name for path in (ROOT / "model").glob("*.py")
    }


# stats and verify


def test_figures(meter: Meter, capsys: pytest.CaptureFixture[str]) -> None:
    directory = corpus_of("c", SEEDS)
    assert main(["corpus", "stats", "--corpus", "c", "--json", "out.json"]) == 0
    data = json.loads(Path("out.json").read_text())
    covered = reached(meter, directory)
    assert data["programs"] == len(SEEDS)
    assert data["bytes"] == sum(len(text) for text in listed(directory).values())
    assert (data["branches"], data["classes"]) == (len(covered.branches), len(covered.classes))
    assert data["calls"] == sum(each["times"] for each in data["by_call"].values())
    assert sum(each["classes"] for each in data["by_call"].values()) == data["classes"]
    assert data["by_call"]["mprotect"]["times"] >= len(SEEDS)
    out = capsys.readouterr().out
    assert f"{len(SEEDS)} programs" in out
    assert f"{data['by_call']['mprotect']['classes']} of" in out


def test_damaged_files_go_to_quarantine_and_the_rest_works(
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = corpus_of("c", SEEDS[:2])
    good = listed(directory)
    text = format_all([(MAP, UNMAP)], ENVIRONMENT.geometry)
    cut_off = directory / name_of(text)
    cut_off.write_text(text.splitlines(keepends=True)[0])
    (directory / "binary.prog").write_bytes(b"\xff\xfe\x00")
    (directory / "empty.prog").write_bytes(b"")
    (directory / "none.prog").write_text("munmap(W+0,")
    (directory / "header.prog").write_text("# expect: luck\nmunmap(W+0, 1p)\n")
    (directory / "directory.prog").mkdir()
    (directory / "link.prog").symlink_to("nowhere")
    (directory / "notes.txt").write_text("not a program")
    (directory / ".new-7-x.prog").write_text("munm")
    damaged = {
        "binary.prog",
        "empty.prog",
        "none.prog",
        "header.prog",
        "directory.prog",
        "link.prog",
    }
    damaged |= {cut_off.name}
    # Whatever else is done with it, a line each is said and the rest is used.
    assert main(["corpus", "stats", "--corpus", "c"]) == 0
    out = capsys.readouterr()
    assert "2 programs" in out.out
    assert out.err.count("left out: c/") == len(damaged)
    assert main(["corpus", "verify", "--corpus", "c", "--dry-run"]) == 1
    assert not Path("quarantine").exists()
    capsys.readouterr()
    assert main(["corpus", "verify", "--corpus", "c"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(damaged) + 1
    assert all(any(f"c/{name}" in line for line in lines) for name in damaged)
    assert {path.name for path in Path("quarantine").iterdir()} == damaged
    assert {path.name: path.read_bytes() for path in files_of(directory)} == good
    assert main(["corpus", "verify", "--corpus", "c"]) == 0
    assert main(["corpus", "min", "--corpus", "c"]) == 0


def test_names_that_people_gave_and_headers_may_be_changed() -> None:
    Path("c").mkdir()
    calls = "munmap(W+0, 1p)\n"
    (Path("c") / "munmap-a-hole.prog").write_text(calls)
    (Path("c") / name_of(calls)).write_text(f"# edited\n# expect: agrees on 6.*\n\n{calls}")
    assert main(["corpus", "verify", "--corpus", "c"]) == 0


@pytest.mark.parametrize("action", ["min", "verify", "stats"])
def test_a_corpus_that_is_not_there(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", action, "--corpus", "gone"]) == 2
    assert capsys.readouterr().err == "vmadiff: gone: no such directory\n"
    Path("file").write_text("")
    assert main(["corpus", "add", "file", "--corpus", "file"]) == 2
    assert main(["corpus", "merge", "gone", "--corpus", "c"]) == 2


def test_the_shipped_corpus_is_whole() -> None:
    for name in ("seeds", "witnesses"):
        assert main(["corpus", "verify", "--corpus", str(PACKAGED / name), "--dry-run"]) == 0
