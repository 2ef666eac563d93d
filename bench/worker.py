"""One worker as in a campaign, and then the bare executor on the programs that it ran.

    python bench/worker.py MODE SECONDS DIRECTORY [--cpu N] [--target NAME] [--bare SECONDS] [--every SECONDS]
                           [--warm-up SECONDS]

MODE is one of MODES; DIRECTORY holds profile.json and takes what the worker writes. Prints one line of JSON: `calls`
and `seconds` of the worker; `bare_calls` and `bare_seconds` of its executor, which repeats its programs by
itself (REQUEST_RATE: no Python, no model, no comparison), with layouts read and programs observed in full as they were;
`cpu_seconds` and `bare_cpu_seconds`, of processor time; `left_out`, how many of the `kept` programs could not be
repeated; `peak_rss_mib` of the worker's own process, and `rss_mib`, its memory at the beginning, then every so many
seconds.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz import compiled, harness
from fuzz.settings import Settings

#: How each mode differs from the settings of any worker.
MODES: Final[dict[str, dict[str, Any]]] = {
    "guided": {"guided": True},
    "soak": {"guided": False},
}
#: The running kernel, as fuzz.targets has it: what imports the model cannot be imported here.
LOCAL: Final = "local"
#: Programs that are kept for the executor, at most, from all of the measurement: a few hundredth of a percent take
#: longer than all the others, so that a sample would not do.
KEPT: Final = 1 << 16
#: So many at once: a batch whose traces fit in the shared memory.
CHUNK: Final = 64
#: Before the clock starts: loading, first faults, and the branches that are traced until they are known.
WARM_UP_SECONDS: Final = 5.0


def settings(mode: str, directory: Path, **more: Any) -> Settings:
    """Those of a worker that is on its own; the directory has the profile. A soak's model is compiled, unless it has a
    planted mistake.

    Raises:
        fuzz.compiled.CompileError: this machine cannot.
    """
    profile, changes = json.loads((directory / "profile.json").read_text())
    (directory / "corpus").mkdir(exist_ok=True)
    if mode == "soak" and not more.get("mistake"):
        more["compiled"] = str(compiled.build())
    return Settings(
        worker=0,
        session=os.getppid(),
        pipe=-1,
        seed=1,
        state=str(directory),
        corpus=str(directory / "corpus"),
        profile=profile,
        changes=tuple(changes),
        **MODES[mode],
        **more,
    )


def tell(kind: str, **fields: Any) -> None:
    """What a worker says: that the kernel has a bug that is known is no news."""
    if kind == "failure" or (kind == "finding" and not fields["cause"]):
        raise SystemExit(f"the benchmark met a {kind}: {fields}")


class Measurement:
    """Counts what a worker accepts, keeps some of it, and stops it in time."""

    def __init__(
        self, worker: Any, seconds: float, bare: float, every: float, warm_up: float
    ) -> None:
        self._worker = worker
        self._warm_up = warm_up
        self._seconds = seconds
        self._bare = bare
        self._every = every
        self._accept, self._finish = worker.accept, worker.finish
        self._sequences = self._calls = 0
        self._first = time.perf_counter()
        self._begun = self._used = 0.0
        self._kept: list[Any] = []
        self._stride = 1
        self._memory: list[float] = []
        self._result: dict[str, Any] = {}
        worker.accept, worker.finish = self.accept, self.finish

    def accept(self, prepared: Any) -> bool:
        self._sequences += 1
        now = time.perf_counter()
        if not self._begun:
            if now - self._first >= self._warm_up:
                self._begun = now
                self._used = _used(self._worker._executor)
                self._memory.append(_memory("VmRSS"))
        else:
            self._calls += len(prepared.program)
            if self._bare and self._sequences % self._stride == 0:
                self._keep(prepared)
            if now - self._begun >= self._every * len(self._memory):
                self._memory.append(_memory("VmRSS"))
            if not self._result and now - self._begun >= self._seconds:
                used = _used(self._worker._executor) - self._used
                self._result = {
                    "calls": self._calls,
                    "seconds": now - self._begun,
                    "cpu_seconds": used,
                }
                self._worker.stop()
        return bool(self._accept(prepared))

    def _keep(self, prepared: Any) -> None:
        """As one of every so many."""
        if len(self._kept) == KEPT:
            del self._kept[::2]
            self._stride *= 2
        self._kept.append((prepared.program, prepared.full))

    def finish(self) -> None:
        self._finish()
        executor = self._worker._executor
        self._result |= {"peak_rss_mib": _memory("VmHWM"), "rss_mib": self._memory}
        if self._bare:
            self._result |= _bare(executor, self._kept, self._bare)
        print(json.dumps(self._result), flush=True)


def _used(executor: Any) -> float:
    """Seconds of processor time that this process and its executors have used. Those of a guest are the guest's."""
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = time.process_time() + dead.ru_utime + dead.ru_stime
    if executor.machine.local:
        used += int(Path(f"/proc/{executor.pid}/schedstat").read_text().split()[0]) / 1e9
    return used


def _memory(field: str) -> float:
    """A field of this process's /proc/self/status, in MiB."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) / 1024


def _bare(executor: Any, kept: list[Any], seconds: float) -> dict[str, Any]:
    """The executor alone on the programs: how many calls they have, and how long it takes for all of them once."""
    # Not before the worker has chosen which model to import.
    from kernel_bridge import BridgeError, policy

    runnable = [each for each in kept if each[0] and not policy.outlasts_exec(each[0])]
    calls = 0
    took = used = 0.0
    left_out = len(kept) - len(runnable)
    chunks = list(_chunks(runnable))
    for chunk in chunks:
        programs = [program for program, _ in chunk]
        full = [index for index, (_, full) in enumerate(chunk) if full]
        before = _used(executor)
        try:
            _, more, spent = executor.rate(programs, seconds / len(chunks), full)
        except BridgeError:
            # Some programs have their executor die: as they did before.
            left_out += len(chunk)
            continue
        there = sum(map(len, programs))
        calls += there
        took += spent / more * there
        used += (_used(executor) - before) / more * there
    return {
        "bare_calls": calls,
        "bare_seconds": took,
        "bare_cpu_seconds": used,
        "left_out": left_out,
        "kept": len(kept),
    }


def _chunks(programs: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(programs), CHUNK):
        yield programs[at : at + CHUNK]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("seconds", type=float)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--target", default=LOCAL)
    parser.add_argument("--bare", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=float("inf"))
    parser.add_argument("--warm-up", type=float, default=WARM_UP_SECONDS)
    o = parser.parse_args()
    harness.die_with_parent(os.getppid())
    cpus = () if o.cpu is None else (o.cpu,)
    # On a guest, the programs that come with the project would take all of the time.
    task = settings(o.mode, o.directory, cpus=cpus, target=o.target, seeds=o.target == LOCAL)

    def watch(worker: Any) -> None:
        Measurement(worker, o.seconds, o.bare, o.every, o.warm_up)

    harness.work(task, tell, watch)


if __name__ == "__main__":
    main()
