"""The benchmarks: what other tools print is read rightly, what is measured is merged, baselines have no false finds."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench import others, peers, results
from fuzz.mistakes import MISTAKES

ROOT = Path(__file__).parent.parent

TRINITY = """\
[main] 32-bit syscalls: 0 enabled, 424 disabled.  64-bit syscalls: 5 enabled, 446 disabled.
munmap: (attempted:35593. success:34067. failures:1526.
    Invalid argument: 1526
mremap: (attempted:36115. success:1666. failures:34449.
    Bad address: 13287
"""
STRESS_NG = """\
stress-ng: info:  [6439] dispatching hogs: 1 mremap
stress-ng: metrc: [6439] stressor       bogo ops real time  usr time  sys time   bogo ops/s     bogo ops/s
stress-ng: metrc: [6439]                           (secs)    (secs)    (secs)   (real time) (usr+sys time)
stress-ng: metrc: [6439] mremap               20      3.01      0.01      2.83         6.65           7.06
stress-ng: metrc: [6439] miscellaneous metrics:
stress-ng: metrc: [6439] mremap            398267.35 nanosecs per mremap call (geometic mean of 1 instances)
stress-ng: info:  [6439] successful run completed in 3.01s
"""
STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 66.74    5.658208     1414552         4         2 wait4
 20.56    1.742927        2211       788           mmap
  5.18    0.439304         353      1244        40 mremap
------ ----------- ----------- --------- --------- ----------------
100.00    7.840439        2000      2036        42 total
"""


def test_what_trinity_prints() -> None:
    counts = others.parse_trinity(TRINITY)
    assert counts == {"munmap": (35593, 34067), "mremap": (36115, 1666)}


def test_what_stress_ng_prints() -> None:
    assert others.parse_stress_ng(STRESS_NG) == {"mremap": (20, 3.01)}


def test_what_strace_counts() -> None:
    assert others.parse_strace(STRACE) == {"wait4": 4, "mmap": 788, "mremap": 1244}


@pytest.mark.parametrize("tool", ["trinity", "stress-ng"])
def test_a_tool_that_is_not_installed_is_named(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    rate = others.trinity(1) if tool == "trinity" else others.stress_ng(1)
    assert rate.calls is None
    assert rate.remark == f"not installed: apt-get install {tool}"


def test_results_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.merge("run.py", {"soak_over_executor": 0.5, "rounds": {"soak": [1.0]}}, path)
    results.merge("guest.py", {"guest_over_bare_guest": 0.9}, path)
    results.merge("run.py", {"soak_over_executor": 0.6, "rounds": {"soak": [2.0]}}, path)
    merged = json.loads(path.read_text())
    assert merged["soak_over_executor"] == 0.6
    assert merged["rounds"] == {"soak": [2.0]}
    assert merged["guest_over_bare_guest"] == 0.9
    assert set(merged["measured"]) == {"run.py", "guest.py"}


def test_planted_mistakes_are_from_all_of_the_list() -> None:
    names = peers.sample(20)
    places = [i for i, mistake in enumerate(MISTAKES) if mistake.name in names]
    assert len(places) == 20
    steps = {later - earlier for earlier, later in pairwise(places)}
    assert steps <= {len(MISTAKES) // 20, len(MISTAKES) // 20 + 1}
    assert places[0] == 0


def test_the_table_says_what_was_not_measured() -> None:
    measured: dict[str, Any] = {
        "calls_per_second": 24567.8,
        "checks": "result",
        "counted": "calls compared",
    }
    missing: dict[str, Any] = {
        "calls_per_second": None,
        "checks": "nothing",
        "counted": "not installed: x",
    }
    rows = {
        "ours": {**measured, "planted": 20, "found": 19},
        "blind": measured,
        "missing": missing,
    }
    assert peers.table(rows, 10)[2:] == [
        "| ours | 24,568 | result | 19 of 20 |",
        f"| blind | 24,568 | result | {peers.NO_ORACLE} |",
        "| missing | not installed: x | nothing | not asked |",
    ]


@pytest.mark.parametrize("script", ["hypothesis_baseline.py", "naive_atheris.py"])
@pytest.mark.parametrize("mistake", ["", "munmap-of-nothing-fails"])
def test_baselines_find_what_is_planted_and_nothing_else(script: str, mistake: str) -> None:
    if script == "naive_atheris.py":
        pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), "60" if mistake else "1", mistake],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["sequences"] > 0
    assert said["found"] == bool(mistake)


def test_a_foreign_tool_that_fails_is_a_row_and_one_of_ours_an_error(tmp_path: Path) -> None:
    def fail(bench: peers.Bench, number: int) -> others.Rate:
        raise RuntimeError("it crashed\nand said much")

    bench = peers.Bench(tmp_path, (0,), 1.0, 1.0)
    foreign = peers.Peer("foreign", "nothing", fail)
    assert peers._try(foreign, bench, 1) == others.Rate(None, 0.0, "failed: it crashed")
    ours = peers.Peer("ours", "result", fail, lambda bench, mistake: False)
    with pytest.raises(RuntimeError, match="it crashed"):
        peers._try(ours, bench, 1)


def test_what_finds_without_a_mistake_is_no_oracle(tmp_path: Path) -> None:
    bench = peers.Bench(tmp_path, (0,), 1.0, 1.0)
    asked: list[str] = []

    def find(bench: peers.Bench, mistake: str) -> bool:
        asked.append(mistake)
        return mistake != "b"

    peer = peers.Peer("eager", "result", lambda bench, number: others.Rate(1, 1.0, ""), find)
    with pytest.raises(RuntimeError, match="though no mistake is planted"):
        peers._finds(peer, find, bench, ["a", "b"])
    honest = peers._finds(peer, lambda bench, mistake: mistake == "a", bench, ["a", "b"])
    assert (honest["found"], honest["missed"]) == (1, ["b"])
    assert asked == [""]
