"""One guided worker on one processor, as in a campaign; the programs it ran are kept for the bare executor.

    python bench/guided.py SECONDS CPU DIRECTORY

leaves DIRECTORY/programs (byte forms, each behind its length in four bytes) and prints one line of JSON: sequences,
calls, seconds.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz import harness
from fuzz.settings import Settings

#: Programs kept; enough to be like the campaign, few enough to fit the executor's shared memory.
KEPT = 1000
#: Sequences before the clock starts: loading, first faults, and the branches that are traced until they are known.
WARM_UP = 5000


def main() -> None:
    seconds, cpu, directory = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    os.sched_setaffinity(0, {cpu})
    profile, changes = json.loads((directory / "profile.json").read_text())
    (directory / "corpus").mkdir(exist_ok=True)
    settings = Settings(
        worker=0,
        session=os.getppid(),
        pipe=-1,
        seed=1,
        state=str(directory),
        corpus=str(directory / "corpus"),
        profile=profile,
        changes=tuple(changes),
        guided=True,
    )
    clock: dict[str, float] = {}
    ran: list[bytes] = []

    def tell(kind: str, **fields: Any) -> None:
        if kind in ("failure", "finding"):
            raise SystemExit(f"the benchmark met a {kind}: {fields}")

    def watch(worker: Any) -> None:
        accept = worker.accept
        counts = {"sequences": 0, "calls": 0}

        def counted(prepared: Any) -> bool:
            counts["sequences"] += 1
            if counts["sequences"] == WARM_UP:
                clock["begun"], clock["calls"] = time.perf_counter(), counts["calls"]
            counts["calls"] += len(prepared.program)
            if counts["sequences"] >= WARM_UP and len(ran) < KEPT:
                ran.append(prepared.data)
            if "begun" in clock and time.perf_counter() - clock["begun"] >= seconds:
                print(
                    json.dumps(
                        {
                            "sequences": counts["sequences"] - WARM_UP,
                            "calls": counts["calls"] - clock["calls"],
                            "seconds": time.perf_counter() - clock["begun"],
                        }
                    )
                )
                with open(directory / "programs", "wb") as file:
                    for data in ran:
                        file.write(len(data).to_bytes(4, "little") + data)
                worker.stopped = True
            return bool(accept(prepared))

        worker.accept = counted

    harness.work(settings, tell, watch)


if __name__ == "__main__":
    main()
