"""What a reproducer is made of: a program, where it ran, and what both sides said."""

from dataclasses import dataclass
from errno import EAGAIN, ENOMEM

from abi.calls import (
    Brk,
    Call,
    Fill,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mremap,
    Munlockall,
    Program,
    Setrlimit,
    Shmat,
    Touch,
)
from abi.consts import MAP_GROWSDOWN, PAGE
from abi.environment import Environment
from abi.trace import Layout, Trace
from fuzz.compare import Divergence, initial_layout
from fuzz.replay import Replay

#: Calls that concern all of a process.
_WIDE = (Brk, Fill, Mlockall, Munlockall, Setrlimit)
#: Calls that limits can refuse, and how.
_LIMITED = (Mmap, Mremap, Mlock, Mlock2, Shmat)


class ReproError(Exception):
    """The program has no reproducer of this kind; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """A program with what the model expects of it and what the kernel did.

    title: what is shown, in a line; environment: where it ran; divergence: the first difference, None where they agree;
    profile: the name of the model's.
    """

    title: str
    program: Program
    environment: Environment
    ours: Trace
    theirs: Trace
    divergence: Divergence | None
    profile: str

    @classmethod
    def of(cls, replay: Replay, title: str, profile: str) -> "Case":
        """The case that a replay is.

        Raises:
            ReproError: model or kernel did not get to the end of it.
        """
        if replay.divergence is None and not replay.is_complete:
            raise ReproError(replay.verdict())
        return cls(
            title,
            replay.program,
            replay.environment,
            replay.ours,
            replay.theirs,
            replay.divergence,
            profile,
        )

    @property
    def calls(self) -> Program:
        """The program up to the call that diverges: what comes later is its echo."""
        return (
            self.program if self.divergence is None else self.program[: self.divergence.index + 1]
        )

    def own(self, layout: Layout) -> Layout:
        """The mappings of a layout that are the program's, not the executor's."""
        initial = [(m.start, m.end) for m in initial_layout(self.environment)]
        return tuple(m for m in layout if not any(low <= m.start < high for low, high in initial))

    def is_in_window(self) -> bool:
        """Nothing outside the window has a part in it, nor a limit: then it does not matter what else is mapped."""
        geometry = self.environment.geometry
        low, high = geometry.window, geometry.window + geometry.window_pages * PAGE
        grows = any(isinstance(call, Mmap) and call.flags & MAP_GROWSDOWN for call in self.calls)
        for index, call in enumerate(self.calls):
            if isinstance(call, _WIDE) or not all(
                low <= address < high for address in _addresses(call)
            ):
                return False
            for trace in (self.ours, self.theirs):
                if index >= len(trace):
                    continue
                step = trace[index]
                if isinstance(call, _LIMITED) and step.value in (-ENOMEM, -EAGAIN):
                    return False
                if isinstance(call, Touch) and grows and step.value:
                    return False
                if any(m.start < low or m.end > high for m in self.own(step.layout)):
                    return False
        return True

    def check_places(self) -> None:
        """Reproducers have their memory elsewhere than the executor.

        Raises:
            ReproError: a call aims at the executor's own memory.
        """
        for index, call in enumerate(self.calls):
            # A break below the heap is refused, wherever that is.
            for address in [] if isinstance(call, Brk) else _addresses(call):
                if any(vma.start <= address < vma.end for vma in self.environment.initial):
                    raise ReproError(f"call {index + 1} aims at the memory of vmadiff's executor")


def _addresses(call: Call) -> list[int]:
    """The addresses that a call names, but for those that say that it names none."""
    named = [getattr(call, name) for name in ("addr", "new_addr") if hasattr(call, name)]
    if isinstance(call, Mremap):
        named = [call.addr, *([call.new_addr] if call.new_addr else [])]
    return named
