"""Programs on several kernels, each beside its own model: which agree, which do not, and where that is known.

A kernel that dies or does not start costs its own verdicts, never those of the others.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from abi.calls import Program
from fuzz import corpus
from fuzz.console import reports
from fuzz.headlines import causes
from fuzz.probe import examine
from fuzz.replay import Replay, replay
from fuzz.restraint import restrain_program
from fuzz.status import UsageError
from fuzz.targets import Target
from fuzz.triage import Known, explanation, load_known
from fuzz.verdict import (
    AGREES,
    CRASHED,
    DIVERGES,
    KNOWN,
    UNKNOWN,
    VERDICTS,
    batches,
    is_full,
    judge,
)
from kernel_bridge import BridgeError
from model.run import Model

#: How a table shows verdicts.
_SIGNS: Final = {AGREES: ".", KNOWN: "k", DIVERGES: "D", CRASHED: "C", UNKNOWN: "?"}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of a program on a kernel. detail: the divergence, its cause or why nothing is known, in one line."""

    program: str
    kernel: str
    verdict: str
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """A row of the JSON file."""
        data = {"program": self.program, "kernel": self.kernel, "verdict": self.verdict}
        return {**data, "detail": self.detail} if self.detail else data


@dataclass(frozen=True, slots=True)
class Column:
    """A kernel: what it is, and a cell for each program, in order. problem: why it could not be asked; reports: what it
    complained of while programs ran and went on."""

    kernel: str
    release: str
    profile: str
    cells: tuple[Cell, ...]
    problem: str = ""
    reports: tuple[str, ...] = ()


def compare(
    programs: Sequence[tuple[str, Callable[..., Program]]],
    kernels: Sequence[str],
    say: Say,
    *,
    user: bool = False,
    workers: int = 1,
) -> list[Column]:
    """Run every program on every kernel. `programs`: names, and what gives the program for a geometry."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda kernel: _column(programs, kernel, say, user), kernels))


def _column(
    programs: Sequence[tuple[str, Callable[..., Program]]], kernel: str, say: Say, user: bool
) -> Column:
    cells: list[Cell] = []
    known = load_known(corpus.DIVERGENCES)
    said: list[str] = []
    release = profile = problem = ""
    try:
        with Target(kernel) as target, target.start(user=user) as executor:
            environment = executor.environment
            release = environment.release
            found = examine(executor).profile
            profile = found.name
            say(f"{kernel}: {release} on {target.describe()}, profile {profile}")
            model = Model(environment, found)
            harmless = [
                (
                    name,
                    restrain_program(make(environment.geometry), not environment.capabilities),
                )
                for name, make in programs
            ]
            executor.printed()
            for batch in batches(harmless, lambda each: not is_full(each[1])):
                for result in replay(batch, executor, model, full=is_full(batch[0][1])):
                    cells.append(_cell(result, kernel, release, known))
                for crash in causes(reports(executor.printed())):
                    if crash.signature not in said:
                        said.append(crash.signature)
                        say(f"{kernel}: {crash.signature}")
            say(f"{kernel}: {_counts(cells)}")
    except (BridgeError, UsageError) as error:
        problem = str(error)
        say(f"{kernel}: {problem}")
    done = len(cells)
    cells += [Cell(name, kernel, UNKNOWN, problem) for name, _ in programs[done:]]
    new = tuple(text for text in said if explanation(text, release, known) is None)
    return Column(kernel, release, profile, tuple(cells), problem, new)


def _cell(result: Replay, kernel: str, release: str, known: list[Known]) -> Cell:
    verdict = judge(result, release, known)
    return Cell(result.name, kernel, verdict.kind, verdict.text)


def lines(columns: Sequence[Column]) -> list[str]:
    """A table: the programs that do not agree everywhere, then how many do of all."""
    if not columns:
        return []
    width = max(len(column.kernel) for column in columns)
    rows = list(zip(*(column.cells for column in columns), strict=True))
    told = [row for row in rows if any(cell.verdict != AGREES for cell in row)]
    name_width = max([len(row[0].program) for row in told] + [len("program")])
    text = [
        f"{'program':<{name_width}}  " + " ".join(f"{c.kernel:>{width}}" for c in columns),
        *(
            f"{row[0].program:<{name_width}}  "
            + " ".join(f"{_SIGNS[cell.verdict]:>{width}}" for cell in row)
            for row in told
        ),
        f"{len(rows) - len(told)} more programs agree everywhere",
        "",
    ]
    text += [f"{column.kernel:<{width}}  {_counts(column.cells)}" for column in columns]
    text += ["", ", ".join(f"{sign} {verdict}" for verdict, sign in _SIGNS.items())]
    details = {
        f"{cell.verdict}: {cell.detail}"
        for row in told
        for cell in row
        if cell.verdict in (KNOWN, DIVERGES, CRASHED)
    }
    details |= {f"{column.kernel}: {report}" for column in columns for report in column.reports}
    return [*text, *sorted(details)]


def _counts(cells: Sequence[Cell]) -> str:
    counted = Counter(cell.verdict for cell in cells)
    return ", ".join(f"{counted[v]} {v}" for v in VERDICTS if counted[v]) or "nothing ran"


def to_json(columns: Sequence[Column]) -> dict[str, Any]:
    """The kernels, and a row for each program on each."""
    return {
        "kernels": [
            {
                "kernel": column.kernel,
                "release": column.release,
                "profile": column.profile,
                "problem": column.problem or None,
                "reports": list(column.reports),
            }
            for column in columns
        ],
        "rows": [cell.to_json() for column in columns for cell in column.cells],
    }
