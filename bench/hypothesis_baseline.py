"""The baseline: what a Python user would write first. A Hypothesis state machine makes mm calls by ctypes in its own
process, in a window of 64 pages, reads /proc/self/maps after each step and compares it with the model.

    python bench/hypothesis_baseline.py SECONDS [MISTAKE]

prints one line of JSON: sequences, calls, seconds, and whether a difference was found, which ends it. MISTAKE is
planted in the model.
"""

import json
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap
from abi.consts import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE
from abi.environment import Environment, Geometry
from bench.own_process import PAGES, STEPS, WINDOW, clear, do, read_window
from bench.plant import plant

if __name__ == "__main__":
    plant(sys.argv[2] if len(sys.argv) > 2 else "")

from model.profile import PROFILES
from model.run import Model

starts = st.integers(0, PAGES - 9)
lengths = st.integers(1, 8)
prots = st.sampled_from((0, 1, 3))
counts = {"sequences": 0, "calls": 0}

model = Model(Environment(Geometry(), (), (), config=frozenset(("THP", "KSM"))), PROFILES["6.18"])


class Calls(RuleBasedStateMachine):
    """Each step one call, on the kernel and on the model, then both layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.run = model.start()
        counts["sequences"] += 1

    def _step(self, call: Call) -> None:
        assert do(call) == self.run.step(call)
        predicted = [(v.start, v.end, v.flags & 7, 0, "00:00:0", "") for v in self.run.space.vmas]
        assert read_window() == predicted
        counts["calls"] += 1

    @rule(at=starts, pages=lengths, prot=prots)
    def mmap(self, at: int, pages: int, prot: int) -> None:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        self._step(Mmap(WINDOW + at * PAGE, pages * PAGE, prot, flags, -1, 0))

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
        size, flags = pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED
        self._step(Mremap(WINDOW + at * PAGE, size, size, flags, WINDOW + to * PAGE))

    def teardown(self) -> None:
        clear()


def main() -> None:
    seconds = float(sys.argv[1])
    found = False
    begun = time.perf_counter()
    while not found and time.perf_counter() - begun < seconds:
        try:
            run_state_machine_as_test(
                Calls,
                settings=settings(
                    max_examples=100,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                    report_multiple_bugs=False,
                ),
            )
        except AssertionError:
            found = True
    print(json.dumps({**counts, "seconds": time.perf_counter() - begun, "found": found}))


if __name__ == "__main__":
    main()
