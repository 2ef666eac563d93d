"""The figures of a campaign over time: STATE/history.jsonl, to which sessions append a line at intervals.

A line is a JSON object. Nothing is ever rewritten; a line that was cut short, as its session died, is passed over.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Final

NAME: Final = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Point:
    """A session at one moment.

    at: seconds since 1970; session: its name, the same for all its points; seconds: how long it has run; rates: over
    its last seconds; findings: directories of findings in the state directory; new, known, unstable, losses: of this
    session; coverage, branches: of the model, reached and all; blocks: of the kernel, reached.
    """

    at: int
    session: str
    kernel: str
    profile: str
    seconds: float
    sequences: int
    calls: int
    sequences_per_second: float
    calls_per_second: float
    corpus: int
    coverage: int
    branches: int
    blocks: int
    findings: int
    new: int
    known: int
    unstable: int
    losses: int


_NAMES: Final = tuple(field.name for field in fields(Point))
_TEXTS: Final = ("session", "kernel", "profile")


def append(state: Path, point: Point) -> None:
    """Add a line to the history in the directory `state`.

    Raises:
        OSError: it could not be written.
    """
    line = json.dumps(asdict(point)).encode() + b"\n"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(state / NAME, flags, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # the line before was cut short, and stays alone
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read(state: Path) -> tuple[list[Point], int]:
    """The points in the directory `state` in the order in which they were written, and how many lines are damaged.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        lines = (state / NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return [], 0
    points = [_parse(line) for line in lines if line.strip()]
    good = [point for point in points if point is not None]
    return good, len(points) - len(good)


def _parse(line: bytes) -> Point | None:
    try:
        data = json.loads(line)
        values = {name: data[name] for name in _NAMES}
    except (ValueError, KeyError, TypeError):
        return None
    if all(isinstance(values[n], str if n in _TEXTS else int | float) for n in _NAMES):
        return Point(**values)
    return None


def sessions(points: Iterable[Point]) -> list[list[Point]]:
    """The points of each session, in the order in which sessions began; points in the order of time."""
    ordered = sorted(points, key=lambda point: (point.session, point.seconds))
    groups = [list(group) for _, group in groupby(ordered, key=lambda point: point.session)]
    return sorted(groups, key=_began)


def _began(points: Sequence[Point]) -> float:
    return points[0].at - points[0].seconds
