"""The page on a series: the verdict, what was found, and which changed lines were executed."""

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element

from fuzz.pages.markup import Content, document, tag
from fuzz.patch.cover import ABSENT, MISSED, NO_CODE, Covered
from fuzz.patch.judge import BEHAVIOUR, CRASH, INCONSISTENT, OLD, UNDECIDED, Judged
from fuzz.patch.result import Result, executed, total

_SECTIONS = (
    ((CRASH, INCONSISTENT), "Crashes and self-inconsistencies, on the patched kernel only"),
    ((BEHAVIOUR,), "Behaviour changes"),
    ((OLD,), "Pre-existing"),
    ((UNDECIDED,), "Undecided"),
)
_CLASSES = {MISSED: "missed", ABSENT: "missed", NO_CODE: "soft"}


def page(result: Result) -> str:
    """The page of a result."""
    title = f"vmadiff patch: {result.verdict}"
    text = result.sentence()
    body: list[Content] = [
        tag("h1", title),
        tag("p", f"{text[0].upper()}{text[1:]}.", class_="lead"),
        tag("pre", "\n".join(result.lines())),
        _kernels(result),
    ]
    for kinds, head in _SECTIONS:
        rows = result.of(*kinds)
        if rows or kinds[0] in (CRASH, BEHAVIOUR):
            body += [
                tag("h2", f"{head}: {len(rows)}"),
                *(_finding(row, result.state) for row in rows),
            ]
    if result.changed is not None:
        body += [tag("h2", "Coverage of the patch"), *_coverage(result.covered, "changed")]
        if result.removed:
            body += [
                tag("h2", "What it takes out, on the base"),
                *_coverage(result.removed, "removed"),
            ]
    return document(title, tag("main", *body))


def _kernels(result: Result) -> Element:
    """How to run a program on one of them."""
    base, patched = (tag("code", f"vmadiff run FILE --target {name}") for name in result.kernels)
    return tag("p", "On the base: ", base, "; on the patched kernel: ", patched, class_="hint")


def _finding(row: Judged, state: Path) -> Element:
    path = os.path.relpath(Path(row.directory) / "report.html", state) if row.directory else ""
    head: Content = tag("a", row.title, href=quote(path)) if path else row.title
    parts: list[Content] = [tag("h3", head), tag("p", tag("strong", row.verdict or row.kind))]
    if row.because:
        parts.append(tag("p", row.because))
    if row.program:
        parts.append(tag("pre", row.program.rstrip()))
    if row.lines:
        names = ", ".join(f"{file}:{number}" for file, number in row.lines)
        parts.append(tag("p", f"Changed lines that it executes: {names}", class_="hint"))
    if row.sequences:
        text = f"Found after {row.sequences:,} programs, {row.seconds:.1f} s"
        parts.append(
            tag("p", f"{text}{'; ' + row.minimized if row.minimized else ''}.", class_="hint")
        )
    return tag("section", *parts)


def _coverage(covered: Sequence[Covered], what: str) -> list[Content]:
    """A table for each file."""
    text = f"{executed(covered)} of {total(covered)} {what} lines that have code were executed."
    parts: list[Content] = [tag("p", text)]
    for path, rows in groupby(covered, key=lambda row: row.line[0]):
        parts += [tag("h3", path), _table(list(rows))]
    return parts


def _table(rows: Sequence[Covered]) -> Element:
    heads = ("line", "source", "state", "program or reason")
    body = [
        tag(
            "tr",
            tag("td", str(row.line[1]), class_="number"),
            tag("td", tag("code", row.text)),
            tag("td", row.state),
            tag("td", _program(row)),
            class_=_CLASSES.get(row.state),
        )
        for row in rows
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", head) for head in heads))),
        tag("tbody", *body),
        class_="lines",
    )
    return tag("div", table, class_="scroll")


def _program(row: Covered) -> Content:
    if not row.program:
        return row.why
    calls = len(row.program.strip().splitlines())
    summary = tag("summary", f"{calls} call{'s' * (calls != 1)}")
    return tag("details", summary, tag("pre", row.program.rstrip()))
