"""One worker whose model has a planted mistake, as in `vmadiff selftest`: does it notice in time?

    python bench/find.py MODE SECONDS DIRECTORY MISTAKE

MODE and DIRECTORY as in worker.py; MISTAKE "" is the control. Prints one line of JSON: found.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.worker import settings
from fuzz import harness


def main() -> None:
    mode, seconds, directory, mistake = sys.argv[1:]
    harness.die_with_parent(os.getppid())
    found = False

    def tell(kind: str, **fields: Any) -> None:
        nonlocal found
        if kind == "failure":
            raise SystemExit(fields["text"])
        if kind == "finding" and not fields["cause"]:
            # Imports the model, which has its mistake by now.
            from fuzz.ledger import CRASHED

            found |= not fields["signature"].startswith(CRASHED)
        if kind == "done":
            print(json.dumps({"found": found}), flush=True)

    task = settings(
        mode,
        Path(directory),
        mistake=mistake,
        until_found=True,
        seeds=False,
        user=True,
    )

    def watch(worker: Any) -> None:
        """Seconds count from the first program on."""
        accept, begun = worker.accept, 0.0

        def timed(prepared: Any) -> bool:
            nonlocal begun
            begun = begun or time.perf_counter()
            if time.perf_counter() - begun >= float(seconds):
                worker.stop()
            return bool(accept(prepared))

        worker.accept = timed

    harness.work(task, tell, watch)


if __name__ == "__main__":
    main()
