"""Who is likely wrong, and what for evidence is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from abi.program import parse
from abi.trace import INCONSISTENT_LOCKED, unpack
from fuzz import reference
from fuzz.blame import (
    EITHER,
    KERNEL,
    MODEL,
    Blame,
    blame,
    change_that_explains,
    release_that_explains,
)
from fuzz.changes import WITNESSES
from fuzz.compare import diverging_step, initial_layout
from fuzz.replay import Replay, replay
from model.profile import BY_NAME, MULTI_VMA_MOVE, PROFILES, Profile
from model.run import Model
from tests.fuzz.machine import ENVIRONMENT, NEW, OLD, FakeExecutor

PROGRAM = parse(
    "mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\n"
    "mmap(W+2, 1p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\n"
    "mremap(W+0, 3p, 3p, MREMAP_MAYMOVE|MREMAP_FIXED, W+9)\n",
    ENVIRONMENT.geometry,
)
MACHINE = Model(ENVIRONMENT, NEW)


@dataclass
class Asked:
    agree: Sequence[str]
    diverge: Sequence[str]

    def lines(self) -> list[str]:
        return [f"shown by {', '.join(self.diverge)}"]


def seen(profile: Profile) -> Replay:
    """The program on a kernel of this profile."""
    (found,) = replay([("", PROGRAM)], FakeExecutor(profile), MACHINE)
    return found


def odd() -> Replay:
    """A kernel that returns what no kernel would."""
    good = seen(NEW)
    theirs = (*good.theirs[:2], replace(good.theirs[2], value=-5))
    divergence = diverging_step(good.ours, theirs, initial_layout(ENVIRONMENT))
    return replace(good, theirs=theirs, divergence=divergence)


def test_a_kernel_that_does_as_before_a_change_is_named_with_it() -> None:
    found = blame(seen(OLD), MACHINE, ("it came again",))
    assert found.suspect == KERNEL
    assert f"without multi_vma_move ({MULTI_VMA_MOVE.commit})" in found.because
    assert "it is taken for one with" in found.because


def test_a_kernel_that_does_as_after_a_change_is_named_with_it() -> None:
    old = Model(ENVIRONMENT, OLD)
    (found,) = replay([("", PROGRAM)], FakeExecutor(NEW), old)
    assert change_that_explains(found, old) is MULTI_VMA_MOVE
    assert "kernels with multi_vma_move" in blame(found, old, ()).because


def test_of_a_change_and_what_refined_it_the_refinement_is_named() -> None:
    """A kernel that refuses to move files placed for huge pages does what 6.16 did, too."""
    machine = reference.environment()
    text = (WITNESSES / "multi_vma_thp_area.prog").read_text()
    newest = Model(machine, PROFILES["7.3"])
    refined = BY_NAME["multi_vma_thp_area"]
    lacking = Profile("", newest.profile.changes - {refined})
    executor = FakeExecutor(lacking, environment=machine)
    (found,) = replay([("", parse(text, machine.geometry))], executor, newest)
    assert found.divergence is not None
    assert change_that_explains(found, newest) is refined


def test_the_first_release_that_does_so_is_found() -> None:
    """Where no single change explains it."""
    held = Model(ENVIRONMENT, OLD)
    (found,) = replay([("", PROGRAM)], FakeExecutor(NEW), held)
    release = release_that_explains(found, held)
    assert release is not None
    assert release.name == "6.17"
    assert release_that_explains(odd(), MACHINE) is None


def test_the_rules_of_the_call_have_their_sources() -> None:
    found = blame(seen(OLD), MACHINE, ())
    assert any("mm/mremap.c: remap_move()" in rule for rule in found.rules)
    assert not any("mmap(2)" in rule for rule in found.rules), "those of other calls"


def test_without_evidence_either_may_be_wrong() -> None:
    found = blame(odd(), MACHINE, ())
    assert found.suspect == EITHER
    assert found.rules


def test_other_kernels_decide() -> None:
    assert blame(odd(), MACHINE, (), Asked(("6.17",), ("6.18",))).suspect == KERNEL
    assert blame(odd(), MACHINE, (), Asked((), ("6.17", "6.18"))).suspect == MODEL
    assert blame(odd(), MACHINE, (), Asked((), ("6.18",))).suspect == EITHER


def test_a_kernel_that_contradicts_itself_is_wrong_whatever_the_model_says() -> None:
    good = seen(NEW)
    theirs = (*good.theirs[:2], replace(good.theirs[2], inconsistent=INCONSISTENT_LOCKED))
    divergence = diverging_step(good.ours, theirs, initial_layout(ENVIRONMENT))
    found = blame(replace(good, theirs=theirs, divergence=divergence), MACHINE, ())
    assert found.suspect == KERNEL
    assert "VmLck is not the sum" in found.because


def test_lines_say_all_of_it_and_stay_narrow() -> None:
    lines = blame(seen(OLD), MACHINE, ("it came again",), Asked(("6.17",), ("6.16",))).lines()
    assert lines[0] == "likely wrong: the kernel"
    text = "\n".join(lines)
    for words in ("the model's rules for this call", "stability", "it came again", "shown by 6.16"):
        assert words in text
    assert max(map(len, lines)) <= 80
    assert Blame("nobody", "no reason").lines() == ["likely wrong: nobody", "  no reason"]


def test_asking_changes_nothing() -> None:
    before = MACHINE.run(PROGRAM)
    blame(seen(OLD), MACHINE, ())
    assert MACHINE.run(PROGRAM) == before
    assert unpack(before, initial_layout(ENVIRONMENT))[0].value == PROGRAM[0].addr
