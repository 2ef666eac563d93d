"""Kernels that complain or die: which program did it, and what is kept of it.

A report on the console is tied to the programs that were running. Where that was a batch, each is run again alone on a
fresh executor, and the first with the same report is the one. Knows no guests; it is handed what they print.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_all, format_program
from fuzz.console import Console, reports
from fuzz.findings import name_of
from fuzz.headlines import FATAL, Crash, CrashKind, causes, follows, silence
from fuzz.storage import write_directory

#: Programs that are kept of what ran before.
BEFORE: Final = 1000
#: How the signature of a kernel's report begins.
KERNEL: Final = "the kernel reported"
#: Seconds without a new line after which a report without an end is taken for whole.
_PATIENCE: Final = 1.0
#: Seconds in which one report may follow from another.
_LINKED: Final = 10.0
#: Reports that are looked into.
_MOST: Final = 100

#: Runs programs one at a time on a fresh executor: what the kernel printed during each, and whether it died.
Rerun = Callable[[Sequence[Program]], list[tuple[bytes, bool]]]


@dataclass(frozen=True, slots=True)
class CrashFinding:
    """A report of the kernel. program: what ran; before: what ran before it, oldest first; console: the last that the
    kernel printed; stable: the program alone brought the report about again; worker: which of several workers on one
    kernel saw it with programs of its own, -1 if there is one."""

    crash: Crash
    program: Program
    before: tuple[Program, ...]
    console: str
    environment: Environment
    profile: str
    stable: bool
    worker: int = -1

    @property
    def signature(self) -> str:
        """One line that is the same for each report of one fault."""
        return f"{KERNEL}: {self.crash.key}"

    @property
    def name(self) -> str:
        """That of its directory. Which worker it was is not known where it did not come again."""
        name = name_of(self.signature)
        return name if self.stable or self.worker < 0 else f"{name}-worker-{self.worker}"

    def text(self) -> str:
        """The report for people."""
        geometry = self.environment.geometry
        again = "it came again" if self.stable else "it did not come again: see before.prog"
        program = "".join(
            f"    {line}\n" for line in format_program(self.program, geometry).splitlines()
        )
        return (
            f"{self.crash.title}\n\nkernel   {self.environment.release} {self.environment.machine}\n"
            f"profile  {self.profile}\nstack    {' < '.join(self.crash.frames) or 'unknown'}\n"
            f"alone    {again}\n\nprogram\n{program}\nthe kernel's report\n{self.crash.text}"
        )

    def write(self, directory: Path) -> Path:
        """Write it below `directory`, unless it is there.

        Raises:
            OSError: it could not be written; nothing is left behind.
        """
        geometry = self.environment.geometry
        head = f"# {self.crash.title}\n# {self.environment.release}, profile {self.profile}\n"
        data: dict[str, Any] = {
            "signature": self.signature,
            "title": self.crash.title,
            "class": str(self.crash.kind),
            "frames": list(self.crash.frames),
            "stable": self.stable,
            "program": format_program(self.program, geometry),
            "profile": self.profile,
            "environment": self.environment.to_json(),
        }
        path = directory / self.name
        files = {
            "report.txt": self.text().encode(),
            "program.prog": f"{head}{format_program(self.program, geometry)}".encode(),
            "before.prog": f"{head}# what ran before\n{format_all(self.before, geometry)}".encode(),
            "console.log": self.console.encode(),
            "finding.json": json.dumps(data, indent=1).encode() + b"\n",
        }
        write_directory(path, files)
        return path


class CrashWatch:
    """Follows what runs and what the kernel prints meanwhile."""

    def __init__(
        self,
        printed: Callable[[], bytes],
        environment: Environment,
        profile: str,
        worker: int = -1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`printed` gives what the kernel printed since the last time; `worker`: see `CrashFinding`."""
        self._printed = printed
        self._environment = environment
        self._profile = profile
        self._worker = worker
        self._clock = clock
        self._console = Console()
        self._before: deque[Program] = deque(maxlen=2 * BEFORE)
        #: How many were followed; which of them ran when the report began that is under way.
        self._count = 0
        self._begun: range | None = None
        self._heard = clock()
        self._seen: set[str] = set()
        self._recent: list[tuple[float, Crash]] = []

    def follow(self, program: Program) -> None:
        """It has run."""
        self._before.append(program)
        self._count += 1

    def look(
        self, count: int, rerun: Rerun, lost: int | None = None, last: bool = False
    ) -> list[CrashFinding]:
        """What the kernel reported since the last look, while the `count` programs ran that were followed last; each
        report once, when it is whole, or as it is if this is the `last` look.

        A kernel that reported an oops and still runs is not made to do it again: it is put down to the program on
        which the executor was `lost` (its index among the `count`), or the last one.
        """
        data, now = self._printed(), self._clock()
        if data:
            self._heard = now
        crashes = self._console.feed(data)
        if last or (self._console.unfinished and now - self._heard >= _PATIENCE):
            crashes += self._console.flush()
        ran = range(self._count - count, self._count)
        found = []
        for crash in crashes:
            suspects, self._begun = self._begun or ran, None
            if not self._is_new(crash):
                continue
            if crash.kind not in FATAL:
                found.append(self._blame(crash, suspects, rerun))
            else:
                one = ran if lost is None else ran[lost : lost + 1]
                found.append(self._blame(crash, one, None))
        self._begun = (self._begun or ran) if self._console.unfinished else None
        return found

    def died(self, program: Program, why: str, console: str, rerun: Rerun) -> list[CrashFinding]:
        """The kernel died of this program, or of nothing that it said."""
        crashes = self._console.feed(console.encode()) + self._console.flush()
        self._begun = None
        if not causes(crashes):
            crashes = [silence(f"lost connection: {why}", console or "(it printed nothing)\n")]
        self.follow(program)
        place = range(self._count - 1, self._count)
        found = [
            self._blame(crash, place, rerun) for crash in causes(crashes) if self._is_new(crash)
        ]
        self._before.pop()
        self._count -= 1
        self._recent = []  # what comes now is another boot's
        return found

    def _is_new(self, crash: Crash) -> bool:
        """Whether it follows from no other, and none like it has been."""
        now = self._clock()
        self._recent = [(at, one) for at, one in self._recent if now - at < _LINKED]
        explained = follows(crash, [one for _, one in self._recent])
        self._recent.append((now, crash))
        if explained or crash.key in self._seen or len(self._seen) >= _MOST:
            return False
        self._seen.add(crash.key)
        return True

    def _blame(self, crash: Crash, suspects: range, rerun: Rerun | None) -> CrashFinding:
        """Which of the suspects it was; the last one if none does it again."""
        first = self._count - len(self._before)
        programs = list(self._before)
        suspects = range(max(suspects.start, first), suspects.stop)
        guilty, stable = suspects.stop - 1, False
        console = self._console.text
        if rerun is not None:
            for place, (printed, dead) in zip(
                suspects, rerun([programs[i - first] for i in suspects]), strict=False
            ):
                again = {other.key for other in reports(printed)}
                if crash.key in again or (dead and crash.kind is CrashKind.SILENCE):
                    guilty, stable = place, True
                    break
        at = guilty - first
        return CrashFinding(
            crash,
            programs[at] if suspects else (),
            tuple(programs[max(0, at - BEFORE) : max(0, at)]),
            console,
            self._environment,
            self._profile,
            stable,
            self._worker,
        )
