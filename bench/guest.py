"""What the way to a guest costs: programs sent in batches, against the same executor repeating them by itself.

    python bench/guest.py [--seconds 8] [KERNEL ...]

KERNEL is a target as for `vmadiff --target`; without one, the guests of the cache that are at hand. Neither side makes
or compares anything here: programs are made beforehand, and traces are only received.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import kernels
from abi.calls import Program
from fuzz.generate import generate
from fuzz.probe import examine
from fuzz.targets import Target
from kernel_bridge import KernelExecutor
from model.errors import Unmodelled
from model.run import Model

ROUNDS = 3
CALLS = 8
#: So many that one batch has room for all traces.
PROGRAMS = 256
TO_REACH = 0.7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="per measurement (default 8)")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    options = parser.parse_args()
    names = options.kernels or [k.name for k in kernels.installed() if k.arch == "x86"]
    if not names:
        print("no guest was measured: `vmadiff kernels fetch 7.3.4` gets one")
    for name in names:
        with Target(name) as target, target.start(user=False) as executor:
            where = target.describe()
            bare, served = _measure(executor, _programs(executor), target.batch, options.seconds)
        ratio = statistics.median(served) / statistics.median(bare)
        print(
            f"{name} ({where}), sequences of {CALLS} calls per second:"
            f" by itself {statistics.median(bare):,.0f}, served {statistics.median(served):,.0f},"
            f" ratio {ratio:.2f} (to reach: {TO_REACH})",
            flush=True,
        )


def _programs(executor: KernelExecutor) -> list[Program]:
    """Fresh programs, all of the model's domain."""
    environment = executor.environment
    model, rng = Model(environment, examine(executor).profile), Random(1)
    programs: list[Program] = []
    while len(programs) < PROGRAMS:
        try:
            programs.append(
                generate(rng, model.start(), environment.geometry, environment.objects, CALLS)
            )
        except Unmodelled:
            continue
    return programs


def _measure(
    executor: KernelExecutor, programs: list[Program], batch: int, seconds: float
) -> tuple[list[float], list[float]]:
    bare, served = [], []
    batches = [programs[at : at + batch] for at in range(0, len(programs), batch)]
    for _ in range(ROUNDS):
        _, calls, took = executor.rate(programs, seconds)
        bare.append(calls / took / CALLS)
        calls, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            for each in batches:
                executor.run(each)
                calls += sum(map(len, each))
        served.append(calls / (time.perf_counter() - begun) / CALLS)
    return bare, served


if __name__ == "__main__":
    main()
