"""Layouts as pictures: a letter is a page of a VMA, `.` an unmapped page, `~` a long run cut short.

Layouts that are drawn together share their columns, so that differences stand under each other. A space marks
each place where any of them has an edge, a `|` the meeting of two VMAs that look alike but are not one.
"""

from collections.abc import Mapping as Named
from dataclasses import replace
from itertools import pairwise

from abi.consts import PAGE
from abi.environment import Geometry
from abi.program import format_address
from abi.trace import NAME_CLASSES, NAME_FILE, NAME_NONE, Layout, Mapping

#: Runs longer than this are cut short (pages).
_LONG = 8
_CUT = 2
#: Borders of mappings that one drawing shows.
_MOST_EDGES = 96
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

Objects = Named[int, str]


def draw(layouts: Named[str, Layout], geometry: Geometry, objects: Objects) -> list[str]:
    """Lines that show what is not the same in all of `layouts` and the mappings around it.

    `layouts` maps labels to layouts, `objects` idents to names. Mappings in none of the given layouts' window
    and equal in all of them are left out.
    """
    shown = {label: _shown(layout, layouts, geometry) for label, layout in layouts.items()}
    edges = _edges(shown)
    if not edges:
        return ["(nothing is mapped)"]
    left_out = len(edges) - _MOST_EDGES
    if left_out > 0:
        shown = _near_the_difference(shown, edges)
        edges = _edges(shown)
    letters = _letters(shown)
    columns = [_columns(start, end) for start, end in pairwise(edges)]
    width = max(len(label) for label in shown)
    lines = [" " * (width + 2) + line for line in _ruler(edges, columns, geometry)]
    for label, layout in shown.items():
        picture = _picture(layout, edges, columns, letters)
        lines.append(f"{label:<{width}}  {picture}".rstrip())
    lines.append("")
    lines += [f"  {letter} {describe_kind(kind, objects)}" for kind, letter in letters.items()]
    if left_out > 0:
        lines += ["", f"  {left_out} borders of mappings are left out"]
    return lines


def _edges(layouts: Named[str, Layout]) -> list[int]:
    return sorted({at for layout in layouts.values() for m in layout for at in (m.start, m.end)})


def _near_the_difference(layouts: Named[str, Layout], edges: list[int]) -> dict[str, Layout]:
    """The mappings around the first that is not in all of the layouts."""
    common = set.intersection(*(set(layout) for layout in layouts.values()))
    first = min(
        (m.start for layout in layouts.values() for m in layout if m not in common),
        default=edges[0],
    )
    begin = max(0, edges.index(first) - _MOST_EDGES // 4)
    low, high = edges[begin], edges[min(begin + _MOST_EDGES, len(edges)) - 1]
    return {
        label: tuple(
            replace(m, start=max(m.start, low), end=min(m.end, high))
            for m in layout
            if m.start < high and m.end > low
        )
        for label, layout in layouts.items()
    }


def describe_kind(kind: tuple[int, int, int], objects: Objects) -> str:
    """The permissions and name of VMAs that look alike: `rw-p anonymous`."""
    perms, ident, name = kind
    shown = Mapping(0, 0, 0, ident, perms, name).permissions()
    return f"{shown} {describe_object(ident, name, objects)}"


def describe_object(ident: int, name: int, objects: Objects) -> str:
    """What a record maps, in words."""
    if name not in (NAME_NONE, NAME_FILE):
        return NAME_CLASSES[name] if name < len(NAME_CLASSES) else f"name class {name}"
    if ident == 0:
        return "anonymous" if name == NAME_NONE else "file"
    return objects.get(ident, f"object {ident}")


def _shown(layout: Layout, layouts: Named[str, Layout], geometry: Geometry) -> Layout:
    common = set.intersection(*(set(other) for other in layouts.values()))
    low, high = geometry.window, geometry.window + geometry.window_pages * PAGE
    return tuple(m for m in layout if m not in common or low <= m.start < high)


def _letters(layouts: Named[str, Layout]) -> dict[tuple[int, int, int], str]:
    kinds = dict.fromkeys(_kind(m) for layout in layouts.values() for m in layout)
    return {kind: _LETTERS[i] if i < len(_LETTERS) else "?" for i, kind in enumerate(kinds)}


def _kind(mapping: Mapping) -> tuple[int, int, int]:
    return mapping.perms, mapping.ident, mapping.name


def _columns(start: int, end: int) -> int:
    pages = max(1, (end - start) // PAGE)
    return pages if pages <= _LONG else 2 * _CUT + 1


def _run(letter: str, start: int, end: int) -> str:
    pages = max(1, (end - start) // PAGE)
    return letter * pages if pages <= _LONG else letter * _CUT + "~" + letter * _CUT


def _picture(
    layout: Layout, edges: list[int], columns: list[int], letters: dict[tuple[int, int, int], str]
) -> str:
    parts: list[str] = []
    previous: Mapping | None = None
    for (start, end), width in zip(pairwise(edges), columns, strict=True):
        inside = next((m for m in layout if m.start <= start < m.end), None)
        if parts:
            alike = inside and previous and _kind(inside) == _kind(previous) and inside != previous
            parts.append("|" if alike else " ")
        letter = letters[_kind(inside)] if inside else "."
        parts.append(f"{_run(letter, start, end):<{width}}")
        previous = inside
    return "".join(parts)


def _ruler(edges: list[int], columns: list[int], geometry: Geometry) -> list[str]:
    """Addresses above the columns where there is room for them, over a row of ticks."""
    names, ticks, free = "", "", 0
    at = 0
    for edge, width in zip(edges, [*columns, 1], strict=True):
        ticks += "'" + " " * width
        name = format_address(edge, geometry)
        if at >= free:
            names = names.ljust(at) + name
            free = at + len(name) + 1
        at += width + 1
    return [names.rstrip(), ticks.rstrip()]
