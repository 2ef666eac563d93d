"""What a program leaves behind is undone before the next: limits, the break, locks, seals, a filler."""

from collections.abc import Iterator

import pytest

from abi.program import parse
from kernel_bridge import KernelExecutor
from tests.kernel_bridge.programs import values

MAP = "mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
#: Shows limits, the break, what later mappings are like, and how many there may be.
TELLS = (
    MAP
    + "brk(0)\nmmap(W+100, 50000p, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
    + "mlock(W+0, 1p)\nmprotect(W+1, 1p, PROT_READ)\nbrk(B+2)\ntouch(W+0, 4, read)\n"
)


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelExecutor]:
    with KernelExecutor() as executor:
        yield executor


@pytest.mark.parametrize(
    "leaving",
    [
        "setrlimit(RLIMIT_AS, 0)\nsetrlimit(RLIMIT_DATA, 1)\nsetrlimit(RLIMIT_MEMLOCK, 0)\n"
        "setrlimit(RLIMIT_STACK, 0)\n",
        "brk(B+8)\n",
        "brk(B+8+0x10)\nmunmap(B+0, 9p)\n",
        "brk(B+2)\nmmap(B+0, 4p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 0)\n",
        "mlockall(MCL_FUTURE)\n",
        "mlockall(MCL_CURRENT|MCL_FUTURE|MCL_ONFAULT)\n" + MAP,
        "munlockall()\n",
        "munlock(0x20000000, 4p)\n",
        "mlock2(0x20001000, 4p, MLOCK_ONFAULT)\n",
        MAP + "mlock(W+0, 4p)\nsetrlimit(RLIMIT_MEMLOCK, 0)\n",
        "fill(0x300000000000, 1)\n",
    ],
)
def test_nothing_is_left(kernel: KernelExecutor, leaving: str) -> None:
    geometry = kernel.environment.geometry
    tells, leaves = parse(TELLS, geometry), parse(leaving, geometry)
    before = kernel.run([tells], full=True)
    after = kernel.run([leaves, tells], full=True)
    assert not after[0].dirty, "the address space was given up"
    assert after[1:] == before


def test_seals_cost_the_address_space_and_no_more(kernel: KernelExecutor) -> None:
    geometry = kernel.environment.geometry
    tells = parse(TELLS, geometry)
    before = kernel.run([tells], full=True)
    sealed = parse(MAP + "mseal(W+1, 1p, 0)\nbrk(B+2)\nmseal(B+0, 1p, 0)\n", geometry)
    after = kernel.run([sealed, tells], full=True)
    assert after[0].dirty
    assert values(kernel.environment, after[0])[1:] == [0, geometry.heap + 2 * 4096, 0]
    assert after[1:] == before


@pytest.mark.parametrize(
    "written",
    ["shmat(0, W+0, 0)\n", "mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_SHARED, secretmem, 0)\n"],
)
def test_what_a_full_address_space_keeps_from_being_emptied_is_emptied(
    kernel: KernelExecutor, written: str
) -> None:
    """Sealed, the filler stays mapped, and leaves no room to map what the program has written to."""
    environment = kernel.environment
    if "secretmem" in written and all(each.name != "secretmem" for each in environment.objects):
        pytest.skip(environment.missing["secretmem"])
    tells = parse(written + "touch(W+0, 4, read)\n", environment.geometry)
    before = kernel.run([tells], full=True)
    full = "touch(W+0, 4, write)\nfill(0x300000000000, 1)\nmseal(0x300000000000, 1p, 0)\n"
    after = kernel.run([parse(written + full, environment.geometry), tells], full=True)
    assert values(environment, after[0])[1:] == [0, 0, 0], "the address space was not full"
    assert after[1:] == before
