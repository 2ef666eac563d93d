"""Building: where the binary goes, and one clear line when there is none to be had."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from abi import header
from kernel_bridge import build
from kernel_bridge.build import BuildError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build._build.cache_clear()
    yield tmp_path / "vmadiff"
    build._build.cache_clear()


def test_the_header_is_fresh() -> None:
    assert header.main(["--check"]) == 0
    assert header.main(["--wrong"]) == 2


def test_it_is_built_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build.build()
    assert path.parent == cache / "build"
    assert os.access(path, os.X_OK)
    made = path.stat().st_mtime_ns
    build._build.cache_clear()
    assert build.build() == path
    assert path.stat().st_mtime_ns == made
    assert os.listdir(cache / "build") == [path.name]


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(build, "which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BuildError) as caught:
        build.build()
    assert str(caught.value) == f"no C compiler found: {build.ADVICE}"


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_a_broken_compiler(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(BuildError) as caught:
        build.build()
    assert compiler in str(caught.value)
    assert "pip install ziglang" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compile_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DABI_GEN_H"))
    with pytest.raises(BuildError) as caught:
        build.build()
    assert "error" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_home_a_temporary_directory_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert build.build().parent.parent == tmp_path / f"vmadiff-{os.getuid()}"


def test_an_unwritable_cache_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocker))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.writable_directory("build") == tmp_path / ".cache" / "vmadiff" / "build"


def test_no_directory_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(blocker))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocker))
    with pytest.raises(BuildError, match="set XDG_CACHE_HOME") as caught:
        build.build()
    assert "\n" not in str(caught.value)


def test_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kernel_bridge"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert Path(done.stdout.strip()).name.startswith("executor-")
