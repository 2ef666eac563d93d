"""What a kernel does with programs, in words that do not depend on where its machine has things: addresses relative to
anchors, counters relative to those of an idle executor. So kernels can be compared with each other, without the model.

The executor's own mappings are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final

from abi.calls import NAMES, Munmap, Program
from abi.consts import PAGE
from abi.environment import Environment, Geometry
from abi.program import format_address
from abi.trace import COUNTER_NAMES, PAGE_NAMES, PAGE_PRESENT, Layout, Step, Trace
from fuzz.compare import initial_layout
from fuzz.report import event_text, object_names, record, result_text
from fuzz.triage import flag_names, inconsistencies, named_counters

#: A step each: what was observed (`result`, `layout`, ...) -> its text, a line each.
Behaviour = tuple[dict[str, str], ...]

_TAG_PAGE_BITS: Final = 36
_FILE_TAG: Final = 0xF


def idle(geometry: Geometry) -> Program:
    """A program that does nothing: what counters are relative to."""
    return (Munmap(geometry.window, PAGE),)


def behaviour(
    programs: Sequence[Program], traces: Sequence[Trace], idled: Trace, environment: Environment
) -> Behaviour:
    """What the traces of the programs say, one program after the other; `idled` is the trace of `idle`."""
    describe = _Describer(environment, idled[-1])
    return tuple(
        describe.step(program, index, step)
        for program, trace in zip(programs, traces, strict=True)
        for index, step in enumerate(trace)
    )


def difference(programs: Sequence[Program], here: Behaviour, there: Behaviour) -> str:
    """The first that is otherwise `here` than it was `there`, in one line; "" where nothing is."""
    names = [
        (f"program {number}, " if len(programs) > 1 else "") + f"call {index} ({NAMES[type(call)]})"
        for number, program in enumerate(programs, start=1)
        for index, call in enumerate(program, start=1)
    ]
    for name, ours, theirs in zip_longest(names, here, there):
        if ours is None or theirs is None:
            return "" if ours is theirs else f"{name}: {'not ' * (ours is None)}reached"
        for field in dict.fromkeys((*ours, *theirs)):
            one, other = ours.get(field, ""), theirs.get(field, "")
            if one != other:
                return f"{name} {field}: {_changed(one, other)}"
    return ""


def _changed(one: str, other: str) -> str:
    """What is new, and what it was."""
    ones, others = one.splitlines(), other.splitlines()
    new = next((line for line in ones if line not in others), "")
    old = next((line for line in others if line not in ones), "")
    return f"{' '.join(new.split()) or 'nothing'}, was {' '.join(old.split()) or 'nothing'}"


class _Describer:
    """Puts steps into words, in an environment and beside an idle step."""

    def __init__(self, environment: Environment, idled: Step) -> None:
        self._geometry = environment.geometry
        self._own = set(initial_layout(environment))
        self._objects = object_names(environment)
        self._idle = named_counters(idled)

    def step(self, program: Program, index: int, step: Step) -> dict[str, str]:
        """What was observed of the step after call `index`, in the order in which differences are named."""
        texts = {
            "result": [result_text(program[index], step.value, self._geometry)],
            "layout": self._layout(step.layout),
            "counters": self._counters(step),
            "flags": self._flags(step.layout, step.flags),
            "pages": [*self._pages(step.pages or ())],
            "events": [event_text(event, self._geometry) for event in step.events],
            "contents": [*self._contents(step.contents or ())],
        }
        if step.child is not None:
            child = step.child
            texts["child"] = [
                *self._layout(child.layout),
                *self._flags(child.layout, child.flags),
                *self._relative(dict(zip(COUNTER_NAMES, child.counters, strict=True))),
                *self._contents(child.contents),
            ]
        if step.inconsistent:
            texts["consistency"] = [inconsistencies(step.inconsistent)]
        if step.failed:
            texts["allocation"] = ["failed"]
        return {field: "\n".join(lines) for field, lines in texts.items() if lines}

    def _layout(self, layout: Layout) -> list[str]:
        return [record(m, self._geometry, self._objects) for m in layout if m not in self._own]

    def _counters(self, step: Step) -> list[str]:
        # VmSize is never 0 where it was observed.
        return self._relative(named_counters(step)) if step.size else []

    def _relative(self, counters: Mapping[str, int]) -> list[str]:
        return [
            f"{name} {value - self._idle[name]:+}"
            for name, value in counters.items()
            if name in self._idle
        ]

    def _flags(self, layout: Layout, flags: tuple[int, ...] | None) -> list[str]:
        return [
            f"{format_address(m.start, self._geometry)} {' '.join(flag_names(word))}"
            for m, word in zip(layout, flags or (), strict=False)
            if m not in self._own
        ]

    def _pages(self, entries: Sequence[tuple[int, int]]) -> Iterator[str]:
        for page, entry in entries:
            names = [name for bit, name in PAGE_NAMES.items() if entry & bit]
            word = [self._word(entry >> 8)] if entry & PAGE_PRESENT else []
            yield " ".join([self._page(page), *names, *word])

    def _contents(self, entries: Sequence[tuple[int, int]]) -> Iterator[str]:
        for page, entry in entries:
            trouble = [f"cannot be read ({entry & 0xFF})"] if entry & 0xFF else []
            yield " ".join([self._page(page), *(trouble or [self._word(entry >> 8)])])

    def _word(self, word: int) -> str:
        """The first word of a page (abi.trace: written_tag(), file_tag())."""
        if not word:
            return "zero"
        if word >> 52 == _FILE_TAG:
            return f"file data {word & (1 << 52) - 1:#x}"
        call, page = divmod(word, 1 << _TAG_PAGE_BITS)
        return f"written by call {call} at {self._page(page)}"

    def _page(self, page: int) -> str:
        return format_address(page * PAGE, self._geometry)
