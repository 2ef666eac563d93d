"""What a corpus exercises: which classes of input (`fuzz.classes`) its programs reach on the model, counted.

No kernel is asked: the programs run on the machine of `fuzz.reference`, each as root and as an ordinary user, on the
newest and the oldest kernel. A class is reached if a call is in it in any of these.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from textwrap import wrap
from typing import Any, Final, Protocol

from abi.calls import CALLS, Call, Program
from abi.consts import FD_NAMES
from abi.environment import Environment
from fuzz import kinds
from fuzz.classes import KIND, STATE, Class, name_of, of_call, of_result, universe, why_unreachable
from model.errors import Unmodelled
from model.profile import Profile
from model.run import Model
from model.space import AddressSpace

#: Columns of the text.
_WIDTH: Final = 118
_INDENT: Final = 16


@dataclass(slots=True)
class Coverage:
    """Counts over programs. `calls`, `reached`: on the first machine, or on the first on which the class was reached.

    unmodelled: why programs ended early -> how many. lacking: objects that the machine does not have, and why.
    """

    programs: int = 0
    calls: Counter[type[Call]] = field(default_factory=Counter)
    reached: Counter[tuple[type[Call], Class]] = field(default_factory=Counter)
    unmodelled: Counter[str] = field(default_factory=Counter)
    lacking: dict[str, str] = field(default_factory=dict)

    def unknown(self) -> list[tuple[type[Call], Class]]:
        """Classes that were reached and are in no table: an errno that the model's source does not show, a new kind."""
        known = {(cls, each) for cls in CALLS for each in universe(cls)}
        return sorted((key for key in self.reached if key not in known), key=str)

    def why_not(self, cls: type[Call], each: Class) -> str:
        """Why no program can reach a class here; "" if one can."""
        if each[0] in (KIND, STATE):
            sample = next((sample for sample in kinds.SAMPLES if sample.kind == each[1]), None)
            for name in sample.objects if sample else ():
                if name in self.lacking:
                    return f"the reference machine has no {name}: {self.lacking[name]}"
        return why_unreachable(name_of(cls), each)

    def missing(self) -> list[tuple[type[Call], Class]]:
        """Classes that could be reached and were not."""
        return [
            (cls, each)
            for cls in CALLS
            for each in universe(cls)
            if not self.reached[cls, each] and not self.why_not(cls, each)
        ]

    def wrongly_unreachable(self) -> list[tuple[type[Call], Class]]:
        """Classes that are said to be unreachable and were reached."""
        return [(cls, each) for cls, each in self.reached if why_unreachable(name_of(cls), each)]


def measure(
    programs: Iterable[Program], machines: Iterable[tuple[Environment, Profile]]
) -> Coverage:
    """Run programs on every machine."""
    coverage = Coverage()
    models = [Model(environment, profile) for environment, profile in machines]
    coverage.lacking = _lacking(models[0].environment)
    for program in programs:
        coverage.programs += 1
        found: Counter[tuple[type[Call], Class]] = Counter()
        for number, model in enumerate(models):
            here: Counter[tuple[type[Call], Class]] = Counter()
            reason = walk(program, model.start(), here)
            if number == 0:
                coverage.calls.update(map(type, program))
            if reason and number == 0:
                coverage.unmodelled[reason] += 1
            found |= here
        coverage.reached.update(found)
    return coverage


def _lacking(environment: Environment) -> dict[str, str]:
    """The descriptors of the vocabulary that a machine does not have, and why."""
    there = {each.name for each in environment.objects}
    why = environment.missing
    return {name: why.get(name, "not made") for name in FD_NAMES if name not in there}


class Run(Protocol):
    """The model in the middle of a program."""

    @property
    def space(self) -> AddressSpace: ...
    def step(self, call: Call) -> int: ...


def walk(program: Program, run: Run, found: Counter[tuple[type[Call], Class]]) -> str:
    """Count the classes of one program's calls; why it ended early, or ""."""
    for call in program:
        cls = type(call)
        before = set(of_call(run.space, call))
        try:
            value = run.step(call)
        except Unmodelled as error:
            return error.reason
        found.update((cls, each) for each in before | set(of_result(run.space, call, value)))
    return ""


# As text and as data.


def lines(coverage: Coverage) -> Iterator[str]:
    """All of it, for people: every call with its classes, then what is missing, then what cannot be."""
    reached = sum(1 for count in coverage.reached.values() if count)
    yield f"{coverage.programs} programs, {coverage.calls.total()} calls, {reached} classes reached"
    yield (
        "on the model of the machine in corpus/machine.json: as root and as an ordinary user, its kernel the newest and"
    )
    yield "the oldest, configured as it was, with everything, and with nothing"
    for cls in CALLS:
        yield ""
        yield f"{name_of(cls)}: {coverage.calls[cls]} calls"
        for aspect, classes in _by_aspect(universe(cls)):
            counted = [
                f"{each[1]} {coverage.reached[cls, each]}"
                for each in classes
                if coverage.reached[cls, each]
            ]
            if counted:
                yield from _row(aspect, counted)
    yield from _missing_lines(coverage)
    yield from _unreachable_lines(coverage)
    for reason, count in coverage.unmodelled.most_common():
        yield f"ended early: {count} programs: {reason}"


def _missing_lines(coverage: Coverage) -> Iterator[str]:
    missing = coverage.missing()
    yield ""
    if not missing:
        yield "Every class that can be reached is."
    else:
        yield f"Not exercised, {len(missing)}:"
    for cls, keys in groupby(missing, key=lambda key: key[0]):
        yield f"  {name_of(cls)}"
        for aspect, classes in _by_aspect(each for _, each in keys):
            yield from _row(aspect, [each[1] for each in classes])


def _unreachable_lines(coverage: Coverage) -> Iterator[str]:
    reasons: dict[str, dict[Class, list[str]]] = {}
    for cls in CALLS:
        for each in universe(cls):
            reason = coverage.why_not(cls, each)
            if reason and not coverage.reached[cls, each]:
                reasons.setdefault(reason, {}).setdefault(each, []).append(name_of(cls))
    if not reasons:
        return
    yield ""
    yield "Cannot be reached:"
    for reason, classes in reasons.items():
        yield f"  {reason}"
        rows: dict[tuple[str, str], list[str]] = {}
        for (aspect, each_name), calls in classes.items():
            rows.setdefault((aspect, ", ".join(calls)), []).append(each_name)
        for (aspect, names), texts in rows.items():
            yield from _row(aspect, [*texts[:-1], f"{texts[-1]} (of {names})"])


def _by_aspect(classes: Iterable[Class]) -> Iterator[tuple[str, list[Class]]]:
    for aspect, group in groupby(classes, key=lambda each: each[0]):
        yield aspect, list(group)


def _row(aspect: str, words: list[str]) -> list[str]:
    # A class and its count stay together.
    joined = ", ".join(word.replace(" ", "\0") if len(word) < 60 else word for word in words)
    text = wrap(
        joined,
        _WIDTH,
        initial_indent=f"    {aspect:<{_INDENT}}",
        subsequent_indent=" " * (_INDENT + 4),
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in text]


def to_json(coverage: Coverage) -> dict[str, Any]:
    """All of it as plain data: of each class how often it was reached, and where it cannot be, why."""
    calls: dict[str, Any] = {}
    for cls in CALLS:
        classes: dict[str, dict[str, Any]] = {}
        for each in universe(cls):
            count, reason = coverage.reached[cls, each], coverage.why_not(cls, each)
            entry: dict[str, Any] = {"count": count}
            if reason and not count:
                entry["unreachable"] = reason
            classes.setdefault(each[0], {})[each[1]] = entry
        calls[name_of(cls)] = {
            "calls": coverage.calls[cls],
            "classes": classes,
        }
    return {
        "programs": coverage.programs,
        "calls": calls,
        "missing": [[name_of(cls), *each] for cls, each in coverage.missing()],
        "ended_early": dict(coverage.unmodelled),
    }
