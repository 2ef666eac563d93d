"""Blocks of a real kernel that are watched, and a patch that is found on one. Slow; needs a kernel with KCOV.

`vmadiff kernels build linux-source-7.3 --kcov --fault-injection --debug-vm` makes these run.
"""

from collections.abc import Iterator
from shutil import which

import pytest

import kernels
from abi.calls import Mmap, Mremap, Munmap
from abi.consts import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_READ,
    PROT_WRITE,
)
from abi.environment import Geometry
from fuzz.targets import Target
from kernel_bridge import KernelExecutor
from kernels.blocks import Block, blocks

pytestmark = pytest.mark.slow

AT = Geometry().window
MAP = Mmap(AT, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
MOVE = Mremap(AT, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT + 16 * PAGE)


@pytest.fixture(scope="module")
def kernel() -> kernels.Kernel:
    if which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
    found = [each for each in kernels.installed() if "kcov" in each.features and each.arch == "x86"]
    if not found:
        pytest.skip("no kernel with KCOV at hand: see `vmadiff kernels build --help`")
    return found[0]


@pytest.fixture(scope="module")
def watched(kernel: kernels.Kernel) -> list[Block]:
    return blocks(kernel.image, ["mm/mremap.c"])


@pytest.fixture(scope="module")
def executor(kernel: kernels.Kernel, watched: list[Block]) -> Iterator[KernelExecutor]:
    with Target(kernel.name) as target, target.start(user=False) as made:
        made.watch([block.address for block in watched])
        yield made


def test_blocks_are_told_of_the_programs_that_reach_them(
    executor: KernelExecutor, watched: list[Block]
) -> None:
    assert len(watched) > 100
    executor.watch([block.address for block in watched])
    plain, moving, again = executor.run([(MAP, Munmap(AT, PAGE)), (MAP, MOVE), (MAP, MOVE)])
    assert (plain.near, plain.rarest) == (0, 0)
    assert moving.near > 10
    assert moving.rarest == 0
    assert (again.near, again.rarest) == (moving.near, 1)
    reached = executor.reached()
    assert len(reached) == again.near
    lines = {line for place in reached for line in watched[place].lines}
    assert {path for path, _ in lines} == {"mm/mremap.c"}
    executor.run([(MAP,)])
    assert executor.reached() == frozenset()


def test_what_is_watched_outlives_an_executor(executor: KernelExecutor) -> None:
    executor.run([(MAP, MOVE)])
    before = executor.reached()
    executor._abandon()
    (seen,) = executor.run([(MAP, MOVE)])
    assert executor.reached() == before
    assert seen.rarest > 0, "what was reached before is known still"
