"""Kernels that complain or die: which program did it, and what is kept of it.

A report on the console is tied to the programs that were running. Where that was a batch, each is run again alone on a
fresh executor, and the first with the same report is the one. Knows no guests; it is handed what they print.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program
from fuzz.console import Console, Crash, reports, worst
from fuzz.findings import name_of
from fuzz.storage import write_directory

#: Programs that are kept of what ran before.
BEFORE: Final = 1000
#: How the signature of a kernel's report begins.
KERNEL: Final = "the kernel reported"

#: Runs programs one at a time on a fresh executor: what the kernel printed during each, and whether it died.
Rerun = Callable[[Sequence[Program]], list[tuple[bytes, bool]]]


@dataclass(frozen=True, slots=True)
class CrashFinding:
    """A report of the kernel. program: what ran; before: what ran before it, oldest first; stable: the program alone
    brought the report about again."""

    crash: Crash
    program: Program
    before: tuple[Program, ...]
    environment: Environment
    profile: str
    stable: bool

    @property
    def signature(self) -> str:
        """One line that is the same for each report of one fault."""
        return f"{KERNEL}: {self.crash.key}"

    def text(self) -> str:
        """The report for people."""
        geometry = self.environment.geometry
        again = "it came again" if self.stable else "it did not come again: see before.txt"
        program = "".join(
            f"    {line}\n" for line in format_program(self.program, geometry).splitlines()
        )
        return (
            f"{self.crash.title}\n\nkernel   {self.environment.release} {self.environment.machine}\n"
            f"profile  {self.profile}\nalone    {again}\n\nprogram\n{program}\n"
            f"console\n{self.crash.text}"
        )

    def write(self, directory: Path) -> Path:
        """Write it below `directory`, unless it is there.

        Raises:
            OSError: it could not be written; nothing is left behind.
        """
        geometry = self.environment.geometry
        before = (
            f"# program {number}\n{format_program(program, geometry)}\n"
            for number, program in enumerate(self.before, 1)
        )
        data: dict[str, Any] = {
            "signature": self.signature,
            "title": self.crash.title,
            "class": self.crash.kind,
            "frames": list(self.crash.frames),
            "stable": self.stable,
            "program": format_program(self.program, geometry),
            "profile": self.profile,
            "environment": self.environment.to_json(),
        }
        path = directory / name_of(self.signature)
        files = {
            "report.txt": self.text().encode(),
            "program.prog": f"# {self.crash.title}\n{format_program(self.program, geometry)}".encode(),
            "before.txt": "".join(before).encode(),
            "console.log": self.crash.text.encode(),
            "finding.json": json.dumps(data, indent=1).encode() + b"\n",
        }
        write_directory(path, files)
        return path


class CrashWatch:
    """Follows what runs and what the kernel prints meanwhile."""

    def __init__(
        self, printed: Callable[[], bytes], environment: Environment, profile: str
    ) -> None:
        self._printed = printed
        self._environment = environment
        self._profile = profile
        self._console = Console()
        self._before: deque[Program] = deque(maxlen=BEFORE)
        self._seen: set[str] = set()

    def follow(self, program: Program) -> None:
        """It has run."""
        self._before.append(program)

    def look(self, count: int, rerun: Rerun) -> list[CrashFinding]:
        """What the kernel reported since the last look, while the `count` programs ran that were followed last; each
        report once."""
        return [
            self._blame(crash, count, rerun)
            for crash in self._console.feed(self._printed())
            if self._is_new(crash)
        ]

    def died(self, program: Program, why: str, console: str, rerun: Rerun) -> list[CrashFinding]:
        """The kernel died of this program, or of nothing that it said."""
        crash = worst(reports(console.encode()))
        if crash is None:
            crash = Crash(
                "silence", f"lost connection: {why}", (), console or "(it printed nothing)\n", True
            )
        if not self._is_new(crash):
            return []
        self._before.append(program)
        finding = self._blame(crash, 1, rerun)
        self._before.pop()
        return [finding]

    def _is_new(self, crash: Crash) -> bool:
        new = crash.key not in self._seen
        self._seen.add(crash.key)
        return new

    def _blame(self, crash: Crash, count: int, rerun: Rerun) -> CrashFinding:
        """Which of the last `count` programs it was; the last one if none does it again."""
        followed = tuple(self._before)
        suspects = followed[len(followed) - count :]
        guilty, stable = len(suspects) - 1, False
        for index, (printed, dead) in enumerate(rerun(suspects)):
            again = {other.key for other in reports(printed)}
            if crash.key in again or (dead and crash.kind == "silence"):
                guilty, stable = index, True
                break
        return CrashFinding(
            crash,
            suspects[guilty] if suspects else (),
            followed[: len(followed) - count + guilty],
            self._environment,
            self._profile,
            stable,
        )
