"""What a finding on one kernel of a pair says of the series: it is held against the other kernel.

Both are held to the model of the base. Where base and model agree and the patched kernel does not, the series breaks a
rule; where only the base parts from the model, the series mends that; where both do, in different ways, the model does
not state what is changed. Where both do the same, the series has no part in it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from abi.calls import Program
from abi.environment import Geometry
from abi.program import parse_all
from fuzz import findings
from fuzz.blame import KERNEL, Blame
from fuzz.booting import Booting
from fuzz.findings import Finding
from fuzz.ledger import CRASHED
from fuzz.replay import Replay, replay
from fuzz.sighting import look
from fuzz.triage import Known, explanation
from kernel_bridge import KernelExecutor
from kernels.blocks import Block, Line
from model.profile import Profile
from model.run import Model

#: Classes.
BEHAVIOUR: Final = "behaviour change"
CRASH: Final = "crash"
INCONSISTENT: Final = "self-inconsistency"
OLD: Final = "pre-existing"
UNDECIDED: Final = "undecided"
#: The model's verdict on a change.
BREAKS: Final = "breaks a rule"
FIXES: Final = "fixes a known divergence"
MENDS: Final = "does as the model says, which the base does not"
UNSTATED: Final = "changes something the model does not state"


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding. kind: its class; title: its signature; verdict: the model's, or why it is of this class; because: the
    likely reason; program: in text; calls: their number; directory: where all of it is; lines: the changed lines that
    its program executes; minimized, sequences, seconds: as in `fuzz.findings.Finding`."""

    kind: str
    title: str
    verdict: str
    program: str
    calls: int
    directory: str
    because: str = ""
    lines: tuple[Line, ...] = ()
    minimized: str = ""
    sequences: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "class": self.kind,
            "title": self.title,
            "verdict": self.verdict,
            "because": self.because,
            "program": self.program,
            "calls": self.calls,
            "directory": self.directory,
            "lines": [f"{path}:{number}" for path, number in self.lines],
            "sequences": self.sequences,
            "seconds": self.seconds,
        }


class Judge:
    """Judges, on kernels that it boots, both at once, when one is first needed. profile: the base's; watched: blocks of
    the patched kernel."""

    def __init__(
        self,
        base: str,
        patched: str,
        profile: Profile,
        known: Sequence[Known],
        watched: Sequence[Block],
        *,
        user: bool,
    ) -> None:
        self._names = {"base": base, "patched": patched}
        self._profile = profile
        self._known = known
        self._watched = watched
        self._user = user
        self._booting: dict[str, Booting] = {}
        self._executors: dict[str, KernelExecutor] = {}

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the kernels."""
        for booting in self._booting.values():
            booting.close()
        self._booting.clear()
        self._executors.clear()

    def judge(self, directory: Path, side: str) -> Judged | None:
        """What was found in a directory, on the `side` "base" or "patched"; None where that is told of the other side.

        Raises:
            BridgeError: a kernel does not start.
            OSError: the directory cannot be read.
            ValueError: it is of another version.
        """
        data = json.loads((directory / "finding.json").read_text()) if _has(directory) else {}
        if not data:
            return self._failure_of_model(directory) if side == "patched" else None
        if "frames" in data:
            return self._crash(directory, data, side)
        return self._divergence(directory, findings.load(directory), side)

    def _failure_of_model(self, directory: Path) -> Judged:
        title = (directory / "report.md").read_text().partition("\n")[0]
        program = (directory / "program").read_text()
        verdict = "of the model itself, whatever the kernel"
        assert title.startswith(CRASHED)
        return Judged(OLD, title, verdict, program, 0, str(directory))

    def _divergence(self, directory: Path, finding: Finding, side: str) -> Judged | None:
        known = explanation(finding.signature, finding.environment.release, self._known)
        other = self._replay("patched" if side == "base" else "base", finding.program, finding)
        found = Judged(
            BEHAVIOUR,
            finding.signature,
            "",
            finding.program_text(finding.program),
            len(finding.program),
            str(directory),
            finding.blame.because,
            minimized=finding.minimized,
            sequences=finding.sequences,
            seconds=finding.seconds,
        )
        if side == "patched":
            found = replace(found, lines=self._lines(finding))
        if other is None:
            return replace(found, kind=UNDECIDED, verdict="the other kernel could not be asked")
        if other.text == finding.signature:
            same = "the base does the same"
            verdict = f"{same}: {known.cause}" if known else same
            old = replace(found, kind=OLD, verdict=verdict, because="")
            return None if side == "base" else old
        if other.divergence is not None:
            return None if side == "base" else replace(found, verdict=UNSTATED)
        if side == "base":
            verdict = FIXES if known else MENDS
            return replace(found, verdict=verdict, because=known.cause if known else "")
        if finding.divergence.theirs.inconsistent:
            found = replace(found, kind=INCONSISTENT)
        return replace(found, verdict=BREAKS, because=_because(finding.blame))

    def _replay(self, side: str, program: Program, finding: Finding) -> Replay | None:
        """What becomes of the program there, if it is the same twice and can be told."""
        executor = self._executor(side)
        model = Model(executor.environment, self._profile)
        named, full = [("", program)], finding.replay.full
        first, second = (replay(named, executor, model, full=full)[0] for _ in range(2))
        same = first.theirs == second.theirs and first.text == second.text
        return first if same and first.is_complete else None

    def _lines(self, finding: Finding) -> tuple[Line, ...]:
        """All lines of the watched blocks that the program reaches."""
        if not self._watched:
            return ()
        executor = self._executor("patched")
        executor.run([finding.program])
        lines: set[Line] = set()
        for place in executor.reached():
            lines |= self._watched[place].lines
        return tuple(sorted(lines))

    def _crash(self, directory: Path, data: dict[str, Any], side: str) -> Judged | None:
        signature = data["signature"]
        reduced = directory / "reduced"
        text = reduced.read_text() if reduced.is_file() else data["program"]
        found = Judged(
            CRASH,
            signature,
            "on the patched kernel only",
            text,
            sum(map(len, parse_all(text, Geometry()))),
            str(directory),
            data["again"],
            sequences=data["sequences"],
            seconds=data["seconds"],
        )
        other = self._names["patched" if side == "base" else "base"]
        seen = look(other, text, user=self._user, wanted=signature)
        if signature in seen.signatures:
            same = replace(found, kind=OLD, verdict="the base does the same")
            return None if side == "base" else same
        if side == "base":
            # What did not come again there says nothing of the other.
            kind, verdict = (BEHAVIOUR, MENDS) if data["stable"] else (OLD, "on the base, once")
            return replace(found, kind=kind, verdict=verdict)
        if seen.unseen:
            return replace(found, verdict=f"the base could not be asked: {seen.unseen}")
        return found

    def _executor(self, side: str) -> KernelExecutor:
        if side not in self._executors:
            self._booting = self._booting or {
                each: Booting(name, user=self._user) for each, name in self._names.items()
            }
            executor = self._booting[side].executor()
            if side == "patched" and self._watched:
                executor.watch([block.address for block in self._watched])
            self._executors[side] = executor
        return self._executors[side]


def _because(blame: Blame) -> str:
    """Why the patched kernel is wrong, where the base is right."""
    if blame.suspect == KERNEL:
        return blame.because
    return f"the rule, which the base follows: {blame.rules[-1]}" if blame.rules else ""


def _has(directory: Path) -> bool:
    return (directory / "finding.json").is_file()
