"""What a running session looks like: a status block on a terminal, lines elsewhere, and the closing summary.

Pure: figures in, text out. Only `Screen` writes.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

#: Seconds between redrawings of the block, and between lines where there is no terminal.
_REDRAW = 0.5
_LINE = 10.0


@dataclass(slots=True)
class Figures:
    """The state of a session, summed over its workers."""

    seconds: float = 0.0
    #: Limits; None where there is none.
    time_limit: float | None = None
    run_limit: int | None = None
    sequences: int = 0
    calls: int = 0
    sequences_per_second: float = 0.0
    calls_per_second: float = 0.0
    corpus: int = 0
    covered: int = 0
    branches: int = 0
    #: Blocks of the kernel that were reached, where it tells.
    blocks: int = 0
    new: int = 0
    known: int = 0
    unstable: int = 0
    unmodelled: dict[str, int] = field(default_factory=dict)
    executor_restarts: int = 0
    worker_restarts: int = 0
    losses: int = 0
    mremap_success: float = 0.0
    multi_vma: float = 0.0
    workers: int = 1
    guided: bool = True
    #: The programs are those of a bound, `run_limit` of them.
    enumerated: bool = False


def status_line(f: Figures) -> str:
    """The figures in one line."""
    parts = [
        f"{duration(f.seconds)}{_remaining(f) if f.enumerated else ''}",
        f"{f.sequences:,} sequences ({f.sequences_per_second:,.0f}/s)",
        f"{f.calls:,} calls ({f.calls_per_second:,.0f}/s)",
        *(() if f.enumerated else (f"corpus {f.corpus:,}", f"coverage {coverage(f)}{_blocks(f)}")),
        f"divergences {f.new} new {f.known} known",
        f"unmodelled {sum(f.unmodelled.values()):,}",
        f"restarts {f.executor_restarts:,}",
    ]
    return "  ".join(parts)


def status_block(f: Figures, title: str, columns: int) -> list[str]:
    """The figures as the lines of a block, none longer than `columns`."""
    reached = f"  corpus       {f.corpus:>13,}  coverage {coverage(f)}{_blocks(f)}"
    moves = (
        f"  mremap       {f.mremap_success:>12.1%}  succeed, {f.multi_vma:.1%} of moves span VMAs"
    )
    rows = [
        title,
        f"  time         {duration(f.seconds)} elapsed{_remaining(f)}",
        f"  sequences    {f.sequences:>13,}  {f.sequences_per_second:>9,.0f}/s",
        f"  calls        {f.calls:>13,}  {f.calls_per_second:>9,.0f}/s",
        *(() if f.enumerated else (reached,)),
        f"  divergences  {f.new:>9,} new  {f.known} known, {f.unstable} unstable",
        f"  unmodelled   {sum(f.unmodelled.values()):>13,}{_reasons(f.unmodelled)}",
        f"  executor     {f.executor_restarts:>4,} restarts  {f.losses} kinds of loss,"
        f" {f.worker_restarts} worker restarts",
        *(() if f.enumerated else (moves,)),
    ]
    return [row[: max(columns - 1, 1)] for row in rows]


def summary(f: Figures, profile: str, target: str, seed: int | None = None) -> list[str]:
    """What is said at the end; seed: where programs were made at random."""
    seeded = "" if seed is None else f", seed {seed}"
    lines = [
        f"{f.sequences:,} sequences, {f.calls:,} calls in {f.seconds:.1f} s"
        f" ({f.sequences_per_second:,.0f} sequences/s, {f.calls_per_second:,.0f} calls/s)",
        f"target {target}, profile {profile}{seeded}, {f.workers} worker"
        + ("s" if f.workers > 1 else ""),
    ]
    if f.enumerated:
        lines.append(f"executor restarts {f.executor_restarts:,}")
    else:
        lines += [
            f"corpus {f.corpus:,}, coverage {coverage(f)}{_blocks(f)}, executor restarts {f.executor_restarts:,}",
            f"mremap: {f.mremap_success:.1%} succeed;"
            f" {f.multi_vma:.1%} of fixed equal-size moves span two or more VMAs",
        ]
    lines += [
        f"unmodelled {sum(f.unmodelled.values()):,}",
        *(f"  {count:,} {reason}" for reason, count in _by_count(f.unmodelled)),
    ]
    lines.append(f"divergences: {f.new} new, {f.known} known, {f.unstable} unstable")
    return lines


def coverage(f: Figures) -> str:
    """Branches of the model reached, of how many."""
    return f"{f.covered:,} of {f.branches:,}" if f.guided else "not measured"


def _blocks(f: Figures) -> str:
    return f" and {f.blocks:,} blocks of the kernel" if f.blocks else ""


def duration(seconds: float) -> str:
    """Seconds as a clock: 1:02 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _remaining(f: Figures) -> str:
    parts = []
    if f.time_limit is not None:
        parts.append(f"{duration(max(0.0, f.time_limit - f.seconds))} remaining")
    if f.run_limit is not None:
        left = max(0, f.run_limit - f.sequences)
        parts.append(f"{left:,} sequences remaining")
        if f.enumerated and f.sequences_per_second:
            parts.append(f"about {duration(left / f.sequences_per_second)} left")
    return "".join(f", {part}" for part in parts)


def _reasons(unmodelled: dict[str, int]) -> str:
    return f"  {_by_count(unmodelled)[0][0]}" if unmodelled else ""


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def columns() -> int | None:
    """The width of the terminal that standard output is, None if it is none."""
    return (os.get_terminal_size(1).columns or 80) if sys.stdout.isatty() else None


class Screen:
    """Where a session shows itself: redraws in place on a terminal, prints now and then elsewhere."""

    def __init__(self, stream: TextIO, columns: int | None) -> None:
        """`columns` is the width of the terminal, None where `stream` is none."""
        self._stream = stream
        self._columns = columns
        self._drawn = 0
        self._last = -_LINE if columns else time.monotonic()

    def note(self, text: str) -> None:
        """Say something that stays."""
        self._erase()
        self._stream.write(f"{text}\n")
        self._stream.flush()
        if self._columns:
            self._last = -_LINE

    def update(self, figures: Figures, title: str) -> None:
        """Show the figures if it is time to."""
        now = time.monotonic()
        if now - self._last < (_REDRAW if self._columns else _LINE):
            return
        self._last = now
        if self._columns is None:
            self._stream.write(f"{status_line(figures)}\n")
        else:
            self._erase()
            block = status_block(figures, title, self._columns)
            self._stream.write("".join(f"{line}\n" for line in block))
            self._drawn = len(block)
        self._stream.flush()

    def close(self) -> None:
        """Take the block away."""
        self._erase()
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\r\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
