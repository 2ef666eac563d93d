"""The address space over time: a lane a call, in it the model's mappings above the kernel's, as bars."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Final
from xml.etree.ElementTree import Element

from abi.calls import Call, Mremap, Touch
from abi.consts import PAGE
from abi.environment import Environment
from abi.program import format_address, format_call
from abi.trace import (
    PAGE_FILE,
    PAGE_GUARD,
    PAGE_PRESENT,
    PAGE_SWAPPED,
    PAGE_WP,
    Layout,
    Mapping,
    Step,
    Trace,
)
from fuzz.compare import initial_layout
from fuzz.drawing import describe_object
from fuzz.pages.markup import Content, tag
from fuzz.pages.scale import scale, spread
from fuzz.replay import Replay
from fuzz.report import difference_lines, object_names, result_text
from fuzz.triage import flag_names, page_word

#: Measures of a lane (of the picture's units).
_GUTTER: Final = 56.0
_TOP: Final = 12.0
_BAR: Final = 22.0
_BETWEEN: Final = 6.0
_PAGES: Final = 6.0
#: About the width of a character of the labels.
_LETTER: Final = 6.6
#: Lines about what differs that are shown beside a lane.
_MOST_LINES: Final = 12
#: Colours of objects, after those of anonymous memory, the heap and the stack.
_COLOURS: Final = 9
_FIXED: Final = {"anonymous": "anon", "[heap]": "heap", "[stack]": "stack"}
#: Kinds of page table entries, each with what it is called; the first that fits.
_ENTRIES: Final = (
    (PAGE_GUARD, "guard", "guard page"),
    (PAGE_WP, "wp", "write-protected by a userfaultfd"),
    (PAGE_SWAPPED, "swapped", "swapped out"),
    (PAGE_PRESENT | PAGE_FILE, "shared", "present page of a file or shared memory"),
    (PAGE_PRESENT, "present", "present page (faulted in)"),
)

_BOTH: Final = ": above what the model of the kernel's rules expects, below what the kernel has"
_MODEL: Final = ", as the model of the kernel's rules expects it"


@dataclass(frozen=True, slots=True)
class Row:
    """One side after one call: mappings, their VmFlags and the page table entries where they were observed; what
    the other side does not have is in `odd` and `odd_pages`."""

    label: str
    layout: Layout
    flags: tuple[int, ...] | None
    pages: tuple[tuple[int, int], ...]
    odd: frozenset[Mapping]
    odd_pages: frozenset[int]


class Picture:
    """All that is drawn of a replay, on one scale and in one set of colours; of a side that made no step, nothing."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._sides = [
            (label, trace)
            for label, trace in (("model", replay.ours), ("kernel", replay.theirs))
            if trace
        ]
        self._environment: Environment = replay.environment
        self._geometry = replay.environment.geometry
        self._objects = object_names(replay.environment)
        self._hidden = _constant(replay)
        self._lanes = [self._rows(index) for index in range(len(replay.program))]
        rows = list(chain.from_iterable(self._lanes))
        self._scale = scale(row.layout for row in rows)
        # The last label of the axis is right of the last edge.
        ends = [format_address(c.end, self._geometry) for c in self._scale.columns[-1:]]
        self._margin = max((len(end) * _LETTER + 10 for end in ends), default=10.0)
        self._colours = self._coloured(rows)
        self._entries = {_kind(entry)[0] for row in rows for _, entry in row.pages}

    def section(self) -> list[Content]:
        """All of it, with a heading and how to read it."""
        hint = (
            "Each row is the address space after one call, from low addresses at the left to high ones at the right. A"
            f" bar is one mapping (VMA){_BOTH if len(self._sides) > 1 else _MODEL}. A strip at a bar's foot marks pages"
            " that are in memory. Point at a bar, or move to it with the Tab key, for its addresses, permissions and"
            " flags. What was mapped before the first call, and stays, is left out."
        )
        return [
            tag("h2", "The address space over time"),
            tag("p", hint, class_="hint"),
            self.legend(),
            self.table(),
        ]

    def table(self) -> Element:
        """The lanes, below and above an axis of addresses."""
        lanes = [self._lane(index, rows) for index, rows in enumerate(self._lanes)]
        head = tag(
            "thead",
            tag(
                "tr",
                tag("th", "call, and what it returned", scope="col"),
                tag("td", self._axis()),
            ),
        )
        return tag(
            "div",
            tag("table", head, tag("tbody", *lanes), class_="lanes"),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="the address space after each call",
        )

    def legend(self) -> Element:
        """What the colours and signs mean that occur."""
        items: list[Content] = [
            tag("li", _swatch(f"vma {colour}"), name) for name, colour in self._colours.items()
        ]
        items += [
            tag("li", _swatch(f"entry {kind}", small=True), text)
            for _, kind, text in _ENTRIES
            if kind in self._entries
        ]
        items.append(tag("li", _range_sign(), "what the call names"))
        if any(column.cut for column in self._scale.columns):
            items.append(tag("li", _break_sign(), "not to scale: addresses left out"))
        if self._replay.divergence is not None:
            items.append(tag("li", _swatch("vma odd"), "first difference between model and kernel"))
        return tag("ul", *items, class_="legend")

    def _rows(self, index: int) -> list[Row]:
        """The rows of a lane: model and kernel, and of a fork whose child differs both children."""
        divergence = self._replay.divergence
        if divergence is None or divergence.index != index:
            # What differs after the first difference follows from it.
            made = [self._row(label, _step(trace, index)) for label, trace in self._sides]
            return [row for row in made if row is not None]
        ours, theirs = (_step(trace, index) for trace in (self._replay.ours, self._replay.theirs))
        rows = [self._row("model", ours, theirs), self._row("kernel", theirs, ours)]
        if divergence.field == "child":
            mine, other = (_child(step) for step in (ours, theirs))
            rows += [self._row("child, m.", mine, other), self._row("child, k.", other, mine)]
        return [row for row in rows if row is not None]

    def _row(self, label: str, step: Step | None, other: Step | None = None) -> Row | None:
        if step is None:
            return None
        odd, pages = _odd(step, other) if other is not None else (frozenset(), frozenset())
        kept = [i for i, m in enumerate(step.layout) if m not in self._hidden]
        entries = dict(step.pages or ())
        return Row(
            label,
            tuple(step.layout[i] for i in kept),
            None if step.flags is None else tuple(step.flags[i] for i in kept),
            tuple(entries.items()),
            odd,
            pages,
        )

    def _coloured(self, rows: Sequence[Row]) -> dict[str, str]:
        """Names of what is mapped, with their colours, in the order in which they appear."""
        names = dict.fromkeys(self._name(m) for row in rows for m in row.layout)
        others = (name for name in names if name not in _FIXED)
        numbered = {name: f"c{number % _COLOURS}" for number, name in enumerate(others)}
        return {name: _FIXED.get(name) or numbered[name] for name in names}

    def _name(self, mapping: Mapping) -> str:
        return describe_object(mapping.ident, mapping.name, self._objects)

    def _lane(self, index: int, rows: Sequence[Row]) -> Element:
        replay, call = self._replay, self._replay.program[index]
        divergence = replay.divergence
        diverges = divergence is not None and divergence.index == index
        results = []
        sides = [(label, _step(trace, index)) for label, trace in self._sides]
        values = [None if step is None else step.value for _, step in sides]
        for label, step in sides:
            text = "not run" if step is None else result_text(call, step.value, self._geometry)
            odd = diverges and len(set(values)) > 1
            results += [
                tag("dt", label),
                tag("dd", tag("code", text), class_="odd" if odd else None),
            ]
        head: list[Content] = [
            tag("span", str(index + 1), class_="number"),
            tag("code", *breakable(format_call(call, self._geometry)), class_="call"),
            tag("dl", *results, class_="results"),
        ]
        if divergence is not None and diverges:
            head.append(tag("p", f"first difference: {divergence.field}", class_="badge"))
            lines = difference_lines(divergence, self._environment)[1:]
            more = [f"  and {len(lines) - _MOST_LINES} more lines, see below"]
            shown = lines if len(lines) <= _MOST_LINES else lines[:_MOST_LINES] + more
            if lines:
                head.append(tag("pre", "\n".join(shown).rstrip(), class_="differences"))
        return tag(
            "tr",
            tag("th", *head, scope="row"),
            tag("td", self._drawn(call, rows)),
            class_="diverges" if diverges else None,
            id=f"call-{index + 1}",
        )

    def _drawn(self, call: Call, rows: Sequence[Row]) -> Element:
        height = _TOP + max(len(rows), 1) * (_BAR + _BETWEEN) + 2
        shapes: list[Content] = [
            tag("path", d=self._grid(height), class_="grid"),
            *self._named(call),
        ]
        for number, row in enumerate(rows):
            shapes += self._side(row, _TOP + number * (_BAR + _BETWEEN))
        return self._svg(height, *shapes)

    def _svg(self, height: float, *shapes: Content) -> Element:
        width = _GUTTER + self._scale.width + self._margin
        return tag(
            "svg",
            *shapes,
            viewBox=f"0 0 {_n(width)} {_n(height)}",
            style=f"--wide: {_n(width)}px",
            role="group",
        )

    def _grid(self, height: float) -> str:
        edges = {column.left for column in self._scale.columns} | {self._scale.width}
        return "".join(f"M{_n(_GUTTER + at)} 0V{_n(height)}" for at in sorted(edges))

    def _axis(self) -> Element:
        columns = self._scale.columns
        edges = [column.start for column in columns] + [column.end for column in columns[-1:]]
        names = [format_address(edge, self._geometry) for edge in edges]
        places = [self._x(edge) for edge in edges]
        levels = spread(
            [(at, len(name) * _LETTER + 8) for at, name in zip(places, names, strict=True)], 3
        )
        rows = max(levels, default=0) + 1
        height = rows * 13.0 + 8
        shapes: list[Content] = []
        for at, name, level, edge in zip(places, names, levels, edges, strict=True):
            if level < 0:
                shapes.append(
                    tag("path", d=f"M{_n(at)} {_n(height - 4)}V{_n(height)}", class_="tick")
                )
                continue
            top = (rows - 1 - level) * 13.0 + 11
            shapes.append(tag("path", d=f"M{_n(at)} {_n(top - 8)}V{_n(height)}", class_="tick"))
            label = tag("text", name, tag("title", hex(edge)), x=_n(at + 3), y=_n(top))
            shapes.append(label)
        return self._svg(height, *shapes)

    def _named(self, call: Call) -> Iterator[Element]:
        """The ranges that a call names, as far as they are in the picture."""
        if not self._scale.columns:
            return
        low, high = self._scale.columns[0].start, self._scale.columns[-1].end
        for start, end in _ranges(call):
            if start < high and end > low and end > start:
                left, right = self._x(start), self._x(end)
                text = f"{format_address(start, self._geometry)} .. {format_address(end, self._geometry)}"
                yield tag(
                    "path",
                    tag("title", f"the call names {text}"),
                    d=f"M{_n(left)} 8V3H{_n(right)}V8",
                    class_="named",
                )

    def _side(self, row: Row, top: float) -> Iterator[Content]:
        middle = top + _BAR / 2
        yield tag("text", row.label, x="0", y=_n(middle + 4), class_="side")
        yield tag("path", d=self._baseline(row.layout, middle), class_="base")
        words = row.flags or (None,) * len(row.layout)
        for mapping, word in zip(row.layout, words, strict=True):
            yield self._bar(row, mapping, word, top)

    def _baseline(self, layout: Layout, middle: float) -> str:
        """Where nothing is mapped, a line; where addresses are left out, two strokes through it."""
        path = ""
        for column in self._scale.columns:
            if any(m.start <= column.start < m.end for m in layout):
                continue
            left, right = _GUTTER + column.left, _GUTTER + column.right
            path += f"M{_n(left)} {_n(middle)}H{_n(right)}"
            if column.cut:
                path += _strokes((left + right) / 2, middle, 5)
        return path

    def _bar(self, row: Row, mapping: Mapping, word: int | None, top: float) -> Element:
        left, right = self._x(mapping.start), self._x(mapping.end)
        colour = self._colours[self._name(mapping)]
        none = not mapping.perms & 7
        shape = "vma " + colour + " none" * none
        tip = "\n".join(self._tip(row, mapping, word))
        parts: list[Content] = [
            tag("title", tip),
            tag(
                "rect",
                x=_n(left + 0.75),
                y=_n(top),
                width=_n(max(right - left - 1.5, 1.0)),
                height=_n(_BAR),
                rx="2",
                class_=shape,
            ),
            *self._page_marks(row, mapping, top),
        ]
        for column in self._scale.columns:
            if column.cut and column.mapped and mapping.start <= column.start < mapping.end:
                # Left of the words, should there be some in the middle.
                at = _GUTTER + column.right - 9
                parts.append(tag("path", d=_strokes(at, top + _BAR / 2, 7), class_="cut"))
        perms, name = mapping.permissions(), self._name(mapping)
        for text in (f"{perms} {name}", perms):
            if len(text) * _LETTER + 8 <= right - left - 12 * any(
                c.cut and c.mapped and mapping.start <= c.start < mapping.end
                for c in self._scale.columns
            ):
                parts.append(tag("text", text, x=_n(left + 5), y=_n(top + 12.5), class_="perms"))
                break
        if mapping in row.odd:
            parts.append(
                tag(
                    "rect",
                    x=_n(left - 1),
                    y=_n(top - 2),
                    width=_n(right - left + 2),
                    height=_n(_BAR + 4),
                    rx="4",
                    class_="outline",
                )
            )
        return tag("g", *parts, tabindex="0", role="img", class_="bar", data_side=row.label)

    def _page_marks(self, row: Row, mapping: Mapping, top: float) -> Iterator[Element]:
        """A strip at the foot of a bar for pages that have a page table entry; neighbours of a kind are one."""
        inside = [
            (page, entry) for page, entry in row.pages if mapping.start <= page * PAGE < mapping.end
        ]
        for (kind, _), run in groupby(
            enumerate(inside), key=lambda each: (_kind(each[1][1])[0], each[1][0] - each[0])
        ):
            pages = [page for _, (page, _) in run]
            left, right = self._x(pages[0] * PAGE), self._x((pages[-1] + 1) * PAGE)
            yield tag(
                "rect",
                x=_n(left + 1.5),
                y=_n(top + _BAR - _PAGES - 1.5),
                width=_n(max(right - left - 3, 1.5)),
                height=_n(_PAGES),
                class_=f"entry {kind}",
            )
        if mapping not in row.odd:
            odd = sorted(p for p in row.odd_pages if mapping.start <= p * PAGE < mapping.end)
            for _, same in groupby(enumerate(odd), key=lambda each: each[1] - each[0]):
                pages = [page for _, page in same]
                yield self._odd_pages(
                    self._x(pages[0] * PAGE), self._x((pages[-1] + 1) * PAGE), top
                )

    def _odd_pages(self, left: float, right: float, top: float) -> Element:
        return tag(
            "rect",
            x=_n(left),
            y=_n(top + _BAR - _PAGES - 3),
            width=_n(max(right - left, 3)),
            height=_n(_PAGES + 3),
            class_="outline",
        )

    def _tip(self, row: Row, mapping: Mapping, word: int | None) -> Iterator[str]:
        start, end = (format_address(at, self._geometry) for at in (mapping.start, mapping.end))
        pages = -(-(mapping.end - mapping.start) // PAGE)
        yield f"{row.label}: {start} .. {end}"
        yield f"{mapping.start:#x} .. {mapping.end:#x}"
        yield f"{pages} page{'s' * (pages != 1)}  {mapping.permissions()}"
        offset, rest = divmod(mapping.offset, PAGE)
        yield f"{self._name(mapping)}  pgoff {offset}" + (f" + {rest:#x}" if rest else "")
        if word is not None:
            yield f"VmFlags: {' '.join(flag_names(word)) or 'none'}"
        counted: dict[str, int] = {}
        for page, entry in row.pages:
            if mapping.start <= page * PAGE < mapping.end:
                _, text = _kind(entry)
                word_ = f", {page_word(entry)}" if entry & PAGE_PRESENT else ""
                counted[text + word_] = counted.get(text + word_, 0) + 1
        yield from (f"{count} x {text}" for text, count in counted.items())
        if mapping in row.odd:
            yield "differs between model and kernel"

    def _x(self, address: int) -> float:
        return _GUTTER + self._scale.place(address)


def breakable(text: str) -> Iterator[Content]:
    """Text that may be broken after commas and before `|`."""
    for number, piece in enumerate(text.replace("|", "\0|").replace(", ", ",\0 ").split("\0")):
        if number:
            yield tag("wbr")
        yield piece


def _constant(replay: Replay) -> frozenset[Mapping]:
    """The executor's own mappings, as far as they are there after each call on both sides."""
    kept = set(initial_layout(replay.environment))
    for step in chain(replay.ours, replay.theirs):
        kept &= set(step.layout)
    return frozenset(kept)


def _step(trace: Trace, index: int) -> Step | None:
    return trace[index] if index < len(trace) else None


def _child(step: Step | None) -> Step | None:
    """What a fork's child sees, as if it were the parent's step."""
    if step is None or step.child is None:
        return None
    child = step.child
    return Step(step.value, child.layout, flags=child.flags, contents=child.contents)


def _odd(step: Step, other: Step) -> tuple[frozenset[Mapping], frozenset[int]]:
    """Mappings that the other side has not, or with other VmFlags, and pages whose entries or contents are others."""
    theirs = dict(zip(other.layout, other.flags or (None,) * len(other.layout), strict=True))
    ours = zip(step.layout, step.flags or (None,) * len(step.layout), strict=True)
    odd = frozenset(m for m, word in ours if m not in theirs or theirs[m] != word)
    pages: set[int] = set()
    for mine, their in ((step.pages, other.pages), (step.contents, other.contents)):
        pages |= {page for page, _ in set(mine or ()) ^ set(their or ())}
    return odd, frozenset(pages)


def _kind(entry: int) -> tuple[str, str]:
    """The kind of a page table entry, and what it is called."""
    return next(
        ((kind, text) for bits, kind, text in _ENTRIES if entry & bits == bits),
        ("present", "page table entry"),
    )


def _ranges(call: Call) -> Iterator[tuple[int, int]]:
    """The ranges of addresses that a call names, from and up to."""
    if isinstance(call, Mremap):
        yield call.addr, call.addr + call.old_len
        if call.new_addr:
            yield call.new_addr, call.new_addr + call.new_len
    elif isinstance(call, Touch):
        yield call.addr, call.addr + call.pages * PAGE
    else:
        start, length = getattr(call, "addr", 0), getattr(call, "length", 0)
        if start:
            yield start, start + length


def _strokes(at: float, middle: float, size: float) -> str:
    """Two parallel strokes: a break of the scale."""
    return "".join(
        f"M{_n(at + shift)} {_n(middle + size)}l{_n(size / 2)} {_n(-2 * size)}"
        for shift in (-3.5, 0.5)
    )


def _swatch(name: str, small: bool = False) -> Element:
    height = 6 if small else 12
    shape = tag(
        "rect", x="1", y=str((14 - height) / 2), width="22", height=str(height), class_=name
    )
    return tag("svg", shape, viewBox="0 0 24 14", width="24", height="14", aria_hidden="true")


def _range_sign() -> Element:
    path = tag("path", d="M2 11V5H22V11", class_="named")
    return tag("svg", path, viewBox="0 0 24 14", width="24", height="14", aria_hidden="true")


def _break_sign() -> Element:
    path = tag("path", d="M0 7H24" + _strokes(12, 7, 5), class_="base")
    return tag("svg", path, viewBox="0 0 24 14", width="24", height="14", aria_hidden="true")


def _n(number: float) -> str:
    """A coordinate, in tenths."""
    return f"{number:.1f}".removesuffix(".0")
