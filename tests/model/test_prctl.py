"""prctl(2): what applies to all of a process's memory."""

from dataclasses import replace

import pytest

from model.flags import VM_MERGEABLE
from model.space import THP_ADVISED_ONLY, THP_DISABLED, THP_ENABLED
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing, play, scenes

SCENES = {
    "all that KSM could merge is marked, and is no more": (
        "ww.mm.dd",
        "prctl(PR_SET_MEMORY_MERGE, 1, 0); prctl(PR_SET_MEMORY_MERGE, 0, 0)",
        "0, 0",
        "ww.mm.dd",
    ),
    "what comes while it is set is marked, and merges with what is": (
        "ww",
        "prctl(PR_SET_MEMORY_MERGE, 1, 0);"
        "mmap(W+2, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        "0, W+2",
        "aaaa",
    ),
    "shared and droppable memory is left alone": (
        "mmddss", "prctl(PR_SET_MEMORY_MERGE, 1, 0)", "0", "mmddss",
    ),
    "neighbours that become alike stay apart": (
        "wwww",
        "madvise(W+0, 2p, MADV_MERGEABLE); prctl(PR_SET_MEMORY_MERGE, 1, 0)",
        "0, 0",
        "aa|aa",
    ),
    "setting what is set changes nothing": (
        "ww", "prctl(PR_SET_MEMORY_MERGE, 0, 0); prctl(PR_SET_MEMORY_MERGE, 0, 1)",
        "0, EINVAL", "ww",
    ),
    "memory both writable and executable is refused": (
        "ww",
        "prctl(PR_SET_MDWE, 1, 0); mprotect(W+0, 1p, PROT_READ|PROT_WRITE|PROT_EXEC);"
        "mmap(W+0, 2p, PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        "0, EACCES, EACCES",
        "ww",
    ),
    "what is mapped does not become executable, what is so keeps it": (
        "xxww",
        "prctl(PR_SET_MDWE, 3, 0); mprotect(W+0, 4p, PROT_READ|PROT_EXEC);"
        "mprotect(W+1, 1p, PROT_READ); mprotect(W+1, 1p, PROT_READ|PROT_EXEC)",
        "0, EACCES, 0, EACCES",
        "xrww",
    ),
    "new memory may be executable": (
        ".",
        "prctl(PR_SET_MDWE, 1, 0);"
        "mmap(W+0, 2p, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)",
        "0, W+0",
        "xx",
    ),
}  # fmt: skip


@scenes(SCENES)
def test_prctl(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_mdwe_is_not_taken_back() -> None:
    drawing = Drawing(".")
    said = drawing.do(
        "prctl(PR_SET_MDWE, 0, 0); prctl(PR_SET_MDWE, 2, 0); prctl(PR_SET_MDWE, 4, 0);"
        "prctl(PR_SET_MDWE, 3, 1); prctl(PR_SET_MDWE, 3, 0); prctl(PR_SET_MDWE, 3, 0);"
        "prctl(PR_SET_MDWE, 1, 0)"
    )
    assert said == ["0", "EINVAL", "EINVAL", "EINVAL", "0", "0", "EPERM"]


@pytest.mark.parametrize(
    ("arguments", "result", "state"),
    [
        ("0, 0", "0", THP_ENABLED),
        ("1, 0", "0", THP_DISABLED),
        ("1, 2", "0", THP_ADVISED_ONLY),
        ("1, 1", "EINVAL", THP_DISABLED),
        ("0, 2", "EINVAL", THP_DISABLED),
    ],
)
def test_huge_pages_are_disabled_in_two_ways(arguments: str, result: str, state: int) -> None:
    drawing = Drawing(".")
    assert drawing.do(f"prctl(PR_SET_THP_DISABLE, {arguments})") == [result]
    assert drawing.space.thp_disabled == state


def test_the_mark_of_a_heap_that_grows() -> None:
    drawing = Drawing(".")
    drawing.do("prctl(PR_SET_MEMORY_MERGE, 1, 0); brk(B+2)")
    heap = drawing.space.lookup(ENVIRONMENT.start_brk)
    assert heap.flags & VM_MERGEABLE


def test_without_ksm_there_is_no_such_option() -> None:
    without = replace(ENVIRONMENT, config=frozenset())
    assert Drawing(".", without).do("prctl(PR_SET_MEMORY_MERGE, 1, 0)") == ["EINVAL"]
