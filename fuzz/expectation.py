"""What a program's header says of how it fares, on which kernels.

In the comment at the top of a file, a line each:

    # expect: known dontunmap_leaks_locked with secretmem_locked
    # expect: diverges on 6.16.*, 6.17.*: mremap[MAYMOVE,grow] result: model 0, kernel EINVAL
    # expect: unknown without xdp_mixedmap: where in memory the kernel has a ring

A verdict, then what it is bound to, then after a colon of `diverges` the signature, of `unknown` the reason:

    agrees             model and kernel do the same: what holds where no line applies
    known A, B         it differs, and one of these entries of corpus/divergences/ explains it; applies to the kernels
                       that they list
    diverges           it differs; if there is a signature, by that one
    unknown            it need not be compared to its end, for the model has no answer; up to there it has to agree
    on P, Q            on kernels whose `uname -r` is like one of these patterns
    with A, B          on those that have all of these changes (docs/changes.md), objects (`devzero`), configuration or
                       processor (`THP`; `Environment.config`), as the probe and the executor find them
    without A, B       on those that have none of them

The first line that applies to a kernel holds there. A line that cannot be read is an error.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from abi.consts import FD_NAMES
from abi.environment import CONFIGURATION, Environment
from abi.program import ProgramError
from fuzz.triage import Known, load_known
from fuzz.verdict import AGREES, DIVERGES, KNOWN, UNKNOWN
from model.profile import BY_NAME, Profile

#: What may be said of a kernel with `with` and `without`.
TRAITS: Final = frozenset((*BY_NAME, *FD_NAMES, *CONFIGURATION))
_HEADER: Final = re.compile(r"#\s*expect\w*\s*:", re.IGNORECASE)
_PREFIX: Final = "# expect: "
_VERDICTS: Final = (AGREES, KNOWN, DIVERGES, UNKNOWN)
_LINE: Final = re.compile(
    r"(?P<verdict>\w+)(?: (?!(?:on|with|without)\b)(?P<entries>[\w-]+(?:, [\w-]+)*))?"
    r"(?: on (?P<kernels>[^\s,]+(?:, [^\s,]+)*))?"
    r"(?: with (?P<having>\w+(?:, \w+)*))?"
    r"(?: without (?P<lacking>\w+(?:, \w+)*))?"
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """A line of a header. entries: of `known`; kernels: patterns of `uname -r`, none for all; having, lacking: of
    TRAITS; text: the signature of `diverges`, the reason of `unknown`."""

    verdict: str = AGREES
    entries: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    having: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        """As in a header; `parse` is its inverse."""
        words = [_PREFIX + self.verdict, *([", ".join(self.entries)] if self.entries else [])]
        for word, names in (("on", self.kernels), ("with", self.having), ("without", self.lacking)):
            if names:
                words += [word, ", ".join(names)]
        return " ".join(words) + (f": {self.text}" if self.text else "")

    @property
    def is_bound(self) -> bool:
        """It does not apply to every kernel."""
        return bool(self.entries or self.kernels or self.having or self.lacking)

    def applies(self, release: str, traits: frozenset[str], known: Sequence[Known]) -> bool:
        """Whether it is about the kernel `release`, which has these traits."""
        if self.entries and not self.entries_on(release, known):
            return False
        if self.kernels and not any(fnmatchcase(release, each) for each in self.kernels):
            return False
        return traits.issuperset(self.having) and traits.isdisjoint(self.lacking)

    def entries_on(self, release: str, known: Sequence[Known]) -> list[str]:
        """Its entries that list the kernel `release`."""
        return [each.name for each in known if each.name in self.entries and each.covers(release)]


def traits_of(environment: Environment, profile: Profile) -> frozenset[str]:
    """What `with` and `without` ask of a kernel."""
    changes = {change.name for change in profile.changes}
    objects = {each.name for each in environment.objects}
    return frozenset(changes | objects | environment.config)


def holding(
    stated: Iterable[Expectation], release: str, traits: frozenset[str], known: Sequence[Known]
) -> Expectation:
    """Of a header's lines that which holds on a kernel."""
    return next((each for each in stated if each.applies(release, traits, known)), Expectation())


def header(text: str) -> list[str]:
    """The comment at the top of a program, line by line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines


@dataclass(frozen=True, slots=True)
class Statements:
    """What headers may refer to. known: the explained divergences that have signatures; followed: names of the other
    entries, of bugs that the model follows."""

    known: tuple[Known, ...]
    followed: frozenset[str]

    def read(self, text: str, name: str) -> tuple[Expectation, ...]:
        """What the header of the program `text` states.

        Raises:
            ProgramError: a line cannot be read, or means nothing where it is; the message begins with `name` and its
                number.
        """
        found: list[Expectation] = []
        top = len(header(text))
        for number, line in enumerate(text.splitlines(), start=1):
            if not _HEADER.match(line):
                continue
            try:
                if number > top:
                    raise ProgramError("what is expected belongs to the comment at the top")
                if found and not found[-1].is_bound:
                    raise ProgramError("never holds: the line before it does on every kernel")
                found.append(parse(line))
                self._check(found[-1])
            except ProgramError as error:
                raise ProgramError(f"{name}:{number}: {error}") from None
        return tuple(found)

    def _check(self, each: Expectation) -> None:
        """Its entries are there, and can show."""
        names = {entry.name for entry in self.known}
        for name in each.entries:
            if name in self.followed:
                raise ProgramError(
                    f"{name} has no signatures: the model follows it, so programs agree"
                )
            if name not in names:
                raise ProgramError(f"corpus/divergences/ has no {name}")


def load_statements(directory: Path) -> Statements:
    """Those that can refer to the entries in `directory`.

    Raises:
        ValueError, OSError: as `load_known`.
    """
    known = tuple(load_known(directory))
    names = {entry.name for entry in known}
    return Statements(
        known, frozenset(p.stem for p in directory.glob("*.json") if p.stem not in names)
    )


def parse(line: str) -> Expectation:
    """One line of a header.

    Raises:
        ProgramError: it is not of the form.
    """
    said, _, text = line.rstrip().removeprefix(_PREFIX).partition(": ")
    match = _LINE.fullmatch(said)
    if not line.startswith(_PREFIX) or match is None or match["verdict"] not in _VERDICTS:
        raise ProgramError(
            f"cannot read {line[:60]!r}; the form is `# expect: {'|'.join(_VERDICTS)} [ENTRY, ...] [on RELEASE, ...]"
            " [with TRAIT, ...] [without TRAIT, ...] [: TEXT]`"
        )
    entries, kernels, having, lacking = (
        tuple(match[group].split(", ")) if match[group] else ()
        for group in ("entries", "kernels", "having", "lacking")
    )
    each = Expectation(match["verdict"], entries, kernels, having, lacking, text.strip())
    if (each.verdict == KNOWN) != bool(entries):
        raise ProgramError("`known`, and no other, names entries of corpus/divergences/")
    if each.text and each.verdict not in (DIVERGES, UNKNOWN):
        raise ProgramError("only `diverges` has a signature behind a colon, and `unknown` a reason")
    if each.verdict == UNKNOWN and not each.text:
        raise ProgramError("`unknown` says why: `# expect: unknown ...: REASON`")
    wrong = [name for name in (*having, *lacking) if name not in TRAITS]
    if wrong:
        raise ProgramError(f"no change, object or configuration is called {', '.join(wrong)}")
    return each
