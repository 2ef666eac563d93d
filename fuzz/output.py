"""Places that a user names for results."""

import os
from pathlib import Path

from fuzz.status import UsageError


def check_output(path: Path | None) -> None:
    """Complain about a place for results before the work, not after.

    Raises:
        UsageError: nothing can be written there.
    """
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise UsageError(f"{path}: cannot be written there")
