"""The machine that a corpus is looked at on when no kernel is asked: `corpus/machine.json`.

It is what an executor reported on a machine that has every kind of object, so that what programs reach does not depend
on where they are replayed.

python -m fuzz.reference          write it anew, on a machine (as root) that has everything
"""

import json
import sys
from dataclasses import replace
from typing import Final

from abi.environment import Environment
from fuzz.corpus import PACKAGED
from fuzz.storage import write_atomically
from model.profile import PROFILES, Profile

#: What a kernel may be configured with that the machine's is not.
_OPTIONS: Final = frozenset(
    ("ANON_VMA_NAME", "FAULT_INJECTION", "MEMORY_FAILURE", "PKU", "SHMEM_HUGE", "THP", "KSM")
)
PATH: Final = PACKAGED / "machine.json"


def environment() -> Environment:
    """The machine, with root's rights.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    return Environment.from_json(json.loads(PATH.read_text()))


def machines() -> tuple[tuple[Environment, Profile], ...]:
    """The machine for root and for an ordinary user, with the newest kernel and with one from before most changes, with
    the oldest kernel, and with kernels that were configured with all and with nothing.

    Raises:
        OSError: as `environment`.
    """
    root = environment()
    user = replace(root, capabilities=frozenset())
    oldest, older, newest = PROFILES["6.1"], PROFILES["6.12"], PROFILES["7.3"]
    return (
        (root, newest),
        (user, newest),
        (root, older),
        (user, older),
        (root, oldest),
        (replace(user, config=user.config | _OPTIONS), newest),
        (replace(root, config=frozenset(), node_bits=0), newest),
    )


def main() -> int:
    """Write the file from what an executor reports here."""
    from fuzz.targets import LOCAL, Target

    with Target(LOCAL).start(user=False) as executor:
        report = executor.environment
    lacking = sorted(report.missing) + ["huge pages of its own"] * (report.huge_pages < 0)
    if lacking:
        print(f"nothing is written, this machine lacks {', '.join(lacking)}", file=sys.stderr)
        return 1
    data = replace(report, release="reference", missing=report.missing).to_json()
    write_atomically(PATH, json.dumps(data, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
