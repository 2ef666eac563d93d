"""A kernel as a worker sees it: what runs programs on it, what came of them, and how another executor is had.

Protocols and a value; what stands behind them is `fuzz.targets`' business, or a test's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abi.calls import Program
from abi.environment import Environment


class Loss(Protocol):
    """How an executor was lost: `text` is one line, `console` what the kernel printed as it died."""

    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def console(self) -> str: ...


class Observed(Protocol):
    """What an executor saw of one program: the packed trace, how the executor was lost, if it was, how many blocks of
    the kernel were reached for the first time, how many of the watched ones, and by how many programs before it the one
    of these that fewest have reached."""

    @property
    def data(self) -> bytes: ...
    @property
    def loss(self) -> Loss | None: ...
    @property
    def fresh(self) -> int: ...
    @property
    def near(self) -> int: ...
    @property
    def rarest(self) -> int: ...


class Executor(Protocol):
    """What is asked of `kernel_bridge.KernelExecutor`."""

    @property
    def environment(self) -> Environment: ...
    @property
    def restarts(self) -> int: ...
    def run(self, programs: Sequence[Program], *, full: bool = False) -> Sequence[Observed]: ...
    def submit(self, programs: Sequence[Program], full: Iterable[int] = ()) -> None: ...
    def collect(self, *, until_lost: bool = False) -> Sequence[Observed]: ...
    def printed(self) -> bytes: ...
    def watch(self, blocks: Sequence[int]) -> None: ...
    def reached(self) -> frozenset[int]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Site:
    """Where programs run.

    start: gives a further executor; elsewhere: one whose programs aim at other addresses; renew: one on a kernel that
    has run nothing since its boot, None where it cannot be booted at will; vmlinux: the kernel's image with its
    symbols, if it is at hand; slow: how much longer all takes than on the running kernel; silence: seconds until a
    kernel that says nothing is known to be lost, and another runs; end: called when there is no more to run.
    """

    start: Callable[[], Executor]
    elsewhere: Callable[[], Executor]
    renew: Callable[[], Executor] | None = None
    vmlinux: Path | None = None
    slow: Callable[[], float] = lambda: 1.0
    silence: Callable[[], float] = lambda: 0.0
    end: Callable[[], None] = lambda: None
