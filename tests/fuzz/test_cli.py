"""The command as people and scripts meet it: exit statuses, one-line errors, summaries, nothing left behind."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abi.environment import Environment
from fuzz.inflight import leftovers
from tests.processes import state_of

ROOT = Path(__file__).parent.parent.parent
SEED = ROOT / "corpus" / "seeds" / "munmap-middle-splits.prog"
TRACE = ROOT / "tests" / "fuzz" / "traces" / "bash.strace"
SUMMARY = {
    "sequences", "calls", "seconds", "divergences_new", "divergences_known", "unmodelled", "mremap_success_share",
    "multi_vma_share", "executor_restarts", "target", "profile",
}  # fmt: skip
#: A copy of the project in which the model has a mistake that shows itself at once.
MISTAKE = ("model/munmap.py", "raise SyscallError(EINVAL)", "raise SyscallError(ENOMEM)")

STARTED: list[subprocess.Popen[str]] = []


def start(
    *arguments: object, cwd: Path, root: Path = ROOT, before: tuple[str, ...] = (), **more: Any
) -> subprocess.Popen[str]:
    """`vmadiff` with these arguments, run by the command `before`."""
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": {**os.environ, "PYTHONPATH": str(root)},
        **more,
    }
    command = [*before, sys.executable, "-P", "-m", "fuzz.cli", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, text=True, **options)
    STARTED.append(process)
    return process


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """A test that fails half-way leaves no process either."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def run(*arguments: object, cwd: Path, root: Path = ROOT) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd, root=root)
    # A model may have to be compiled first.
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def workers_of(pid: int) -> list[int]:
    """The workers of a session."""
    return [child for child in children_of(pid) if b"fuzz.harness" in _command_line(child)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children_of(pid: int) -> list[int]:
    """The processes whose parent is `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found


def family(pid: int) -> set[int]:
    """The workers of a session and their executors."""
    workers = workers_of(pid)
    return set(workers).union(*(children_of(worker) for worker in workers))


def wait_until(condition: Any, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def is_gone(pid: int) -> bool:
    return state_of(pid) in ("", "Z")


@pytest.fixture
def mistaken(tmp_path: Path) -> Path:
    """The project with a mistake planted."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("abi", "cachedir", "fuzz", "kernel_bridge", "kernels", "model", "corpus"):
        subprocess.run(["cp", "-r", ROOT / name, root / name], check=True)
    file, before, after = MISTAKE
    source = (root / file).read_text()
    assert before in source
    (root / file).write_text(
        source.replace("import EINVAL", "import EINVAL, ENOMEM").replace(before, after)
    )
    return root


def test_help_and_version(tmp_path: Path) -> None:
    status, out, _ = run("--help", cwd=tmp_path)
    assert status == 0
    assert "exit status:" in out
    for command in ("fuzz", "run", "explain", "probe", "selftest"):
        assert command in out
        assert run(command, "--help", cwd=tmp_path)[0] == 0
    status, out, _ = run("--version", cwd=tmp_path)
    assert (status, out.split()[0]) == (0, "vmadiff")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("fuzz", "--runs", "0"),
        ("fuzz", "--time", "-1"),
        ("fuzz", "--seed", "x"),
        ("fuzz", "--target", "moon"),
        ("run",),
        ("run", "no-such-file.prog"),
        ("run", "/"),
        ("import",),
        ("import", "ltrace", SEED),
        ("import", "strace"),
        ("import", "strace", "no-such-file.strace"),
        ("import", "strace", "/"),
        ("import", "strace", SEED),
        ("import", "strace", TRACE, "--pid", "1"),
        ("import", "strace", TRACE, "--limit", "0"),
        ("selftest", "--only", "no_such_mistake"),
        ("fuzz", "--runs", "1", "--json", "/"),
        ("enumerate", "--resume"),
        ("enumerate", "--kinds", "heap"),
        ("enumerate", "--flags", "STAY"),
        ("enumerate", "--pages", "9"),
        ("enumerate", "--call", "munmap", "--resize", "2"),
        ("enumerate", "--from", "3000000"),
        ("enumerate", "--show", "-1"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    status, _, err = run(*arguments, cwd=tmp_path)
    assert status == 2
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("vmadiff")


def test_run_agrees_step_by_step(tmp_path: Path) -> None:
    status, out, err = run("run", SEED, "--json", "out.json", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "agrees" in out
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["agrees"]
    for step in data["steps"]:
        assert step["agrees"]
        assert step["model"] == step["kernel"]
        assert {"result", "value", "layout"} <= set(step["kernel"])


def test_run_shows_where_they_part(mistaken: Path, tmp_path: Path) -> None:
    program = tmp_path / "a.prog"
    program.write_text("munmap(W+0, 1p)\nmunmap(W+0, 0)\nmunmap(W+0, 1p)\n")
    status, out, _ = run("run", program, SEED, "--json", "o", cwd=tmp_path, root=mistaken)
    assert status == 1
    assert "a.prog: diverges at call 2 in its result" in out
    assert ">>> munmap(W+0, 0)  | -1 ENOMEM | -1 EINVAL" in out
    assert [each["agrees"] for each in json.loads((tmp_path / "o").read_text())["programs"]] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("munmap(W+0)\n", "a.prog:1: munmap takes 2 arguments, here are 1"),
        ("\n# fine\nfrobnicate(1)\n", "a.prog:3: unknown call 'frobnicate'"),
        ("munmap(W+0, x)\n", "a.prog:1: cannot read 'x'"),
    ],
)
def test_bad_program_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "a.prog").write_text(text)
    status, out, err = run("run", "a.prog", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith(f"vmadiff: {line}")
    assert err.count("\n") == 1


def test_import_writes_programs_and_replays_them(tmp_path: Path) -> None:
    status, out, err = run("import", "strace", TRACE, "-o", "made", "--run", cwd=tmp_path)
    assert (status, err) == (0, "")
    files = sorted(path.name for path in (tmp_path / "made").iterdir())
    assert len(files) > 1
    assert f"{len(files)} programs" in out
    for name in files:
        assert f"{name}: agrees" in out
    status, again, _ = run("run", *(f"made/{name}" for name in files), cwd=tmp_path)
    assert status == 0 and again.count("agrees") == len(files)


def test_import_takes_one_process_and_no_more_than_asked(tmp_path: Path) -> None:
    arguments = ("import", "strace", TRACE, "--pid", "1000", "--limit", "1")
    status, out, _ = run(*arguments, cwd=tmp_path)
    assert status == 0 and "1 address spaces" in out
    (made,) = (tmp_path / ".vmadiff" / "imported").iterdir()
    assert made.name.startswith("bash-1000-")


def test_import_where_nothing_can_be_written_is_status_3(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("import", "strace", TRACE, "-o", "file", cwd=tmp_path)
    assert status == 3
    assert err.count("\n") == 1 and err.startswith("vmadiff: ")


def test_fuzz_finds_nothing_and_says_so(tmp_path: Path) -> None:
    status, out, err = run("fuzz", "--runs", 600, "--seed", 1, "--json", "out.json", cwd=tmp_path)
    data = json.loads((tmp_path / "out.json").read_text())
    assert (status, err, data["divergences_new"]) == (0, "", 0), out
    assert set(data) >= SUMMARY
    assert data["sequences"] == 600
    assert data["calls"] > 600
    assert data["target"] == "local"
    assert "600 sequences" in out
    assert leftovers(tmp_path / ".vmadiff") == []
    if data["guided"]:
        assert list((tmp_path / ".vmadiff" / "corpus").glob("*.prog"))
        assert data["coverage"] > 100


def test_guidance_asks_for_mutations(tmp_path: Path) -> None:
    """The engine calls the mutators: importing parts of it too early silently prevents that."""
    pytest.importorskip("atheris", reason="Atheris has no wheel for this machine")
    status, _, _ = run("fuzz", "--runs", 1500, "--seed", 1, "--json", "o", cwd=tmp_path)
    data = json.loads((tmp_path / "o").read_text())
    assert status in (0, 1)
    assert data["guided"]
    assert data["made"] > 1400


def test_worker_outlives_the_ticks_of_the_engine(tmp_path: Path) -> None:
    """Atheris has a timer of its own; it must not take a worker for hung."""
    pytest.importorskip("atheris", reason="Atheris has no wheel for this machine")
    process = start("fuzz", "--time", 0, "--workers", 1, "--json", "o", cwd=tmp_path)
    state = tmp_path / ".vmadiff"
    wait_until(lambda: state.exists() and leftovers(state))
    (worker,) = workers_of(process.pid)
    end = time.monotonic() + 3.2
    while (
        time.monotonic() < end
    ):  # so that one falls into the program during which the second turns
        os.kill(worker, signal.SIGALRM)
        time.sleep(0.0001)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert json.loads((tmp_path / "o").read_text())["worker_restarts"] == 0


def test_same_seed_same_session(tmp_path: Path) -> None:
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run("fuzz", "--runs", 1000, "--seed", 7, "--json", "o", cwd=tmp_path / name)
        data = json.loads((tmp_path / name / "o").read_text())
        corpus = sorted(p.name for p in (tmp_path / name / ".vmadiff" / "corpus").iterdir())
        results.append((data["calls"], data["statistics"], data["coverage"], corpus))
    assert results[0] == results[1]


def test_unguided_is_as_asked(tmp_path: Path) -> None:
    status, out, _ = run("fuzz", "--runs", 300, "--unguided", "--json", "o", cwd=tmp_path)
    assert status in (0, 1)
    assert "Atheris" not in out
    assert not json.loads((tmp_path / "o").read_text())["guided"]


def test_soak_finds_nothing_either(tmp_path: Path) -> None:
    status, out, err = run("soak", "--runs", 3000, "--seed", 1, "--json", "o", cwd=tmp_path)
    data = json.loads((tmp_path / "o").read_text())
    assert (status, err, data["divergences_new"]) == (0, "", 0), out
    assert set(data) >= SUMMARY
    assert data["sequences"] == 3000
    assert not data["guided"]
    assert data["statistics"]["multi_moves"] > 10
    assert leftovers(tmp_path / ".vmadiff") == []


def test_by_default_every_processor_has_a_worker(tmp_path: Path) -> None:
    """But where programs are to be the same each time, and where there are fewer programs."""
    for arguments, workers in (
        (("--runs", 64), min(64, len(os.sched_getaffinity(0)))),
        (("--runs", 64, "--seed", 1), 1),
        (("--runs", 1), 1),
    ):
        run("fuzz", *arguments, "--unseeded", "--json", "o", cwd=tmp_path)
        data = json.loads((tmp_path / "o").read_text())
        assert (data["workers"], data["sequences"]) == (workers, arguments[1])


def test_several_workers_share_the_runs(tmp_path: Path) -> None:
    run("fuzz", "--runs", 1001, "--workers", 3, "--json", "o", cwd=tmp_path)
    data = json.loads((tmp_path / "o").read_text())
    assert (data["sequences"], data["workers"]) == (1001, 3)


def test_new_divergence_is_status_1_and_can_be_replayed(mistaken: Path, tmp_path: Path) -> None:
    status, out, _ = run("fuzz", "--runs", 2000, "--seed", 3, cwd=tmp_path, root=mistaken)
    assert status == 1
    assert "NEW divergence: munmap result: model ENOMEM, kernel EINVAL" in out
    (found,) = (tmp_path / ".vmadiff" / "findings").glob("munmap-result-*")
    assert run("run", found / "program", cwd=tmp_path, root=mistaken)[0] == 1
    assert run("run", found / "program", cwd=tmp_path)[0] == 0, "it was the model's mistake"
    data = json.loads((found / "kernel.json").read_text())
    Environment.from_json(data["environment"])
    assert "\nThe kernel or the model: " in (found / "report.md").read_text()
    assert "the kernel or the model; " in (found / "report.html").read_text()
    seen = json.loads((found / "seen.json").read_text())
    assert seen["kernels"] == [data["release"]]
    assert seen["count"] >= 1
    listed = (tmp_path / ".vmadiff" / "index.html").read_text()
    assert f'href="findings/{found.name}/report.html"' in listed
    *_, last = (tmp_path / ".vmadiff" / "history.jsonl").read_text().splitlines()
    assert json.loads(last)["sequences"] == 2000
    assert len((found / "program").read_text().splitlines()) == 3, "two lines about it, one call"


def test_another_release_may_be_expected(tmp_path: Path) -> None:
    witness = ROOT / "corpus" / "witnesses" / "multi_vma_move.prog"
    assert run("run", witness, "--profile", "6.19", cwd=tmp_path)[0] == 0
    status, out, _ = run("run", witness, "--profile", "6.12", cwd=tmp_path)
    assert status == 1
    assert "| -1 EFAULT" in out
    status, _, err = run("fuzz", "--profile", "5.4", cwd=tmp_path)
    assert status == 2
    assert err.startswith("vmadiff: no profile is called 5.4; there are 6.1, 6.12,")


def test_a_third_opinion_needs_a_tree(tmp_path: Path) -> None:
    witness = ROOT / "corpus" / "witnesses" / "merge_unfaulted_target.prog"
    command = ("run", witness, "--vma-tests", tmp_path)
    assert run(*command, cwd=tmp_path)[0] == 0, "nobody is asked where they agree"
    status, _, err = run(*command, "--profile", "6.12", cwd=tmp_path)
    assert status == 2
    assert err == f"vmadiff: {tmp_path}: no tools/testing/vma of the form of 7.3\n"


def test_unseeded_fuzzing_begins_with_nothing(tmp_path: Path) -> None:
    run("fuzz", "--runs", 1, "--unseeded", "--json", "o", cwd=tmp_path)
    assert json.loads((tmp_path / "o").read_text())["corpus"] <= 1


def test_minimize_leaves_the_smallest(mistaken: Path, tmp_path: Path) -> None:
    (tmp_path / "long.prog").write_text(
        "mmap(W+9, 5p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 3p)\n"
        "madvise(W+9, 2p, MADV_DONTNEED)\nmunmap(W+9, 0)\nmunmap(W+9, 1p)\n"
    )
    command = ("minimize", "long.prog", "-o", "short.prog")
    status, out, err = run(*command, cwd=tmp_path, root=mistaken)
    assert (status, out) == (0, "")
    assert "munmap result: model ENOMEM, kernel EINVAL: 1 call from 4" in err
    title, _, *calls = (tmp_path / "short.prog").read_text().splitlines()
    assert title == "# munmap result: model ENOMEM, kernel EINVAL"
    assert calls == ["munmap(W+0, 0)"]
    assert run("run", "short.prog", cwd=tmp_path, root=mistaken)[0] == 1
    status, out, err = run(*command, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err == "vmadiff: long.prog: nothing to be seen in a smaller program: agrees (4 calls)\n"


def test_corrupt_corpus_is_counted_and_skipped(tmp_path: Path) -> None:
    corpus = tmp_path / "mine"
    corpus.mkdir()
    (corpus / "good.prog").write_bytes(SEED.read_bytes())
    (corpus / "bad.prog").write_text("munmap(")
    (corpus / "worse.prog").write_bytes(b"\xff\x00")
    status, out, err = run("fuzz", "--runs", 700, "--corpus", corpus, cwd=tmp_path)
    assert status in (0, 1)
    assert err == ""
    assert out.count("skipped 2 of") == 1
    assert "bad.prog:1: not a call" in out
    assert (corpus / "bad.prog").exists()


@pytest.mark.parametrize("option", ["--corpus", "--state"])
def test_unusable_directory_is_status_3(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run("fuzz", "--runs", 10, option, "file", cwd=tmp_path)
    assert status == 3
    assert err.startswith("vmadiff: ")
    assert err.count("\n") == 1
    assert "file" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_directory_is_status_3(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0)
    status, _, err = run("fuzz", "--runs", 10, "--corpus", "dir", cwd=tmp_path)
    assert (status, err) == (3, "vmadiff: dir: no right to read and write there\n")


@pytest.mark.parametrize("kib", [8, 64])
def test_full_disk_is_one_line_and_status_3(kib: int, tmp_path: Path) -> None:
    """With a state directory this small, the record of running programs or the corpus does not fit."""
    state = tmp_path / "state"
    state.mkdir()
    mount = f'mount -t tmpfs -o size={kib}k none state && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", "true"], cwd=tmp_path, check=False
    )
    if probe.returncode != 0:
        pytest.skip("no right to mount a small file system")
    process = start(
        *("fuzz", "--runs", 5000, "--seed", 1, "--state", "state"),
        cwd=tmp_path,
        before=("unshare", "-m", "sh", "-c", mount, "sh"),
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, out + err
    assert err.startswith(f"vmadiff: {state}")
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert "Traceback" not in out
    assert "sequences/s" in out, "the summary is printed all the same"


def test_ctrl_c_finishes_writes_and_leaves_nothing(tmp_path: Path) -> None:
    process = start("fuzz", "--time", 0, "--json", "o", "--workers", 2, cwd=tmp_path)
    wait_until(lambda: len(family(process.pid)) >= 4)
    members = family(process.pid)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    data = json.loads((tmp_path / "o").read_text())
    assert process.returncode == (1 if data["divergences_new"] else 130), out + err
    assert err == ""
    assert data["interrupted"]
    assert data["sequences"] > 0
    assert "sequences" in out
    wait_until(lambda: all(is_gone(pid) for pid in members))
    assert leftovers(tmp_path / ".vmadiff") == []


def test_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    process = start("fuzz", "--time", 0, "--workers", 1, cwd=tmp_path)
    (worker,) = wait_until(lambda: workers_of(process.pid))
    wait_until(lambda: children_of(worker))
    os.kill(worker, signal.SIGSTOP)  # it will not react to the first
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode in (1, 130)
    assert is_gone(worker)


def test_killed_worker_is_replaced_and_loses_nothing(tmp_path: Path) -> None:
    process = start("fuzz", "--runs", 6000, "--workers", 1, "--json", "o", cwd=tmp_path)
    state = tmp_path / ".vmadiff"
    wait_until(lambda: state.exists() and leftovers(state))
    time.sleep(0.7)
    (worker,) = workers_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    data = json.loads((tmp_path / "o").read_text())
    assert process.returncode in (0, 1), out + err
    assert "died (signal 9); starting another" in out
    assert "programs that a worker was running when it died" in out
    assert data["worker_restarts"] == 1, out
    assert data["sequences"] >= 6000


def test_killed_session_leaves_no_process_and_its_programs_are_replayed(tmp_path: Path) -> None:
    process = start("fuzz", "--time", 0, cwd=tmp_path)
    state = tmp_path / ".vmadiff"
    wait_until(lambda: state.exists() and leftovers(state))
    members = family(process.pid)
    for worker in workers_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: all(is_gone(pid) for pid in members))
    assert leftovers(state)
    _, out, _ = run("fuzz", "--runs", 600, cwd=tmp_path)
    assert "programs that a worker was running when it died" in out
    assert leftovers(state) == []


def test_workers_end_with_their_session(tmp_path: Path) -> None:
    process = start("fuzz", "--time", 0, cwd=tmp_path)
    wait_until(lambda: len(family(process.pid)) >= 2)
    members = family(process.pid)
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: all(is_gone(pid) for pid in members))


def test_worker_that_cannot_live_ends_the_session(tmp_path: Path) -> None:
    process = start("fuzz", "--time", 0, cwd=tmp_path)

    def kill() -> bool:
        for worker in workers_of(process.pid):
            if not is_gone(worker):
                os.kill(worker, signal.SIGKILL)
        return process.poll() is not None

    wait_until(kill, 60)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 3, out
    assert "keeps dying (signal 9" in err


def test_terminal_shows_a_block(tmp_path: Path) -> None:
    outer, inner = pty.openpty()
    process = start("fuzz", "--runs", 4000, cwd=tmp_path, stdout=inner)
    os.close(inner)
    shown = b""
    while True:
        try:
            chunk = os.read(outer, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    process.communicate(timeout=60)
    assert b"coverage" in shown
    assert b"\x1b[" in shown
    assert b"remaining" in shown


def test_probe_names_the_kernel(tmp_path: Path) -> None:
    status, out, _ = run("probe", "--json", "o", cwd=tmp_path)
    data = json.loads((tmp_path / "o").read_text())
    assert status == 0
    assert data["kernel"] == os.uname().release
    assert data["kernel"] in out
    assert data["profile"]


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    process = start(
        "probe",
        cwd=tmp_path,
        env={
            "PATH": str(tmp_path / "bin"),
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "HOME": str(tmp_path),
        },
    )
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("ziglang is installed")
    assert process.returncode == 3
    assert err.count("\n") == 1
    assert "gcc" in err


ENUMERATE = ("enumerate", "--vmas", 2, "--pages", 2, "--kinds", "faulted,memfd shared")


def test_enumerate_compares_every_program_of_a_bound(tmp_path: Path) -> None:
    status, out, err = run(*ENUMERATE, "--workers", 2, "--json", "o", cwd=tmp_path)
    assert status == 0, out + err
    data = json.loads((tmp_path / "o").read_text())
    assert data["sequences"] == data["programs"] == data["next"] > 3000
    assert data["complete"] is True
    assert (data["divergences_new"], data["unmodelled"], data["left"]) == (0, 0, 0)
    assert f"all programs from 0 to {data['programs'] - 1:,} are compared" in out
    assert "ms each as tried on" in out
    status, out, _ = run("enumerate", "--resume", cwd=tmp_path)
    assert status == 0
    assert "\n0 left" in out


def test_killed_enumeration_is_resumed(tmp_path: Path) -> None:
    process = start(*ENUMERATE, "--workers", 2, cwd=tmp_path)
    state = tmp_path / ".vmadiff" / "enumerate.json"
    wait_until(lambda: state.exists() and json.loads(state.read_text())["next"] > 2000)
    members = family(process.pid)
    for worker in workers_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: all(is_gone(pid) for pid in members))
    status, out, err = run("enumerate", "--resume", "--json", "o", cwd=tmp_path)
    assert status == 0, out + err
    data = json.loads((tmp_path / "o").read_text())
    assert data["complete"] is True
    assert 0 < data["sequences"] < data["programs"]
    status, _, err = run("enumerate", "--resume", "--pages", 3, cwd=tmp_path)
    assert status == 2
    assert "--pages: what is to be resumed has another" in err


def test_enumeration_that_is_stopped_says_what_is_left(tmp_path: Path) -> None:
    status, out, _ = run("enumerate", "--from", 1000, "--time", 0.5, "--json", "o", cwd=tmp_path)
    data = json.loads((tmp_path / "o").read_text())
    assert status == 4
    assert data["first"] == 1000
    assert data["left"] == data["programs"] - data["next"] > 0
    assert f"--resume goes on with {data['next']:,}" in out
    assert (tmp_path / ".vmadiff" / "index.html").is_file()


def test_enumeration_finds_a_mistake(mistaken: Path, tmp_path: Path) -> None:
    (mistaken / "model" / "munmap.py").write_text((ROOT / "model" / "munmap.py").read_text())
    file = mistaken / "model" / "mremap.py"
    rule = "raise SyscallError(EFAULT)  # mm/mremap.c: remap_move(): the range begins with a gap"
    assert file.read_text().count(rule) == 1
    file.write_text(file.read_text().replace(rule, rule.replace("EFAULT", "ENOMEM")))
    status, out, _ = run(*ENUMERATE, cwd=tmp_path, root=mistaken)
    assert status == 1, out
    signature = "mremap[MAYMOVE,FIXED,same] result: model ENOMEM, kernel EFAULT"
    assert f"NEW divergence: {signature}" in out
    findings = (tmp_path / ".vmadiff" / "findings").iterdir()
    assert any(signature in (finding / "report.md").read_text() for finding in findings)


def test_a_numbered_program_can_be_shown_and_run(tmp_path: Path) -> None:
    status, out, _ = run(*ENUMERATE, "--show", 3000, cwd=tmp_path)
    assert status == 0
    assert out.splitlines()[-1].startswith("mremap(")
    (tmp_path / "p.prog").write_text(out)
    assert run("run", "p.prog", cwd=tmp_path)[0] == 0
