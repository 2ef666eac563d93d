"""`fuzz.probe`: kernels that are models of a profile are recognized, and what cannot be told is said."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from abi.calls import Program
from abi.environment import Environment
from abi.program import ProgramError
from abi.trace import STEP, UNCHANGED
from fuzz.probe import WITNESSES, examine, load_witnesses, probe
from kernel_bridge import Loss, Observation
from model.profile import BY_NAME, CHANGES, PROFILES, Profile
from model.run import Model
from tests.environments import ENVIRONMENT
from tests.kernels import executor

#: They show only on kernels with another, or that are configured with names; on those without nothing tells.
UNDECIDABLE = {"dontunmap_adjacent_alone", "map_count_dontunmap", "shared_memory_names"}


class ModelledKernel:
    """A kernel that does what the model says of a profile."""

    def __init__(self, profile: Profile, environment: Environment = ENVIRONMENT) -> None:
        self.environment = environment
        self.profile = profile
        self.lost: set[int] = set()

    def run(self, programs: Sequence[Program], *, full: bool = False) -> list[Observation]:
        model = Model(self.environment, self.profile)
        return [
            Observation(b"", Loss("signal", 11, 0, "SIGSEGV in call 0"))
            if i in self.lost
            else Observation(model.run(program, full=full))
            for i, program in enumerate(programs)
        ]


def decided(profile: Profile) -> set[str]:
    return {change.name for change in profile.changes} - UNDECIDABLE


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_release_is_found(profile: Profile) -> None:
    found = examine(ModelledKernel(profile))
    assert decided(found.profile) == decided(profile)
    without = BY_NAME["map_count_every_call"] not in profile.changes
    assert ("map_count_dontunmap" in found.undecided) == without
    assert found.nearest.name == profile.name
    assert found.profile.verified == (not found.undecided)


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - UNDECIDABLE))
def test_one_change_more_or_less_is_noticed(name: str) -> None:
    base = PROFILES["6.18"]
    kernel = ModelledKernel(Profile("patched", base.changes ^ {BY_NAME[name]}))
    programs = [w.program for w in load_witnesses(ENVIRONMENT)]
    found = probe(kernel)
    assert ModelledKernel(found).run(programs) == kernel.run(programs)


def test_the_name_says_how_it_differs_from_the_nearest_release() -> None:
    base = PROFILES["6.18"]
    changed = Profile("", base.changes ^ {BY_NAME["uffd_wp_drop_busy"]})
    found = examine(ModelledKernel(changed))
    assert found.difference == ("+uffd_wp_drop_busy",)
    assert found.profile.name == "6.18 +uffd_wp_drop_busy"


def test_a_lost_witness_leaves_its_change_as_in_the_nearest_release() -> None:
    kernel = ModelledKernel(PROFILES["6.18"])
    kernel.lost = {i for i, change in enumerate(CHANGES) if change.name == "multi_vma_move"}
    found = examine(kernel)
    assert found.undecided["multi_vma_move"] == "SIGSEGV in call 0"
    assert BY_NAME["multi_vma_move"] in found.profile.changes


def test_a_witness_that_tells_nothing_here_is_undecided() -> None:
    objects = tuple(o for o in ENVIRONMENT.objects if not o.name.startswith("uffd"))
    found = examine(ModelledKernel(PROFILES["6.18"], replace(ENVIRONMENT, objects=objects)))
    assert "same either way" in found.undecided["uffd_wp_drop_busy"]


class StrangeKernel(ModelledKernel):
    """A kernel on which every call returns 99."""

    def run(self, programs: Sequence[Program], *, full: bool = False) -> list[Observation]:
        step = STEP.pack(99, UNCHANGED, 0, 0, 0)
        return [Observation(step * len(program)) for program in programs]


def test_a_kernel_that_does_something_else_is_undecided() -> None:
    found = examine(StrangeKernel(PROFILES["6.18"]))
    assert "neither" in found.undecided["multi_vma_move"]


def test_a_missing_witness_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(load_witnesses(ENVIRONMENT, tmp_path))


def test_a_broken_witness_is_named(tmp_path: Path) -> None:
    for change in CHANGES:
        (tmp_path / f"{change.name}.prog").write_text("unmap()\n")
    with pytest.raises(ProgramError, match=f"{CHANGES[0].name}.prog:1"):
        list(load_witnesses(ENVIRONMENT, tmp_path))


def test_there_is_a_witness_for_each_change_and_for_nothing_else() -> None:
    assert {path.stem for path in WITNESSES.glob("*.prog")} == set(BY_NAME)


def test_the_running_kernel_is_decided_but_for_what_needs_another_change() -> None:
    with executor() as kernel:
        found = examine(kernel)
        undecided = set(found.undecided)
        if (
            len(kernel.environment.missing) == 0
            and "IPC_LOCK" not in kernel.environment.capabilities
        ):
            assert undecided <= UNDECIDABLE, found.undecided
