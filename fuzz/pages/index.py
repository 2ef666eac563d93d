"""The page that lists findings, and the curves of the campaign that found them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree.ElementTree import Element

from fuzz.catalog import Row
from fuzz.history import Point
from fuzz.pages.curves import curves
from fuzz.pages.markup import Content, document, tag

#: Heads of the table, and how their columns are sorted.
_COLUMNS = (
    ("finding", "text"),
    ("class", "text"),
    ("status", "text"),
    ("first seen (UTC)", "number"),
    ("last seen (UTC)", "number"),
    ("count", "number"),
    ("kernels", "text"),
)


def page(rows: Sequence[Row], points: Sequence[Point], damaged: int = 0) -> str:
    """The page of a state directory: its findings, the order of which is kept, and its history; `damaged` is how many
    lines of that could not be read."""
    body: list[Content] = [tag("h1", "vmadiff: findings")]
    kinds = list(dict.fromkeys(row.status for row in rows))
    counts = ", ".join(f"{sum(row.status == kind for row in rows)} {kind}" for kind in kinds)
    body.append(
        tag(
            "p", f"{len(rows)} findings: {counts}." if rows else "Nothing was found.", class_="lead"
        )
    )
    if rows:
        body += [_tools(kinds), _table(rows)]
    body.append(tag("h2", "The campaign"))
    pictures = curves(points)
    if pictures:
        hint = "Over the time of fuzzing, one session after the other; a dashed line is where a session begins."
        body += [tag("p", hint, class_="hint"), tag("div", *pictures, class_="curves")]
    else:
        body.append(tag("p", "No session has told its figures yet.", class_="hint"))
    if damaged:
        text = f"Damaged lines of the history, which are left out: {damaged}."
        body.append(tag("p", text, class_="hint"))
    return document("vmadiff: findings", tag("main", *body))


def _tools(kinds: Sequence[str]) -> Element:
    """What the script filters by; hidden where there is none."""
    choices = [tag("option", kind, value=kind) for kind in sorted(kinds)]
    return tag(
        "div",
        tag(
            "label",
            "filter ",
            tag("input", type="search", placeholder="words, all of which must be there"),
        ),
        tag("label", "status ", tag("select", tag("option", "all", value=""), *choices)),
        tag("output", class_="soft"),
        class_="tools",
        hidden=True,
    )


def _table(rows: Sequence[Row]) -> Element:
    heads = [
        tag(
            "th",
            name,
            scope="col",
            data_kind=kind,
            class_="count" if name == "count" else None,
            aria_sort="descending" if name.startswith("last") else None,
        )
        for name, kind in _COLUMNS
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *heads)),
            tag("tbody", *(_row(row) for row in rows)),
            class_="findings",
        ),
        style="overflow-x: auto",
    )


def _row(row: Row) -> Element:
    name: Content = tag("a", row.title, href=_link(row)) if row.page else row.title
    what: list[Content] = [name]
    if row.detail:
        what.append(tag("div", row.detail, class_="soft"))
    shape = f"status {row.status}" if row.status in ("new", "crash") else "status"
    kernels = ", ".join(row.kernels)
    return tag(
        "tr",
        tag("td", *what, data_sort=row.title, title=row.signature),
        tag("td", row.kind, data_sort=row.kind),
        tag("td", tag("span", row.status, class_=shape), data_sort=row.status),
        _time(row.first),
        _time(row.last),
        tag("td", f"{row.count:,}" if row.count else "", data_sort=row.count, class_="count"),
        tag("td", kernels, data_sort=kernels),
        data_status=row.status,
    )


def _link(row: Row) -> str:
    return "/".join(quote(part, safe="") for part in (*row.path.split("/"), row.page))


def _time(at: int) -> Element:
    moment = datetime.fromtimestamp(at, UTC)
    text = moment.strftime("%Y-%m-%d %H:%M")
    return tag(
        "td", tag("time", text, datetime=moment.strftime("%Y-%m-%dT%H:%M:%SZ")), data_sort=at
    )
