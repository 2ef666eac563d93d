"""The speeds that the project holds itself to, as ratios measured in one run on one processor.

    python bench/run.py [--seconds 15]

prints a table and writes bench/results.json. What the figures mean is in bench/README.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent))

from abi.calls import Program
from fuzz.encode import decode
from fuzz.probe import examine
from kernel_bridge import ExecutorConfig, KernelExecutor

#: Each measurement is made so often, in turn with the others; ratios are of medians.
ROUNDS = 3
CALLS = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="per measurement (default 8)")
    seconds = parser.parse_args().seconds
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    rates: dict[str, list[float]] = {"executor": [], "guided": [], "hypothesis": []}
    with tempfile.TemporaryDirectory(prefix="vmadiff-bench-") as name:
        directory = Path(name)
        with KernelExecutor(ExecutorConfig()) as executor:
            profile = examine(executor).profile
            (directory / "profile.json").write_text(
                json.dumps([profile.name, [change.name for change in profile.changes]])
            )
            for number in range(1, ROUNDS + 1):
                print(f"round {number} of {ROUNDS} ...", file=sys.stderr, flush=True)
                guided = _run("guided.py", str(seconds), str(cpu), name)
                rates["guided"].append(guided["calls"] / guided["seconds"] / CALLS)
                programs = _programs(directory / "programs", executor)
                _, calls, took = executor.rate(programs, seconds)
                rates["executor"].append(calls / took / CALLS)
                baseline = _run("hypothesis_baseline.py", str(seconds))
                rates["hypothesis"].append(baseline["steps"] / baseline["seconds"] / CALLS)
    _report(rates)


def _run(script: str, *arguments: str) -> dict[str, float]:
    """What a script of this directory measures, in a process of its own."""
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        raise SystemExit(
            f"{script} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}"
        )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _programs(path: Path, executor: KernelExecutor) -> list[Program]:
    data, programs = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "little")
        programs.append(decode(data[4 : 4 + size], executor.environment.geometry))
        data = data[4 + size :]
    return [program for program in programs if program]


def _report(rates: dict[str, list[float]]) -> None:
    median = {name: statistics.median(values) for name, values in rates.items()}
    results = {
        "guided_over_executor": median["guided"] / median["executor"],
        "guided_over_hypothesis": median["guided"] / median["hypothesis"],
        **{f"{name}_sequences_per_second": value for name, value in median.items()},
        "rounds": rates,
        "calls_per_sequence": CALLS,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    (ROOT / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"{'sequences of 8 calls, one processor':<48} {'per second':>10}  {'spread':>13}")
    for name, label in (
        ("executor", "bare executor, layouts read after every call"),
        ("guided", "vmadiff guided, everything compared"),
        ("hypothesis", "Hypothesis stateful with /proc/self/maps"),
    ):
        low, high = min(rates[name]), max(rates[name])
        print(f"{label:<48} {median[name]:>10,.0f}  {low:>6,.0f}-{high:<6,.0f}")
    print(f"guided / executor    {results['guided_over_executor']:.2f}   (to reach: 0.20)")
    print(f"guided / hypothesis  {results['guided_over_hypothesis']:.1f}   (to reach: 30)")


if __name__ == "__main__":
    main()
