"""The proof's own proof: real mistakes are found, harmless ones are missed, and both are said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.selftest import Result

ROOT = Path(__file__).parent.parent.parent
#: One mistake that shows itself soon, one that changes nothing, one that never ends, one that fails.
MISTAKES = '''
MISTAKES = (
    Mistake("soon", "model/munmap.py", "from errno import EINVAL", "from errno import EBADF as EINVAL", "-"),
    Mistake("never", "model/errors.py", '"""How a', '"""Now a', "no rule"),
    Mistake("fails", "model/munmap.py", "from errno import EINVAL", "EINVAL = {}", "-"),
    Mistake("absent", "model/errors.py", "not in there", "", "-"),
)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project with mistakes of our own."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("abi", "cachedir", "fuzz", "kernel_bridge", "kernels", "model", "corpus"):
        subprocess.run(["cp", "-r", ROOT / name, root / name], check=True)
    with (root / "fuzz" / "mistakes.py").open("a") as file:
        file.write(MISTAKES)
    return root


def selftest(project: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fuzz.cli", "selftest", *arguments],
        cwd=project.parent,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_found_and_missed(project: Path) -> None:
    status, out, err = selftest(
        project, "--only", "soon", "never", "fails", "--sequences", "1500", "--json", "o"
    )
    assert (status, err) == (1, ""), out
    data = json.loads((project.parent / "o").read_text())
    assert (data["planted"], data["found"], data["missed"]) == (3, 1, ["never", "fails"])
    results = {result["name"]: result for result in data["results"]}
    assert results["soon"]["sequences"] < 1500
    assert "EBADF, kernel EINVAL" in results["soon"]["signature"]
    assert results["never"]["sequences"] == 1500
    assert "breaks the model instead: the model failed" in results["fails"]["problem"]
    assert "MISSED never" in out
    assert "planted 3, found 1, missed 2" in out


def test_all_found_is_status_0(project: Path) -> None:
    status, out, _ = selftest(project, "--only", "soon", "--sequences", "1500", "--seed", "4")
    assert status == 0, out


def test_mistake_that_does_not_fit_is_named(project: Path) -> None:
    status, _, err = selftest(project, "--only", "absent")
    assert status == 2
    assert err.startswith("vmadiff: mistake absent: model/errors.py: 'not in there' occurs 0 times")
    assert err.count("\n") == 1


def test_list(project: Path) -> None:
    status, out, _ = selftest(project, "--list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["soon", "never", "fails", "absent"]


def test_result_that_the_model_without_the_mistake_has_too_is_none() -> None:
    result = Result("a", "rule", problem="without the mistake as well: munmap layout: perms")
    assert result.line().startswith("MISSED a ")
    assert "without the mistake" in result.line()
