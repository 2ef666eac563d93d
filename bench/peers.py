"""vmadiff beside what else there is, in one run on one processor: calls per second, and planted mistakes found.

    python bench/peers.py [--seconds 8] [--find SECONDS] [--mistakes N]

prints a table and puts it into bench/results.json. What is counted is in bench/README.md.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent))

from bench.others import Rate, stress_ng, trinity
from bench.results import merge, note_load
from bench.run import run, write_profile
from fuzz.harness import load_engine
from fuzz.mistakes import MISTAKES

#: Each rate is measured so often, in turn with the others.
ROUNDS: Final = 3
#: A mistake may make the model loop: seconds after which that is no find.
PATIENCE: Final = 30.0
NO_ORACLE: Final = "no oracle: crashes only"

Measure = Callable[["Bench", int], Rate]


@dataclass(frozen=True)
class Bench:
    """Where and how long. directory: holds the profile; seconds: for a rate; find: for a mistake."""

    directory: Path
    cpus: Sequence[int]
    seconds: float
    find: float

    def place(self) -> str:
        """A directory of its own for a worker."""
        place = tempfile.mkdtemp(dir=self.directory)
        (Path(place) / "profile.json").write_bytes((self.directory / "profile.json").read_bytes())
        return place

    def run(self, *arguments: str, seconds: float) -> dict[str, Any]:
        """A script of this directory."""
        return run(*arguments, cpus=self.cpus, timeout=seconds * 2 + PATIENCE)


@dataclass(frozen=True)
class Peer:
    """A row of the table. checks: what is compared after each call; find: whether it finds a mistake, None where it has
    nothing to find it with."""

    name: str
    checks: str
    measure: Measure
    find: Callable[[Bench, str], bool] | None = None


def vmadiff(mode: str, checks: str) -> Peer:
    """Our own, as in a campaign."""

    def measure(bench: Bench, number: int) -> Rate:
        cpu = str(bench.cpus[0])
        arguments = ("worker.py", mode, str(bench.seconds), bench.place(), "--cpu", cpu)
        done = bench.run(*arguments, seconds=bench.seconds + PATIENCE)
        return Rate(done["calls"], done["seconds"], "calls compared, warm-up apart")

    def find(bench: Bench, mistake: str) -> bool:
        arguments = ("find.py", mode, str(bench.find), bench.place(), mistake)
        return bool(bench.run(*arguments, seconds=bench.find)["found"])

    return Peer(f"vmadiff {mode}", checks, measure, find)


def scripted(name: str, script: str, checks: str) -> Peer:
    """A fuzzer in Python that has the model as its oracle."""

    def measure(bench: Bench, number: int) -> Rate:
        if script == "naive_atheris.py" and load_engine() is None:
            return Rate(None, 0.0, "not installed: pip install atheris (x86_64 only)")
        done = bench.run(script, str(bench.seconds), seconds=bench.seconds)
        if done["found"]:
            raise RuntimeError(f"{script} found a difference, which is a bug of it")
        return Rate(done["calls"], done["seconds"], "calls compared")

    def find(bench: Bench, mistake: str) -> bool:
        return bool(bench.run(script, str(bench.find), mistake, seconds=bench.find)["found"])

    return Peer(name, checks, measure, find)


PEERS: Final = (
    vmadiff("guided", "result, layout of all, contents, counters"),
    vmadiff("soak", "result, layout of all, contents, counters"),
    scripted("Hypothesis stateful", "hypothesis_baseline.py", "result, layout of 64 pages"),
    scripted("naive Atheris", "naive_atheris.py", "result, layout of 64 pages"),
    Peer("trinity", "nothing", lambda bench, number: trinity(number)),
    Peer("stress-ng", "nothing", lambda bench, number: stress_ng(bench.seconds)),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="per rate (default 8)")
    parser.add_argument("--find", type=float, default=10.0, help="per mistake (default 10)")
    parser.add_argument("--mistakes", type=int, default=20, help="planted, of all (default 20)")
    options = parser.parse_args()
    note_load()
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    # What is not run by `run` stays there, too.
    os.sched_setaffinity(0, cpus)
    with tempfile.TemporaryDirectory(prefix="vmadiff-bench-") as name:
        bench = Bench(Path(name), cpus, options.seconds, options.find)
        write_profile(bench.directory)
        rows = _rates(bench)
        planted = sample(options.mistakes)
        for peer in PEERS:
            if peer.find is not None and rows[peer.name]["calls_per_second"] is not None:
                rows[peer.name] |= _finds(peer, peer.find, bench, planted)
    for line in table(rows, options.find):
        print(line)
    merge("peers.py", {"peers": {"seconds_per_mistake": options.find, "rows": rows}})


def sample(count: int) -> list[str]:
    """So many of the planted mistakes: every so many-th, in the order of the list, from the first on."""
    return [MISTAKES[place * len(MISTAKES) // count].name for place in range(count)]


def _rates(bench: Bench) -> dict[str, dict[str, Any]]:
    rounds: dict[str, list[Rate]] = {peer.name: [] for peer in PEERS}
    for number in range(1, ROUNDS + 1):
        print(f"rates, round {number} of {ROUNDS} ...", file=sys.stderr, flush=True)
        for peer in PEERS:
            rounds[peer.name].append(_try(peer, bench, number))
    rows = {}
    for peer in PEERS:
        measured = [rate for rate in rounds[peer.name] if rate.calls is not None]
        rates = [rate.calls / rate.seconds for rate in measured if rate.calls is not None]
        last = (measured or rounds[peer.name])[-1]
        rows[peer.name] = {
            "calls_per_second": statistics.median(rates) if rates else None,
            "rounds": rates,
            "counted": last.remark,
            "detail": last.detail,
            "checks": peer.checks,
        }
    return rows


def _try(peer: Peer, bench: Bench, number: int) -> Rate:
    """A rate of a peer. That somebody else's tool fails is said in its row.

    Raises:
        RuntimeError: one of ours failed.
    """
    try:
        return peer.measure(bench, number)
    except RuntimeError as error:
        if peer.find is not None:
            raise
        print(f"  {error}", file=sys.stderr, flush=True)
        return Rate(None, 0.0, "failed: " + str(error).splitlines()[0])


def _finds(
    peer: Peer, find: Callable[[Bench, str], bool], bench: Bench, planted: Sequence[str]
) -> dict[str, Any]:
    """Which of the planted mistakes it finds.

    Raises:
        RuntimeError: it finds something where nothing is planted.
    """
    print(f"mistakes, {peer.name} ...", file=sys.stderr, flush=True)
    if find(bench, ""):
        raise RuntimeError(f"{peer.name} finds something though no mistake is planted")
    found, failed = [], {}
    for mistake in planted:
        try:
            if find(bench, mistake):
                found.append(mistake)
        except RuntimeError as error:
            failed[mistake] = str(error).splitlines()[0]
            print(f"  {mistake}: {failed[mistake]}", file=sys.stderr, flush=True)
    missed = [mistake for mistake in planted if mistake not in found]
    return {"planted": len(planted), "found": len(found), "missed": missed, "failed": failed}


def table(rows: dict[str, dict[str, Any]], seconds: float) -> list[str]:
    """The rows as Markdown."""
    lines = [
        f"| | calls per second | compared after each | planted mistakes found, {seconds:g} s each |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        rate = row["calls_per_second"]
        speed = row["counted"] if rate is None else f"{rate:,.0f}"
        found = f"{row['found']} of {row['planted']}" if "found" in row else NO_ORACLE
        if rate is None:
            found = "not asked"
        lines.append(f"| {name} | {speed} | {row['checks']} | {found} |")
    return lines


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        raise SystemExit(f"error: {error}") from None
