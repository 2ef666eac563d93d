"""`vmadiff import`: from the text of a trace to programs as text, and what there is to say about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from abi.calls import Mincore
from abi.environment import Geometry
from abi.program import format_call
from fuzz.encode import MAX_CALLS
from fuzz.imported import Imported, convert
from fuzz.report import result_text
from fuzz.strace import read
from fuzz.traced import OUTSIDE, follow


@dataclass(frozen=True, slots=True)
class Named:
    """A program, the name of its file without suffix, and the text of it."""

    name: str
    imported: Imported
    text: str


@dataclass(slots=True)
class Import:
    """What came of a trace. dropped: (system call, reason) -> how often."""

    programs: list[Named] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    processes: int = 0
    spaces: int = 0
    calls: int = 0
    alike: int = 0
    is_cut: bool = False
    strange: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The summary: what was made, how, and what was dropped."""
        made = sum(each.imported.traced for each in self.programs)
        lines = [
            f"{self.processes} processes, {self.spaces} address spaces, {self.calls} calls of the vocabulary",
            f"{len(self.programs)} programs with {made} traced calls",
        ]
        extra = (
            (self.alike, "programs left out that are the same as another"),
            (self.strange, "lines that are not understood"),
        )
        if self.is_cut:
            lines.append("        and more, were it not for --limit")
        lines += [f"{count:>7} {text}" for count, text in extra if count]
        lines += [f"{count:>7} {text}" for text, count in sorted(self.figures.items()) if count]
        if self.dropped:
            lines.append(f"dropped {sum(self.dropped.values())} other calls:")
        named = {key: count for key, count in self.dropped.items() if key[1] != OUTSIDE}
        rest = {name: count for (name, why), count in self.dropped.items() if why == OUTSIDE}
        for (name, why), count in sorted(named.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"{count:>7} {name}: {why}")
        for name, count in sorted(rest.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"{count:>7} {name}")
        return lines


def import_strace(
    lines: Iterable[str],
    name: str,
    geometry: Geometry,
    *,
    pid: int | None = None,
    limit: int | None = None,
    most: int = MAX_CALLS,
) -> Import:
    """The programs of a trace called `name`: of all processes or of `pid`, at most `limit`, with `most` calls or less.

    Raises:
        fuzz.strace.StraceError: the lines are not strace's.
    """
    syscalls, strange = read(lines, name)
    traced = follow(syscalls)
    made = Import(strange=strange, processes=traced.processes, dropped=traced.dropped)
    made.pids = sorted({space.pid for space in traced.spaces})
    spaces = [space for space in traced.spaces if pid in (None, space.pid)]
    made.spaces = len(spaces)
    made.calls = sum(len(space.steps) for space in spaces)
    seen: set[str] = set()
    for space in spaces:
        at = 0
        for imported in convert(space, geometry, made.figures, most):
            if len(made.programs) == limit:
                made.is_cut = True
                return made
            body = _body(imported, geometry)
            at += imported.traced
            if body in seen:
                made.alike += 1
                continue
            seen.add(body)
            stem = f"{imported.of or 'process'}-{space.pid}-{len(made.programs) + 1:04}"
            title = f"Calls {at - imported.traced + 1} to {at} of {imported.of or 'a process'} (process {space.pid})"
            head = f"# {title}, from {name}: see strace(1), mmap(2).\n"
            made.programs.append(Named(_file_name(stem), imported, head + body))
    return made


def _body(imported: Imported, geometry: Geometry) -> str:
    rows = []
    for call, value in zip(imported.program, imported.values, strict=True):
        # What mincore() tells here is in memory there, which strace may cut short.
        told = (
            "" if value is None or isinstance(call, Mincore) else result_text(call, value, geometry)
        )
        result = f" = {told}" if told else ""
        rows.append(f"{format_call(call, geometry)}{result}\n")
    return "".join(rows)


def _file_name(stem: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in stem)
