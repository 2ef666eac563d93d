"""bench/results.json: what the benchmarks measured last, each its own part of it."""

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Final

from fuzz.storage import write_atomically

PATH: Final = Path(__file__).resolve().parent / "results.json"


def note_load() -> None:
    """Say so if others use the processors: figures are then low, and ratios unsure."""
    load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > processors / 2:
        text = f"note: the load is {load:.1f} on {processors} processors: measure again on a machine that is idle"
        print(text, file=sys.stderr, flush=True)


def merge(script: str, fields: dict[str, Any], path: Path = PATH) -> None:
    """Put the fields in place of those of the same names, and note when `script` was run, and where.

    Raises:
        OSError: the file cannot be read or written; ValueError: it is no JSON.
    """
    results = json.loads(path.read_text()) if path.exists() else {}
    measured = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    results |= fields
    results.setdefault("measured", {})[script] = measured
    write_atomically(path, (json.dumps(results, indent=2) + "\n").encode())
