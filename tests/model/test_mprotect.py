"""mprotect(2): protections change page by page of the range until something stops it."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from model.flags import VM_ACCOUNT, VM_PKEY_EXEC_ONLY
from tests.environments import ENVIRONMENT, IMAGE
from tests.pictures import Drawing, play, scenes

SCENES = {
    "the middle of a VMA is cut out": (
        "rrrrrr", "mprotect(W+2, 2p, PROT_READ|PROT_WRITE)", "0", "rrwwrr",
    ),
    "the beginning is cut off": ("rrrr", "mprotect(W+0, 1p, PROT_NONE)", "0", "nrrr"),
    "the end is cut off": ("rrrr", "mprotect(W+3, 1p, PROT_NONE)", "0", "rrrn"),
    "it merges with both neighbours": (
        "xxrrxx", "mprotect(W+2, 2p, PROT_READ|PROT_EXEC)", "0", "xxxxxx",
    ),
    "it merges with the lower neighbour": (
        "xxrrrr", "mprotect(W+2, 2p, PROT_READ|PROT_EXEC)", "0", "xxxxrr",
    ),
    "it merges with the upper neighbour": (
        "rrrrxx", "mprotect(W+2, 2p, PROT_READ|PROT_EXEC)", "0", "rrxxxx",
    ),
    "a whole VMA merges with its upper neighbour": (
        "rr..rrxx", "mprotect(W+4, 2p, PROT_READ|PROT_EXEC)", "0", "rr..xxxx",
    ),
    "a whole VMA merges with its lower neighbour": (
        "xxrr..", "mprotect(W+2, 2p, PROT_READ|PROT_EXEC)", "0", "xxxx",
    ),
    "several VMAs become one": (
        "rrxxnn", "mprotect(W+0, 6p, PROT_READ)", "0", "rrrrrr",
    ),
    "the same protection changes nothing": ("rrrr", "mprotect(W+1, 2p, PROT_READ)", "0", "rrrr"),
    "it stops at a hole and keeps what it has changed": (
        "rrrr.rrr", "mprotect(W+2, 5p, PROT_NONE)", "ENOMEM", "rrnn.rrr",
    ),
    "a range that begins with a hole is ENOMEM at once": (
        "..rr", "mprotect(W+0, 4p, PROT_NONE)", "ENOMEM", "..rr",
    ),
    "a range in a hole is ENOMEM": ("rr..rr", "mprotect(W+2, 2p, PROT_NONE)", "ENOMEM", "rr..rr"),
    "above everything is ENOMEM": ("rr", "mprotect(W+9, 2p, PROT_NONE)", "ENOMEM", "rr"),
    "an address inside a page is EINVAL": (
        "rr", "mprotect(W+0+0x10, 1p, PROT_NONE)", "EINVAL", "rr",
    ),
    "length 0 does nothing, even in a hole": ("rr", "mprotect(W+5, 0, PROT_READ)", "0", "rr"),
    "length 0 does not see unknown bits": ("rr", "mprotect(W+0, 0, 0x100)", "0", "rr"),
    "the length is rounded up": ("rrr", "mprotect(W+0, 0x1001, PROT_NONE)", "0", "nnr"),
    "a range that wraps is ENOMEM before unknown bits are EINVAL": (
        "rr", "mprotect(W+0, 0xffffffffffff0000, 0x100)", "ENOMEM", "rr",
    ),
    "a length that wraps to 0 is ENOMEM": (
        "rr", "mprotect(W+0, 0xffffffffffffffff, PROT_READ)", "ENOMEM", "rr",
    ),
    "unknown bits are EINVAL": ("rr", "mprotect(W+0, 1p, PROT_READ|0x100)", "EINVAL", "rr"),
    "PROT_SEM means nothing": ("rr", "mprotect(W+0, 1p, PROT_READ|PROT_SEM)", "0", "rr"),
    "PROT_GROWSUP and PROT_GROWSDOWN together are EINVAL": (
        "gg", "mprotect(W+0, 1p, PROT_READ|PROT_GROWSUP|PROT_GROWSDOWN)", "EINVAL", "gg",
    ),
    "PROT_GROWSDOWN of what does not is EINVAL": (
        "rr", "mprotect(W+0, 1p, PROT_READ|PROT_GROWSDOWN)", "EINVAL", "rr",
    ),
    "PROT_GROWSUP is EINVAL, for nothing grows up": (
        "gg", "mprotect(W+0, 1p, PROT_READ|PROT_GROWSUP)", "EINVAL", "gg",
    ),
    "PROT_GROWSUP at a hole is ENOMEM": (
        ".gg", "mprotect(W+0, 2p, PROT_READ|PROT_GROWSUP)", "ENOMEM", ".gg",
    ),
    "PROT_GROWSDOWN begins at the start of the VMA": (
        "gggg", "mprotect(W+2, 1p, PROT_READ|PROT_WRITE|PROT_EXEC|PROT_GROWSDOWN);"
        " mprotect(W+0, 3p, PROT_READ|PROT_WRITE)", "0, 0", "gggg",
    ),
    "PROT_GROWSDOWN may begin in the hole below": (
        "..gg", "mprotect(W+0, 3p, PROT_READ|PROT_WRITE|PROT_GROWSDOWN)", "0", "..gg",
    ),
    "a shared mapping of a read-only descriptor cannot be made writable": (
        ".", "mmap(W+0, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd_ro, 0);"
        " mprotect(W+0, 2p, PROT_READ|PROT_WRITE)", "W+0, EACCES", "??",
    ),
    "a private mapping of a read-only descriptor can be": (
        ".", "mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_FIXED, memfd_ro, 0);"
        " mprotect(W+0, 2p, PROT_READ|PROT_WRITE); touch(W+0, 1, write)", "W+0, 0, ok", "??",
    ),
    "what comes before a refusal is changed": (
        "rr", "mmap(W+2, 2p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd_ro, 0);"
        " mprotect(W+0, 4p, PROT_READ|PROT_WRITE)", "W+2, EACCES", "ww??",
    ),
    "files cut and merge by page offset": (
        "mmmm", "mprotect(W+1, 2p, PROT_READ); mprotect(W+1, 2p, PROT_READ|PROT_WRITE)",
        "0, 0", "mmmm",
    ),
    "faulted neighbours of different origin stay apart": (
        "WWRR", "mprotect(W+2, 2p, PROT_READ|PROT_WRITE)", "0", "WW|WW",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_mprotect(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_memory_made_writable_is_accounted_until_unfaulted_memory_is_read_only_again() -> None:
    drawing = Drawing("rr.rr")
    assert not drawing.vma(0).flags & VM_ACCOUNT
    drawing.do("mprotect(W+0, 2p, PROT_READ|PROT_WRITE)")
    assert drawing.vma(0).flags & VM_ACCOUNT
    drawing.do("mprotect(W+0, 2p, PROT_READ)")
    assert not drawing.vma(0).flags & VM_ACCOUNT


@pytest.mark.parametrize("picture", ["WW", "pp"])
def test_faulted_memory_and_files_stay_accounted(picture: str) -> None:
    drawing = Drawing(picture)
    drawing.do("mprotect(W+0, 2p, PROT_READ)")
    assert drawing.vma(0).flags & VM_ACCOUNT


def test_shared_memory_is_not_accounted() -> None:
    drawing = Drawing("tt")
    drawing.do("mprotect(W+0, 2p, PROT_READ|PROT_WRITE)")
    assert not drawing.vma(0).flags & VM_ACCOUNT


def test_a_sealed_vma_keeps_its_protection() -> None:
    drawing = Drawing(".")
    assert drawing.do(f"mprotect({IMAGE.start}, 1p, PROT_NONE)") == ["EPERM"]
    assert drawing.do(f"mprotect({IMAGE.start}, 1p, PROT_READ|PROT_EXEC)") == ["EPERM"]


def test_execute_only_takes_a_key_where_there_are_keys() -> None:
    keys = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"PKU"})
    drawing = Drawing("rr", keys)
    assert drawing.do("mprotect(W+0, 2p, PROT_EXEC); touch(W+0, 1, read)") == ["0", "SEGV"]
    assert drawing.vma(0).flags & VM_PKEY_EXEC_ONLY
    assert drawing.do("mprotect(W+0, 2p, PROT_READ)") == ["0"]
    assert drawing.picture == "rr"
    assert Drawing("rr").do("mprotect(W+0, 2p, PROT_EXEC); touch(W+0, 1, read)") == ["0", "ok"]


def test_data_beyond_its_limit_is_refused() -> None:
    little = replace(ENVIRONMENT, rlimit_data=2 * PAGE)
    play("wwrr", "mprotect(W+2, 1p, PROT_READ|PROT_WRITE)", "ENOMEM", "wwrr", little)
    play("wwrr", "mprotect(W+0, 2p, PROT_READ|PROT_WRITE|PROT_EXEC)", "0", "??rr", little)


def test_at_the_mapping_limit_a_first_cut_stays() -> None:
    drawing = Drawing("rrrr", replace(ENVIRONMENT, max_map_count=4))
    assert drawing.do("mprotect(W+1, 2p, PROT_NONE)") == ["ENOMEM"]
    assert drawing.picture == "r|rrr"


def test_locked_memory_that_becomes_writable_is_populated() -> None:
    drawing = Drawing(".")
    drawing.do("mmap(W+0, 2p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED, -1, 0)")
    assert not drawing.vma(0).anon_vma
    assert drawing.do("mprotect(W+0, 2p, PROT_READ|PROT_WRITE)") == ["0"]
    assert drawing.vma(0).anon_vma


def test_an_architecture_without_keys_has_no_call_for_them() -> None:
    without = replace(ENVIRONMENT, config=ENVIRONMENT.config - {"PKEYS"})
    play("rr", "pkey_mprotect(W+0, 2p, PROT_NONE, -1)", "0", "nn")
    play("rr", "pkey_mprotect(W+0, 2p, PROT_NONE, -1)", "ENOSYS", "rr", without)
