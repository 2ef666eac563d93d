"""Replays that diverge, without a kernel: a model against one without some change, on the reference machine."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from abi.calls import Program
from abi.program import parse
from fuzz import reference
from fuzz.replay import Replay, replay
from model.profile import CHANGES, PROFILES, Profile
from model.run import Model
from tests.fuzz.machine import FakeExecutor

WITNESSES = Path(__file__).parents[2] / "corpus" / "witnesses"
NEWEST = PROFILES["7.3"]
MACHINE = replace(reference.environment(), release="6.16.12", machine="x86_64")


@dataclass(frozen=True)
class Judged:
    """A judgement, as `fuzz.blame` gives one."""

    suspect: str = "the kernel"
    because: str = "other kernels, to which the same rule applies, do what the model says"
    rules: tuple[str, ...] = ("mremap(2): a move keeps what it moves. mm/mremap.c: move_vma().",)
    stability: tuple[str, ...] = ("3 of 3 in fresh executors",)
    history: tuple[str, ...] = ()


def witnessed(change: str) -> Replay:
    """The witness of `change` on the newest kernel, as a model would see it that has it the other way round."""
    (flipped,) = (each for each in CHANGES if each.name == change)
    text = (WITNESSES / f"{change}.prog").read_text()
    return diverging(text, Profile("another", NEWEST.changes ^ {flipped}))


def diverging(
    text: str,
    kernel: Profile = PROFILES["6.12"],
    spoil: Callable[[Program, bytes], bytes] = lambda program, data: data,
) -> Replay:
    """A program on a kernel that does what models of `kernel` do."""
    program = parse(text, MACHINE.geometry)
    executor = FakeExecutor(kernel, spoil, environment=MACHINE)
    (made,) = replay([("x.prog", program)], executor, Model(MACHINE, NEWEST))
    return made


#: Sixty mappings of many kinds near each other, some around the top of the address space, the heap, and a move.
CROWDED = "".join(
    f"mmap(W+{3 * i}, {1 + i % 2}p, PROT_READ{'|PROT_WRITE' * (i % 3 > 0)},"
    f" MAP_{'PRIVATE' if i % 2 else 'SHARED'}|MAP_FIXED{'|MAP_ANONYMOUS' * (i % 4 < 2)},"
    f" {'-1' if i % 4 < 2 else ('memfd' if i % 4 == 2 else 'file')}, 0)\n"
    for i in range(58)
) + (
    "mmap(NULL, 600p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)\n"
    "brk(B+40)\n"
    "mremap(W+0, 6p, 6p, MREMAP_MAYMOVE|MREMAP_FIXED, W+3000)\n"
)
