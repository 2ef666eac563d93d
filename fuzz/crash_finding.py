"""A kernel's report on disk: a directory as for a divergence, with what ran before it and what is left of that.

findings/<title>/report.md, report.html   for people: what ran, how it came again, the report with file and line
                 program    the program that was running
                 before     up to a thousand before it, oldest first
                 reduced    the fewest programs and calls that bring it about, where that was found out
                 repro.c, kselftest.c    the one program that is left, for those who have no vmadiff
                 console.log     the last that the kernel printed
                 finding.json    all of that for other programs
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_all, format_program
from fuzz.findings import name_of, reproducers
from fuzz.headlines import Crash
from fuzz.pages.text import page
from fuzz.replay import Replay
from fuzz.storage import write_atomically, write_directory
from fuzz.symbols import locate
from fuzz.trials import Ran

#: Programs that are kept of what ran before.
BEFORE: Final = 1000


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is left of a series that shows a crash. how: in a line."""

    series: tuple[Ran, ...]
    how: str


@dataclass(frozen=True, slots=True)
class CrashFinding:
    """A report of the kernel.

    ran: what was running; before: what ran before it, oldest first; console: the last that the kernel printed; shown:
    what brought the report about again, with `ran` its last, nothing if it did not come; again: how that went; worker:
    which of several workers on one kernel saw it with programs of its own, -1 if there is one; places: why its
    functions have no file and line, "" if they have; predicted: the model's packed trace of what is `left`, observed in
    full, empty where there is none; sequences, seconds: as in `fuzz.findings.Finding`.
    """

    crash: Crash
    ran: Ran
    before: tuple[Ran, ...]
    console: str
    environment: Environment
    profile: str
    shown: tuple[Ran, ...]
    again: str
    worker: int = -1
    places: str = ""
    reduction: Reduction | None = None
    predicted: bytes = b""
    sequences: int = 0
    seconds: float = 0.0

    @property
    def program(self) -> Program:
        """What was running."""
        return self.ran.program

    @property
    def stable(self) -> bool:
        """The program alone brought the report about again."""
        return len(self.shown) == 1

    @property
    def left(self) -> Program | None:
        """The smallest program that brings the report about alone, if one does."""
        series = self.reduction.series if self.reduction else self.shown
        return series[0].program if len(series) == 1 else None

    @property
    def signature(self) -> str:
        """One line that is the same for each report of one fault."""
        return self.crash.signature

    @property
    def name(self) -> str:
        """That of its directory. Which worker it was is not known where it did not come again."""
        name = name_of(self.signature)
        return name if self.stable or self.worker < 0 else f"{name}-worker-{self.worker}"

    def located(self, vmlinux: Path | None) -> "CrashFinding":
        """With file and line behind the functions in its text. Its title and frames stay: they are to be the same where
        there are no symbols."""
        text, lacking = locate(self.crash.text, vmlinux)
        return replace(self, crash=replace(self.crash, text=text), places=lacking)

    def reproducers(self) -> dict[str, bytes]:
        """C files by name, as far as what is left can be said in C: on a kernel without the fault, all is as the model
        says."""
        replay = self._replay(self.predicted)
        return reproducers(replay, self.crash.title, self.profile) if replay else {}

    def _replay(self, kernel: bytes) -> Replay | None:
        """What is left as the model predicts it, if there is a prediction, beside a kernel's packed trace."""
        if self.left is None or not self.predicted:
            return None
        return Replay.of(self.left, self.environment, (self.predicted, kernel), full=True)

    def text(self) -> str:
        """The report for people."""
        return self._text(self.reproducers())

    def _text(self, in_c: Collection[str]) -> str:
        rows = [
            ("kernel", f"{self.environment.release} {self.environment.machine}"),
            ("profile", self.profile),
            ("stack", " < ".join(self.crash.frames) or "unknown"),
            ("again", self.again + ("" if self.shown else ": see before")),
        ]
        if self.reduction:
            rows.append(("reduced", self.reduction.how))
        if in_c:
            rows.append(("in C", ", ".join(in_c)))
        if self.places:
            rows.append(("source", f"no file and line: {self.places}"))
        lines = [self.crash.title, "", *(f"{name:<8} {value}" for name, value in rows)]
        lines += ["", "program", *self._indented(self.program)]
        if self.reduction and [each.program for each in self.reduction.series] != [self.program]:
            lines += ["", "reduced"]
            for number, each in enumerate(self.reduction.series):
                lines += ["    --"] * bool(number) + self._indented(each.program)
        return "\n".join([*lines, "", "the kernel's report", self.crash.text])

    def _indented(self, program: Program) -> list[str]:
        text = format_program(program, self.environment.geometry)
        return [f"    {line}" for line in text.splitlines()]

    def write(self, directory: Path) -> tuple[Path, bool]:
        """Write it below `directory`, unless it is there; its path, and whether it was not.

        Raises:
            OSError: it could not be written; nothing is left behind.
        """
        path = directory / self.name
        return path, write_directory(path, self._files())

    def rewrite(self, path: Path) -> None:
        """Bring what was written up to date.

        Raises:
            OSError: it could not be written.
        """
        for name, data in self._files().items():
            write_atomically(path / name, data, durable=True)

    def _files(self) -> dict[str, bytes]:
        geometry = self.environment.geometry
        head = f"# {self.crash.title}\n# {self.environment.release}, profile {self.profile}\n"
        before = format_all([each.program for each in self.before], geometry)
        in_c = self.reproducers()
        text = self._text(in_c)
        data: dict[str, Any] = {
            "signature": self.signature,
            "title": self.crash.title,
            "class": str(self.crash.kind),
            "frames": list(self.crash.frames),
            "stable": self.stable,
            "again": self.again,
            "program": format_program(self.program, geometry),
            "full": self.ran.full,
            "profile": self.profile,
            "environment": self.environment.to_json(),
            "sequences": self.sequences,
            "seconds": self.seconds,
        }
        files = {
            "report.md": text.encode(),
            "program": f"{head}{format_program(self.program, geometry)}".encode(),
            "before": f"{head}# what ran before\n{before}".encode(),
            "console.log": self.console.encode(),
        }
        if self.reduction:
            data["reduced"] = [
                {"program": format_program(each.program, geometry), "full": each.full}
                for each in self.reduction.series
            ]
            series = format_all([each.program for each in self.reduction.series], geometry)
            files["reduced"] = f"{head}# {self.reduction.how}\n{series}".encode()
        files |= in_c
        files["finding.json"] = json.dumps(data, indent=1).encode() + b"\n"
        predicted = self._replay(b"")
        files["report.html"] = page(self.crash.title, text, sorted(files), predicted).encode()
        return files
