"""How far a session came, in STATE/session.json, and how another goes on there: `vmadiff fuzz --resume`.

The file is that of the last session in the directory. It is written when the session begins, with each finding, and
whenever it writes itself down (`fuzz.chronicle`): a session that is killed loses the counts since then. Findings and
the corpus are files of their own, and what was in flight is too (`fuzz.inflight`).
"""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from fuzz.follow import state_of
from fuzz.status import UsageError
from fuzz.storage import sweep, write_atomically

NAME: Final = "session.json"
#: What is looked up of what a session was asked.
_ASKED: Final = {
    "also", "changes", "corpus", "guided", "held", "profile", "release", "runs", "seconds", "seed", "seeds", "target",
    "unmask", "user", "workers",
}  # fmt: skip
#: Directories of a state directory that have a directory or file for each thing.
_KINDS: Final = ("findings", "unstable", "known", "losses")


@dataclass(slots=True)
class Past:
    """What a session was asked and has done.

    session: its name, which stays the same; process: its process id and when that began (ticks since the boot); at:
    when it began (seconds since 1970); options: as `fuzz.session.Options`, plain; resumed: how often it went on;
    incarnation: how often workers began anew, with other programs; seconds: for which it ran; sums: of workers'
    figures; covered, branches, blocks, worker_restarts: as `fuzz.display.Figures`, covered by number; followers: sums
    by kernel; findings: what workers told of each, by signature; left: kernels that were lost for good, and why.
    """

    session: str
    process: tuple[int, int]
    at: int
    options: dict[str, Any]
    resumed: int = 0
    incarnation: int = 0
    seconds: float = 0.0
    sums: dict[str, Any] = field(default_factory=dict)
    covered: list[int] = field(default_factory=list)
    branches: int = 0
    blocks: int = 0
    worker_restarts: int = 0
    followers: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: dict[str, dict[str, str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """Its process is alive."""
        return began(self.process[0]) == self.process[1]


def began(pid: int) -> int:
    """When a process began (ticks since the boot), 0 if there is none (proc_pid_stat(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    state, *rest = stat.rpartition(")")[2].split()
    return 0 if state in "ZX" else int(rest[18])


def read(state: Path) -> Past | None:
    """That of the last session in the directory `state`; None if there is none, or it is damaged."""
    try:
        data = json.loads((state / NAME).read_bytes())
        past = Past(**data)
        first, second = past.process
        past.process = int(first), int(second)
        return past
    except (OSError, ValueError, TypeError):
        return None


def write(state: Path, past: Past, *, begins: bool = False) -> None:
    """Write it down; unless it `begins`, not if another session has begun in the directory `state`.

    Raises:
        OSError: it could not be written.
    """
    last = None if begins else read(state)
    if last is None or last.session == past.session:
        write_atomically(state / NAME, json.dumps(asdict(past)).encode() + b"\n")


def take_up(options: Namespace) -> Past:
    """The last session of `--state`, to go on. What the command line does not say becomes what that session was asked.

    Raises:
        UsageError: there is none, it is running, it was on another kernel, or nothing is left of its limits.
    """
    past = read(options.state)
    if past is None:
        raise UsageError(f"{options.state}: there is no session to resume")
    if past.is_running:
        raise UsageError(f"{options.state}: its session is running (process {past.process[0]})")
    asked = past.options
    if not asked.keys() >= _ASKED:
        raise UsageError(f"{options.state / NAME}: that of another version of vmadiff")
    targets = [asked["target"], *asked["also"]]
    if options.target not in (None, targets):
        raise UsageError(f"{options.state}: its session is on {' and '.join(targets)}")
    if options.profile not in (None, asked["held"] or None):
        raise UsageError(f"{options.state}: its session expects {asked['held'] or 'no release'}")
    options.target, options.profile = targets, asked["held"] or None
    options.corpus = options.corpus or Path(asked["corpus"])
    for name in ("seed", "workers", "runs"):
        if getattr(options, name) is None:
            setattr(options, name, asked[name])
    if options.time is None:
        options.time = asked["seconds"] or 0.0
    options.user = options.user or asked["user"]
    options.unmask = options.unmask or asked["unmask"]
    options.unguided = options.unguided or not asked["guided"]
    options.unseeded = options.unseeded or not asked["seeds"]
    compared = past.sums.get("sequences", 0)
    if (options.time and past.seconds >= options.time) or (
        options.runs and compared >= options.runs
    ):
        raise UsageError(
            f"{options.state}: its session has run {past.seconds:.0f} s and {compared:,} sequences, which is all that"
            " it was to; give a longer --time, or more --runs"
        )
    return past


def check_kernel(past: Past, state: Path, release: str, profile: str, changes: list[str]) -> None:
    """See that the kernel is the one that the session was on.

    Raises:
        UsageError: it is another.
    """
    was = past.options
    before = f"{was['release']} with profile {was['profile']}"
    if (release, profile) != (was["release"], was["profile"]):
        raise UsageError(f"{state}: its session was on {before}; this is {release}, {profile}")
    if changes != list(was["changes"]):
        raise UsageError(f"{state}: its session was on {before}, with other changes than now")


def untold(past: Past, state: Path) -> Iterator[tuple[str, str]]:
    """Findings that were written since the session began and that it was not told of: signature and directory."""
    places = [("", state)]
    places += [(f" [{name}]", state_of(state, name)) for name in past.options["also"]]
    for suffix, place in places:
        for path in sorted((place / "findings").glob("*/report.md")):
            if (path.parent / "program").stat().st_mtime < past.at:
                continue
            signature = _signature(path.parent) + suffix
            if signature not in past.findings:
                yield signature, str(path.parent)


def _signature(finding: Path) -> str:
    """Of a failure of the model there is only the text."""
    try:
        return str(json.loads((finding / "finding.json").read_text())["signature"])
    except FileNotFoundError:
        return (finding / "report.md").read_text().partition("\n")[0]


def tidy(state: Path, corpus: Path, dead: int = 0) -> None:
    """Remove what processes that were killed left half written, and the logs of the `dead` session's workers.

    Raises:
        OSError: a directory cannot be read or written.
    """
    sweep(corpus)
    for place in (state, *state.glob("targets/*/")):
        sweep(place)
        for kind in _KINDS:
            for directory in (place / kind, *(place / kind).glob("*/")):
                sweep(directory)
    for path in state.glob(f"worker-{dead}-*.log"):
        path.unlink(missing_ok=True)
