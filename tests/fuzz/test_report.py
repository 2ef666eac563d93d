"""Reports and drawings, as people see them."""

from dataclasses import replace

import pytest

from abi.environment import Geometry
from abi.program import parse, parse_call
from abi.trace import Layout, Mapping, Step
from fuzz.compare import Divergence
from fuzz.drawing import draw
from fuzz.report import report, result_text
from tests.fuzz.machine import ENVIRONMENT

GEOMETRY = Geometry()
PAGE = 4096


def vma(start: int, end: int, perms: int = 3, ident: int = 0) -> Mapping:
    return Mapping(GEOMETRY.window + start * PAGE, GEOMETRY.window + end * PAGE, 0, ident, perms, 0)


def picture(**layouts: Layout) -> list[str]:
    return draw(layouts, GEOMETRY, {3: "memfd"})


def test_letters_are_pages_and_dots_are_holes() -> None:
    assert picture(before=(vma(0, 2), vma(4, 5, perms=1))) == [
        "        W+0   W+4",
        "        '  '  ' '",
        "before  aa .. b",
        "",
        "  a rw-p anonymous",
        "  b r--p anonymous",
    ]


def test_layouts_share_their_columns() -> None:
    lines = picture(expected=(vma(0, 3),), found=(vma(0, 1), vma(1, 3)))
    assert lines[2:4] == ["expected  a aa", "found     a|aa"]


def test_long_runs_are_cut_short() -> None:
    lines = picture(x=(vma(0, 400), vma(1000, 1001, ident=3)))
    assert lines[2] == "x  aa~aa ..~.. b"
    assert lines[-1] == "  b rw-p memfd"


def test_what_is_far_from_the_difference_is_left_out() -> None:
    many = tuple(vma(2 * i, 2 * i + 1) for i in range(2000))
    lines = picture(expected=many, found=many[:900] + many[901:])
    assert max(map(len, lines)) < 800
    assert lines[-1] == "  3904 borders of mappings are left out"
    expected, found = (line.split(maxsplit=1)[1] for line in lines[2:4])
    assert expected != found


def test_nothing_to_draw() -> None:
    assert picture(before=(), after=()) == ["(nothing is mapped)"]


def test_what_is_the_same_outside_the_window_is_left_out() -> None:
    far = Mapping(0x10000, 0x14000, 0, 1, 5, 1)
    lines = picture(before=(far, vma(0, 1)), after=(far,))
    assert lines[2:4] == ["before  a", "after   ."]
    lines = picture(before=(far,), after=())
    assert lines[2:4] == ["before  aaaa", "after   ...."]


def test_report_says_it_all() -> None:
    program = parse(
        "mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
        "mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+2)\n",
        GEOMETRY,
    )
    window = GEOMETRY.window
    ours, theirs = Step(window, (vma(2, 4),)), Step(window, (vma(2, 3), vma(3, 4)))
    divergence = Divergence(1, "layout", (vma(0, 2),), ours, theirs)
    environment = replace(ENVIRONMENT, release="6.18.1", capabilities=frozenset({"IPC_LOCK"}))
    text = report("a title", program, divergence, (window,), environment, "6.18")
    assert text == (
        "a title\n"
        "\n"
        "kernel   6.18.1 x86_64\n"
        "profile  6.18\n"
        "rights   CAP_IPC_LOCK\n"
        "window   W = 0x200000000, 4096 pages; T = 0x7ffff7fff000; a page is 4096 bytes\n"
        "\n"
        "program\n"
        "    mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = W+0\n"
        ">>> mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+2)\n"
        "      model   W+0\n"
        "      kernel  W+0\n"
        "\n"
        "layout\n"
        "            W+0  W+3\n"
        "            '  ' ' '\n"
        "  before    aa . .\n"
        "  expected  .. a a\n"
        "  found     .. a|a\n"
        "\n"
        "    a rw-p anonymous\n"
        "\n"
        "records that differ (- model only, + kernel only)\n"
        "  + W+2 .. W+3               1p rw-p anonymous\n"
        "  - W+2 .. W+4               2p rw-p anonymous\n"
        "  + W+3 .. W+4               1p rw-p anonymous\n"
    )


def test_results_read_like_strace() -> None:
    (touch, munmap) = parse("touch(W+0, 2, read)\nmunmap(W+0, 1p)\n", GEOMETRY)
    assert result_text(touch, 0b0100, GEOMETRY) == "ok SEGV"
    assert result_text(munmap, -22, GEOMETRY) == "-1 EINVAL"


@pytest.mark.parametrize(
    ("call", "value", "text"),
    [
        ("mincore(W+0, 4p)", 0b1101, "[1011]"),
        ("mincore(W+0, 4p)", -12, "-1 ENOMEM"),
        ("mincore(W+0, 0)", 0, "[]"),
        ("brk(B+1)", GEOMETRY.heap + PAGE, "B+1"),
        ("shmat(0, W+8, 0)", GEOMETRY.window + 8 * PAGE, "W+8"),
        ("process_madvise(W+0, 2p, MADV_COLD, 0)", 2 * PAGE, "2p"),
        ("mlockall(MCL_CURRENT)", -1, "-1 EPERM"),
    ],
)
def test_results_of_calls_with_their_own(call: str, value: int, text: str) -> None:
    assert result_text(parse_call(call, GEOMETRY), value, GEOMETRY) == text
