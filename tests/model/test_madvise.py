"""madvise(2): the table row by row, and how a range is walked."""

from dataclasses import replace

import pytest

from abi.consts import MADV_NAMES, PAGE
from model import flags
from model.errors import Unmodelled
from model.madvise import MADVISE
from model.profile import GUARD, GUARD_ANON_VMA_ONLY_ANONYMOUS, GUARD_FILE, Profile
from model.space import PTE_GUARD
from tests.environments import ENVIRONMENT, IMAGE, with_object
from tests.pictures import PROFILE, Drawing, at, play, scenes

SCENES = {
    "part of a VMA is cut out": ("wwww", "madvise(W+1, 2p, MADV_RANDOM)", "0", "waaw"),
    "what was cut out heals": ("aaaa", "madvise(W+1, 2p, MADV_NORMAL);"
        " madvise(W+0, 4p, MADV_NORMAL)", "0, 0", "wwww"),
    "advice that is there already changes nothing": (
        "aaaa", "madvise(W+1, 2p, MADV_RANDOM)", "0", "aaaa",
    ),
    "holes are skipped and ENOMEM at the end": (
        "ww..ww", "madvise(W+1, 4p, MADV_RANDOM)", "ENOMEM", "wa..aw",
    ),
    "a hole at the beginning": ("..ww", "madvise(W+0, 3p, MADV_RANDOM)", "ENOMEM", "..aw"),
    "a hole at the end": ("ww", "madvise(W+1, 3p, MADV_RANDOM)", "ENOMEM", "wa"),
    "a hole before another mapping": ("ww..w", "madvise(W+1, 2p, MADV_RANDOM)", "ENOMEM",
        "wa..w"),
    "the first VMA that refuses ends it; what lies before is advised": (
        "ww.ss.ww", "madvise(W+0, 8p, MADV_WIPEONFORK)", "EINVAL", "aa.ss.ww",
    ),
    "an address inside a page": ("ww", "madvise(W+0+0x10, 1p, MADV_RANDOM)", "EINVAL", "ww"),
    "an unknown advice comes first": ("ww", "madvise(W+0+0x10, 0, 77)", "EINVAL", "ww"),
    "the low 32 bits of the advice count": (
        "ww", "madvise(W+0, 1p, 0x100000001)", "0", "aw",
    ),
    "length 0 does nothing, even in a hole": ("ww", "madvise(W+9, 0, MADV_RANDOM)", "0", "ww"),
    "a length that wraps to 0": (
        "ww", "madvise(W+0, 0xffffffffffffffff, MADV_RANDOM)", "EINVAL", "ww",
    ),
    "a range that wraps": ("ww", "madvise(W+0, 0xfffffffffffff000, MADV_RANDOM)", "EINVAL", "ww"),
    "the length is rounded up": ("www", "madvise(W+0, 0x1001, MADV_RANDOM)", "0", "aaw"),
    "MADV_FREE of anonymous memory keeps it faulted": (
        "WW", "madvise(W+0, 2p, MADV_FREE)", "0", "WW",
    ),
    "MADV_FREE of a file": ("pp", "madvise(W+0, 2p, MADV_FREE)", "EINVAL", "pp"),
    "MADV_DONTNEED of locked memory": ("LL", "madvise(W+0, 2p, MADV_DONTNEED)", "EINVAL", "LL"),
    "MADV_DONTNEED_LOCKED of locked memory": (
        "LL", "madvise(W+0, 2p, MADV_DONTNEED_LOCKED)", "0", "LL",
    ),
    "MADV_REMOVE without a file": ("ww", "madvise(W+0, 1p, MADV_REMOVE)", "EINVAL", "ww"),
    "MADV_REMOVE of a private file": ("pp", "madvise(W+0, 1p, MADV_REMOVE)", "EACCES", "pp"),
    "MADV_REMOVE of a shared file": ("ff", "madvise(W+0, 1p, MADV_REMOVE)", "0", "ff"),
    "MADV_REMOVE at a negative offset": (
        ".", "mmap(W+0, 1p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, devzero,"
        " 0x8000000000000000); madvise(W+0, 1p, MADV_REMOVE)", "W+0, EINVAL", "s",
    ),
    "MADV_REMOVE of shared memory whose protection is read-only": (
        "tt", "madvise(W+0, 1p, MADV_REMOVE)", "0", "tt",
    ),
    "MADV_COLLAPSE finds huge pages forbidden": (
        "ww", "madvise(W+0, 2p, MADV_COLLAPSE)", "EINVAL", "ww",
    ),
    "populating faults pages in": (
        "ww", "madvise(W+0, 2p, MADV_POPULATE_WRITE)", "0", "WW",
    ),
    "populating for reading leaves private memory unfaulted": (
        "ww", "madvise(W+0, 2p, MADV_POPULATE_READ)", "0", "ww",
    ),
    "populating what cannot be written": ("rr", "madvise(W+0, 1p, MADV_POPULATE_WRITE)",
        "EINVAL", "rr"),
    "populating what cannot be read": ("nn", "madvise(W+0, 1p, MADV_POPULATE_READ)",
        "EINVAL", "nn"),
    "populating stops at a hole": ("ww..ww", "madvise(W+0, 6p, MADV_POPULATE_WRITE)",
        "ENOMEM", "WW..ww"),
    "populating over several VMAs": ("wwss", "madvise(W+0, 4p, MADV_POPULATE_WRITE)", "0",
        "WWss"),
    "populating beyond the end of a file": (
        ".", "mmap(W+0, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, file, 63p);"
        " madvise(W+0, 2p, MADV_POPULATE_READ)", "W+0, EFAULT", "??",
    ),
    "a guard page cannot be touched until it is removed": (
        "ww", "madvise(W+0, 1p, MADV_GUARD_INSTALL); touch(W+0, 2, read);"
        " madvise(W+0, 1p, MADV_GUARD_REMOVE); touch(W+0, 2, read)",
        "0, SEGV ok, 0, ok ok", "WW",
    ),
    "guard pages survive MADV_DONTNEED": (
        "ww", "madvise(W+0, 1p, MADV_GUARD_INSTALL); madvise(W+0, 2p, MADV_DONTNEED);"
        " touch(W+0, 1, read)", "0, 0, SEGV", "WW",
    ),
    "guard pages in locked memory": ("LL", "madvise(W+0, 1p, MADV_GUARD_INSTALL)",
        "EINVAL", "LL"),
    "removing guard pages leaves other pages": (
        "WW", "madvise(W+0, 2p, MADV_GUARD_REMOVE); touch(W+0, 1, read)", "0, ok", "WW",
    ),
}  # fmt: skip

#: Advice that sets or clears flags: name, picture, flags after it, flags it clears.
FLAGS = [
    ("MADV_RANDOM", "ww", flags.VM_RAND_READ, flags.VM_SEQ_READ),
    ("MADV_SEQUENTIAL", "aa", flags.VM_SEQ_READ, flags.VM_RAND_READ),
    ("MADV_NORMAL", "aa", 0, flags.VM_RAND_READ | flags.VM_SEQ_READ),
    ("MADV_DONTFORK", "ww", flags.VM_DONTCOPY, 0),
    ("MADV_DOFORK", "ww", 0, flags.VM_DONTCOPY),
    ("MADV_MERGEABLE", "ww", flags.VM_MERGEABLE, 0),
    ("MADV_MERGEABLE", "mm", 0, flags.VM_MERGEABLE),
    ("MADV_MERGEABLE", "dd", 0, flags.VM_MERGEABLE),
    ("MADV_UNMERGEABLE", "ww", 0, flags.VM_MERGEABLE),
    ("MADV_HUGEPAGE", "ww", flags.VM_HUGEPAGE, flags.VM_NOHUGEPAGE),
    ("MADV_NOHUGEPAGE", "ww", flags.VM_NOHUGEPAGE, flags.VM_HUGEPAGE),
    ("MADV_DONTDUMP", "ww", flags.VM_DONTDUMP, 0),
    ("MADV_DODUMP", "ww", 0, flags.VM_DONTDUMP),
    ("MADV_WIPEONFORK", "ww", flags.VM_WIPEONFORK, 0),
    ("MADV_KEEPONFORK", "ww", 0, flags.VM_WIPEONFORK),
]
REFUSED = [
    ("MADV_WIPEONFORK", "mm"),
    ("MADV_WIPEONFORK", "pp"),
    ("MADV_WIPEONFORK", "zz"),
    ("MADV_KEEPONFORK", "dd"),
    ("MADV_DODUMP", "dd"),
    ("MADV_COLD", "LL"),
    ("MADV_PAGEOUT", "LL"),
    ("MADV_FREE", "LL"),
    ("MADV_REMOVE", "LL"),
]


@scenes(SCENES)
def test_madvise(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize("name", MADV_NAMES)
def test_every_advice_has_its_row(name: str) -> None:
    assert MADV_NAMES[name] in MADVISE


@pytest.mark.parametrize(("advice", "picture", "has", "has_not"), FLAGS)
def test_advice_sets_and_clears_flags(advice: str, picture: str, has: int, has_not: int) -> None:
    drawing = Drawing(picture)
    assert drawing.do(f"madvise(W+0, 2p, {advice})") == ["0"]
    assert drawing.vma(0).flags & (has | has_not) == has


@pytest.mark.parametrize(("advice", "picture"), REFUSED)
def test_advice_is_refused_by_kinds_of_memory(advice: str, picture: str) -> None:
    play(picture, f"madvise(W+0, 2p, {advice})", "EINVAL", picture)


@pytest.mark.parametrize("advice", ["MADV_WILLNEED", "MADV_COLD", "MADV_PAGEOUT"])
@pytest.mark.parametrize("picture", ["WW", "mm", "rr"])
def test_advice_on_reclaim_shows_nothing(advice: str, picture: str) -> None:
    play(picture, f"madvise(W+0, 2p, {advice})", "0", picture)


@pytest.mark.parametrize(
    ("missing", "advice"),
    [("KSM", "MADV_MERGEABLE"), ("THP", "MADV_HUGEPAGE"), ("THP", "MADV_COLLAPSE")],
)
def test_what_is_not_configured_is_unknown(missing: str, advice: str) -> None:
    without = replace(ENVIRONMENT, config=ENVIRONMENT.config - {missing})
    play("ww", f"madvise(W+0, 0, {advice})", "EINVAL", "ww", without)


@pytest.mark.parametrize("advice", ["MADV_HWPOISON", "MADV_SOFT_OFFLINE"])
def test_poisoning_needs_the_configuration_then_the_privilege(advice: str) -> None:
    call = f"madvise(W+0, 1p, {advice})"
    play("ww", call, "EINVAL", "ww")
    able = replace(ENVIRONMENT, config=frozenset(("MEMORY_FAILURE",)))
    play("ww", call, "EPERM", "ww", able)
    drawing = Drawing("ww", replace(able, capabilities=frozenset(("SYS_ADMIN",))))
    with pytest.raises(Unmodelled, match="HWPOISON"):
        drawing.do(call)


def test_guard_pages_are_unknown_to_kernels_without_them() -> None:
    older = Profile("older", PROFILE.changes - {GUARD})
    play("ww", "madvise(W+0, 1p, MADV_GUARD_INSTALL)", "EINVAL", "ww", profile=older)


@pytest.mark.parametrize("advice", ["MADV_GUARD_INSTALL", "MADV_GUARD_REMOVE"])
def test_guard_pages_were_for_anonymous_memory_only(advice: str) -> None:
    older = Profile("older", PROFILE.changes - {GUARD_FILE})
    play("mm", f"madvise(W+0, 1p, {advice})", "EINVAL", "mm", profile=older)
    play("mm", f"madvise(W+0, 1p, {advice})", "0", "MM" if "INSTALL" in advice else "mm")


def test_guard_pages_in_a_file_came_with_an_anon_vma_that_only_anonymous_memory_needs() -> None:
    newer = Profile("newer", PROFILE.changes | {GUARD_ANON_VMA_ONLY_ANONYMOUS})
    for picture, after in (("mm", "mm"), ("pp", "pp"), ("ww", "WW"), ("zz", "ZZ")):
        call = "madvise(W+0, 1p, MADV_GUARD_INSTALL)"
        play(picture, call, "0", picture.upper())
        play(picture, call, "0", after, profile=newer)


def test_a_guard_page_leaves_with_its_mapping_and_travels_with_it() -> None:
    drawing = Drawing("ww")
    drawing.do("madvise(W+0, 1p, MADV_GUARD_INSTALL)")
    drawing.do("mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)")
    assert drawing.space.ptes == {at(20) // PAGE: PTE_GUARD}
    drawing.do("munmap(W+20, 1p)")
    assert drawing.space.ptes == {}


def test_removing_pages_of_a_file_takes_them_from_every_mapping_of_it() -> None:
    drawing = Drawing("mmmm..mmmm")
    assert drawing.do("touch(W+0, 4, write)") == ["ok ok ok ok"]
    drawing.do("mmap(W+20, 4p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 0); touch(W+20, 4, read)")
    drawing.do("mmap(W+30, 1p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)")
    drawing.do("madvise(W+1, 2p, MADV_REMOVE)")
    left = sorted(page - at(0) // PAGE for page in drawing.space.ptes)
    assert left == [0, 3, 20, 23]
    assert drawing.vma(0).file.inode.cached == {0, 3}  # type: ignore[union-attr]


def test_reclaim_takes_pages_of_shared_memory_that_are_mapped_once() -> None:
    drawing = Drawing("mmmm")
    drawing.do("touch(W+0, 4, write)")
    drawing.do("mmap(W+20, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd, 2p); touch(W+20, 1, read)")
    drawing.do("madvise(W+1, 2p, MADV_PAGEOUT)")
    assert sorted(page - at(0) // PAGE for page in drawing.space.ptes) == [0, 2, 3, 20]


def test_reclaim_drops_clean_shared_pages_and_keeps_written_ones() -> None:
    drawing = Drawing("mmmm")
    drawing.do("touch(W+0, 4, read); touch(W+1, 1, write); madvise(W+0, 4p, MADV_PAGEOUT)")
    file = drawing.vma(0).file
    assert file is not None
    assert file.inode.cached == {1}


@pytest.mark.parametrize("picture", ["WW", "ff", "PP"])
def test_reclaim_leaves_other_pages(picture: str) -> None:
    drawing = Drawing(picture)
    drawing.do("touch(W+0, 2, write)")
    before = dict(drawing.space.ptes)
    drawing.do("madvise(W+0, 2p, MADV_PAGEOUT)")
    assert drawing.space.ptes == before


def test_removing_keeps_private_copies() -> None:
    drawing = Drawing("mm")
    drawing.do("mmap(W+20, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, memfd, 0)")
    drawing.do("touch(W+20, 1, write); madvise(W+0, 2p, MADV_REMOVE)")
    assert at(20) // PAGE in drawing.space.ptes


def test_removing_beyond_the_largest_file_is_refused() -> None:
    small = with_object("memfd", max_bytes=2 * PAGE)
    call = "madvise(W+{}, 1p, MADV_REMOVE)"
    play("mmm", f"{call.format(1)}; {call.format(2)}", "0, EFBIG", "mmm", small)


def test_at_the_mapping_limit_a_split_is_eagain() -> None:
    full = replace(ENVIRONMENT, max_map_count=3)
    play("wwww", "madvise(W+1, 2p, MADV_RANDOM)", "EAGAIN", "wwww", full)


def test_sealed_memory_may_be_advised() -> None:
    drawing = Drawing(".")
    assert drawing.do(f"madvise({IMAGE.start}, 1p, MADV_WILLNEED)") == ["0"]


def test_sealed_read_only_anonymous_memory_is_not_discarded() -> None:
    drawing = Drawing("rr.ww")
    for page in (0, 3):
        drawing.vma(page).flags |= flags.VM_SEALED
    assert drawing.do("madvise(W+0, 1p, MADV_DONTNEED); madvise(W+3, 1p, MADV_DONTNEED)") == [
        "EPERM",
        "0",
    ]


def test_device_memory_is_forked_and_populated_never() -> None:
    drawing = Drawing("ww")
    drawing.vma(0).flags |= flags.VM_IO
    assert drawing.do("madvise(W+0, 1p, MADV_DOFORK)") == ["EINVAL"]
    assert drawing.do("madvise(W+0, 1p, MADV_POPULATE_READ)") == ["EINVAL"]


@pytest.mark.parametrize("advice", ["MADV_COLD", "MADV_PAGEOUT"])
def test_without_huge_pages_splitting_a_drivers_buffer_may_never_end(advice: str) -> None:
    without = replace(ENVIRONMENT, config=ENVIRONMENT.config - {"THP"})
    drawing = Drawing("kkkk", without)
    with pytest.raises(Unmodelled):
        drawing.do(f"madvise(W+0, 4p, {advice})")
    assert Drawing("ww", without).do(f"madvise(W+0, 2p, {advice})") == ["0"]
    assert Drawing("kkkk").do(f"madvise(W+0, 4p, {advice})") == ["0"]
