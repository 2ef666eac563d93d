"""The baseline: what a Python user would write first. A Hypothesis state machine makes mm calls by ctypes in its own
process, in a window of 64 pages, reads /proc/self/maps after each step and compares it with the model.

    python bench/hypothesis_baseline.py SECONDS

prints one line of JSON: sequences, steps, seconds.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, arguments
from abi.environment import Environment, Geometry
from abi.trace import PERM_EXEC, PERM_READ, PERM_SHARED, PERM_WRITE
from model.profile import PROFILES
from model.run import Model

PAGE = 4096
WINDOW = 0x2_0000_0000
PAGES = 64
STEPS = 8
_FIXED_PRIVATE = 0x32
_MAYMOVE_FIXED = 3
_PERMS = {"r": PERM_READ, "w": PERM_WRITE, "x": PERM_EXEC, "s": PERM_SHARED}

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NUMBERS = {Mmap: 9, Mprotect: 10, Munmap: 11, Mremap: 25, Madvise: 28}

starts = st.integers(0, PAGES - 9)
lengths = st.integers(1, 8)
prots = st.sampled_from((0, 1, 3))
counts = {"sequences": 0, "steps": 0}


model = Model(Environment(Geometry(), (), (), config=frozenset(("THP", "KSM"))), PROFILES["6.18"])


def do(call: Call) -> int:
    """Make the system call here; its raw result."""
    value = libc.syscall(NUMBERS[type(call)], *map(ctypes.c_ulong, arguments(call)))
    return -ctypes.get_errno() if value == -1 else int(value)


def read_layout() -> list[tuple[int, int, int, int, str, str]]:
    """The whole layout as /proc/self/maps shows it: start, end, permissions, offset, device and inode, name."""
    layout = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, letters, offset, device, inode, *name = line.split(maxsplit=5)
            start, end = (int(word, 16) for word in addresses.split("-"))
            perms = sum(_PERMS.get(letter, 0) for letter in letters)
            where = f"{device}:{inode}"
            layout.append((start, end, perms, int(offset, 16), where, name[0] if name else ""))
    return layout


class Calls(RuleBasedStateMachine):
    """Each step one call, on the kernel and on the model, then both layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.run = model.start()
        counts["sequences"] += 1

    def _step(self, call: Call) -> None:
        assert do(call) == self.run.step(call)
        predicted = [(v.start, v.end, v.flags & 7, 0, "00:00:0", "") for v in self.run.space.vmas]
        window = [m for m in read_layout() if WINDOW <= m[0] < WINDOW + PAGES * PAGE]
        assert window == predicted
        counts["steps"] += 1

    @rule(at=starts, pages=lengths, prot=prots)
    def mmap(self, at: int, pages: int, prot: int) -> None:
        self._step(Mmap(WINDOW + at * PAGE, pages * PAGE, prot, _FIXED_PRIVATE, -1, 0))

    @rule(at=starts, pages=lengths)
    def munmap(self, at: int, pages: int) -> None:
        self._step(Munmap(WINDOW + at * PAGE, pages * PAGE))

    @rule(at=starts, pages=lengths, prot=prots)
    def mprotect(self, at: int, pages: int, prot: int) -> None:
        self._step(Mprotect(WINDOW + at * PAGE, pages * PAGE, prot))

    @rule(at=starts, pages=lengths, advice=st.integers(0, 2))
    def madvise(self, at: int, pages: int, advice: int) -> None:
        self._step(Madvise(WINDOW + at * PAGE, pages * PAGE, advice))

    @rule(at=starts, pages=lengths, to=starts)
    def mremap(self, at: int, pages: int, to: int) -> None:
        size = pages * PAGE
        self._step(Mremap(WINDOW + at * PAGE, size, size, _MAYMOVE_FIXED, WINDOW + to * PAGE))

    def teardown(self) -> None:
        do(Munmap(WINDOW, PAGES * PAGE))


def main() -> None:
    seconds = float(sys.argv[1])
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        run_state_machine_as_test(
            Calls,
            settings=settings(
                max_examples=100,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(json.dumps({**counts, "seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
