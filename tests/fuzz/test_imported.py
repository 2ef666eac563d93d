"""From the address spaces of a trace to programs: what is kept, what is made anew, where it goes."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi.calls import Brk, Call, Madvise, Mlock, Mmap, Mprotect, Mremap, Munmap
from abi.consts import FD_NAMES, MAP_FIXED, MAP_FIXED_NOREPLACE, MREMAP_FIXED, PAGE, PMD_SIZE
from abi.environment import Geometry
from abi.program import format_call, parse
from fuzz.encode import MAX_CALLS, decode, encode
from fuzz.imported import ASSUMED, CUT, LEFT_OUT, PINNED, UNHINTED, Imported, convert
from fuzz.imports import import_strace
from fuzz.regions import Regions
from fuzz.relocate import relocation, shorten
from fuzz.strace import StraceError, read
from fuzz.traced import follow

TRACES = sorted((Path(__file__).parent / "traces").glob("*.strace"))
G = Geometry()
ANON = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"
A = 0x7F1234400000


def converted(*lines: str, most: int = MAX_CALLS) -> tuple[list[Imported], Counter[str]]:
    figures: Counter[str] = Counter()
    spaces = follow(read([f"1 {line}" for line in lines])[0]).spaces
    return [made for space in spaces for made in convert(space, G, figures, most)], figures


def program(*lines: str) -> list[str]:
    """The only program, as text."""
    ((made,), _) = converted(*lines)
    return [format_call(call, G) for call in made.program]


def test_what_the_kernel_placed_is_placed_by_it_again_below_the_top() -> None:
    assert program(
        f"mmap(NULL, 8192, {ANON}) = {A:#x}",
        f"mmap(NULL, 4096, {ANON}) = {A - 0x1000:#x}",
        f"munmap({A - 0x1000:#x}, 12288) = 0",
    ) == [
        "mmap(T-509, 509p, PROT_NONE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        "mmap(NULL, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)",
        "mmap(NULL, 1p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)",
        "munmap(T-512, 3p)",
    ]


def test_what_it_passed_over_is_not_free_here_either() -> None:
    """Between the two is what the trace does not know: the loader, say."""
    made = program(
        f"mmap(NULL, 8192, {ANON}) = {A:#x}", f"mmap(NULL, 4096, {ANON}) = {A - 0x9000:#x}"
    )
    assert made[1] == "mmap(T-519, 8p, PROT_NONE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)"
    assert [call for call in made[2:] if not call.startswith("mmap(NULL, ")] == []


def test_a_hint_that_was_taken_and_one_that_was_not() -> None:
    (made,), figures = converted(
        f"mmap({A:#x}, 4096, {ANON}) = {A:#x}",
        f"mmap({A:#x}, 4096, {ANON}) = {A - 0x1000:#x}",
    )
    first, second = made.program[-2:]
    assert isinstance(first, Mmap) and isinstance(second, Mmap)
    assert first.addr == second.addr == made.values[-2]
    assert figures[PINNED] == 0 and figures[UNHINTED] == 1


def test_a_move_that_goes_elsewhere_here_gets_its_place() -> None:
    far = A - (1 << 30)
    (made,), figures = converted(
        f"mmap({A:#x}, 4096, {ANON.replace('MAP_PRIVATE', 'MAP_PRIVATE|MAP_FIXED')}) = {A:#x}",
        f"mmap({far:#x}, 4096, {ANON.replace('MAP_PRIVATE', 'MAP_PRIVATE|MAP_FIXED')}) = {far:#x}",
        f"mmap({far + 4096:#x}, 4096, {ANON.replace('PRIVATE', 'PRIVATE|MAP_FIXED')}) = {far + 4096:#x}",
        f"mremap({far:#x}, 4096, 8192, MREMAP_MAYMOVE) = {A - 0x400000:#x}",
    )
    move = made.program[-1]
    assert isinstance(move, Mremap)
    assert move.flags & MREMAP_FIXED and move.new_addr == made.values[-1]
    assert figures[PINNED] == 1


def test_what_a_call_needs_was_there() -> None:
    (made,), figures = converted(f"mprotect({A:#x}, 8192, PROT_READ) = 0")
    mapping, change = made.program
    assert isinstance(mapping, Mmap) and isinstance(change, Mprotect)
    assert (mapping.addr, mapping.length, mapping.fd) == (change.addr, 8192, FD_NAMES["file_ro"])
    assert mapping.flags & MAP_FIXED
    assert (figures[ASSUMED], made.traced) == (1, 1)


def test_a_call_that_failed_needs_nothing() -> None:
    assert program(f"mprotect({A:#x}, 8192, PROT_READ) = -1 ENOMEM (Cannot allocate memory)") == [
        "mprotect(T-511, 2p, PROT_READ)"
    ]


def test_the_heap_keeps_its_size() -> None:
    assert program(
        "brk(NULL) = 0x555555559000",
        "brk(0x55555557a000) = 0x55555557a000",
        "madvise(0x55555555b000, 4096, MADV_DONTDUMP) = 0",
        "brk(0x55555556a000) = 0x55555556a000",
    ) == ["brk(NULL)", "brk(B+33)", "madvise(B+2, 1p, MADV_DONTDUMP)", "brk(B+17)"]


def test_a_long_trace_is_cut_and_each_part_begins_with_what_it_needs() -> None:
    parts, _ = converted(
        "brk(NULL) = 0x555555559000",
        "brk(0x55555557a000) = 0x55555557a000",
        f"mmap({A:#x}, 16384, {ANON}) = {A:#x}",
        f"madvise({A:#x}, 16384, MADV_DONTFORK) = 0",
        f"mprotect({A:#x}, 4096, PROT_READ) = 0",
        f"mlock({A + 8192:#x}, 4096) = 0",
        *[f"madvise({A:#x}, 16384, MADV_DONTNEED) = 0"] * 20,
        "brk(0x55555556a000) = 0x55555556a000",
        most=24,
    )
    assert len(parts) > 1
    assert sum(part.traced for part in parts) == 27
    second = parts[-1].program
    assert Brk(G.heap + 33 * PAGE) in second
    setup = second[
        : next(i for i, c in enumerate(second) if isinstance(c, Madvise) and c.advice == 4)
    ]
    mapped = sum(call.length for call in setup if isinstance(call, Mmap))
    assert mapped == 16384
    assert sum(isinstance(call, Mlock) for call in setup) == 1
    assert sum(isinstance(call, Madvise) for call in setup) == 4
    assert any(isinstance(call, Mprotect) for call in setup)


def test_what_is_too_much_for_one_program_is_left_out_and_counted() -> None:
    lines = [
        f"mmap({A + i * 8192:#x}, 4096, {ANON}) = {A + i * 8192:#x}" for i in range(2 * MAX_CALLS)
    ]
    parts, figures = converted(*lines, f"munmap({A:#x}, {PAGE * 4 * MAX_CALLS}) = 0")
    assert all(len(part.program) <= MAX_CALLS for part in parts)
    assert figures[LEFT_OUT] > 0


def test_lengths_are_cut_alike_and_keep_their_place_within_2m() -> None:
    """A gigabyte is reserved, its ends are given back, and what is left moves."""
    start, size = A + 0x123000, 1 << 30
    head = PMD_SIZE - start % PMD_SIZE
    middle, target = size - PMD_SIZE, A + (8 << 30)
    (made,), figures = converted(
        f"mmap(NULL, {size}, {ANON}) = {start:#x}",
        f"munmap({start:#x}, {head}) = 0",
        f"munmap({start + head + middle:#x}, {PMD_SIZE - head}) = 0",
        f"mremap({start + head:#x}, {middle}, {middle}, MREMAP_MAYMOVE|MREMAP_FIXED, {target:#x})"
        f" = {target:#x}",
    )
    mapping, low, high, move = made.program[-4:]
    assert isinstance(mapping, Mmap) and isinstance(low, Munmap) and isinstance(high, Munmap)
    assert isinstance(move, Mremap)
    assert mapping.length == low.length + move.old_len + high.length < 160 << 20
    assert (low.length, high.length) == (head, PMD_SIZE - head)
    assert move.old_len == move.new_len
    assert move.addr % PMD_SIZE == move.new_addr % PMD_SIZE == 0
    assert low.addr + low.length == move.addr and move.addr + move.old_len == high.addr
    assert figures[CUT] == 2


def test_large_pages_need_room_so_the_place_is_fixed() -> None:
    for start, unhinted in ((A, True), (A + 0x1000, False)):
        (made,), figures = converted(f"mmap(NULL, 4194304, {ANON}) = {start:#x}")
        place = made.program[-1]
        assert isinstance(place, Mmap)
        assert (place.addr, place.flags & MAP_FIXED_NOREPLACE) == (
            (0, 0) if unhinted else (made.values[-1], MAP_FIXED_NOREPLACE)
        )
        assert (figures[UNHINTED], figures[PINNED]) == (unhinted, not unhinted)


def test_addresses_that_no_process_has_stay_as_they_are() -> None:
    assert program(
        "munmap(0xfffffffffffff000, 4096) = -1 EINVAL (Invalid argument)",
        "madvise(NULL, 4096, MADV_DONTNEED) = -1 ENOMEM (Cannot allocate memory)",
        f"mmap(NULL, {1 << 50}, {ANON}) = -1 ENOMEM (Cannot allocate memory)",
    ) == [
        "munmap(0xfffffffffffff000, 1p)",
        "madvise(NULL, 1p, MADV_DONTNEED)",
        f"mmap(NULL, {1 << 50:#x}, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)",
    ]


RANGES = st.lists(
    # Below the area of what the kernel places: everything goes to the window.
    st.tuples(st.integers(1 << 21, 1 << 34), st.integers(1, 1 << 18)).map(
        lambda r: (r[0] * PAGE, (r[0] + r[1]) * PAGE)
    ),
    min_size=1,
    max_size=8,
)


@given(ranges=RANGES, others=RANGES, longest=st.sampled_from([None, 2 << 20, 8 << 20]))
def test_relocation_keeps_order_neighbours_and_alignment(
    ranges: list[tuple[int, int]], others: list[tuple[int, int]], longest: int | None
) -> None:
    moved = relocation(G, ranges, others, (0, 0), longest)
    starts = sorted({start for start, _ in (*ranges, *others)})
    ours = [moved.address(start) for start in starts]
    assert ours == sorted(set(ours))
    assert all((a - b) % PMD_SIZE == 0 for a, b in zip(starts, ours, strict=True))
    for start, end in (*ranges, *others):
        length = moved.length(start, end - start)
        assert 0 < length <= end - start and (end - start - length) % PMD_SIZE == 0
        inside = [a for a in starts if start <= a < end]
        assert all(moved.address(a) < moved.address(start) + length for a in inside)
        if end in starts:
            assert moved.address(start) + length == moved.address(end)


@given(distance=st.integers(0, 1 << 40), longest=st.sampled_from([2 << 20, 8 << 20]))
def test_shortening_keeps_the_place_within_2m(distance: int, longest: int) -> None:
    short = shorten(distance, longest)
    assert short <= min(distance, longest + PMD_SIZE)
    assert (distance - short) % PMD_SIZE == 0
    assert shorten(distance, None) == distance


@st.composite
def changes(draw: st.DrawFn) -> tuple[Call, int]:
    page, pages = draw(st.integers(1, 40)) * PAGE, draw(st.integers(1, 8)) * PAGE
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return Mmap(page, pages, draw(st.sampled_from([0, 1, 3])), 0x32, -1, 0), page
    if kind == 1:
        return Munmap(page, pages), 0
    if kind == 2:
        return Mprotect(page, pages, draw(st.sampled_from([0, 1, 3]))), 0
    if kind == 3:
        return Madvise(page, pages, draw(st.sampled_from([10, 11, 16, 17]))), 0
    if kind == 4:
        return Mlock(page, pages), 0
    to = draw(st.integers(60, 90)) * PAGE
    return Mremap(page, pages, draw(st.integers(1, 8)) * PAGE, 3, to), to


@given(calls=st.lists(changes(), max_size=20))
def test_regions_are_made_anew_by_their_setup(calls: list[tuple[Call, int]]) -> None:
    regions = Regions()
    for call, value in calls:
        regions.apply(call, value)
    again = Regions()
    for region in regions.regions:
        for call in region.setup():
            again.apply(call, getattr(call, "addr", 0))

    def shape(of: Regions) -> list[object]:
        return [(page, r.prot, r.marks) for r in of.regions for page in range(r.start, r.end, PAGE)]

    assert shape(again) == shape(regions)
    assert all(a.end <= b.start for a, b in zip(regions.regions, regions.regions[1:], strict=False))
    assert regions.size() == len(shape(regions)) * PAGE


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
@pytest.mark.parametrize("most", [24, MAX_CALLS])
def test_a_real_trace_becomes_programs(path: Path, most: int) -> None:
    made = import_strace(path.read_text().splitlines(), path.name, G, most=most)
    assert made.programs
    assert made.calls == sum(each.imported.traced for each in made.programs) or made.alike
    for each in made.programs:
        text = each.imported.program
        assert 1 <= len(text) <= most
        assert parse(each.text, G, each.name) == text
        assert decode(encode(text, G), G) == text
    assert not made.figures[LEFT_OUT]


def test_one_process_and_a_limit() -> None:
    lines = next(path for path in TRACES if path.stem == "dash").read_text().splitlines()
    whole = import_strace(lines, "x", G)
    some = import_strace(lines, "x", G, limit=2)
    assert [each.text for each in some.programs] == [each.text for each in whole.programs[:2]]
    assert some.is_cut and not whole.is_cut
    assert "        and more, were it not for --limit" in some.lines()
    one = import_strace(lines, "x", G, pid=whole.pids[-1])
    assert {each.imported.pid for each in one.programs} == {whole.pids[-1]}


def test_programs_that_are_the_same_are_one() -> None:
    line = f"madvise({A:#x}, 4096, MADV_DONTNEED) = -1 ENOMEM (Cannot allocate memory)"
    made = import_strace([f"{pid} {line}" for pid in (1, 2)], "x", G)
    assert (len(made.programs), made.alike) == (1, 1)


def test_the_summary_counts_what_was_dropped() -> None:
    made = import_strace(
        [
            f"1 munmap({A:#x}, 4096) = 0",
            "1 read(0, 0x1, 1) = 1",
            "1 write(1, 0x1, 1) = 1",
            "1 write(1, 0x1, 1) = 1",
            "1 mmap(what) = 0",
        ],
        "x",
        G,
    )
    assert made.lines() == [
        "1 processes, 1 address spaces, 1 calls of the vocabulary",
        "1 programs with 1 traced calls",
        "dropped 4 other calls:",
        "      1 mmap: an argument that cannot be read",
        "      2 write",
        "      1 read",
    ]


DAMAGE = ("0", "-1", "NULL", "18446744073709551615", "99999999999999999999999", "", "{", '"', "<")


@given(data=st.data())
def test_a_damaged_trace_is_refused_or_becomes_programs(data: st.DataObject) -> None:
    """Whatever is wrong with a line, only that call is lost."""
    lines = data.draw(st.sampled_from(TRACES)).read_text().splitlines()[:60]
    for _ in range(data.draw(st.integers(1, 6))):
        index = data.draw(st.integers(0, len(lines) - 1))
        words = re.findall(r"\w+|\W", lines[index])
        words[data.draw(st.integers(0, max(0, len(words) - 1)))] = data.draw(
            st.sampled_from(DAMAGE)
        )
        lines[index] = "".join(words)
    try:
        made = import_strace(lines, "x", G)
    except StraceError:
        return
    for each in made.programs:
        assert parse(each.text, G) == each.imported.program
        assert decode(encode(each.imported.program, G), G) == each.imported.program
