"""How far the programs of a bound are compared: `enumerate.json` in the state directory, which outlives any kill.

Workers take stretches of numbers and give them back when all in them is compared; what a dead one had taken is taken
again. Every change is one file written whole, under a lock, so that a session that is begun anew knows what is left.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import cachedir
from fuzz.bound import Bound
from fuzz.storage import write_atomically

NAME: Final = "enumerate.json"
#: Programs of a stretch: what is compared again after a kill, for each worker.
STRETCH: Final = 512
#: How often a stretch is begun. One that workers died of so often is left out.
_TRIES: Final = 3

_Any = TypeVar("_Any")


@dataclass(slots=True)
class Stretch:
    """Numbers from `begin` up to, not including, `end`; begun `tries` times."""

    begin: int
    end: int
    tries: int = 0


@dataclass(slots=True)
class Standing:
    """bound, target, kernel, profile: what is compared, and with what; total: how many programs there are; first: the
    number that it began with; next: the first one that nobody has taken; taken: stretches under way, by worker; again:
    to be taken first; left_out: workers died of them."""

    bound: Bound
    target: str
    kernel: str
    profile: str
    total: int
    first: int = 0
    next: int = 0
    taken: dict[str, Stretch] = field(default_factory=dict)
    again: list[Stretch] = field(default_factory=list)
    left_out: list[Stretch] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Programs that are still to be compared."""
        open_ones = [*self.taken.values(), *self.again]
        return self.total - self.next + sum(each.end - each.begin for each in open_ones)

    @property
    def compared(self) -> int:
        """The first number that is not yet compared: all below it are, or are left out."""
        return min([self.next, *(each.begin for each in [*self.taken.values(), *self.again])])

    @property
    def is_complete(self) -> bool:
        """Every program from the first on was compared."""
        return not self.left and not self.left_out

    def take(self, worker: str) -> Stretch | None:
        """What `worker` is to compare: what its dead predecessor had taken, else the next; None if nothing is left."""
        stretch = self.taken.pop(worker, None)
        if stretch is not None and stretch.tries == _TRIES:
            self.left_out.append(stretch)
            stretch = None
        if stretch is None and self.again:
            stretch = self.again.pop(0)
        if stretch is None and self.next < self.total:
            stretch = Stretch(self.next, min(self.next + STRETCH, self.total))
            self.next = stretch.end
        if stretch is not None:
            stretch.tries += 1
            self.taken[worker] = stretch
        return stretch

    def give_back(self, worker: str, begin: int) -> None:
        """Of what `worker` has taken all before `begin` is compared."""
        stretch = self.taken.pop(worker)
        if begin < stretch.end:
            self.again.insert(0, Stretch(begin, stretch.end))

    def release(self) -> None:
        """Nobody is at work: all that was taken, or left out, is to be taken again."""
        stretches = [*self.again, *self.taken.values(), *self.left_out]
        self.again = sorted((Stretch(s.begin, s.end) for s in stretches), key=lambda s: s.begin)
        self.taken, self.left_out = {}, []

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` is its inverse."""
        return {**asdict(self), "bound": self.bound.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Standing":
        """The standing that `to_json` described.

        Raises:
            TypeError, KeyError, AttributeError: `data` is not of that form.
        """
        return cls(
            **{
                **data,
                "bound": Bound.from_json(data["bound"]),
                "taken": {worker: Stretch(**each) for worker, each in data["taken"].items()},
                "again": [Stretch(**each) for each in data["again"]],
                "left_out": [Stretch(**each) for each in data["left_out"]],
            }
        )


class Progress:
    """The file in the directory `state`."""

    def __init__(self, state: Path) -> None:
        self.path = state / NAME

    def read(self) -> Standing:
        """How it stands.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not such a file.
        """
        try:
            return Standing.from_json(json.loads(self.path.read_text()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.path}: not the state of an enumeration: {error!r}") from None

    def write(self, standing: Standing) -> None:
        """Begin with `standing`.

        Raises:
            OSError: it could not be written.
        """
        write_atomically(self.path, json.dumps(standing.to_json(), indent=1).encode() + b"\n")

    def change(self, act: Callable[[Standing], _Any]) -> _Any:
        """Do something to what is written; what `act` returns.

        Raises:
            OSError, ValueError: as `read` and `write`.
        """
        with cachedir.locked(self.path.parent):
            standing = self.read()
            result = act(standing)
            self.write(standing)
        return result

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other session is at work meanwhile.

        Raises:
            BlockingIOError: one is.
            OSError: the lock cannot be had.
        """
        lock = self.path.with_suffix(".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)
