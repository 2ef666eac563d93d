"""Pages in a real browser: clicks, keys, the pointer, light and dark, paper; and no complaint on its console."""

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.history import Point
from fuzz.pages import index
from fuzz.pages.finding import page
from tests.fuzz.replays import CROWDED, Judged, diverging, witnessed
from tests.fuzz.test_history import POINT, later
from tests.fuzz.test_pages import ROW

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

ROWS = [
    replace(ROW, title="mm/mremap: b", first=300, last=900, count=20, path="findings/b"),
    replace(ROW, title="mm/mmap: c", first=100, last=800, count=3, path="findings/c", status="known"),
    replace(ROW, title="mm/mremap: a", first=200, last=700, count=100, path="findings/a", kind="layout"),
]  # fmt: skip
POINTS: list[Point] = [POINT, later(20.0), later(90.0)]


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        # Root has no sandbox.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Window:
    """A page that is shown, and what the browser had to say about it."""

    def __init__(
        self, browser: "sync_api.Browser", text: str, tmp_path: Path, **options: object
    ) -> None:
        path = tmp_path / "page.html"
        path.write_text(text)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.address = path.as_uri()

    def close(self) -> None:
        assert self.complaints == []
        assert self.requests == [self.address]
        self.page.close()

    def titles(self) -> list[str]:
        """Those of the findings that are shown, in their order."""
        return self.page.locator(".findings tbody tr:visible td:first-child").all_inner_texts()

    def colour(self, what: str, of: str) -> tuple[int, ...]:
        value = self.page.eval_on_selector(of, f"e => getComputedStyle(e)['{what}']")
        return tuple(int(part) for part in value[value.index("(") + 1 : -1].split(",")[:3])


@pytest.fixture
def finding(browser: "sync_api.Browser", tmp_path: Path) -> Iterator[Window]:
    window = Window(browser, page(witnessed("multi_vma_move"), "7.3", Judged()), tmp_path)
    yield window
    window.close()


@pytest.fixture
def listing(browser: "sync_api.Browser", tmp_path: Path) -> Iterator[Window]:
    window = Window(browser, index.page(ROWS, POINTS), tmp_path)
    yield window
    window.close()


def test_the_pointer_on_a_mapping_shows_its_flags(finding: Window) -> None:
    tip = finding.page.locator("#tip")
    assert not tip.is_visible()
    finding.page.locator(".diverges .bar").first.hover()
    assert tip.is_visible()
    assert tip.inner_text() == (
        "model: W+20 .. W+22\n0x200014000 .. 0x200016000\n2 pages  rw-p\nanonymous  pgoff 0\n"
        "VmFlags: rd wr mr mw me ac\ndiffers between model and kernel"
    )
    finding.page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_the_keyboard_shows_it_too(finding: Window) -> None:
    tip = finding.page.locator("#tip")
    finding.page.locator(".scroll").focus()
    finding.page.keyboard.press("Tab")
    assert tip.is_visible()
    assert tip.inner_text().startswith("model: W+0 .. W+2\n")
    finding.page.keyboard.press("Tab")
    assert tip.inner_text().startswith("kernel: W+0 .. W+2\n")
    finding.page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_tip_stays_within_the_window(browser: "sync_api.Browser", tmp_path: Path) -> None:
    text = page(diverging(CROWDED), "7.3", Judged())
    window = Window(browser, text, tmp_path)
    bar = window.page.locator(".diverges .bar").last
    bar.scroll_into_view_if_needed()
    bar.hover()
    box = window.page.locator("#tip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= 1280
    assert box["y"] + box["height"] <= 900
    window.close()


def test_calls_stay_beside_their_lanes(browser: "sync_api.Browser", tmp_path: Path) -> None:
    window = Window(browser, page(diverging(CROWDED), "7.3", Judged()), tmp_path)
    scroll = window.page.locator(".scroll")
    assert scroll.evaluate("e => e.scrollWidth > e.clientWidth")
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    scroll.evaluate("e => { e.scrollLeft = e.scrollWidth }")
    box = window.page.locator(".lanes tbody th").first.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < 40
    window.close()


def test_labels_of_the_axis_do_not_overlap(browser: "sync_api.Browser", tmp_path: Path) -> None:
    window = Window(browser, page(diverging(CROWDED), "7.3", Judged()), tmp_path)
    boxes = window.page.eval_on_selector_all(
        ".lanes thead text",
        "all => all.map(e => { const b = e.getBBox(); return [b.x, b.y, b.x + b.width] })",
    )
    assert len(boxes) > 40
    rows: dict[float, list[tuple[float, float]]] = {}
    for left, top, right in boxes:
        rows.setdefault(round(top), []).append((left, right))
    for row in rows.values():
        row.sort()
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(row))
    window.close()


def test_words_stay_within_their_bars(finding: Window) -> None:
    assert finding.page.locator(".bar .perms").count() == 10
    inside = finding.page.eval_on_selector_all(
        ".bar",
        "all => all.map(bar => { const t = bar.querySelector('text'); if (!t) return true;"
        " const a = t.getBBox(), b = bar.querySelector('rect').getBBox();"
        " return a.x >= b.x && a.x + a.width <= b.x + b.width && a.y + a.height <= b.y + b.height })",
    )
    assert all(inside)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_schemes_have_contrast(browser: "sync_api.Browser", tmp_path: Path, scheme: str) -> None:
    window = Window(
        browser, page(witnessed("thp_area_topdown"), "7.3", Judged()), tmp_path, color_scheme=scheme
    )
    paper = window.colour("backgroundColor", "body")
    assert (sum(paper) > 600) == (scheme == "light")
    pairs = [
        (window.colour("color", "body"), paper),
        (window.colour("color", ".hint"), paper),
        (window.colour("fill", ".bar .perms"), window.colour("fill", ".bar .vma")),
    ]
    assert min(contrast(*pair) for pair in pairs) >= 4.5
    assert len(window.page.screenshot(full_page=True)) > 10_000
    window.close()


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: tuple[int, ...]) -> float:
        parts = [value / 255 for value in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_paper_has_all_of_the_picture(finding: Window) -> None:
    finding.page.set_viewport_size({"width": 794, "height": 1123})
    finding.page.emulate_media(media="print")
    assert finding.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert finding.page.pdf(format="A4")[:5] == b"%PDF-"


def test_without_script_it_can_be_read(browser: "sync_api.Browser", tmp_path: Path) -> None:
    text = page(witnessed("multi_vma_move"), "7.3", Judged())
    window = Window(browser, text, tmp_path, java_script_enabled=False)
    assert window.page.locator(".bar title").count() == 10
    assert "first difference: result" in window.page.locator("main").inner_text()
    window.close()
    window = Window(browser, index.page(ROWS, POINTS), tmp_path, java_script_enabled=False)
    assert window.titles() == ["mm/mremap: b", "mm/mmap: c", "mm/mremap: a"]
    assert not window.page.locator(".tools").is_visible()
    window.close()


def test_heads_sort(listing: Window) -> None:
    head = listing.page.locator(".findings thead button")
    assert listing.titles() == ["mm/mremap: b", "mm/mmap: c", "mm/mremap: a"]
    head.get_by_text("finding").click()
    assert listing.titles() == ["mm/mmap: c", "mm/mremap: a", "mm/mremap: b"]
    head.get_by_text("finding").click()
    assert listing.titles() == ["mm/mremap: b", "mm/mremap: a", "mm/mmap: c"]
    head.get_by_text("count").click()
    assert listing.titles() == ["mm/mremap: a", "mm/mremap: b", "mm/mmap: c"]
    head.get_by_text("first seen").click()
    assert listing.titles() == ["mm/mremap: b", "mm/mremap: a", "mm/mmap: c"]
    head.get_by_text("first seen").click()
    assert listing.titles() == ["mm/mmap: c", "mm/mremap: a", "mm/mremap: b"]
    sorted_by = listing.page.locator(".findings th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.get_attribute("aria-sort") == "ascending"


def test_words_and_status_filter(listing: Window) -> None:
    shown = listing.page.locator(".tools output")
    words = listing.page.locator(".tools input")
    assert shown.inner_text() == "3 of 3"
    words.fill("MREMAP layout")
    assert listing.titles() == ["mm/mremap: a"]
    assert shown.inner_text() == "1 of 3"
    words.fill("")
    listing.page.locator(".tools select").select_option("known")
    assert listing.titles() == ["mm/mmap: c"]
    words.fill("nothing like it")
    assert listing.titles() == []
    listing.page.locator(".tools select").select_option("")
    words.fill("")
    assert len(listing.titles()) == 3


def test_curves_are_drawn(listing: Window) -> None:
    lines = listing.page.locator(".curves .line")
    assert lines.count() == 4
    box = lines.first.bounding_box()
    assert box is not None
    assert box["width"] > 100


def test_links_lead_to_findings(browser: "sync_api.Browser", tmp_path: Path) -> None:
    place = tmp_path / "findings" / "b"
    place.mkdir(parents=True)
    (place / "report.html").write_text("<title>the report</title>")
    window = Window(browser, index.page(ROWS, POINTS), tmp_path)
    window.page.get_by_text("mm/mremap: b").click()
    assert window.page.title() == "the report"
    window.page.close()
    assert window.complaints == []
