"""The real kernel for tests: an executor or the reason why there is none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kernel_bridge import BridgeError, KernelExecutor


@contextmanager
def executor() -> Iterator[KernelExecutor]:
    """A started executor; skips the test where none can be started."""
    try:
        kernel = KernelExecutor()
    except BridgeError as error:
        pytest.skip(f"no executor here: {error}")
    with kernel:
        yield kernel
