"""The compiled model is the model: its tests pass, and it says the same of the same programs."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuzz import commands, compiled
from fuzz.reference import machines

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def directory() -> Path:
    """The compiled modules; they are kept, so that only the first run compiles."""
    try:
        return compiled.build()
    except compiled.CompileError as error:
        pytest.skip(f"nothing can be compiled here: {error}")


def python(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_tests_of_the_model_pass(directory: Path) -> None:
    told = python(
        "-c",
        "import sys; from pathlib import Path; from fuzz import compiled\n"
        f"compiled.use(Path({str(directory)!r}))\n"
        "import pytest; status = pytest.main(['-q', '-p', 'no:cacheprovider', 'tests/model'])\n"
        "import model.run, abi.calls; print(model.run.__file__, abi.calls.__file__)\n"
        "sys.exit(status)",
    )
    assert told.splitlines()[-1].count(f"{directory}/") == 2, told
    assert " passed" in told


def test_programs_and_their_traces_are_the_same(directory: Path) -> None:
    written = python("-m", "tests.made")
    assert python("-m", "tests.made", str(directory)) == written
    assert len(written.splitlines()) == len(machines())


def test_files_that_are_compiled_are_there() -> None:
    for file in compiled.sources():
        assert (ROOT / file).is_file(), file


def test_a_machine_that_cannot_compile_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    monkeypatch.setattr(compiled, "sources", lambda: ["abi/consts.py"])
    with pytest.raises(compiled.CompileError) as told:
        compiled.build()
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "vmadiff" / "build").glob("model-*"))


def test_without_it_what_is_written_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> Path:
        raise compiled.CompileError("no Python.h")

    monkeypatch.setattr(commands, "build_compiled", fails)
    assert commands._compiled() is None
    assert "as it is written, at half the speed: no Python.h\n" in capsys.readouterr().out


def test_headers_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(compiled.CompileError, match="install the package `python3-dev`"):
        compiled.build()


def test_two_that_need_it_compile_it_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    begun, go_on = threading.Event(), threading.Event()
    runs = []

    def run(command: list[str], scratch: Path) -> None:
        runs.append(command)
        begun.set()
        assert go_on.wait(30)
        (scratch / "lib").mkdir()

    monkeypatch.setattr(compiled, "_run", run)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(compiled.build)
        assert begun.wait(30)
        second = pool.submit(compiled.build)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        go_on.set()
        assert first.result(30) == second.result(30)
    assert len(runs) == 1
