"""What each kind of guidance brings: planted mistakes searched for with and without it, from an empty corpus.

    python bench/ablation.py [--target KERNEL] [--arms ARM ...] [--only MISTAKE ...] [--seeds 5] [--sequences 20000]
    python bench/ablation.py --patches NAME ... [--arms ARM ...] [--seeds 5] [--time 120]

The second searches for wrong patches of bench/mutants/ (no more than eight: so many pairs of kernels are kept). Every
arm searches for every mistake or patch with every seed; of what is not found within `--sequences` or `--time`, the
sequences that were run count. The arms take turns, so that a busy machine is as busy for one as for the other. Prints a
table and writes bench/ablation.json, where the results of other kernels and mistakes stay. What the arms are is in
bench/README.md.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.mutants.run import TREE, Mutant, Row, attempt, mutants
from fuzz.display import Screen
from fuzz.mistakes import MISTAKES, Mistake
from fuzz.probe import examine
from fuzz.selftest import Result, selftest
from fuzz.storage import write_atomically
from fuzz.targets import LOCAL, Target

RESULTS = HERE / "ablation.json"
#: Guided by Atheris or not, and by blocks of the kernel or not: of a patch, by those that it changes.
ARMS = {"none": (False, False), "model": (True, False), "blocks": (True, True)}
#: The ten that took most sequences of 132 in one run of `vmadiff selftest`, without those that need huge pages.
HARD = (
    "length-before-descriptor",
    "zero-length-of-read-only-share",
    "topdown-ignores-guard-gap",
    "changed-between-two-anon-vmas-joins-none",
    "guard-gap-a-page-short",
    "dontunmap-unfaults-part",
    "shared-validate-ignores-unknown",
    "upward-merge-forgets-anon-vma",
    "file-end-a-page-early",
    "downward-merge-forgets-anon-vma",
)
FIRST_SEED = 11
#: Seconds in which both kernels of a patch are built and named.
NAMING = 1.0
#: How often seeds are drawn anew to see what a ratio is worth.
REDRAWN = 2000


def search(
    arm: str, seed: int, mistakes: Sequence[Mistake], target: str, sequences: int
) -> list[dict[str, Any]]:
    """One arm, all mistakes; a row each."""
    with Target(target, watch=False) as site, site.start(user=True) as executor:
        profile = examine(executor).profile
    guided, blocks = ARMS[arm]
    with tempfile.TemporaryDirectory(prefix="vmadiff-ablation-") as name:
        state = Path(name)
        found = selftest(
            mistakes,
            profile.name,
            tuple(sorted(change.name for change in profile.changes)),
            state,
            Screen(sys.stderr, None),
            sequences,
            seed,
            len(os.sched_getaffinity(0)),
            guided,
            user=True,
            target=target,
            blocks=blocks,
        )
        return [
            _row(target, arm, seed, each, _seconds(state / str(number), each.seconds), each.found)
            for number, each in enumerate(found)
        ]


def search_patches(
    arm: str,
    seed: int,
    patches: Sequence[Mutant],
    seconds: float,
    kernels: dict[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    """The same for patches, whose kernels have been built."""
    guided, blocks = ARMS[arm]
    rows = []
    for patch in patches:
        with tempfile.TemporaryDirectory(prefix="vmadiff-ablation-") as name:
            images = None if blocks else kernels[patch.name]
            row = attempt(patch, seconds, seed, Path(name), guided=guided, images=images)
        if not row.sequences:
            sys.exit(f"{patch.name}: {row.problem or 'no program ran'}")
        rows.append(_row(TREE, arm, seed, row, row.seconds, row.is_found))
    return rows


def _row(
    target: str, arm: str, seed: int, of: Result | Row, seconds: float, found: bool
) -> dict[str, Any]:
    return {
        "target": target,
        "arm": arm,
        "seed": seed,
        "mistake": of.name,
        "found": found,
        "sequences": of.sequences,
        "seconds": seconds,
        "problem": of.problem,
    }


def _seconds(directory: Path, otherwise: float) -> float:
    """Seconds of fuzzing until the first finding."""
    each = [json.loads(p.read_text())["seconds"] for p in directory.glob("findings/*/finding.json")]
    return float(min(each, default=otherwise))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Medians and quartiles over all mistakes and seeds; and how many times the sequences, and the seconds, of `model`
    a find takes: the geometric mean over the mistakes, with where 90 % of it lie if seeds are drawn anew. For each
    mistake, medians, and all sequences by how often it was found, which counts what was cut short for what it was.
    """
    lines = [
        f"{'':<8} {'found':>9} {'sequences (quartiles)':>26} {'seconds (quartiles)':>22}"
        f" {'sequences x model (90 %)':>24} {'seconds x model (90 %)':>24}"
    ]
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        found = f"{sum(row['found'] for row in mine)} of {len(mine)}"
        counts = [row["sequences"] for row in mine]
        took = [row["seconds"] for row in mine]
        lines.append(
            f"{arm:<8} {found:>9} {_spread(counts, 0):>26} {_spread(took, 1):>22}"
            f" {_ratios(rows, arm, 'sequences'):>24} {_ratios(rows, arm, 'seconds'):>24}"
        )
    lines += [
        "",
        f"{'median sequences, sequences per find':<42}" + "".join(f"{a:>21}" for a in arms),
    ]
    for name in dict.fromkeys(row["mistake"] for row in rows):
        cells = ""
        for arm in arms:
            mine = _of(rows, arm, name)
            middle = median(row["sequences"] for row in mine) if mine else 0
            cells += f"{middle:>10,.0f} {_per_find(mine):>10}"
        lines.append(f"{name:<42}{cells}")
    return "\n".join(lines)


def _of(rows: Sequence[dict[str, Any]], arm: str, mistake: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["arm"] == arm and row["mistake"] == mistake]


def _spread(values: Sequence[float], digits: int) -> str:
    if len(values) < 2:
        return f"{values[0]:,.{digits}f}"
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:,.{digits}f} ({low:,.{digits}f} .. {high:,.{digits}f})"


def _per_find(rows: Sequence[dict[str, Any]]) -> str:
    found, total = sum(row["found"] for row in rows), sum(row["sequences"] for row in rows)
    return f"{total / found:,.0f}" if found else f"> {total:,}"


def _ratios(rows: Sequence[dict[str, Any]], arm: str, of: str) -> str:
    names = dict.fromkeys(row["mistake"] for row in rows)
    pairs = [(_of(rows, arm, name), _of(rows, "model", name)) for name in names]
    pairs = [(mine, theirs) for mine, theirs in pairs if mine and theirs]
    if not pairs:
        return "-"
    rng = Random(1)
    again = sorted(
        _ratio([(rng.choices(a, k=len(a)), rng.choices(b, k=len(b))) for a, b in pairs], of)
        for _ in range(REDRAWN)
    )
    low, high = again[REDRAWN // 20], again[-1 - REDRAWN // 20]
    return f"{_ratio(pairs, of):.2f} ({low:.2f} .. {high:.2f})"


def _ratio(
    pairs: Sequence[tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]], of: str
) -> float:
    logs = [math.log(_cost(mine, of) / _cost(theirs, of)) for mine, theirs in pairs]
    return math.exp(sum(logs) / len(logs))


def _cost(rows: Sequence[dict[str, Any]], of: str) -> float:
    """Of a find; what was never found counts as found half a time."""
    return float(sum(row[of] for row in rows) / max(0.5, sum(row["found"] for row in rows)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", default=LOCAL, metavar="KERNEL")
    parser.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM")
    parser.add_argument("--only", nargs="+", default=list(HARD), metavar="MISTAKE")
    parser.add_argument("--patches", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--sequences", type=int, default=20_000, metavar="N")
    parser.add_argument("--time", type=float, default=120.0, metavar="SECONDS")
    options = parser.parse_args()
    known = {mistake.name: mistake for mistake in MISTAKES}
    unknown = [name for name in options.only if name not in known]
    if unknown:
        parser.error(f"no planted mistake is called {', '.join(unknown)}")
    mistakes = [known[name] for name in options.only]
    arms = options.arms or [
        arm
        for arm, (_, blocks) in ARMS.items()
        if options.patches or options.target != LOCAL or not blocks
    ]
    patches = mutants(options.patches) if options.patches else []
    kernels = {patch.name: _kernels(patch) for patch in patches}
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    rows: list[dict[str, Any]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for arm in arms:
            print(f"seed {seed}, {arm}", file=sys.stderr, flush=True)
            if patches:
                rows += search_patches(arm, seed, patches, options.time, kernels)
            else:
                rows += search(arm, seed, mistakes, options.target, options.sequences)
            new = {(r["target"], r["arm"], r["seed"], r["mistake"]) for r in rows}
            kept = [r for r in kept if (r["target"], r["arm"], r["seed"], r["mistake"]) not in new]
            lines = ",\n".join(json.dumps(row) for row in [*kept, *rows])
            write_atomically(RESULTS, f"[\n{lines}\n]\n".encode())
    print(table(rows))
    return 0


def _kernels(patch: Mutant) -> tuple[str, str]:
    """Those without and with it, built if they are not there."""
    with tempfile.TemporaryDirectory(prefix="vmadiff-ablation-") as name:
        row = attempt(patch, NAMING, FIRST_SEED, Path(name))
    if row.images is None:
        sys.exit(f"{patch.name}: {row.problem}")
    return row.images


if __name__ == "__main__":
    sys.exit(main())
