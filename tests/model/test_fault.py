"""Touching and populating: who may, what it leaves, and how an anon_vma is found."""

from dataclasses import replace
from typing import Any

import pytest

from abi.consts import PAGE
from model.errors import Unmodelled
from model.fault import FAULT_AROUND, populate
from model.flags import VM_IO, VM_LOCKONFAULT
from model.profile import PROFILES
from tests.environments import ENVIRONMENT, FILE_PAGES
from tests.pictures import Drawing, at, play, scenes

SCENES = {
    "reading leaves private memory unfaulted": ("ww", "touch(W+0, 2, read)", "ok ok", "ww"),
    "writing faults the whole VMA": ("wwww", "touch(W+1, 1, write)", "ok", "WWWW"),
    "writing shared memory does not": ("ss", "touch(W+0, 2, write)", "ok ok", "ss"),
    "holes are SIGSEGV, page by page": ("w.w", "touch(W+0, 4, write)", "ok SEGV ok SEGV", "W.W"),
    "what may not be read": ("nn", "touch(W+0, 1, read)", "SEGV", "nn"),
    "what may not be written": ("rr", "touch(W+0, 2, write)", "SEGV SEGV", "rr"),
    "writing what was read before": ("ww", "touch(W+0, 1, read); touch(W+0, 1, write)",
        "ok, ok", "WW"),
    "writing a private file copies": ("pp", "touch(W+0, 1, read); touch(W+0, 1, write)",
        "ok, ok", "PP"),
    "beyond the end of a file is SIGBUS": (
        ".", "mmap(W+0, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, file, 63p); touch(W+0, 2, read)",
        "W+0, ok BUS", "??",
    ),
    "beyond the end of a memfd too": (
        ".", "mmap(W+0, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd_ro, 63p); touch(W+0, 2, read)",
        "W+0, ok BUS", "??",
    ),
    "beyond the end a private write is SIGBUS and has an anon_vma": (
        ".", "mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, file, 64p);"
        " touch(W+0, 1, write)", "W+0, BUS", "QQ",
    ),
    "an offset that no page index has is SIGBUS": (
        ".", "mmap(W+0, 1p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, devzero,"
        " 0x8000000000000000); touch(W+0, 1, write)", "W+0, BUS", "s",
    ),
    "registered for missing pages is SIGBUS": ("uu", "touch(W+0, 1, read)", "BUS", "uu"),
    "registered for missing pages, a write faults the VMA all the same": (
        "uu", "touch(W+0, 1, write)", "BUS", "UU",
    ),
    "a page that was there when it was registered can be touched": (
        "ww", "touch(W+0, 1, read); uffd_register(uffd0, W+0, 2p, UFFDIO_REGISTER_MODE_MISSING);"
        " touch(W+0, 2, read)", "ok, 0, ok BUS", "uu",
    ),
    "a file's page that is missing": ("vv", "touch(W+0, 1, write)", "BUS", "vv"),
    "a file's page that is cached": (
        "mm", "touch(W+0, 1, write); uffd_register(uffd0, W+0, 2p, UFFDIO_REGISTER_MODE_MISSING);"
        " madvise(W+0, 2p, MADV_DONTNEED); touch(W+0, 2, write)", "ok, 0, 0, ok BUS", "vv",
    ),
    "a cached page where minor faults are registered": (
        "mm", "touch(W+0, 1, write); uffd_register(uffd0, W+0, 2p, UFFDIO_REGISTER_MODE_MINOR);"
        " madvise(W+0, 2p, MADV_DONTNEED); touch(W+0, 2, write)", "ok, 0, 0, BUS ok", "??",
    ),
    "nothing is touched by 0 pages": ("ww", "touch(W+0, 0, write)", "nothing", "ww"),
    "only bit 0 of the access counts": ("rr", "touch(W+0, 1, 2)", "ok", "rr"),
    "an unaligned address touches its page": ("w", "touch(W+0+0x10, 1, write)", "ok", "W"),
    "a fault next to a like faulted VMA takes its anon_vma, so they merge": (
        "RRww", "touch(W+2, 1, write); mprotect(W+0, 2p, PROT_READ|PROT_WRITE)", "ok, 0", "WWWW",
    ),
    "the upper neighbour's too": (
        "wwRR", "touch(W+0, 1, write); mprotect(W+2, 2p, PROT_READ|PROT_WRITE)", "ok, 0", "WWWW",
    ),
    "but not that of a neighbour with other flags": (
        "AAww", "touch(W+2, 1, write); madvise(W+0, 2p, MADV_NORMAL)", "ok, 0", "WW|WW",
    ),
    "nor across a hole": (
        "RR.ww", "touch(W+3, 1, write); mprotect(W+0, 2p, PROT_READ|PROT_WRITE);"
        " mmap(W+2, 1p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)",
        "ok, 0, W+2", "WWW|WW",
    ),
    "nor from another object": (
        "PPww", "touch(W+2, 1, write); mprotect(W+2, 2p, PROT_READ)", "ok, 0", "PPRR",
    ),
    "nor where page offsets do not continue": (
        "RR....ww", "mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+4); touch(W+6, 1, write);"
        " mprotect(W+4, 2p, PROT_READ|PROT_WRITE)", "W+4, ok, 0", "....WW|WW",
    ),
}  # fmt: skip

GROWS = {
    "a touch below a stack grows it": ("....gg", "touch(W+2, 1, write)", "ok", "..GGGG"),
    "to the page that was touched, and it is faulted whatever the access": (
        "....gg", "touch(W+1, 1, read)", "ok", ".GGGGG",
    ),
    "it grows into what stands below, without a gap, if that has no access": (
        "nn..gg", "touch(W+2, 1, write)", "ok", "nnGGGG",
    ),
    "or is a stack too": ("gg..gg", "touch(W+2, 1, write)", "ok", "ggGGGG"),
    "anything else below keeps a gap": ("rr..gg", "touch(W+3, 1, write)", "SEGV", "rr..gg"),
    "what is mapped above a hole does not grow": ("..ww", "touch(W+1, 1, write)", "SEGV", "..ww"),
    "what grew does not merge with what it reached": (
        "GG..GG", "touch(W+2, 1, write)", "ok", "GG|GGGG",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_touch(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@scenes(GROWS)
def test_stacks_grow(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_a_touch_reaches_32_pages() -> None:
    drawing = Drawing("w" * 40)
    assert drawing.run.step(*drawing.program("touch(W+0, 40, write)")) == 0
    assert len(drawing.space.ptes) == 32


def test_the_last_page_of_32_makes_the_result_negative() -> None:
    drawing = Drawing("w" * 31)
    value = drawing.run.step(*drawing.program("munmap(W+31, 1p); touch(W+0, 32, write)")[1:])
    assert value == 1 << 62
    drawing = Drawing(".")
    drawing.do("mmap(W+0, 31p, PROT_READ, MAP_SHARED|MAP_FIXED, file, 0)")
    drawing.do("mmap(W+31, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, file, 64p)")
    assert drawing.run.step(*drawing.program("touch(W+0, 32, read)")) == -(1 << 63)


def test_addresses_wrap_and_end_at_task_size() -> None:
    drawing = Drawing(".")
    assert drawing.do("touch(0xfffffffffffff000, 2, read)") == ["SEGV SEGV"]
    assert drawing.do(f"touch({ENVIRONMENT.task_size}, 1, read)") == ["SEGV"]


def test_reading_a_file_maps_the_cached_pages_around_it() -> None:
    drawing = Drawing("m" * 40)
    drawing.do("touch(W+0, 32, write); madvise(W+0, 40p, MADV_DONTNEED); touch(W+18, 1, read)")
    first = at(0) // PAGE
    assert sorted(page - first for page in drawing.space.ptes) == list(range(16, 32))
    assert FAULT_AROUND == 16


def test_fault_around_stays_within_the_mapping() -> None:
    drawing = Drawing("mmmmmm")
    drawing.do("touch(W+0, 6, write); madvise(W+0, 6p, MADV_DONTNEED)")
    drawing.do("munmap(W+0, 1p); munmap(W+4, 2p); touch(W+2, 1, read)")
    first = at(0) // PAGE
    assert sorted(page - first for page in drawing.space.ptes) == [1, 2, 3]


def test_a_moved_private_file_has_no_anon_vma_to_give_where_its_offsets_count() -> None:
    calls = (
        "mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20);"
        " mprotect(W+20, 2p, PROT_READ);"
        " mmap(W+22, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, memfd, 2p);"
        " touch(W+22, 1, write); mprotect(W+20, 2p, PROT_READ|PROT_WRITE)"
    )
    results = "W+20, 0, W+22, ok, 0"
    play("PP", calls, results, "." * 20 + "PPPP")
    play("PP", calls, results, "." * 20 + "PP|PP", profile=PROFILES["7.3"])


@pytest.mark.parametrize(
    ("changes", "grows"),
    [
        ({}, True),
        ({"rlimit_stack": 5 * PAGE}, True),
        ({"rlimit_stack": 4 * PAGE}, False),
        ({"rlimit_as": (ENVIRONMENT.total_pages + 5) * PAGE}, True),
        ({"rlimit_as": (ENVIRONMENT.total_pages + 4) * PAGE}, False),
        ({"mmap_min_addr": at(1)}, True),
        ({"mmap_min_addr": at(2)}, False),
    ],
)
def test_growth_obeys_limits(changes: dict[str, Any], grows: bool) -> None:
    drawing = Drawing("....gg", replace(ENVIRONMENT, **changes))
    assert drawing.do("touch(W+1, 1, write)") == ["ok" if grows else "SEGV"]
    assert drawing.picture == (".GGGGG" if grows else drawing.picture)


def test_a_stack_below_everything_grows() -> None:
    flags = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_GROWSDOWN"
    drawing = Drawing(".")
    drawing.do(f"mmap(0x100000, 1p, PROT_READ|PROT_WRITE, {flags}, -1, 0)")
    assert drawing.do("touch(0xfe000, 1, write)") == ["ok"]
    assert drawing.space.starts[0] == 0xFE000


def test_a_locked_stack_obeys_the_limit_on_locked_memory() -> None:
    flags = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_GROWSDOWN|MAP_LOCKED"
    mapping = f"mmap(W+4, 2p, PROT_READ|PROT_WRITE, {flags}, -1, 0)"
    for pages, result in ((3, "ok"), (2, "SEGV")):
        limit = (ENVIRONMENT.locked_pages + pages) * PAGE
        drawing = Drawing(".", replace(ENVIRONMENT, rlimit_memlock=limit))
        assert drawing.do(f"{mapping}; touch(W+3, 1, write)")[1] == result
        if result == "ok":
            assert drawing.space.locked_vm == ENVIRONMENT.locked_pages + 3


def test_a_stack_does_not_grow_below_page_offset_0() -> None:
    drawing = Drawing("....GG")
    for start, new in (("W+4", "0x200000"), ("0x200000", "W+4")):
        drawing.do(f"mremap({start}, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, {new})")
    drawing.do("mmap(0x20000, 2p, PROT_READ|PROT_WRITE,"
               " MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_GROWSDOWN, -1, 0)")  # fmt: skip
    drawing.do("touch(0x20000, 1, write); mremap(0x20000, 2p, 2p, 3, W+60)")
    assert drawing.do("touch(W+28, 1, write)") == ["ok"]
    assert drawing.do("touch(W+27, 1, write)") == ["SEGV"]


def test_populating_stops_at_the_first_page_that_fails() -> None:
    drawing = Drawing(".")
    flags = "MAP_SHARED|MAP_POPULATE|MAP_FIXED"
    drawing.do(f"mmap(W+0, 4p, PROT_READ, {flags}, file, {FILE_PAGES - 2}p)")
    assert len(drawing.space.ptes) == 2


@pytest.mark.parametrize(("letter", "flag"), [("n", 0), ("w", VM_IO), ("w", VM_LOCKONFAULT)])
def test_some_memory_is_not_populated(letter: str, flag: int) -> None:
    drawing = Drawing(letter * 2)
    drawing.vma(0).flags |= flag
    populate(drawing.space, at(0), at(2))
    assert not drawing.space.ptes


STRICT = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"STRICT_READ"})
WRITE_ONLY = "mmap(W+0, 2p, PROT_WRITE, {}|MAP_FIXED, {}, 0); ".format
READ_STRICTLY = {
    "a page that is not there does not come for a read": (
        WRITE_ONLY("MAP_PRIVATE|MAP_ANONYMOUS", -1) + "touch(W+0, 2, read)", "SEGV SEGV",
    ),
    "one that was written to can be read": (
        WRITE_ONLY("MAP_PRIVATE|MAP_ANONYMOUS", -1) + "touch(W+0, 1, write); touch(W+0, 2, read)",
        "ok SEGV",
    ),
    "so can one of a file in memory": (
        WRITE_ONLY("MAP_SHARED", "memfd") + "touch(W+1, 1, write); touch(W+0, 2, read)", "SEGV ok",
    ),
    "one that is executable comes": (
        "mmap(W+0, 1p, PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0);"
        "touch(W+0, 1, read)", "ok",
    ),
    "a guard is none that is there": (
        WRITE_ONLY("MAP_PRIVATE|MAP_ANONYMOUS", -1) + "touch(W+0, 2, write);"
        "madvise(W+0, 1p, MADV_GUARD_INSTALL); touch(W+0, 2, read)", "SEGV ok",
    ),
    "the executor's own are there": ("touch(0x20000000, 1, read)", "ok"),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "result"), READ_STRICTLY.values(), ids=READ_STRICTLY.keys())
def test_where_write_permission_is_none_to_read(calls: str, result: str) -> None:
    assert Drawing(".", STRICT).do(calls)[-1] == result
    assert "SEGV" not in Drawing(".").do(calls.replace("GUARD_INSTALL", "NORMAL"))[-1]


@pytest.mark.parametrize("advice", ["MADV_COLD", "MADV_FREE", "MADV_PAGEOUT"])
def test_whether_a_page_taken_for_unused_can_be_read_is_not_known(advice: str) -> None:
    drawing = Drawing(".", STRICT)
    drawing.do(WRITE_ONLY("MAP_PRIVATE|MAP_ANONYMOUS", -1) + f"madvise(W+0, 1p, {advice})")
    with pytest.raises(Unmodelled):
        drawing.do("touch(W+0, 1, read)")


def test_which_pages_of_a_disks_file_can_be_read_is_not_known() -> None:
    drawing = Drawing(".", STRICT)
    drawing.do(WRITE_ONLY("MAP_SHARED", "file"))
    with pytest.raises(Unmodelled):
        drawing.do("touch(W+0, 1, read)")
