"""The speeds that the project holds itself to, as ratios measured in one run.

    python bench/run.py [--seconds 8]
    python bench/run.py --memory SECONDS       only: does the memory of a worker grow?

prints a table and puts the figures into bench/results.json. What they mean is in bench/README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent))

from bench.results import merge, note_load
from bench.worker import MODES
from fuzz.probe import examine
from kernel_bridge import ExecutorConfig, KernelExecutor

#: Each measurement is made so often, in turn with the others.
ROUNDS: Final = 3
CALLS: Final = 8
#: The command whose workers are counted, on one processor and on two.
SESSION: Final = ("soak", "--unseeded")
#: How much longer a session is measured than the rest: its start is part of it.
SESSION_SHARE: Final = 2
#: How often memory is looked at in a long run.
SAMPLES: Final = 60
TO_REACH: Final = {
    "guided_over_executor": 0.35,
    "soak_over_executor": 0.60,
    "two_cores_over_one": 1.8,
    "guided_over_hypothesis": 30,
}
MOST_MIB: Final = 250


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="per measurement (default 8)")
    parser.add_argument("--memory", type=float, metavar="SECONDS", help="per mode; 3600: an hour")
    options = parser.parse_args()
    note_load()
    with tempfile.TemporaryDirectory(prefix="vmadiff-bench-") as name:
        directory = Path(name)
        write_profile(directory)
        if options.memory:
            _watch_memory(directory, options.memory)
        else:
            _measure(directory, options.seconds)


def write_profile(directory: Path) -> None:
    """Leave in `directory` what workers are told of the running kernel."""
    with KernelExecutor(ExecutorConfig()) as executor:
        profile = examine(executor).profile
    text = json.dumps([profile.name, sorted(change.name for change in profile.changes)])
    (directory / "profile.json").write_text(text)


def run(script: str, *arguments: str, cpus: Sequence[int], timeout: float) -> dict[str, Any]:
    """What a script of this directory measures, in a process of its own that stays on these processors.

    Raises:
        RuntimeError: it failed, or did not end within `timeout` seconds.
    """
    command = [sys.executable, str(ROOT / script), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{script} did not end within {timeout:g} s") from None
    if done.returncode or not done.stdout:
        raise RuntimeError(
            f"{script} failed with exit status {done.returncode}:\n{done.stderr[-2000:]}"
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(directory: Path, seconds: float) -> None:
    usable = sorted(os.sched_getaffinity(0))
    cpu = usable[-1:]
    rates: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    for number in range(1, ROUNDS + 1):
        print(f"round {number} of {ROUNDS} ...", file=sys.stderr, flush=True)
        for mode in MODES:
            place = directory / f"{mode}-{number}"
            place.mkdir()
            (place / "profile.json").write_bytes((directory / "profile.json").read_bytes())
            done = run(
                *("worker.py", mode, str(seconds), str(place), "--cpu", str(cpu[0])),
                *("--bare", str(seconds)),
                cpus=cpu,
                timeout=seconds * 4 + 120,
            )
            if done["left_out"] > done["kept"] // 2:
                raise RuntimeError("the executor could not repeat half of the programs")
            rate = done["calls"] / done["seconds"] / CALLS
            bare = done["bare_calls"] / done["bare_seconds"] / CALLS
            rates.setdefault(mode, []).append(rate)
            rates.setdefault(f"{mode}_executor", []).append(bare)
            ours = done["cpu_seconds"] / done["calls"]
            used.setdefault(mode, []).append(done["bare_cpu_seconds"] / done["bare_calls"] / ours)
            peaks.setdefault(mode, []).append(done["peak_rss_mib"])
        done = run("hypothesis_baseline.py", str(seconds), cpus=cpu, timeout=seconds * 4 + 60)
        if done["found"]:
            raise RuntimeError("Hypothesis found a difference, which is a bug of the baseline")
        rates.setdefault("hypothesis", []).append(done["calls"] / done["seconds"] / CALLS)
        if len(usable) > 1:
            for workers in (1, 2):
                rate = _session(workers, usable[-workers:], seconds * SESSION_SHARE, directory)
                rates.setdefault(f"sessions_of_{workers}", []).append(rate)
    _report(rates, used, peaks)


def _session(workers: int, cpus: Sequence[int], seconds: float, directory: Path) -> float:
    """Sequences of `CALLS` calls per second in a whole session, its start included."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        summary = Path(name) / "summary.json"
        command = [
            *(sys.executable, "-c", "import sys; from fuzz.cli import main; sys.exit(main())"),
            *SESSION,
            *("--workers", str(workers), "--time", str(seconds), "--json", str(summary)),
            *("--state", f"{name}/state"),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        )
        if done.returncode:
            raise RuntimeError(
                f"vmadiff {SESSION[0]} ended with exit status {done.returncode}:\n"
                f"{done.stdout[-1000:]}{done.stderr[-1000:]}"
            )
        data = json.loads(summary.read_text())
    return float(data["calls"] / data["seconds"] / CALLS)


def _report(
    rates: dict[str, list[float]], used: dict[str, list[float]], peaks: dict[str, list[float]]
) -> None:
    median = {name: statistics.median(values) for name, values in rates.items()}
    results: dict[str, Any] = {
        f"{mode}_over_executor": _ratio(rates[mode], rates[f"{mode}_executor"]) for mode in MODES
    }
    by_cpu = {
        f"{mode}_over_executor_by_cpu_time": statistics.median(shares)
        for mode, shares in used.items()
    }
    results["guided_over_hypothesis"] = median["guided"] / median["hypothesis"]
    if "sessions_of_2" in rates:
        results["two_cores_over_one"] = _ratio(rates["sessions_of_2"], rates["sessions_of_1"])
    results["peak_rss_mib_per_worker"] = max(max(values) for values in peaks.values())
    print(f"{'sequences of 8 calls':<58} {'per second':>10}  {'spread':>13}")
    for name, label in _LABELS.items():
        if name in rates:
            low, high = min(rates[name]), max(rates[name])
            print(f"{label:<58} {median[name]:>10,.0f}  {low:>6,.0f}-{high:<6,.0f}")
    for name, least in TO_REACH.items():
        if name in results:
            print(f"{name:<58} {results[name]:>10.2f}  (to reach: {least:g})")
        else:
            print(f"{name:<58} not measured: it takes two processors")
    for name, value in by_cpu.items():
        print(f"{name:<58} {value:>10.2f}")
    most = results["peak_rss_mib_per_worker"]
    print(f"{'peak_rss_mib_per_worker':<58} {most:>10.0f}  (less than {MOST_MIB})")
    merge(
        "run.py",
        {
            **results,
            **by_cpu,
            **{f"{name}_sequences_per_second": value for name, value in median.items()},
            "peak_rss_mib": {mode: max(values) for mode, values in peaks.items()},
            "rounds": rates,
            "calls_per_sequence": CALLS,
        },
    )


_LABELS: Final = {
    "guided": "vmadiff guided, everything compared",
    "guided_executor": "  the bare executor on its programs",
    "soak": "vmadiff soak, everything compared",
    "soak_executor": "  the bare executor on its programs",
    "hypothesis": "Hypothesis stateful with /proc/self/maps",
    "sessions_of_1": f"vmadiff {SESSION[0]}, one worker on one processor",
    "sessions_of_2": f"vmadiff {SESSION[0]}, two workers on two",
}


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios: what was measured one after the other is divided."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _watch_memory(directory: Path, seconds: float) -> None:
    cpu = sorted(os.sched_getaffinity(0))[-1:]
    memory = {}
    for mode in MODES:
        place = directory / mode
        place.mkdir()
        (place / "profile.json").write_bytes((directory / "profile.json").read_bytes())
        done = run(
            *("worker.py", mode, str(seconds), str(place), "--cpu", str(cpu[0])),
            *("--every", str(seconds / SAMPLES)),
            cpus=cpu,
            timeout=seconds + 120,
        )
        rss = done["rss_mib"]
        memory[mode] = {
            "seconds": seconds,
            "calls": done["calls"],
            "first_mib": rss[0],
            "last_mib": rss[-1],
            "max_mib": max(rss),
            "samples_mib": rss,
        }
        print(
            f"{mode}: {seconds:g} s, {done['calls']:,} calls, {len(rss)} samples of resident memory:"
            f" first {rss[0]:.1f} MiB, last {rss[-1]:.1f}, most {max(rss):.1f}",
            flush=True,
        )
    merge("run.py --memory", {"memory": memory})


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        raise SystemExit(f"error: {error}") from None
