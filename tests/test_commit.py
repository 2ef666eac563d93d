"""Committed_AS, which all processes share, returns to what it was: slow, and for a machine that does nothing else."""

from collections.abc import Iterator

import pytest

from fuzz.corpus import PACKAGED, SUFFIX, read_program
from fuzz.probe import probe
from kernel_bridge import KernelExecutor
from kernel_bridge.commit import commit_growth
from model.profile import SHRINK_MOVE_CHARGES_SHRUNK
from tests.kernels import executor

#: Growth that no leak explains: other processes come and go (pages for each run of all programs).
NOISE = 0.2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelExecutor]:
    with executor() as one:
        yield one


def test_a_move_that_shrinks_leaks_where_the_profile_says_so(kernel: KernelExecutor) -> None:
    path = PACKAGED / "seeds" / f"mremap-fixed-shrink{SUFFIX}"
    program = read_program(path, kernel.environment.geometry)
    leaks = SHRINK_MOVE_CHARGES_SHRUNK in probe(kernel).changes
    assert (commit_growth(kernel, [program], 2) > 1) == leaks


def test_nothing_else_leaks(kernel: KernelExecutor) -> None:
    """Every seed by itself would take long: halves of what leaks are looked at until one program is left."""
    paths = sorted((PACKAGED / "seeds").glob("*" + SUFFIX))
    programs = {path.stem: read_program(path, kernel.environment.geometry) for path in paths}
    leaking: list[str] = []
    pending = [sorted(programs)]
    while pending:
        names = pending.pop()
        if commit_growth(kernel, [programs[name] for name in names], 1.0) < NOISE:
            continue
        if len(names) == 1:
            leaking += names
        else:
            middle = len(names) // 2
            pending += [names[:middle], names[middle:]]
    known = SHRINK_MOVE_CHARGES_SHRUNK in probe(kernel).changes
    assert all("shrink" in name for name in leaking) if known else not leaking, leaking
