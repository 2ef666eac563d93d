"""Pages as documents: whole, self-contained, and with nothing in them that text could have become."""

from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from abi.consts import PAGE
from abi.trace import Layout, Mapping
from fuzz.catalog import Row
from fuzz.compare import Divergence
from fuzz.pages import index
from fuzz.pages.curves import curves, duration, nice
from fuzz.pages.finding import page
from fuzz.pages.markup import document, tag
from fuzz.pages.scale import scale, spread
from fuzz.pages.text import page as text_page
from fuzz.replay import Replay
from tests.fuzz.replays import CROWDED, NEWEST, WITNESSES, Judged, diverging, witnessed
from tests.fuzz.test_history import POINT, later

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' &amp; \x00\x1b[31m"
VOID = {"meta", "wbr", "input", "img", "br", "link"}
ROW = Row(
    "mm/mremap: a title", "mremap result: ...", "result", "new", 1_000, 2_000, 3, ("6.18.1",),
    "findings/a-b", "report.html",
)  # fmt: skip


class Page(HTMLParser):
    """Elements of a page with their attributes, and the text outside of style and script; fails where it is not well
    nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    def of(self, name: str, kind: str = "") -> list[dict[str, str | None]]:
        """The attributes of elements of a name and class."""
        return [
            attributes
            for tag, attributes in self.elements
            if tag == name and (not kind or kind in (attributes.get("class") or "").split())
        ]

    @property
    def text(self) -> str:
        return "".join(self.words)


def is_alone(read: Page) -> bool:
    """The page loads nothing, and links to nothing but files beside it."""
    names = {tag for tag, _ in read.elements}
    links = [attributes.get("href") or "" for attributes in read.of("a")]
    return not names & {"img", "link", "iframe", "object"} and not any(
        ":" in each for each in links
    )


def named(read: Page) -> list[str]:
    return [name for name, attributes in read.elements for name in attributes if name[:2] == "on"]


def shown(replay: Replay) -> Page:
    return Page(page(replay, "7.3", Judged(), ("minimized",), ("program", "report.md")))


def test_text_stays_text() -> None:
    read = Page(document(EVIL, tag("p", EVIL, tag("b", "x"), EVIL, title=EVIL)))
    assert len(read.of("script")) == 1
    assert not read.of("img")
    clean = EVIL.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace(
        "\x1b", "\N{REPLACEMENT CHARACTER}"
    )
    assert read.of("p") == [{"title": clean}]
    assert read.text.strip() == f"{clean}{clean}x{clean}"


def test_nothing_of_a_finding_becomes_markup() -> None:
    judged = Judged(EVIL, EVIL, (EVIL,), (EVIL,), (EVIL,))
    replay = witnessed("multi_vma_move")
    replay = replace(replay, environment=replace(replay.environment, release=EVIL))
    pages = [
        page(replay, EVIL, judged, (EVIL,), (EVIL,)),
        text_page(EVIL, EVIL, (EVIL,)),
        index.page([replace(ROW, title=EVIL, path=EVIL, detail=EVIL, status=EVIL)], ()),
    ]
    for text in pages:
        read = Page(text)
        assert is_alone(read)
        assert not named(read)
        assert len(read.of("script")) == 1


@pytest.mark.parametrize("path", sorted(WITNESSES.glob("*.prog")), ids=lambda path: path.stem)
def test_every_kind_of_divergence_has_a_page(path: Path) -> None:
    replay = witnessed(path.stem)
    if replay.divergence is None:
        # It is the calls of a user, or of a kernel with other options, that show it.
        assert path.stem in ("process_madvise_own", "shared_memory_names")
        return
    read = shown(replay)
    assert is_alone(read)
    assert len(read.of("table", "lanes")) == 1
    assert len(read.of("tr", "diverges")) == 1
    assert replay.text in read.text
    assert f"first difference: {replay.divergence.field}" in read.text
    # What differs is outlined: bars, pages, results, or what is told beside the lane.
    marks = read.of("rect", "outline") + read.of("dd", "odd") + read.of("pre", "differences")
    assert marks


def test_a_lane_has_the_model_above_the_kernel() -> None:
    read = shown(witnessed("multi_vma_move"))
    bars = read.of("g", "bar")
    assert [bar["data-side"] for bar in bars] == ["model", "kernel"] + [
        "model",
        "model",
        "kernel",
        "kernel",
    ] * 2
    rects = read.of("rect", "vma")
    rows = [float(rect["y"] or 0) for rect in rects if rect.get("rx") == "2"]
    assert rows[0] < rows[1]
    assert len(read.of("rect", "outline")) == 4
    tips = "W+0 .. W+2\n0x200000000 .. 0x200002000\n2 pages  rw-p\nanonymous  pgoff"
    assert f"model: {tips}" in read.text
    assert "VmFlags: rd wr mr mw me ac" in read.text


def test_faulted_pages_are_marked() -> None:
    text = "mmap(W+0, 9p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\n"
    touched = "touch(W+0, 3, write)\ntouch(W+5, 1, write)\nmadvise(W+8, 1p, MADV_GUARD_INSTALL)\n"
    read = shown(diverging(text + touched))
    assert read.of("rect", "present")
    assert "3 x present page (faulted in), written" in read.text
    assert len(read.of("rect", "guard")) == 2  # of the model, and in the legend
    assert "guard page" in read.text


def test_children_that_differ_are_drawn() -> None:

    text = "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)\nfork()\n"
    replay = diverging(text, kernel=NEWEST)
    step = replay.ours[1]
    assert step.child is not None
    other = replace(
        step,
        child=replace(
            step.child, layout=step.child.layout[:-1], flags=(step.child.flags or ())[:-1]
        ),
    )
    divergence = Divergence(1, "child", replay.ours[0].layout, step, other)
    replay = replace(replay, theirs=(replay.theirs[0], other), divergence=divergence)
    sides = [bar["data-side"] for bar in shown(replay).of("g", "bar")]
    assert sides == ["model", "kernel", "model", "kernel", "child, m."]


def test_crowded_pages_stay_small() -> None:
    text = page(diverging(CROWDED), "7.3", Judged())
    read = Page(text)
    assert len(read.of("tr")) == 62
    assert len(text) < 2_000_000


def mapping(start: int, end: int) -> Mapping:
    return Mapping(start * PAGE, end * PAGE, 0, 0, 3, 0)


def columns(*layouts: Layout) -> list[tuple[int, int, bool, bool]]:
    found = scale(layouts).columns
    assert all(a.right == b.left and a.end == b.start for a, b in pairwise(found))
    return [(c.start // PAGE, c.end // PAGE, c.mapped, c.cut) for c in found]


def test_near_things_are_to_scale_and_far_ones_are_not() -> None:
    wanted = [
        (0, 2, True, False),
        (2, 4, False, False),
        (4, 5, True, False),
        (5, 5000, False, True),
        (5000, 9000, True, True),
    ]
    assert columns((mapping(0, 2), mapping(4, 5)), (mapping(5000, 9000),)) == wanted
    made = scale([(mapping(0, 2), mapping(4, 5), mapping(5000, 9000))])
    page_ = made.place(PAGE) - made.place(0)
    assert made.place(5 * PAGE) == pytest.approx(5 * page_)
    assert made.place(5000 * PAGE) == pytest.approx(8 * page_)
    assert made.place(7000 * PAGE) == pytest.approx((made.place(5000 * PAGE) + made.width) / 2)
    assert made.place(1 << 50) == made.width


def test_mappings_over_each_other_in_time_are_no_hole() -> None:
    assert columns((mapping(0, 6),), (mapping(2, 3), mapping(4, 5))) == [
        (0, 2, True, False),
        (2, 3, True, False),
        (3, 4, True, False),
        (4, 5, True, False),
        (5, 6, True, False),
    ]


def test_nothing_has_a_scale() -> None:
    assert scale([]).columns == ()
    assert scale([]).place(7) == 0


def test_labels_do_not_overlap() -> None:
    assert spread([(0, 10), (5, 10), (7, 10), (12, 10), (30, 5)], 2) == [0, 1, -1, 0, 0]


def test_index_lists_findings() -> None:
    rows = [
        ROW,
        replace(ROW, title="unread", page="", status="unstable", count=0, path="unstable/a b"),
    ]
    read = Page(index.page(rows, [POINT, later(20.0)], 1))
    assert is_alone(read)
    assert "2 findings: 1 new, 1 unstable." in read.text
    assert [link["href"] for link in read.of("a")] == ["findings/a-b/report.html"]
    assert [each["datetime"] for each in read.of("time")][:2] == [
        "1970-01-01T00:16:40Z",
        "1970-01-01T00:33:20Z",
    ]
    assert len(read.of("figure")) == 4
    assert "Damaged lines of the history, which are left out: 1." in read.text


def test_index_of_nothing() -> None:
    read = Page(index.page((), ()))
    assert "Nothing was found." in read.text
    assert "No session has told its figures yet." in read.text
    assert not read.of("table")


def test_links_lead_to_the_file() -> None:
    read = Page(index.page([replace(ROW, path="targets/qemu-#?%/findings/x")], ()))
    assert [link["href"] for link in read.of("a")] == [
        "targets/qemu-%23%3F%25/findings/x/report.html"
    ]


def test_sessions_follow_upon_each_other() -> None:
    points = [later(s, "a", 0) for s in (10.0, 20.0)] + [later(s, "b", 5_000) for s in (10.0, 30.0)]
    first = curves(points)[0]
    (line,) = (each for each in first.iter("path") if each.get("class") == "line")
    places = [float(pair.split()[0]) for pair in (line.get("d") or "")[1:].split("L")]
    assert places == sorted(places)
    assert (places[2] - places[0]) / (places[3] - places[0]) == pytest.approx(20 / 40, abs=0.01)
    assert len([each for each in first.iter("path") if each.get("class") == "session"]) == 1


def test_long_campaigns_have_small_pictures() -> None:
    figures = curves([later(10.0 * i) for i in range(1, 20_000)])
    (line, *_) = (each for each in figures[0].iter("path") if each.get("class") == "line")
    assert (line.get("d") or "").count("L") < 300


def test_numbers_for_people() -> None:
    assert [nice(value) for value in (0, 1, 1.5, 9, 11, 2_574, 99_999)] == [
        1, 1, 2, 10, 20, 3_000, 100_000,
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (5, 600, 40_000)] == ["5 s", "10 min", "11.1 h"]
