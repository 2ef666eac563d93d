"""A program that is kept for ever, with how it is to fare: made of a finding, or of any file of a program."""

import json
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Final

from abi.environment import Geometry
from abi.program import ProgramError, calls_only, parse_all
from fuzz.corpus import name_of, read_text
from fuzz.expectation import Expectation, Statements, header
from fuzz.triage import explanations
from fuzz.verdict import AGREES, DIVERGES, KNOWN

#: What a finding's program is in, the smallest first.
_PROGRAMS: Final = ("reduced", "program")
_FINDING: Final = "finding.json"
_KERNEL: Final = "kernel.json"


@dataclass(frozen=True, slots=True)
class Regression:
    """title: the comment at its top, without what is expected; stated: that; calls: all else, comments left out."""

    title: tuple[str, ...]
    stated: tuple[Expectation, ...]
    calls: str

    @property
    def name(self) -> str:
        """Of its file."""
        return name_of(self.calls)

    def text(self) -> str:
        """The file. `from_text` is its inverse."""
        return "".join(f"{line}\n" for line in (*self.title, *map(str, self.stated))) + self.calls

    def joined(self, other: "Regression") -> "Regression":
        """The same program, with what the other states before what this one does; what would never hold is left out."""
        stated: list[Expectation] = []
        for each in (*other.stated, *self.stated):
            if each not in stated:
                stated.append(each)
            if not each.is_bound:
                break
        return replace(self, stated=tuple(stated))


def from_text(text: str, name: str, statements: Statements) -> Regression:
    """The program as it is in a file.

    Raises:
        ProgramError: it is none, or its header cannot be read; the message begins with `name`.
    """
    if not any(parse_all(text, Geometry(), name)):
        raise ProgramError(f"{name}: no calls in it")
    stated = statements.read(text, name)
    lines = {str(each) for each in stated}
    title = tuple(line for line in header(text) if line not in lines)
    return Regression(title, stated, calls_only(text))


def from_path(path: Path, statements: Statements, *, fixed: bool = False) -> Regression:
    """A finding, by its directory or a file in there, or the file of a program. `fixed`: it is to agree everywhere.

    Raises:
        ProgramError: it is none; the message names the file.
        OSError: it cannot be read.
    """
    directory = path if path.is_dir() else path.parent
    file = path
    if path.is_dir():
        found = [path / name for name in _PROGRAMS if (path / name).is_file()]
        if not found:
            raise ProgramError(f"{path}: neither a program nor a finding: it has no `program`")
        file = found[0]
    made = from_text(read_text(file), str(file), statements)
    if fixed:
        return replace(made, stated=(Expectation(AGREES),))
    is_finding = file.name in _PROGRAMS and (directory / _FINDING).is_file()
    if made.stated or not is_finding:
        return made
    return replace(made, stated=(_as_found(directory, statements),))


def _as_found(directory: Path, statements: Statements) -> Expectation:
    """How the program of a finding fares where that was found."""
    try:
        text = _FINDING
        kernel = data = json.loads((directory / _FINDING).read_text())
        if (directory / _KERNEL).is_file():
            text = _KERNEL
            kernel = json.loads((directory / _KERNEL).read_text())
        signature, release = str(data["signature"]), str(kernel["environment"]["release"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramError(f"{directory / text}: not of a finding: {error!r}") from None
    entries = tuple(each.name for each in explanations(signature, release, statements.known))
    if entries:
        return Expectation(KNOWN, entries)
    return Expectation(DIVERGES, kernels=(escape(release),), text=signature)
