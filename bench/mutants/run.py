"""Wrong patches to the kernel's mm/, which `vmadiff patch` has to find, and harmless ones, of which it says nothing.

    python bench/mutants/run.py [NAME ...]       all, or those named; results go to bench/mutants/results.json
        --time SECONDS     of fuzzing for each (default: 120); half of it for harmless ones
        --seed N           of the programs (default: 1)

A patch of patches/ is a mail whose headers say what is wrong with it (Wrong), how it would show itself (Shown-by), what
is expected of it (Expected: behaviour, crash, inconsistency or harmless; Also: what else is right), and which bug that
the kernel once had it puts back (Reintroduces). Each is built on top of the same base, and searched for from an empty
corpus, by one worker, until the first difference; what KASAN is to see (Kasan: its share of the time), to the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from email import message_from_string
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from fuzz.storage import write_atomically

PATCHES = HERE / "patches"
RESULTS = HERE / "results.json"
TREE = "linux-source-7.3"
HARMLESS = "harmless"
#: What each class of finding is called here.
CLASSES = {
    "behaviour change": "behaviour",
    "crash": "crash",
    "self-inconsistency": "inconsistency",
}
COLUMNS = f"{'':<40} {'expected':<10} {'found':<18} {'class':<6} {'after':>7} {'programs':>9} {'calls':>5}"


@dataclass(frozen=True)
class Mutant:
    """A patch, and what its headers say. kasan: the share of the time on the kernel built with KASAN."""

    path: Path
    expected: tuple[str, ...]
    area: str
    wrong: str
    reintroduces: str
    kasan: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_harmless(self) -> bool:
        return self.expected == (HARMLESS,)


@dataclass(frozen=True)
class Row:
    """What became of one. found: the classes of what was found; right: `expected` is among them, or nothing was to be
    found and was not; seconds, sequences: of fuzzing, until it was found, or in all; calls: of the smallest program
    that shows it; executed, total: changed lines; whole: seconds from build to end; problem: why it could not be
    tried; images: both kernels, by name.
    """

    name: str
    area: str
    expected: str
    reintroduces: str
    found: tuple[str, ...]
    right: bool
    seconds: float
    sequences: int
    calls: int
    executed: int
    total: int
    whole: float
    title: str = ""
    problem: str = ""
    images: tuple[str, str] | None = None

    @property
    def is_found(self) -> bool:
        return bool(self.found)

    def line(self) -> str:
        found = self.problem or ", ".join(self.found) or "nothing"
        verdict = "right" if self.right else "WRONG"
        return (
            f"{self.name:<40} {self.expected:<10} {found:<18.60} {verdict:<6}"
            f" {self.seconds:6.1f}s {self.sequences:>9,} {self.calls:>5}"
        )

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["class"] = "right" if self.right else "wrong"
        del data["images"]
        data["found"] = ", ".join(self.found) or None
        return data


def mutants(names: list[str]) -> list[Mutant]:
    """Those of these names, or all."""
    found = []
    for path in sorted(PATCHES.glob("*.patch")):
        head = message_from_string(path.read_text())
        also = (head["Also"] or "").replace(" ", "").split(",")
        expected = tuple(filter(None, [head["Expected"], *also]))
        old, kasan = head["Reintroduces"] or "", head["Kasan"] or ""
        found.append(Mutant(path, expected, head["Area"], head["Wrong"] or "", old, kasan))
    unknown = set(names) - {each.name for each in found}
    if unknown:
        sys.exit(f"no such patch: {', '.join(sorted(unknown))}")
    return [each for each in found if not names or each.name in names]


def attempt(
    mutant: Mutant,
    seconds: float,
    seed: int,
    state: Path,
    *,
    guided: bool = True,
    images: tuple[str, str] | None = None,
) -> Row:
    """Build it and search for it. guided: by Atheris; images: the kernels without and with it, which are built already:
    nothing is aimed at then.
    """
    if images is None:
        kernels = ["--tree", TREE, "--series", str(mutant.path)]
    else:
        kernels = ["--base-image", images[0], "--patched-image", images[1]]
    begun = time.monotonic()
    result = state / "result.json"
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "fuzz.cli", "patch", *kernels),
            *("--time", str(seconds), "--seed", str(seed)),
            *(("--kasan", mutant.kasan) if mutant.kasan else ("--first", "--kasan", "0")),
            *(() if guided else ("--unguided",)),
            *("--unseeded", "--restart"),
            *("--state", str(state), "--json", str(result)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE.parent.parent,
        env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
    )
    whole = round(time.monotonic() - begun, 1)
    expected = ", ".join(mutant.expected)
    if not result.exists():
        problem = (ran.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return Row(
            mutant.name, mutant.area, expected, mutant.reintroduces, (), False, 0.0, 0, 0, 0, 0, whole,
            problem=problem,
        )  # fmt: skip
    data = json.loads(result.read_text())
    every = [*data["behaviour_changes"], *data["crashes"]]
    rows = sorted({CLASSES[row["class"]] for row in every})
    undecided = data["undecided"]
    first = min(every, key=lambda row: row["sequences"] or 1 << 62, default=None)
    if mutant.is_harmless:
        # What the base does as well is none of its doing.
        right = not every and not undecided
    else:
        right = any(name in mutant.expected for name in rows)
    return Row(
        mutant.name,
        mutant.area,
        expected,
        mutant.reintroduces,
        tuple(rows),
        right,
        first["seconds"] if first and first["seconds"] else data["seconds"],
        first["sequences"] if first and first["sequences"] else data["sequences"],
        first["calls"] if first else 0,
        data["changed_lines_executed"],
        data["changed_lines_total"],
        whole,
        first["title"] if first else ", ".join(row["title"] for row in undecided),
        "; ".join(data["problems"]),
        (data["base_kernel"], data["patched_kernel"]),
    )


def summary(rows: list[Row]) -> str:
    """What it comes to."""
    wrong = [row for row in rows if row.expected != HARMLESS]
    harmless = [row for row in rows if row.expected == HARMLESS]
    found = [row for row in wrong if row.is_found]
    lines = [
        f"{len(found)} of {len(wrong)} wrong patches found, {sum(row.right for row in found)} in the class expected;"
        f" {sum(not row.right for row in harmless)} reports on {len(harmless)} harmless ones"
    ]
    if found:
        seconds = [row.seconds for row in found]
        calls = [row.calls for row in found]
        lines.append(
            f"found after {median(seconds):.1f} s (median; at most {max(seconds):.1f} s), {median(calls):g} calls"
        )
    old = [row for row in wrong if row.reintroduces]
    lines.append(f"{sum(row.is_found for row in old)} of {len(old)} bugs that the kernel had")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--time", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args()
    rows: list[Row] = []
    print(COLUMNS)
    kept = {}
    if options.names and RESULTS.exists():
        kept = {row["name"]: row for row in json.loads(RESULTS.read_text())}
    for mutant in mutants(options.names):
        seconds = options.time / 2 if mutant.is_harmless else options.time
        state = Path(tempfile.mkdtemp(prefix="vmadiff-mutant-"))
        try:
            row = attempt(mutant, seconds, options.seed, state)
        finally:
            shutil.rmtree(state, ignore_errors=True)
        rows.append(row)
        print(row.line(), flush=True)
        # What was found out is not lost when it is stopped.
        kept[row.name] = row.to_json()
        text = json.dumps([kept[name] for name in sorted(kept)], indent=1) + "\n"
        write_atomically(RESULTS, text.encode())
    print(f"\n{summary(rows)}")
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
