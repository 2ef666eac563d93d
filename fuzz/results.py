"""Replays and findings as results in the sense of `fuzz.formats`."""

from collections.abc import Sequence
from pathlib import Path

from abi.program import call_lines
from fuzz.catalog import CRASH, NEW, UNSTABLE, Row
from fuzz.corpus import DIVERGENCES
from fuzz.formats import Result, Verdict
from fuzz.headlines import Crash
from fuzz.replay import Replay
from fuzz.triage import Known, load_known
from fuzz.verdict import AGREES, CRASHED, DIVERGES, KNOWN, UNKNOWN, judge


def of_replays(
    replays: Sequence[Replay], files: Sequence[Path], crashes: Sequence[Crash]
) -> list[Result]:
    """What replayed programs gave, in which `files` they are, and what the kernel reported meanwhile. Programs of one
    file are in the order in which they are in it.

    Raises:
        OSError, ValueError: the explained divergences cannot be read.
    """
    known = load_known(DIVERGENCES)
    lines = {file: call_lines(_text(file)) for file in files}
    results = []
    for replay, file in zip(replays, files, strict=True):
        results.append(_of_replay(replay, str(file), lines[file], known))
        lines[file] = lines[file][len(replay.program) :]
    told = {result.gist for result in results}
    return results + [
        Result(crash.title, CRASHED, f"{crash.signature}\n{crash.text}")
        for crash in crashes
        if crash.signature not in told
    ]


def _of_replay(replay: Replay, file: str, lines: Sequence[int], known: Sequence[Known]) -> Result:
    verdict = judge(replay, replay.environment.release, known)
    made = min(len(replay.ours), len(replay.theirs))
    index = replay.divergence.index if replay.divergence is not None else made
    at = lines[index] if verdict.kind != AGREES and index < len(lines) else 0
    detail = [verdict.text, *replay.lines()] if verdict.kind in (DIVERGES, CRASHED) else []
    return Result(replay.name, verdict.kind, "\n".join(detail) or verdict.text, None, file, at)


def of_row(row: Row, state: Path) -> Result:
    """What a finding in the directory `state` says. One with a status of the maintainer's own is known."""
    verdicts: dict[str, Verdict] = {NEW: DIVERGES, CRASH: CRASHED, UNSTABLE: UNKNOWN}
    verdict = verdicts.get(row.status, KNOWN)
    detail = _text(state / row.path / "report.md") if row.page else ""
    program = state / row.path / "program"
    lines = call_lines(_text(program))
    at = lines[row.call] if 0 <= row.call < len(lines) else 0
    gist = f"{row.title} ({row.status})"
    text = "\n".join(filter(None, (gist, row.detail, detail)))
    return Result(row.path, verdict, text, None, str(program) if lines else "", at)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
