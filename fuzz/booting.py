"""Kernels that boot beside other work."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from fuzz.targets import Target
from kernel_bridge import BridgeError, KernelExecutor

#: As many at once as there are processors beside the one that waits. A guest dies with the thread that started it, so
#: these live as long as this process.
_THREADS: Final = ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) - 1))


class Booting:
    """A target that is being started from its construction on."""

    def __init__(self, name: str, *, user: bool, worker: int = 0) -> None:
        """As `Target.start`."""
        self.target = Target(name)
        self._started = _THREADS.submit(self.target.start, user=user, worker=worker)

    def __enter__(self) -> "Booting":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def executor(self) -> KernelExecutor:
        """What was started, once it is.

        Raises:
            BridgeError: it does not start.
        """
        return self._started.result()

    def close(self) -> None:
        """End it."""
        if not self._started.cancel():
            with suppress(BridgeError):
                self.executor().close()
        self.target.close()
