"""A stand-in for the model: a list of VMAs that knows mapping, unmapping and moving, and nothing of merging.

What is made against it is enough to test how programs are made; how they fare is measured on the model itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap
from abi.consts import FD_NAMES, MAP_FIXED, MREMAP_FIXED, PAGE
from abi.environment import Geometry, Object
from fuzz import trials

EINVAL, EFAULT, ENOMEM = 22, 14, 12
TASK_SIZE = 0x7FFF_FFFF_F000


@dataclass
class Piece:
    start: int
    end: int
    flags: int = 3


@dataclass
class StandInSpace:
    vmas: list[Piece] = field(default_factory=list)


@dataclass
class StandIn:
    """A run of the stand-in; `stepped` is what it has been asked to do."""

    top: int
    space: StandInSpace = field(default_factory=StandInSpace)
    stepped: list[Call] = field(default_factory=list)

    def step(self, call: Call) -> int:
        self.stepped.append(call)
        if isinstance(call, Mmap):
            return self._map(call.addr, call.length, bool(call.flags & MAP_FIXED))
        if isinstance(call, Munmap):
            return self._clear(call.addr, call.length)
        if isinstance(call, Mremap):
            return self._move(call)
        if isinstance(call, Mprotect | Madvise):
            self._cut(call.addr)
        return 0

    def _map(self, addr: int, length: int, fixed: bool) -> int:
        length = -(-length // PAGE) * PAGE
        if not fixed or not addr:
            addr = min((v.start for v in self.space.vmas), default=self.top) - length
        error = self._clear(addr, length)
        if error:
            return error
        self.space.vmas.append(Piece(addr, addr + length))
        self.space.vmas.sort(key=lambda vma: vma.start)
        return addr

    def _clear(self, addr: int, length: int) -> int:
        end = addr + -(-length // PAGE) * PAGE
        if addr % PAGE or length == 0 or end > TASK_SIZE or addr < 0:
            return -EINVAL
        self._cut(addr)
        self._cut(end)
        self.space.vmas = [v for v in self.space.vmas if v.end <= addr or v.start >= end]
        return 0

    def _cut(self, at: int) -> None:
        for i, vma in enumerate(self.space.vmas):
            if vma.start < at < vma.end and at % PAGE == 0:
                self.space.vmas[i : i + 1] = [Piece(vma.start, at), Piece(at, vma.end)]
                return

    def _move(self, call: Mremap) -> int:
        vma = next((v for v in self.space.vmas if v.start <= call.addr < v.end), None)
        if vma is None:
            return -EFAULT
        if call.flags & MREMAP_FIXED and call.old_len == call.new_len:
            self._clear(call.addr, call.old_len)
            return self._map(call.new_addr, call.new_len, fixed=True)
        return call.addr


@pytest.fixture(autouse=True)
def _no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consoles that are played here are not behind."""
    monkeypatch.setattr(trials, "LAG", 0.0)


GEOMETRY = Geometry()
_KINDS = {"memfd": (1, "tmpfs"), "file": (2, "ext4"), "devzero": (3, "devzero")}
OBJECTS = tuple(
    Object(
        fd,
        name,
        *_KINDS.get(name.removesuffix("_ro"), (0, name.rstrip("01"))),
        size=64 * PAGE,
        writable=not name.endswith("_ro"),
    )
    for name, fd in FD_NAMES.items()
)


@pytest.fixture(scope="session")
def geometry() -> Geometry:
    return GEOMETRY


@pytest.fixture(scope="session")
def objects() -> tuple[Object, ...]:
    return OBJECTS


@pytest.fixture(scope="session")
def new_run() -> Callable[[], StandIn]:
    """Starts a run; its executor has a VMA below and one above the window, and one below the top."""

    def start() -> StandIn:
        stand_in = StandIn(GEOMETRY.top - 0x4000)
        stand_in.space.vmas = [
            Piece(0x40_0000, 0x40_8000),
            Piece(GEOMETRY.top - 0x4000, GEOMETRY.top),
            Piece(0x7FFF_FFFD_E000, TASK_SIZE),
        ]
        return stand_in

    return start
