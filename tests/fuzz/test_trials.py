"""Divergences tried again: what comes of them in executors that have run nothing else."""

from fuzz.site import Site
from fuzz.trials import CONFIRMATIONS, Ran, Trials
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor
from tests.fuzz.test_worker import APART, MAP, MOVE, UNMAP


def trials(executors: list[FakeExecutor]) -> Trials:
    """On a kernel that moves no two VMAs, beside a model that does."""

    def start() -> FakeExecutor:
        executors.append(FakeExecutor(OLD))
        return executors[-1]

    return Trials(Site(start, start), ENVIRONMENT, Model(ENVIRONMENT, NEW), lambda *_: None)


def test_what_comes_behind_a_divergence_is_cut_off() -> None:
    """A program that was found by its last call may diverge at an earlier one when it is observed in full."""
    executors: list[FakeExecutor] = []
    found = trials(executors).divergence(Ran((MAP, APART, MOVE, UNMAP, UNMAP), full=True))
    assert found is not None
    assert found.program == (MAP, APART, MOVE)
    assert found.text.startswith("mremap[MAYMOVE,FIXED,same] result")
    assert [each.batches[0][0] for each in executors[-CONFIRMATIONS:]] == [
        (MAP, APART, MOVE)
    ] * CONFIRMATIONS
    assert all(each.is_closed for each in executors)


def test_what_agrees_is_no_divergence() -> None:
    executors: list[FakeExecutor] = []
    assert trials(executors).divergence(Ran((MAP, UNMAP))) is None
    assert len(executors) == 1
