"""What became of programs on one kernel: how it parts from its model, and what it does by itself. One boot, one
executor.

What could not be asked is said with its reason, and is never an answer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import kernels
from abi.calls import Program, Shmat
from abi.consts import FD_NAMES
from abi.environment import Environment
from abi.program import parse_all
from abi.trace import Trace, unpack
from fuzz.behaviour import Behaviour, behaviour, idle
from fuzz.compare import initial_layout
from fuzz.console import Console, reports
from fuzz.headlines import KERNEL, causes, gravest
from fuzz.kept_profiles import profile_of
from fuzz.replay import Replay, replay
from fuzz.restraint import restrain_program
from fuzz.site import Executor
from fuzz.status import UsageError
from fuzz.targets import LOCAL, Target
from fuzz.trials import LAG, whole_reports
from fuzz.verdict import is_full
from kernel_bridge import BridgeError
from kernels.cache import checksum
from model.run import Model

#: How often programs run on a kernel, on one executor: what is not the same each time is no answer.
REPEATS: Final = 3
_UNSTABLE: Final = "it does not do the same each time"
_PREFIXES: Final = ("qemu:", "uml:")


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of programs on a kernel.

    kernel: as users name it; release: as uname -r has it; signatures: how it parts from its model (each program's first
    divergence) and what it reported about itself; behaviour: what it does (empty where that is not known); undecided:
    why there may be other signatures; unseen: why nothing can be said at all; seconds: boot and all.
    """

    kernel: str
    release: str = ""
    signatures: tuple[str, ...] = ()
    behaviour: Behaviour = ()
    undecided: str = ""
    unseen: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` is its inverse."""
        return {
            "kernel": self.kernel,
            "release": self.release,
            "signatures": list(self.signatures),
            "behaviour": list(self.behaviour),
            "undecided": self.undecided,
            "unseen": self.unseen,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Sighting":
        """What `to_json` described.

        Raises:
            TypeError, KeyError: `data` is not of that form.
        """
        lists = {name: tuple(data[name]) for name in ("signatures", "behaviour")}
        return cls(**{**data, **lists})


def look(kernel: str, text: str, *, user: bool = False, wanted: str | None = "") -> Sighting:
    """Boot a kernel and run the programs in `text` on it. `wanted`: the signature that is looked for, "" for any, None
    for none, so that the model is not asked; nor is it for a report of the kernel's, which is waited for.

    Raises:
        ProgramError: the text is no program.
    """
    begun = time.monotonic()
    release = ""
    try:
        with Target(kernel) as target, target.start(user=user) as executor:
            release = executor.environment.release
            seen = _watch(executor, target, text, wanted)
    except (BridgeError, UsageError) as error:
        seen = Sighting(kernel, unseen=str(error))
    seconds = round(time.monotonic() - begun, 2)
    return replace(seen, kernel=kernel, release=release, seconds=seconds)


def _watch(executor: Executor, target: Target, text: str, wanted: str | None) -> Sighting:
    environment = executor.environment
    programs = [
        restrain_program(program, not environment.capabilities)
        for program in parse_all(text, environment.geometry)
    ]
    if lacks := lacking(programs, environment):
        return Sighting("", unseen=f"it has not what the program needs: {'; '.join(lacks)}")
    if wanted is None:
        return _watch_behaviour(executor, programs)
    if wanted.startswith(KERNEL):
        slow = target.site(user=False, worker=0).slow()
        return _watch_reports(executor, programs, LAG * slow)
    model = Model(environment, profile_of(executor, image_checksum(target.name)))
    console = Console()
    executor.printed()
    full = all(map(is_full, programs))
    idling = ("", idle(environment.geometry))
    idled, *results = replay(
        [idling, *(("", program) for program in programs)], executor, model, full=full
    )
    signatures, undecided = _judge(results)
    seen = Sighting("", signatures=signatures, undecided=undecided)
    if all(len(result.theirs) == len(result.program) for result in (idled, *results)):
        traces = [result.theirs for result in results]
        seen = replace(seen, behaviour=behaviour(programs, traces, idled.theirs, environment))
        if full:
            seen = _again(seen, executor, model, results)
    said = causes(whole_reports(console, executor))
    more = tuple(dict.fromkeys(crash.signature for crash in said))
    return replace(seen, signatures=(*seen.signatures, *more))


def _again(seen: Sighting, executor: Executor, model: Model, first: Sequence[Replay]) -> Sighting:
    """The same, if it comes again."""
    named = [(result.name, result.program) for result in first]
    for _ in range(REPEATS - 1):
        results = replay(named, executor, model)
        if [result.theirs for result in results] != [result.theirs for result in first]:
            found = dict.fromkeys((*seen.signatures, *_judge(results)[0]))
            return replace(seen, signatures=tuple(found), behaviour=(), undecided=_UNSTABLE)
    return seen


def _judge(results: Sequence[Replay]) -> tuple[tuple[str, ...], str]:
    """The signatures, and why there may be others."""
    found: dict[str, None] = {}
    undecided = ""
    for result in results:
        if result.divergence is not None:
            found[result.text] = None
        elif result.loss_kind == "crash":
            worst = gravest(reports(result.console.encode()))
            found[worst.signature if worst else f"{KERNEL}{result.loss}"] = None
        elif result.crash or not result.is_complete:
            undecided = undecided or result.verdict()
    return tuple(found), undecided


def _watch_behaviour(executor: Executor, programs: Sequence[Program]) -> Sighting:
    """What the kernel does, each time."""
    environment = executor.environment
    full = all(map(is_full, programs))
    initial = initial_layout(environment)
    first: list[Trace] = []
    for _ in range(REPEATS if full else 1):
        observations = executor.run([idle(environment.geometry), *programs], full=full)
        if loss := next((each.loss for each in observations if each.loss), None):
            return Sighting("", undecided=loss.text)
        traces = [unpack(each.data, initial) for each in observations]
        if first and traces != first:
            return Sighting("", undecided=_UNSTABLE)
        first = traces
    return Sighting("", behaviour=behaviour(programs, first[1:], first[0], environment))


def _watch_reports(executor: Executor, programs: Sequence[Program], lag: float) -> Sighting:
    """What the kernel reports, one program after the other; it has run nothing else."""
    console = Console()
    executor.printed()
    found: dict[str, None] = {}
    for left, program in zip(range(len(programs) - 1, -1, -1), programs, strict=True):
        (observed,) = executor.run([program], full=True)
        said = observed.loss.console.encode() if observed.loss else b""
        dead = observed.loss is not None and observed.loss.kind == "crash"
        for crash in causes(whole_reports(console, executor, said, 0.0 if left or dead else lag)):
            found[crash.signature] = None
        if observed.loss is not None and not dead:
            return Sighting("", signatures=tuple(found), undecided=observed.loss.text)
    return Sighting("", signatures=tuple(found))


def lacking(programs: Sequence[Program], environment: Environment) -> list[str]:
    """The objects that the programs use and this machine has not: name and why. Without them a program is another."""
    calls = [call for program in programs for call in program]
    numbers = {getattr(call, "fd", -1) for call in calls}
    names = {name for name, fd in FD_NAMES.items() if fd in numbers}
    names |= {f"shm{call.segment}" for call in calls if isinstance(call, Shmat)}
    return [f"{name}: {why}" for name, why in sorted(environment.missing.items()) if name in names]


def image_checksum(kernel: str) -> str:
    """Of the image of a kernel, by the name that users give it; "" of the running one."""
    if kernel == LOCAL:
        return ""
    prefix = next((each for each in _PREFIXES if kernel.startswith(each)), "")
    return checksum(Path(kernel.removeprefix(prefix)) if prefix else kernels.find(kernel).image)
