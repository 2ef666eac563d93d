"""On which of several kernels, oldest first, something shows: since when, until when. Few of them are booted.

Two questions can be asked. Of a signature: which kernels part from their models that way. Of behaviour: what kernels do
by themselves, and where that changes. The ends are asked first, then what lies between two that answer otherwise, until
those are neighbours; then their neighbours in turn. Where both ends say the same, and it is not that the bug is there,
all are asked: a bug may have come and gone. What lies between two that say the same is not asked else (`everything`).

A kernel that cannot be asked, or that parts from its model in another way, is skipped: it counts for nothing.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final

from abi.calls import Program
from abi.environment import Geometry
from abi.program import parse_all
from fuzz.behaviour import difference
from fuzz.headlines import KERNEL
from fuzz.sighting import Sighting, look

GOOD: Final = "good"
BAD: Final = "bad"
SKIPPED: Final = "skipped"
#: Names of behaviours in a table; the oldest kernel's is the first.
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: Looks at kernel number i.
Ask = Callable[[int], Sighting]
#: What a sighting answers; None: nothing.
Answer = Callable[[Sighting], Hashable | None]


@dataclass(frozen=True, slots=True)
class Tried:
    """A kernel that was asked. verdict: bad: the signature shows, or it does otherwise than the oldest; good: not so;
    skipped. detail: how, or why it was skipped, in one line; seconds: boot and all."""

    kernel: str
    release: str
    verdict: str
    detail: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Span:
    """Kernels in a row that have it, by name. before, after: the next on either side that was asked and has it not, ""
    where there is none; unknown: those right before `first` and right after `last` that nothing is known of."""

    first: str
    last: str
    before: str
    after: str
    unknown: tuple[str, ...] = ()

    def line(self) -> str:
        """When it was there, in words."""
        since = (
            f"since {self.first} ({self.before} has it not)"
            if self.before
            else f"in {self.first} already, the oldest that was asked"
        )
        until = (
            f"until {self.last} ({self.after} has it not)"
            if self.after
            else f"still in {self.last}, the newest that was asked"
        )
        unknown = f"; nothing is known of {', '.join(self.unknown)}" if self.unknown else ""
        return f"{since}, {until}{unknown}"


@dataclass(frozen=True, slots=True)
class History:
    """What kernels answer. signature: what was looked for, "" where behaviour was compared; tried: those that were
    asked, oldest first; untried: those that were not, as they lie between two that say the same; changes: of behaviour,
    each as older kernel, newer kernel, difference."""

    signature: str
    tried: tuple[Tried, ...]
    untried: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    changes: tuple[tuple[str, str, str], ...] = ()

    @property
    def since(self) -> str:
        """The first kernel that has it, by name; "" if none has."""
        return self.spans[0].first if self.spans else ""

    @property
    def until(self) -> str:
        """The last kernel in a row that has it, by name; "" if none has."""
        return self.spans[0].last if self.spans else ""

    @property
    def is_known(self) -> bool:
        """Whether any kernel could be asked."""
        return any(each.verdict != SKIPPED for each in self.tried)

    @property
    def diverge(self) -> tuple[str, ...]:
        """Those that show the signature, by name."""
        return self._of(BAD)

    @property
    def agree(self) -> tuple[str, ...]:
        """Those that do not."""
        return self._of(GOOD)

    def _of(self, verdict: str) -> tuple[str, ...]:
        kernels = (each.kernel for each in self.tried if each.verdict == verdict)
        return tuple(kernels) if self.signature else ()

    def lines(self) -> list[str]:
        """Since when and until when, a line for each time that it was there."""
        asked = [each for each in self.tried if each.verdict != SKIPPED]
        if not asked:
            return ["no kernel could be asked"]
        if not self.signature:
            if not self.changes:
                return [f"all {len(asked)} kernels that were asked do the same"]
            return [f"{new} does otherwise than {old}: {how}" for old, new, how in self.changes]
        if not self.spans:
            return [f"on none of the {len(asked)} kernels that were asked"]
        return [span.line() for span in self.spans]

    def table(self) -> list[str]:
        """A line for each kernel that was asked."""
        rows = [
            (each.kernel, each.verdict, f"{each.seconds:.1f} s", each.detail) for each in self.tried
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else []
        return [
            "  ".join(
                [f"{text:<{width}}" for text, width in zip(row, widths, strict=False)] + [row[3]]
            ).rstrip()
            for row in rows
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data. first_bad, last_good, last_bad, first_good: names of kernels around the first span, or null."""
        span = self.spans[0] if self.spans else None
        return {
            "signature": self.signature or None,
            "first_bad": span.first if span else None,
            "last_good": (span.before or None) if span else None,
            "last_bad": span.last if span else None,
            "first_good": (span.after or None) if span else None,
            "spans": [
                {
                    "first_bad": each.first,
                    "last_bad": each.last,
                    "last_good": each.before or None,
                    "first_good": each.after or None,
                    "unknown": list(each.unknown),
                }
                for each in self.spans
            ],
            "changes": [
                {"older": old, "newer": new, "difference": how} for old, new, how in self.changes
            ],
            "tried": [each.to_json() for each in self.tried],
            "untried": list(self.untried),
            "lines": self.lines(),
        }


def history(
    text: str,
    signature: str,
    kernels: Sequence[str],
    *,
    user: bool = False,
    everything: bool = False,
    hint: int | None = None,
    say: Callable[[Sighting], object] = lambda seen: None,
) -> History:
    """On which of the kernels, oldest first, the programs in `text` show the signature. `hint`: the number of one that
    probably has it; `say` is told of each that was asked.

    Raises:
        ProgramError: the text is no program.
    """
    parse_all(text, Geometry())

    def ask(index: int) -> Sighting:
        seen = look(kernels[index], text, user=user, wanted=signature)
        say(seen)
        return seen

    seen = search(
        len(kernels), ask, lambda each: has(each, signature), everything=everything, hint=hint
    )
    return of_signature(signature, kernels, seen)


def search(
    count: int,
    ask: Ask,
    answer: Answer,
    *,
    everything: bool = False,
    hint: int | None = None,
) -> dict[int, Sighting]:
    """Ask of `count` kernels as few as tell where their answers change. An answer True at both ends is enough."""
    seen: dict[int, Sighting] = {}
    while (index := _next(count, seen, answer, everything, hint)) is not None:
        seen[index] = ask(index)
    return dict(sorted(seen.items()))


def _next(
    count: int,
    seen: Mapping[int, Sighting],
    answer: Answer,
    everything: bool,
    hint: int | None,
) -> int | None:
    """The kernel to ask next; None: there is nothing to be learnt."""
    open_ = [index for index in range(count) if index not in seen]
    if not open_ or everything:
        return open_[0] if open_ else None
    answers: dict[int, Hashable] = {
        i: a for i, each in sorted(seen.items()) if (a := answer(each)) is not None
    }
    # From each end inwards, until one can be asked.
    first, last = min(answers, default=count), max(answers, default=-1)
    for index in chain(range(first), range(count - 1, last, -1)):
        if index not in seen:
            return index
    if hint in open_:
        return hint
    gaps = [(low, high) for low, high in pairwise(answers) if answers[low] != answers[high]]
    for low, high in gaps:
        if between := [index for index in open_ if low < index < high]:
            return _middle(between, low, high)
    if gaps:
        for low, high in gaps:
            near = [index for index in (low - 1, high + 1) if index in open_]
            if near:
                return near[0]
        return None
    if answers and set(answers.values()) == {True}:
        return None
    # Nothing differs yet: the middle of the widest stretch.
    stretches: list[tuple[int, int]] = list(pairwise(answers))
    low, high = max(stretches, key=lambda gap: _open_in(open_, gap), default=(-1, count))
    return _middle([index for index in open_ if low < index < high] or open_, low, high)


def _open_in(open_: Iterable[int], gap: tuple[int, int]) -> int:
    return sum(gap[0] < index < gap[1] for index in open_)


def _middle(indices: Sequence[int], low: int, high: int) -> int:
    _, index = min((abs(2 * index - low - high), index) for index in indices)
    return index


def has(seen: Sighting, signature: str) -> bool | None:
    """Whether a kernel shows the signature; None: that cannot be said."""
    if signature in seen.signatures:
        return True
    return None if why_not(seen, signature) else False


def why_not(seen: Sighting, signature: str) -> str:
    """Why nothing can be said of a kernel that does not show the signature; "" if it just has it not."""
    others = [each for each in seen.signatures if not each.startswith(KERNEL)]
    if seen.unseen:
        return seen.unseen
    if others and not signature.startswith(KERNEL):
        return f"it diverges otherwise: {others[0]}"
    return seen.undecided


def of_signature(signature: str, kernels: Sequence[str], seen: Mapping[int, Sighting]) -> History:
    """What the sightings, by number of the kernel, say of the signature."""
    tried = []
    answers: dict[int, bool] = {}
    for index, each in sorted(seen.items()):
        found = has(each, signature)
        if found is None:
            verdict, detail = SKIPPED, why_not(each, signature)
        else:
            verdict, detail = (BAD, signature) if found else (GOOD, "agrees")
            answers[index] = found
        if found is False and each.signatures:
            detail = each.signatures[0]
        tried.append(Tried(kernels[index], each.release, verdict, detail, each.seconds))
    return History(signature, tuple(tried), _untried(kernels, seen), _spans(kernels, answers, seen))


def _untried(kernels: Sequence[str], seen: Mapping[int, Sighting]) -> tuple[str, ...]:
    return tuple(name for index, name in enumerate(kernels) if index not in seen)


def _spans(
    kernels: Sequence[str], answers: Mapping[int, bool], seen: Iterable[int]
) -> tuple[Span, ...]:
    """Stretches of kernels that answered True."""
    spans = []
    order = list(answers)
    skipped = [index for index in seen if index not in answers]
    begin = None
    for place, index in enumerate(order):
        if answers[index] and begin is None:
            begin = place
        ends = place + 1 == len(order) or not answers[order[place + 1]]
        if begin is not None and answers[index] and ends:
            low = order[begin - 1] if begin else -1
            high = order[place + 1] if place + 1 < len(order) else len(kernels)
            unknown = [i for i in skipped if low < i < order[begin] or index < i < high]
            spans.append(
                Span(
                    kernels[order[begin]],
                    kernels[index],
                    kernels[low] if low >= 0 else "",
                    kernels[high] if high < len(kernels) else "",
                    tuple(kernels[i] for i in unknown),
                )
            )
            begin = None
    return tuple(spans)


def of_behaviour(
    programs: Sequence[Program], kernels: Sequence[str], seen: Mapping[int, Sighting]
) -> History:
    """What the sightings, by number of the kernel, say of what kernels do; bad: it does otherwise than the oldest."""
    known = {i: each for i, each in sorted(seen.items()) if each.behaviour}
    letters: list[Sighting] = []
    tried = []
    answers: dict[int, bool] = {}
    for index, each in sorted(seen.items()):
        if index not in known:
            detail = each.unseen or each.undecided or "it did not run to the end"
            tried.append(Tried(kernels[index], each.release, SKIPPED, detail, each.seconds))
            continue
        place = next(
            (i for i, like in enumerate(letters) if like.behaviour == each.behaviour), len(letters)
        )
        letters += [each] if place == len(letters) else []
        answers[index] = place > 0
        detail = _LETTERS[place] if place < len(_LETTERS) else str(place)
        if place:
            detail += f"  {difference(programs, each.behaviour, letters[0].behaviour)}"
        verdict = BAD if place else GOOD
        tried.append(Tried(kernels[index], each.release, verdict, detail, each.seconds))
    changes = tuple(
        (kernels[low], kernels[high], difference(programs, newer.behaviour, older.behaviour))
        for (low, older), (high, newer) in pairwise(known.items())
        if newer.behaviour != older.behaviour
    )
    return History(
        "", tuple(tried), _untried(kernels, seen), _spans(kernels, answers, seen), changes
    )
