"""What a replayed program says of a kernel, in a word: it agrees, differs as is known, differs, brings the kernel down,
or does not tell. And how many programs run at once until that is known.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

from abi.calls import Program
from fuzz.console import reports
from fuzz.headlines import gravest
from fuzz.replay import Replay
from fuzz.restraint import is_filling
from fuzz.triage import Known, explanations

Kind = Literal["agrees", "known", "diverges", "crashed", "unknown"]
AGREES: Final = "agrees"
KNOWN: Final = "known"
DIVERGES: Final = "diverges"
CRASHED: Final = "crashed"
UNKNOWN: Final = "unknown"
VERDICTS: Final[tuple[Kind, ...]] = get_args(Kind)
#: Programs that are sent at once: what is unknown when a kernel dies.
BATCH: Final = 64

_Any = TypeVar("_Any")


@dataclass(frozen=True, slots=True)
class Verdict:
    """text: the divergence's signature, or why nothing is known, in one line; entries: what
    explains it, names of corpus/divergences/."""

    kind: Kind
    text: str = ""
    entries: tuple[str, ...] = ()


def judge(result: Replay, release: str, known: Sequence[Known]) -> Verdict:
    """What became of a program on the kernel `release`."""
    if result.divergence is not None:
        return _explained(DIVERGES, result.text, release, known)
    if result.loss_kind == "crash":
        worst = gravest(reports(result.console.encode()))
        return _explained(CRASHED, worst.signature if worst else result.loss, release, known)
    if result.crash:
        return Verdict(DIVERGES, result.verdict())
    if not result.is_complete:
        return Verdict(UNKNOWN, result.verdict())
    return Verdict(AGREES)


def _explained(kind: Kind, text: str, release: str, known: Sequence[Known]) -> Verdict:
    entries = tuple(entry.name for entry in explanations(text, release, known))
    return Verdict(KNOWN if entries else kind, text, entries)


def batches(items: Iterable[_Any], is_alone: Callable[[_Any], bool]) -> Iterator[list[_Any]]:
    """What is run together, in order; `is_alone`: nothing is run together with it, as with a program that fills, which
    is not observed in full."""
    batch: list[_Any] = []
    for each in items:
        alone = is_alone(each)
        if batch and (alone or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(each)
        if alone:
            yield batch
            batch = []
    if batch:
        yield batch


def is_full(program: Program) -> bool:
    """It is observed in full; with all mappings taken that would last for minutes."""
    return not any(is_filling(call) for call in program)
