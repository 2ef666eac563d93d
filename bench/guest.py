"""What comparing on a guest costs: a whole worker, against its executor repeating the same programs by itself there.

    python bench/guest.py [--seconds 10] [KERNEL ...]

KERNEL is a target as for `vmadiff --target`; without one, the newest of the known kernels and of the known
User-Mode-Linuxes that are in the cache. The guest has one processor, and the worker, with generator, model and
comparison, another.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import kernels
from bench.results import merge, note_load
from bench.run import CALLS, run
from fuzz.probe import examine
from fuzz.targets import Target
from kernels.registry import KNOWN, KNOWN_UML

#: Boots of each guest.
ROUNDS: Final = 3
MODE: Final = "soak"
#: Seconds in which nearly all of the known divergences are met, confirmed and made smaller, once each.
WARM_UP: Final = 30.0
TO_REACH: Final = 0.85
#: Where the rate of a kind of guest goes, by what its machine's name has in it.
KINDS: Final = {
    "(TCG)": "tcg_sequences_per_second",
    "User-Mode-Linux": "uml_sequences_per_second",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement (default 10)")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    options = parser.parse_args()
    names = options.kernels or _newest()
    if not names:
        print("no guest was measured: `vmadiff kernels fetch 7.3.4 uml-7.2` gets two")
        return
    note_load()
    guests = {name: _measure(name, options.seconds) for name in names}
    results: dict[str, Any] = {
        "guests": guests,
        "guest_over_bare_guest": min(guest["ratio"] for guest in guests.values()),
    }
    for kind, key in KINDS.items():
        rates = [g["sequences_per_second"] for g in guests.values() if kind in g["machine"]]
        if rates:
            results[key] = max(rates)
        else:
            print(f"no {key}: no such guest was measured")
    merge("guest.py", results)


def _newest() -> list[str]:
    installed = {kernel.name for kernel in kernels.installed()}
    newest = []
    for known in (KNOWN, KNOWN_UML):
        newest += [each.name for each in known if each.name in installed][-1:]
    return newest


def _measure(name: str, seconds: float) -> dict[str, Any]:
    rates, bare = [], []
    with tempfile.TemporaryDirectory(prefix="vmadiff-bench-") as place:
        with Target(name) as target, target.start(user=False) as executor:
            profile = examine(executor).profile
            machine = target.describe()
        text = json.dumps([profile.name, sorted(change.name for change in profile.changes)])
        for number in range(ROUNDS):
            directory = Path(place) / str(number)
            directory.mkdir()
            (directory / "profile.json").write_text(text)
            done = run(
                *("worker.py", MODE, str(seconds), str(directory), "--target", name),
                *("--bare", str(seconds), "--warm-up", str(WARM_UP)),
                cpus=sorted(os.sched_getaffinity(0)),
                timeout=(seconds + WARM_UP) * 10 + 300,
            )
            if done["left_out"] > done["kept"] // 2:
                raise RuntimeError("the executor could not repeat half of the programs")
            rates.append(done["calls"] / done["seconds"] / CALLS)
            bare.append(done["bare_calls"] / done["bare_seconds"] / CALLS)
    ratio = statistics.median(one / other for one, other in zip(rates, bare, strict=True))
    print(
        f"{name} ({machine}), sequences of {CALLS} calls per second:"
        f" compared {statistics.median(rates):,.0f}, by itself {statistics.median(bare):,.0f},"
        f" ratio {ratio:.2f} ({min(rates):,.0f}-{max(rates):,.0f}; to reach: {TO_REACH})",
        flush=True,
    )
    return {
        "machine": machine,
        "sequences_per_second": statistics.median(rates),
        "bare_sequences_per_second": statistics.median(bare),
        "ratio": ratio,
        "rounds": {"compared": rates, "bare": bare},
    }


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        raise SystemExit(f"error: {error}") from None
