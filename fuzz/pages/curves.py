"""A campaign's figures over time, a small picture each."""

from collections.abc import Callable, Sequence
from math import floor, log10
from typing import Final
from xml.etree.ElementTree import Element

from fuzz.history import Point, sessions
from fuzz.pages.markup import Content, tag

_WIDTH: Final = 320.0
_HEIGHT: Final = 110.0
_LEFT: Final = 44.0
_BOTTOM: Final = 18.0
_TOP: Final = 8.0
#: Points that are drawn of a curve; of more, every second, third ...
_MOST: Final = 240

#: What is drawn, and from what.
_FIGURES: Final[tuple[tuple[str, Callable[[Point], float]], ...]] = (
    ("programs a second", lambda point: point.sequences_per_second),
    ("branches of the model reached", lambda point: point.coverage),
    ("blocks of the kernel reached", lambda point: point.blocks),
    ("programs in the corpus", lambda point: point.corpus),
    ("findings", lambda point: point.findings),
)


def curves(points: Sequence[Point]) -> list[Element]:
    """Pictures of what is not 0 all the time, and of findings in any case. Time is that of fuzzing: sessions are in a
    row, with a dashed line between them."""
    times, borders, ordered = [], [], []
    begun = 0.0
    for session in sessions(points):
        borders.append(begun)
        times += [begun + point.seconds for point in session]
        ordered += session
        begun += session[-1].seconds
    if not ordered:
        return []
    return [
        _curve(name, times, [value(point) for point in ordered], borders[1:])
        for name, value in _FIGURES
        if name == "findings" or any(value(point) for point in ordered)
    ]


def _curve(
    name: str, times: Sequence[float], values: Sequence[float], borders: Sequence[float]
) -> Element:
    end, top = max(times[-1], 1.0), nice(max(values))
    bottom = _HEIGHT - _BOTTOM

    def x(time: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 6) * time / end

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * value / top

    step = -(-len(times) // _MOST)
    chosen = [*range(0, len(times) - 1, step), len(times) - 1]
    line = "L".join(f"{x(times[i]):.1f} {y(values[i]):.1f}" for i in chosen)
    # A single point is a curve, too.
    path = f"M{line}" if len(chosen) > 1 else f"M{_LEFT:.1f} {y(values[0]):.1f}L{line}"
    shapes: list[Content] = [
        *(tag("path", d=f"M{x(at):.1f} {_TOP}V{bottom}", class_="session") for at in borders),
        tag("path", d=f"M{_LEFT} {_TOP}V{bottom}H{_WIDTH - 6}", class_="axis"),
        tag("text", _number(top), x=_LEFT - 4, y=_TOP + 4, text_anchor="end"),
        tag("text", "0", x=_LEFT - 4, y=bottom, text_anchor="end"),
        tag("text", "0", x=_LEFT, y=_HEIGHT - 5, text_anchor="middle"),
        tag("text", duration(end), x=_WIDTH - 6, y=_HEIGHT - 5, text_anchor="end"),
        tag("path", d=path, class_="line"),
    ]
    label = f"{name}: {_number(values[-1])} after {duration(times[-1])}"
    picture = tag(
        "svg", *shapes, viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", role="img", aria_label=label
    )
    caption = tag("figcaption", tag("span", name), tag("strong", _number(values[-1])))
    return tag("figure", caption, picture)


def nice(value: float) -> float:
    """The least of 1, 2, 3, 4, 5, 6, 8, 10, 20 ... that is not below `value`."""
    if value <= 1:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def duration(seconds: float) -> str:
    """A time of fuzzing, coarsely: `90 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
