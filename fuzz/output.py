"""Results, at places that a user names."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzz.status import UsageError
from fuzz.storage import write_atomically


def check_output(path: Path | None) -> None:
    """Complain about a place for results before the work, not after.

    Raises:
        UsageError: nothing can be written there.
    """
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise UsageError(f"{path}: cannot be written there")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write plain data for other programs.

    Raises:
        OSError: it could not be written.
    """
    write_atomically(path, json.dumps(data, indent=1).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; nothing if it is not there, or damaged."""
    with suppress(OSError, ValueError):
        data = json.loads(path.read_text())
        if isinstance(data, dict):
            return data
    return {}
