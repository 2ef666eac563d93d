"""Atheris as one would use it in an hour: its bytes become mm calls by ctypes in its own process, in a window of 64
pages, /proc/self/maps is read after each, and both are compared with the model, which Atheris instruments.

    python bench/naive_atheris.py SECONDS [MISTAKE]

prints one line of JSON: sequences, calls, seconds, and whether a difference was found, which ends it. MISTAKE is
planted in the model.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap
from abi.consts import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE
from abi.environment import Environment, Geometry
from bench.own_process import PAGES, STEPS, WINDOW, clear, do, read_window
from bench.plant import plant

if __name__ == "__main__":
    # As atheris.instrument_imports() does, which the loader of mistakes would go before.
    plant(sys.argv[2] if len(sys.argv) > 2 else "", lambda code: atheris.patch_code(code, True))

from model.errors import Unmodelled
from model.profile import PROFILES
from model.run import Model

MOST = 8
#: MADV_NORMAL, RANDOM, SEQUENTIAL, DONTNEED, DONTFORK, DOFORK, DONTDUMP, DODUMP.
ADVICE = (0, 1, 2, 4, 10, 11, 16, 17)

model = Model(Environment(Geometry(), (), (), config=frozenset(("THP", "KSM"))), PROFILES["6.18"])
counts = {"sequences": 0, "calls": 0}


def read_call(data: atheris.FuzzedDataProvider) -> Call:
    """A call whose result does not depend on where the kernel puts things."""
    kind = data.ConsumeIntInRange(0, 4)
    addr = WINDOW + data.ConsumeIntInRange(0, PAGES - 2 * MOST - 1) * PAGE
    size = data.ConsumeIntInRange(1, MOST) * PAGE
    if kind == 0:
        prot = data.ConsumeIntInRange(0, 7)
        return Mmap(addr, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    if kind == 1:
        return Munmap(addr, size)
    if kind == 2:
        return Mprotect(addr, size, data.ConsumeIntInRange(0, 7))
    if kind == 3:
        return Madvise(addr, size, data.PickValueInList(list(ADVICE)))
    other = data.ConsumeIntInRange(1, MOST) * PAGE
    to = WINDOW + data.ConsumeIntInRange(0, PAGES - 2 * MOST - 1) * PAGE
    if data.ConsumeBool():
        return Mremap(addr, size, other, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    return Mremap(addr, size, other, 0, 0)


def agrees(data: atheris.FuzzedDataProvider) -> bool:
    """Whether kernel and model do the same in one sequence."""
    run = model.start()
    for _ in range(STEPS):
        call = read_call(data)
        try:
            expected = run.step(call)
        except Unmodelled:
            return True
        if do(call) != expected:
            return False
        counts["calls"] += 1
        predicted = [(v.start, v.end, v.flags & 7, 0, "00:00:0", "") for v in run.space.vmas]
        if read_window() != predicted:
            return False
    return True


def main() -> None:
    seconds = float(sys.argv[1])
    begun = time.perf_counter()

    def end(found: bool) -> NoReturn:
        spent = time.perf_counter() - begun
        print(json.dumps({**counts, "seconds": spent, "found": found}), flush=True)
        os._exit(0)

    def one_input(data: bytes) -> None:
        counts["sequences"] += 1
        try:
            same = agrees(atheris.FuzzedDataProvider(data))
        finally:
            clear()
        if not same or time.perf_counter() - begun >= seconds:
            end(found=not same)

    # Without a corpus Atheris begins with short inputs; no sequence needs more bytes than this.
    atheris.Setup([sys.argv[0], "-max_len=128", "-len_control=0", "-verbosity=0"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
