"""What programs leave of the memory that the kernel has promised (Committed_AS), which all processes share.

Where all else is quiet, a program that is run a thousand times and leaves nothing behind leaves Committed_AS as it was
(mm/util.c: vm_committed_as). No model is involved.
"""

from collections.abc import Sequence
from pathlib import Path

from abi.calls import Program
from abi.consts import PAGE
from kernel_bridge.executor import KernelExecutor


def commit_growth(kernel: KernelExecutor, programs: Sequence[Program], seconds: float) -> float:
    """How many pages Committed_AS grows each time the programs are run, measured over `seconds`.

    Raises:
        BridgeError: the programs do not fit in one batch, or the executor died.
        OSError: /proc/meminfo cannot be read.
    """
    before = _committed()
    runs, _, _ = kernel.rate(programs, seconds)
    return (_committed() - before) * len(programs) / max(runs, 1)


def _committed() -> int:
    """Committed_AS (pages)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Committed_AS:"):
            return int(line.split()[1]) * 1024 // PAGE
    raise OSError("/proc/meminfo has no Committed_AS")
