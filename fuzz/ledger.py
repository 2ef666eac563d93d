"""What a worker has found: counted by signature, told once, and written down: findings, unstable ones, losses."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program
from fuzz import corpus, findings
from fuzz.crash_finding import CrashFinding
from fuzz.findings import Finding
from fuzz.produce import Prepared
from fuzz.settings import Settings
from fuzz.storage import write_atomically
from fuzz.triage import Known, explanation

#: Signatures that are looked into, and kinds of loss that are written down, per worker.
_MOST_SIGNATURES: Final = 500
_MOST_LOSSES: Final = 100
#: How the signature of a failure of the model itself begins.
CRASHED: Final = "the model failed"
_SPARED: Final = "no, for it is known, and has a smaller program there"

Tell = Callable[..., None]


class Ledger:
    """One worker's. seen: how often each signature was; unstable: what did not come again; losses: how often an
    executor was lost in each way; confirmed: something was found that is not known."""

    def __init__(
        self, settings: Settings, environment: Environment, known: Sequence[Known], tell: Tell
    ) -> None:
        self._settings = settings
        self._state = settings.state_path
        self._environment = environment
        self._known = list(known)
        self._tell = tell
        self.seen: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.unstable = 0
        self.confirmed = False
        #: Programs compared, which is told with what they show.
        self.sequences = 0

    def counts(self, signature: str) -> bool:
        """Whether there is no need to look into it: it was seen before, which is counted, or there are too many."""
        if not self.seen[signature] and len(self.seen) < _MOST_SIGNATURES:
            return False
        self.seen[signature] += 1
        return True

    def divergence(
        self, finding: Finding, refine: Callable[[Finding], Finding] = lambda finding: finding
    ) -> None:
        """A divergence that was looked into. It is written down as it is, then as `refine` makes it, unless that is
        done or under way."""
        if not finding.stable:
            self.unstable += 1
            findings.write(self._state / "unstable", finding)
            return
        text = finding.signature
        self.seen[text] += 1
        known = self._explained(text)
        path = ""
        try:
            if known is None:
                directory, _ = findings.write(self._state / "findings", finding)
                path = str(directory)
                with findings.claimed(directory) as is_ours:
                    if is_ours:
                        spared = self._is_spared(text)
                        finding = replace(finding, minimized=_SPARED) if spared else refine(finding)
                        findings.rewrite(directory, finding)
        finally:
            self._find(text, path, known, "" if path or known else finding.text(), finding)

    def crash(self, finding: CrashFinding) -> Path | None:
        """A report of the kernel, which is a finding even if it does not come again; where it was written down, None if
        it is not to be made smaller: it is known, or there already."""
        text = finding.signature
        self.seen[text] += 1
        self.unstable += not finding.stable
        known = self._explained(text)
        path, new = None, False
        try:
            if known is None:
                path, new = finding.write(self._state / "findings")
        finally:
            self._find(text, str(path or ""), known, "" if path or known else finding.text())
        return path if new and not self._is_spared(text) else None

    def _is_spared(self, text: str) -> bool:
        """Whether a finding need not be made smaller: its programs are with what is known, and time is for others."""
        return not self._settings.reduce_known and self._known_as(text) is not None

    def failure(self, prepared: Prepared) -> None:
        """The model itself failed: a finding, though not about the kernel."""
        where = [line.strip() for line in prepared.crash.strip().splitlines()]
        place = next((line for line in reversed(where) if line.startswith("File ")), "")
        place = place.rpartition("/")[2].replace('"', "")
        text = f"{CRASHED}: {where[-1][:80]} ({place})"
        if self.counts(text):
            return
        self.seen[text] += 1
        calls = format_program(prepared.program, self._environment.geometry)
        path = findings.write_crash(self._state / "findings", text, calls, prepared.crash)
        self._find(text, str(path), None, "")

    def loss(self, program: Program, reason: str) -> None:
        """Keep one program for each way an executor was lost."""
        self.losses[reason] += 1
        if self.losses[reason] > 1 or len(self.losses) > _MOST_LOSSES:
            return
        text = f"# {reason}\n{format_program(program, self._environment.geometry)}"
        directory = self._state / "losses"
        directory.mkdir(exist_ok=True)
        name = findings.name_of(reason) + corpus.SUFFIX
        write_atomically(directory / name, text.encode())

    def figures(self) -> dict[str, Any]:
        """Its part of a worker's figures."""
        return {
            "sequences": self.sequences,
            "unstable": self.unstable,
            "losses": len(self.losses),
            "occurrences": dict(self.seen),
        }

    def _explained(self, text: str) -> Known | None:
        """What masks it."""
        return None if self._settings.unmask else self._known_as(text)

    def _known_as(self, text: str) -> Known | None:
        return explanation(text, self._environment.release, self._known)

    def _find(
        self,
        text: str,
        path: str,
        known: Known | None,
        report: str,
        finding: Finding | None = None,
    ) -> None:
        self.confirmed = self.confirmed or self._known_as(text) is None
        self._tell(
            "finding",
            signature=text,
            path=path,
            cause=known.cause if known else "",
            report=report,
            kernel=self._environment.release,
            signature_there=text,
            index=self.sequences,
            calls=len(finding.program) if finding else 0,
            minimized=finding.minimized if finding else "",
            minimize_seconds=finding.minimize_seconds if finding else 0.0,
        )
