"""An executor shared by the tests that do not harm it."""

from collections.abc import Iterator

import pytest

from kernel_bridge import KernelExecutor


@pytest.fixture(scope="session")
def kernel() -> Iterator[KernelExecutor]:
    with KernelExecutor() as executor:
        yield executor
