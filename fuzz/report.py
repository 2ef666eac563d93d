"""Divergences and replays as text: the program, both results, and the layouts drawn page by page."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

from abi.calls import Brk, Call, Kind, Mmap, Mremap, ProcessMadvise, Program, Shmat, Touch
from abi.consts import PAGE
from abi.environment import Environment, Geometry
from abi.program import format_address, format_call, format_word
from abi.trace import (
    COUNTER_NAMES,
    FIRST_NEW_IDENT,
    Child,
    Layout,
    Mapping,
    Step,
    describe,
)
from fuzz.compare import Divergence
from fuzz.drawing import describe_object, draw
from fuzz.triage import (
    event_name,
    flag_names,
    inconsistencies,
    named_counters,
    page_word,
)

#: Records that differ, of which a report shows so many.
_MOST_RECORDS: Final = 64
#: Calls whose result is an address.
_ADDRESS_GIVING: Final = (Mmap, Mremap, Brk, Shmat)


def report(
    signature: str,
    program: Program,
    divergence: Divergence,
    values: tuple[int, ...],
    environment: Environment,
    profile: str,
    notes: Sequence[str] = (),
) -> str:
    """The report of a divergence; `values` are the results of the calls before the diverging one, `notes` lines about
    whose mistake it is."""
    geometry = environment.geometry
    call = program[divergence.index]
    lines = [
        signature,
        "",
        f"kernel   {environment.release} {environment.machine}".rstrip(),
        f"profile  {profile}",
        f"rights   {_rights(environment)}",
        f"window   W = {geometry.window:#x}, {geometry.window_pages} pages;"
        f" T = {geometry.top:#x}; a page is {PAGE} bytes",
    ]
    lines += ["", "program"]
    width = max(len(format_call(each, geometry)) for each in program)
    for index, each in enumerate(program):
        if index < divergence.index and index < len(values):
            result = f" = {result_text(each, values[index], geometry)}"
        else:
            result = ""
        mark = ">>>" if index == divergence.index else "   "
        lines.append(f"{mark} {format_call(each, geometry):<{width}}{result}".rstrip())
    lines.append(f"      model   {result_text(call, divergence.ours.value, geometry)}")
    lines.append(f"      kernel  {result_text(call, divergence.theirs.value, geometry)}")
    lines += ["", *difference_lines(divergence, environment)]
    lines += layout_lines(divergence, environment)
    if notes:
        lines += ["", *notes]
    return "\n".join(lines) + "\n"


def difference_lines(divergence: Divergence, environment: Environment) -> list[str]:
    """What differs, where it is neither the result nor the layout (- model, + kernel); else nothing."""
    ours, theirs = divergence.ours, divergence.theirs
    rows: list[tuple[str, str, str]] = []
    if divergence.field == "consistency":
        return ["the kernel contradicts itself", f"  {inconsistencies(theirs.inconsistent)}", ""]
    if divergence.field == "counters":
        counted, found = named_counters(ours), named_counters(theirs)
        rows = [(name, str(counted.get(name)), str(found[name])) for name in found]
    elif divergence.field == "flags":
        names = [format_address(m.start, environment.geometry) for m in ours.layout]
        sides = ([" ".join(flag_names(w)) for w in step.flags or ()] for step in (ours, theirs))
        rows = list(zip(names, *sides, strict=False))
    elif divergence.field in ("pages", "contents"):
        rows = _page_rows(
            getattr(ours, divergence.field), getattr(theirs, divergence.field), environment
        )
    elif divergence.field == "child" and ours.child and theirs.child:
        objects = object_names(environment)
        sides = (
            [record(m, environment.geometry, objects) for m in child.layout]
            for child in (ours.child, theirs.child)
        )
        rows = [("mapping", one, other) for one, other in zip_longest(*sides, fillvalue="none")]
        rows += _child_rows(ours.child, theirs.child, environment)
        rows += _page_rows(ours.child.contents, theirs.child.contents, environment)
    elif divergence.field == "events":
        pairs = zip_longest(ours.events, theirs.events)
        rows = [
            (
                "event",
                event_text(one, environment.geometry),
                event_text(other, environment.geometry),
            )
            for one, other in pairs
        ]
    lines = [f"{divergence.field} that differ (- model, + kernel)"] if rows else []
    for name, our, their in rows:
        if our != their:
            lines += [f"  {name}", f"    - {our}", f"    + {their}"]
    return [*lines, ""] if lines else []


def _page_rows(
    ours: Sequence[tuple[int, int]] | None,
    theirs: Sequence[tuple[int, int]] | None,
    environment: Environment,
) -> list[tuple[str, str, str]]:
    our, their = dict(ours or ()), dict(theirs or ())
    return [
        (
            format_address(page * PAGE, environment.geometry),
            _entry(our.get(page)),
            _entry(their.get(page)),
        )
        for page in sorted(our.keys() | their.keys())
    ]


def _entry(entry: int | None) -> str:
    return (
        "none" if entry is None else f"{page_word(entry)} ({entry >> 8:#x}), bits {entry & 0xFF:#x}"
    )


def event_text(event: tuple[int, ...] | None, geometry: Geometry) -> str:
    """A userfaultfd event as people write it: descriptor, kind, addresses."""
    if event is None:
        return "none"
    kind, fd, *rest = event
    return " ".join(
        [
            format_word(fd, Kind.FD, geometry),
            event_name(kind),
            *(format_address(word, geometry) for word in rest),
        ]
    )


def _child_rows(ours: Child, theirs: Child, environment: Environment) -> list[tuple[str, str, str]]:
    """VmFlags and counters of a fork's child."""
    names = [format_address(m.start, environment.geometry) for m in ours.layout]
    flags = ([" ".join(flag_names(w)) for w in child.flags or ()] for child in (ours, theirs))
    counters = (map(str, child.counters) for child in (ours, theirs))
    return [
        *zip(names, *flags, strict=False),
        *zip(COUNTER_NAMES, *counters, strict=False),
    ]


def layout_lines(divergence: Divergence, environment: Environment) -> list[str]:
    """The layouts before, expected and found as pictures, and the records that differ."""
    objects = object_names(environment)
    our, their = divergence.ours.layout, divergence.theirs.layout
    same = our == their
    layouts = {"before": divergence.before}
    if same:
        layouts["after"] = our
    else:
        layouts["expected"] = our
        layouts["found"] = their
    lines = ["layout" + (" (the same on both sides)" if same else "")]
    lines += [f"  {line}".rstrip() for line in draw(layouts, environment.geometry, objects)]
    if same:
        return lines
    lines += ["", "records that differ (- model only, + kernel only)"]
    ours, theirs = set(our), set(their)
    changed = sorted(
        [(m.start, m.end, "-", m) for m in ours - theirs]
        + [(m.start, m.end, "+", m) for m in theirs - ours],
        key=lambda row: row[:3],
    )
    lines += [
        f"  {sign} {record(m, environment.geometry, objects)}"
        for _, _, sign, m in changed[:_MOST_RECORDS]
    ]
    if len(changed) > _MOST_RECORDS:
        lines.append(f"  ... and {len(changed) - _MOST_RECORDS} more")
    return lines


def record(mapping: Mapping, geometry: Geometry, objects: dict[int, str]) -> str:
    """One VMA as a line: where, permissions, what it maps and from which page on."""
    span = f"{format_address(mapping.start, geometry)} .. {format_address(mapping.end, geometry)}"
    pages, rest = divmod(mapping.end - mapping.start, PAGE)
    size = f"{pages}p" + (f"+{rest:#x}" if rest else "")
    offset = f" offset {mapping.offset:#x}" if mapping.offset or mapping.ident else ""
    what = describe_object(mapping.ident, mapping.name, objects)
    return f"{span:<20} {size:>6} {mapping.permissions()} {what}{offset}"


def object_names(environment: Environment) -> dict[int, str]:
    """Names of the idents in layout records."""
    names: dict[int, str] = {}
    for each in environment.objects:
        if each.ident:
            names.setdefault(each.ident, each.name)
    for number in range(64):
        names[FIRST_NEW_IDENT + number] = f"shared anonymous #{number + 1}"
    return names


def result_text(call: Call, value: int, geometry: Geometry) -> str:
    """A result as people write it: errnos by name, addresses relative to an anchor."""
    failed = -4096 < value < 0
    if isinstance(call, _ADDRESS_GIVING) and not failed:
        return format_address(value & (1 << 64) - 1, geometry)
    if isinstance(call, ProcessMadvise) and not failed:
        return format_word(value, Kind.LENGTH, geometry)
    if isinstance(call, Touch) and failed:
        return f"-1 ({value})"
    return describe(call, value)


def step_json(step: Step) -> dict[str, Any]:
    """One side of a step as plain data: addresses and offsets in bytes, counters in pages, only what was observed."""
    data: dict[str, Any] = {
        "value": step.value,
        "layout": _layout_json(step.layout, step.flags),
        "counters": named_counters(step),
    }
    if step.inconsistent:
        data["inconsistent"] = inconsistencies(step.inconsistent)
    if step.events:
        data["events"] = [list(event) for event in step.events]
    for name, entries in (("pages", step.pages), ("contents", step.contents)):
        if entries is not None:
            data[name] = _pages_json(entries)
    if step.child is not None:
        data["child"] = {
            "layout": _layout_json(step.child.layout, step.child.flags),
            "counters": dict(zip(COUNTER_NAMES, step.child.counters, strict=True)),
            "contents": _pages_json(step.child.contents),
        }
    return data


def _layout_json(layout: Layout, flags: tuple[int, ...] | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "start": m.start,
            "end": m.end,
            "perms": m.permissions(),
            "offset": m.offset,
            "object": m.ident,
            "name": m.name,
        }
        for m in layout
    ]
    for row, word in zip(rows, flags or (), strict=False):
        row["flags"] = flag_names(word)
    return rows


def _pages_json(entries: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    return [
        {"addr": page * PAGE, "bits": entry & 0xFF, "word": entry >> 8} for page, entry in entries
    ]


def _rights(environment: Environment) -> str:
    return ", ".join(f"CAP_{name}" for name in sorted(environment.capabilities)) or "none"
