"""mmap(2): what is checked in which order, what it makes, what it replaces."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from model.errors import Unmodelled
from model.flags import (
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_EXEC,
    VM_MAYEXEC,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PKEY_EXEC_ONLY,
    VM_SHARED,
    VM_WIPEONFORK,
)
from tests.environments import ENVIRONMENT, with_object
from tests.pictures import Drawing, play, scenes

FIXED = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
RW = "PROT_READ|PROT_WRITE"

SCENES = {
    "it fills a hole and merges with both neighbours": (
        "ww..ww", f"mmap(W+2, 2p, {RW}, {FIXED}", "W+2", "wwwwww",
    ),
    "it merges with the lower neighbour": ("ww", f"mmap(W+2, 2p, {RW}, {FIXED}", "W+2", "wwww"),
    "it merges with the upper neighbour": (
        "..ww", f"mmap(W+0, 2p, {RW}, {FIXED}", "W+0", "wwww",
    ),
    "other protection does not merge": (
        "ww..ww", f"mmap(W+2, 2p, PROT_READ, {FIXED}", "W+2", "wwrrww",
    ),
    "between two faulted neighbours of different origin it joins the lower": (
        "WW..WW", f"mmap(W+2, 2p, {RW}, {FIXED}", "W+2", "WWWW|WW",
    ),
    "between a faulted and an unfaulted neighbour all become one": (
        "ww..WW", f"mmap(W+2, 2p, {RW}, {FIXED}", "W+2", "WWWWWW",
    ),
    "it replaces what is there, in part and whole": (
        "wwrrww.mm", f"mmap(W+1, 7p, PROT_NONE, {FIXED}", "W+1", "wnnnnnnnm",
    ),
    "replacing the middle of a VMA with its like is one VMA again": (
        "wwww", f"mmap(W+1, 2p, {RW}, {FIXED}", "W+1", "wwww",
    ),
    "replacing forgets that pages were there": (
        "WW", f"mmap(W+0, 2p, {RW}, {FIXED}", "W+0", "ww",
    ),
    "NOREPLACE of what is mapped is EEXIST": (
        "ww", "mmap(W+1, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)",
        "EEXIST", "ww",
    ),
    "NOREPLACE in a hole is FIXED": (
        "ww", "mmap(W+2, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE, -1, 0)",
        "W+2", "wwrr",
    ),
    "shared memory is a new object each time and does not merge": (
        "ss", f"mmap(W+2, 2p, {RW}, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED, -1, 0)",
        "W+2", "ss|ss",
    ),
    "file mappings merge where their offsets continue": (
        "mm..mm", f"mmap(W+2, 2p, {RW}, MAP_SHARED|MAP_FIXED, memfd, 2p)", "W+2", "mmmmmm",
    ),
    "file mappings do not merge where they do not": (
        "mm..mm", f"mmap(W+2, 2p, {RW}, MAP_SHARED|MAP_FIXED, memfd, 3p)", "W+2", "mm|mm|mm",
    ),
    "two descriptors of one object do not merge": (
        "ii", "mmap(W+2, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd_ro, 2p)", "W+2", "ii??",
    ),
    "an anonymous mapping ignores offset and descriptor": (
        "ww", f"mmap(W+2, 2p, {RW}, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, 999, 7p)", "W+2", "wwww",
    ),
    "private /dev/zero is anonymous memory that merges by its offset": (
        "zz", f"mmap(W+2, 2p, {RW}, MAP_PRIVATE|MAP_FIXED, devzero, 2p)", "W+2", "zzzz",
    ),
    "shared /dev/zero is shared anonymous memory": (
        ".", f"mmap(W+0, 2p, {RW}, MAP_SHARED|MAP_FIXED, devzero, 0)", "W+0", "ss",
    ),
    "locked memory is populated": (
        ".", f"mmap(W+0, 2p, {RW}, MAP_LOCKED|{FIXED}", "W+0", "LL",
    ),
    "populated memory is faulted": (
        ".", f"mmap(W+0, 2p, {RW}, MAP_POPULATE|{FIXED}", "W+0", "WW",
    ),
    "NONBLOCK makes POPULATE do nothing": (
        ".", f"mmap(W+0, 2p, {RW}, MAP_POPULATE|MAP_NONBLOCK|{FIXED}", "W+0", "ww",
    ),
    "the length is rounded up": (".", f"mmap(W+0, 0x1001, {RW}, {FIXED}", "W+0", "ww"),
}  # fmt: skip

#: Two things wrong at once tell the order of the checks.
REFUSED = {
    "an unaligned offset comes before a bad descriptor": (
        "mmap(W+0, 0, PROT_READ, MAP_PRIVATE, 999, 0x10)", "EINVAL",
    ),
    "a bad descriptor comes before length 0": ("mmap(W+0, 0, PROT_READ, 0, 999, 0)", "EBADF"),
    "MAP_HUGETLB of an ordinary file": (
        "mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_HUGETLB, memfd, 0)", "EINVAL",
    ),
    "length 0": (f"mmap(W+0, 0, PROT_READ, {FIXED}", "EINVAL"),
    "a length that wraps to 0": (f"mmap(W+0, 0xffffffffffffffff, PROT_READ, {FIXED}", "ENOMEM"),
    "a length beyond TASK_SIZE": (f"mmap(W+0, 0x7ffffffff001, PROT_READ, {FIXED}", "ENOMEM"),
    "an address inside a page": (f"mmap(W+0+0x10, 1p, PROT_READ, {FIXED}", "EINVAL"),
    "a place comes before the type": ("mmap(W+0+0x10, 1p, 0, MAP_ANONYMOUS|MAP_FIXED, -1, 0)",
        "EINVAL",
    ),
    "neither shared nor private": ("mmap(W+0, 1p, 0, MAP_ANONYMOUS, -1, 0)", "EINVAL"),
    "neither shared nor private, of a file": ("mmap(W+0, 1p, 0, 0, memfd, 0)", "EINVAL"),
    "MAP_SHARED_VALIDATE of anonymous memory": (
        "mmap(W+0, 1p, 0, MAP_SHARED_VALIDATE|MAP_ANONYMOUS, -1, 0)", "EINVAL",
    ),
    "MAP_SHARED_VALIDATE with an unknown flag": (
        "mmap(W+0, 1p, 0, MAP_SHARED_VALIDATE|0x200000, memfd, 0)", "ENOTSUP",
    ),
    "MAP_SHARED_VALIDATE with MAP_SYNC of a file system without DAX": (
        "mmap(W+0, 1p, 0, MAP_SHARED_VALIDATE|MAP_SYNC, memfd, 0)", "ENOTSUP",
    ),
    "a shared stack": ("mmap(W+0, 1p, 0, MAP_SHARED|MAP_ANONYMOUS|MAP_GROWSDOWN, -1, 0)",
        "EINVAL",
    ),
    "a stack of a file": ("mmap(W+0, 1p, 0, MAP_PRIVATE|MAP_GROWSDOWN, memfd, 0)", "EINVAL"),
    "a droppable stack": ("mmap(W+0, 1p, 0, MAP_DROPPABLE|MAP_ANONYMOUS|MAP_GROWSDOWN, -1, 0)",
        "EINVAL",
    ),
    "locked droppable memory": (
        "mmap(W+0, 1p, 0, MAP_DROPPABLE|MAP_ANONYMOUS|MAP_LOCKED, -1, 0)", "EINVAL",
    ),
    "shared and writable, of a read-only descriptor": (
        f"mmap(W+0, 1p, {RW}, MAP_SHARED, memfd_ro, 0)", "EACCES",
    ),
    "offset and length beyond any file": (
        "mmap(W+0, 1p, 0, MAP_PRIVATE, memfd, 0x7ffffffffffff000)", "EOVERFLOW",
    ),
    "the offset is checked before the type": (
        "mmap(W+0, 1p, 0, 0, memfd, 0x7ffffffffffff000)", "EOVERFLOW",
    ),
    "a pipe": ("mmap(W+0, 1p, PROT_READ, MAP_PRIVATE, pipe, 0)", "ENODEV"),
    "an executable pipe": ("mmap(W+0, 1p, PROT_EXEC, MAP_PRIVATE, pipe, 0)", "EPERM"),
    "a place is looked for before the descriptor's kind": (
        "mmap(W+0, 0x7fffffffe000, PROT_READ, MAP_PRIVATE, pipe, 0)", "ENOMEM",
    ),
    "locking beyond RLIMIT_MEMLOCK": (f"mmap(W+0, 1021p, 0, MAP_LOCKED|{FIXED}", "EAGAIN"),
    "locking comes before the descriptor's kind": (
        "mmap(W+0, 1021p, 0, MAP_LOCKED|MAP_PRIVATE, pipe, 0)", "EAGAIN",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_mmap(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(("call", "errno"), REFUSED.values(), ids=REFUSED.keys())
def test_mmap_is_refused(call: str, errno: str) -> None:
    play("rr", call, errno, "rr")


def test_sync_of_a_file_that_is_not_dax_fails_when_the_place_is_already_cleared() -> None:
    flags = "MAP_SHARED_VALIDATE|MAP_SYNC|MAP_FIXED"
    play("wwww", f"mmap(W+1, 2p, PROT_READ, {flags}, file, 0)", "ENOTSUP", "w..w")


def test_sync_of_plainly_shared_memory_is_refused_by_the_file() -> None:
    flags = "MAP_SHARED|MAP_SYNC|MAP_FIXED"
    play("w", f"mmap(W+1, 1p, {RW}, {flags}, file, 1p)", "ENOTSUP", "w")
    play("w", f"mmap(W+1, 1p, {RW}, {flags}, memfd, 1p)", "W+1", "wm")


def test_a_shared_mapping_of_a_read_only_descriptor_is_less_than_shared() -> None:
    drawing = Drawing(".")
    drawing.do("mmap(W+0, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, file_ro, 0)")
    assert not drawing.vma(0).flags & (VM_SHARED | VM_MAYWRITE)


def test_a_descriptor_not_opened_for_reading_cannot_be_mapped() -> None:
    blind = with_object("memfd", readable=False)
    play(".", "mmap(W+0, 1p, PROT_WRITE, MAP_SHARED, memfd, 0)", "EACCES", ".", blind)


def test_a_noexec_file_system_forbids_execution_now_and_later() -> None:
    noexec = with_object("file", noexec=True)
    drawing = Drawing(".", noexec)
    assert drawing.do("mmap(W+0, 1p, PROT_EXEC, MAP_PRIVATE|MAP_FIXED, file, 0)") == ["EPERM"]
    drawing.do("mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_FIXED, file, 0)")
    assert not drawing.vma(0).flags & (VM_EXEC | VM_MAYEXEC)
    assert drawing.do("mprotect(W+0, 1p, PROT_EXEC)") == ["EACCES"]


@pytest.mark.parametrize(
    ("flags", "has", "has_not"),
    [
        ("MAP_PRIVATE", VM_ACCOUNT, VM_NORESERVE),
        ("MAP_PRIVATE|MAP_NORESERVE", VM_NORESERVE, VM_ACCOUNT),
        ("MAP_SHARED", VM_SHARED, VM_ACCOUNT),
        ("MAP_PRIVATE|MAP_STACK", VM_NOHUGEPAGE, 0),
        ("MAP_DROPPABLE", VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP, VM_ACCOUNT),
    ],
)
def test_flags_that_no_layout_shows(flags: str, has: int, has_not: int) -> None:
    drawing = Drawing(".")
    drawing.do(f"mmap(W+0, 1p, {RW}, {flags}|MAP_ANONYMOUS|MAP_FIXED, -1, 0)")
    assert drawing.vma(0).flags & (has | has_not) == has


@pytest.mark.parametrize("flags", ["", "MAP_NORESERVE|"])
def test_commit_accounting_without_overcommit_is_not_modelled(flags: str) -> None:
    drawing = Drawing("r", replace(ENVIRONMENT, overcommit=2))
    with pytest.raises(Unmodelled, match="overcommit"):
        drawing.do(f"mmap(W+0, 1p, {RW}, {flags}{FIXED}")


def test_where_huge_pages_are_not_configured_a_stack_is_a_plain_mapping() -> None:
    drawing = Drawing("w", replace(ENVIRONMENT, config=frozenset()))
    drawing.do(f"mmap(W+1, 1p, {RW}, MAP_STACK|{FIXED}")
    assert drawing.picture == "ww"


def test_execute_only_takes_a_key_where_there_are_keys() -> None:
    drawing = Drawing(".", replace(ENVIRONMENT, config=frozenset(("PKU",))))
    drawing.do(f"mmap(W+0, 1p, PROT_EXEC, {FIXED}")
    assert drawing.vma(0).flags & VM_PKEY_EXEC_ONLY


def test_above_the_mapping_limit_nothing_is_mapped() -> None:
    full = replace(ENVIRONMENT, max_map_count=3)
    calls = f"mmap(W+4, 1p, PROT_READ, {FIXED}; mmap(W+6, 1p, PROT_READ, {FIXED}"
    play("ww", calls, "W+4, ENOMEM", "ww..r", full)


def test_at_the_mapping_limit_a_hole_cannot_be_cut() -> None:
    full = replace(ENVIRONMENT, max_map_count=3)
    play("wwww", f"mmap(W+1, 1p, PROT_READ, {FIXED}", "ENOMEM", "wwww", full)


def test_the_address_space_limit_counts_what_is_replaced_and_leaves_the_cut() -> None:
    little = replace(ENVIRONMENT, rlimit_as=(ENVIRONMENT.total_pages + 4) * PAGE)
    play("wwww", f"mmap(W+2, 2p, PROT_READ, {FIXED}", "W+2", "wwrr", little)
    play("wwww", f"mmap(W+2, 3p, PROT_READ, {FIXED}", "ENOMEM", "ww|ww", little)


def test_the_data_limit_counts_private_writable_memory() -> None:
    little = replace(ENVIRONMENT, rlimit_data=2 * PAGE)
    play("ww", f"mmap(W+2, 1p, {RW}, {FIXED}", "ENOMEM", "ww", little)
    play("ww", f"mmap(W+2, 1p, PROT_READ, {FIXED}", "W+2", "wwr", little)


def test_without_any_lockable_memory_locking_is_forbidden() -> None:
    none = replace(ENVIRONMENT, rlimit_memlock=0)
    play(".", f"mmap(W+0, 1p, {RW}, MAP_LOCKED|{FIXED}", "EPERM", ".", none)


def test_the_capability_to_lock_lifts_its_limit() -> None:
    able = replace(ENVIRONMENT, rlimit_memlock=0, capabilities=frozenset(("IPC_LOCK",)))
    play(".", f"mmap(W+0, 1p, {RW}, MAP_LOCKED|{FIXED}", "W+0", "L", able)


def test_a_name_in_the_heap_or_stack_is_given_by_the_place() -> None:
    where = ENVIRONMENT.geometry.window
    heap = replace(ENVIRONMENT, start_brk=where, brk=where + PAGE, start_stack=where + 9 * PAGE)
    drawing = Drawing("r.......rr", heap)
    names = [vma.pack(drawing.space.brk)[-2] for vma in drawing.space.vmas[2:]]
    assert names == [2, 3]
