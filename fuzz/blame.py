"""Whose mistake a divergence likely is, and the evidence: the model's rule, the kernel's own views, whether it comes
again, and the same program on other kernels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any, Final, Protocol

from abi.trace import unpack
from fuzz.compare import initial_layout
from fuzz.explain import explain
from fuzz.replay import Replay, predict
from fuzz.triage import inconsistencies
from model.errors import Unmodelled
from model.profile import CHANGES, PROFILES, Change, Profile
from model.run import Model

KERNEL: Final = "the kernel"
MODEL: Final = "the model"
EITHER: Final = "the kernel or the model"
_WIDTH: Final = 78


class History(Protocol):
    """The same program on other kernels (`fuzz.bisect`): their names, by whether they agree with their model."""

    @property
    def agree(self) -> Sequence[str]: ...
    @property
    def diverge(self) -> Sequence[str]: ...
    def lines(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Blame:
    """suspect: who is likely wrong; because: why, in a line; rules: those that the model applied to the call, each with
    its source, the deciding one last; stability: how often it came again, and where; history: since when and until when
    kernels show it, nothing if none was asked.
    """

    suspect: str
    because: str
    rules: tuple[str, ...] = ()
    stability: tuple[str, ...] = ()
    history: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """As text."""
        lines = [f"likely wrong: {self.suspect}", *_indented(self.because)]
        for title, rows in (
            ("the model's rules for this call", self.rules),
            ("stability", self.stability),
            ("other kernels", self.history),
        ):
            if rows:
                lines += ["", title]
                for row in rows:
                    lines += _indented(row)
        return lines

    def to_json(self) -> dict[str, Any]:
        """As plain data; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Blame":
        """Raises: KeyError: `data` is not of that form."""
        several = (tuple(data[name]) for name in ("rules", "stability", "history"))
        return cls(data["suspect"], data["because"], *several)


#: Of what was seen once.
UNSTABLE: Final = Blame(
    "undecided", "unstable: it did not come back in each of three fresh executors"
)


def _indented(text: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def blame(
    replay: Replay, model: Model, stability: Sequence[str], history: "History | None" = None
) -> Blame:
    """Who is likely wrong about the divergence of `replay`, which came again as `stability` says."""
    suspect, because = _suspect(replay, model, history)
    lines = tuple(history.lines()) if history else ()
    return Blame(suspect, because, rules_of(replay, model), tuple(stability), lines)


def rules_of(replay: Replay, model: Model) -> tuple[str, ...]:
    """The rules that the model applied to the call that diverges; nothing if it cannot say."""
    assert replay.divergence is not None
    program = replay.program[: replay.divergence.index + 1]
    try:
        *_, (_, _, rules) = explain(model, program)
    except Unmodelled:
        return ()
    return rules


def _suspect(replay: Replay, model: Model, history: "History | None") -> tuple[str, str]:
    divergence = replay.divergence
    assert divergence is not None
    if divergence.theirs.inconsistent:
        return KERNEL, f"it contradicts itself: {inconsistencies(divergence.theirs.inconsistent)}"
    change = change_that_explains(replay, model)
    if change is not None:
        has = change in model.profile.changes
        commit = f" ({change.commit})" if change.commit else ""
        how = "without" if has else "with"
        return KERNEL, (
            f"here it does what kernels {how} {change.name}{commit} do, {change.subject};"
            f" it is taken for one {'with' if has else 'without'}"
        )
    release = release_that_explains(replay, model)
    if release is not None:
        return (
            KERNEL,
            f"here it does what {release.name} does, and is taken for {model.profile.name}",
        )
    if history is not None and history.agree and history.diverge:
        return KERNEL, "other kernels, to which the same rule applies, do what the model says"
    if history is not None and len(history.diverge) > 1:
        return MODEL, "every kernel that was asked does the same, and not what the model says"
    return EITHER, "one of both has changed, or the model has misread the other; the rule is below"


def change_that_explains(replay: Replay, model: Model) -> Change | None:
    """The named change without which, or with which, the model would have done what the kernel did; None if there is
    none. Of several, the last that the kernel would have to lack, else the first that it would have to have: a kernel
    that lacks what refined another change mostly has that."""
    changes = model.profile.changes
    had = [each for each in reversed(CHANGES) if each in changes]
    lacked = [each for each in CHANGES if each not in changes]
    return next((each for each in (*had, *lacked) if _explains(changes ^ {each}, replay)), None)


def release_that_explains(replay: Replay, model: Model) -> Profile | None:
    """The release whose model would have done what the kernel did, None if there is none: where it takes several
    changes."""
    others = (each for each in PROFILES.values() if each.changes != model.profile.changes)
    return next((each for each in others if _explains(each.changes, replay)), None)


def _explains(changes: frozenset[Change], replay: Replay) -> bool:
    model = Model(replay.environment, Profile("", changes))
    expected, *_ = predict(model, replay.program, full=replay.full)
    return unpack(expected, initial_layout(replay.environment)) == replay.theirs
