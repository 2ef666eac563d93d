"""Divergences and replays as text: the program, both results, and the layouts drawn page by page."""

from typing import Any, Final

from abi.calls import Brk, Call, Kind, Mmap, Mremap, ProcessMadvise, Program, Shmat, Touch
from abi.consts import PAGE
from abi.environment import Environment, Geometry
from abi.program import format_address, format_call, format_word
from abi.trace import FIRST_NEW_IDENT, Layout, Mapping, describe
from fuzz.compare import Divergence
from fuzz.drawing import describe_object, draw

#: Calls whose result is an address.
_ADDRESS_GIVING: Final = (Mmap, Mremap, Brk, Shmat)


def report(
    signature: str,
    program: Program,
    divergence: Divergence,
    values: tuple[int, ...],
    environment: Environment,
    profile: str,
    stable: bool = True,
) -> str:
    """The report of a divergence; `values` are the results of the calls before the diverging one."""
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
    if not stable:
        lines.append("unstable: it did not come back in each of three fresh executors")
    lines += ["", "program"]
    width = max(len(format_call(each, geometry)) for each in program)
    for index, each in enumerate(program):
        if index < divergence.index and index < len(values):
            result = f" = {result_text(each, values[index], geometry)}"
        else:
            result = ""
        mark = ">>>" if index == divergence.index else "   "
        lines.append(f"{mark} {format_call(each, geometry):<{width}}{result}".rstrip())
    lines.append(f"      model   {result_text(call, divergence.our_value, geometry)}")
    lines.append(f"      kernel  {result_text(call, divergence.their_value, geometry)}")
    lines += ["", *layout_lines(divergence, environment)]
    return "\n".join(lines) + "\n"


def layout_lines(divergence: Divergence, environment: Environment) -> list[str]:
    """The layouts before, expected and found as pictures, and the records that differ."""
    objects = object_names(environment)
    same = divergence.our_layout == divergence.their_layout
    layouts = {"before": divergence.before}
    if same:
        layouts["after"] = divergence.our_layout
    else:
        layouts["expected"] = divergence.our_layout
        layouts["found"] = divergence.their_layout
    lines = ["layout" + (" (the same on both sides)" if same else "")]
    lines += [f"  {line}".rstrip() for line in draw(layouts, environment.geometry, objects)]
    if same:
        return lines
    lines += ["", "records that differ (- model only, + kernel only)"]
    ours, theirs = set(divergence.our_layout), set(divergence.their_layout)
    changed = sorted(
        [(m.start, m.end, "-", m) for m in ours - theirs]
        + [(m.start, m.end, "+", m) for m in theirs - ours],
        key=lambda row: row[:3],
    )
    lines += [f"  {sign} {record(m, environment.geometry, objects)}" for _, _, sign, m in changed]
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


def step_json(value: int, layout: Layout) -> dict[str, Any]:
    """One side of a step as plain data; addresses and offsets in bytes."""
    return {
        "value": value,
        "layout": [
            {
                "start": m.start,
                "end": m.end,
                "perms": m.permissions(),
                "offset": m.offset,
                "object": m.ident,
                "name": m.name,
            }
            for m in layout
        ],
    }


def _rights(environment: Environment) -> str:
    return ", ".join(f"CAP_{name}" for name in sorted(environment.capabilities)) or "none"
