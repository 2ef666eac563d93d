"""brk(2): the break, the memory below it and its name."""

from dataclasses import replace

import pytest

from abi.consts import PAGE
from abi.environment import Environment
from abi.trace import NAME_HEAP, NAME_NONE, unpack_layout
from model.flags import VM_ACCESS, VM_LOCKED, VM_READ, VM_WRITE
from tests.environments import ENVIRONMENT
from tests.pictures import Drawing

BREAK = ENVIRONMENT.start_brk
#: The anchor B of the text form is the break before the program.
MACHINE = replace(ENVIRONMENT, geometry=replace(ENVIRONMENT.geometry, heap=BREAK))
ANON = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0"


def do(calls: str, environment: Environment = MACHINE) -> tuple[str, list[tuple[int, int]]]:
    """The last result, and the anonymous VMAs around the heap: first page and number of pages."""
    drawing = Drawing(".", environment)
    result = drawing.do(calls)[-1]
    vmas = [
        ((vma.start - BREAK) // PAGE, (vma.end - vma.start) // PAGE)
        for vma in drawing.space.vmas
        if vma.file is None
    ]
    return result, vmas


SCENES = {
    "nothing moves it": ("brk(0)", "B+0", []),
    "it grows": ("brk(B+2)", "B+2", [(0, 2)]),
    "to the byte": ("brk(B+1+0x10)", "B+1+0x10", [(0, 2)]),
    "within a page nothing is mapped": ("brk(B+2); brk(B+1+0x1)", "B+1+0x1", [(0, 2)]),
    "it shrinks": ("brk(B+4); brk(B+1)", "B+1", [(0, 1)]),
    "not below its start": ("brk(B+1); brk(B-1)", "B+1", [(0, 1)]),
    "not beyond the address space": ("brk(0x7fffffffffff)", "B+0", []),
    "not over a mapping": (f"mmap(B+2, 1p, 0, {ANON}); brk(B+3)", "B+0", [(2, 1)]),
    "nor next to one": (f"mmap(B+2, 1p, 0, {ANON}); brk(B+2)", "B+0", [(2, 1)]),
    "a page remains free": (f"mmap(B+2, 1p, 0, {ANON}); brk(B+1)", "B+1", [(0, 1), (2, 1)]),
    "and a stack's guard gap": (
        f"mmap(B+300, 1p, PROT_READ|PROT_WRITE, MAP_GROWSDOWN|{ANON}); brk(B+44)", "B+0", [(300, 1)],
    ),
    "but no more": (
        f"mmap(B+300, 1p, PROT_READ|PROT_WRITE, MAP_GROWSDOWN|{ANON}); brk(B+43)", "B+43",
        [(0, 43), (300, 1)],
    ),
    "it grows the VMA below": ("brk(B+1); brk(B+3)", "B+3", [(0, 3)]),
    "unless that differs": (
        "brk(B+1); mprotect(B+0, 1p, PROT_READ); brk(B+3)", "B+3", [(0, 1), (1, 2)],
    ),
    "the VMA above does not merge": (
        f"brk(B+4); munmap(B+1, 1p); brk(B+1); mmap(B+3, 1p, PROT_READ|PROT_WRITE, {ANON});"
        " brk(B+2)", "B+2", [(0, 2), (3, 1)],
    ),
    "where nothing is left it does not shrink": (
        "brk(B+4); munmap(B+2, 2p); brk(B+2)", "B+4", [(0, 2)],
    ),
    "sealed it does not shrink": ("brk(B+4); mseal(B+3, 1p, 0); brk(B+2)", "B+4", [(0, 2), (2, 1), (3, 1)]),
    "its own limit counts to the byte": (
        "setrlimit(RLIMIT_DATA, 1p+0x8); brk(B+1+0x9)", "B+0", [],
    ),
    "and pages": ("setrlimit(RLIMIT_DATA, 1p+0x8); brk(B+1)", "B+1", [(0, 1)]),
    "a limit of 0 lets nothing grow": ("setrlimit(RLIMIT_DATA, 0); brk(B+1)", "B+0", []),
    "data elsewhere counts too": (
        f"mmap(W+0, 1p, PROT_READ|PROT_WRITE, {ANON}); setrlimit(RLIMIT_DATA, 2p); brk(B+2)",
        "B+0", [((ENVIRONMENT.geometry.window - BREAK) // PAGE, 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "result", "vmas"), SCENES.values(), ids=SCENES.keys())
def test_brk(calls: str, result: str, vmas: list[tuple[int, int]]) -> None:
    assert do(calls) == (result, vmas)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_map_count": 1},
        {"memory_pages": 1},
        {"rlimit_as": (ENVIRONMENT.total_pages + 1) * PAGE},
        {"data_segment": 10, "rlimit_data": 2 * PAGE + 9},
    ],
)
def test_what_else_stops_it(changes: dict[str, int]) -> None:
    assert do("brk(B+2)", replace(MACHINE, **changes)) == ("B+0", [])  # type: ignore[arg-type]


def test_locked_later_it_is_locked_and_faulted_in() -> None:
    drawing = Drawing(".", MACHINE)
    drawing.do("mlockall(MCL_FUTURE); brk(B+2)")
    heap = drawing.space.lookup(BREAK)
    assert heap.flags & VM_LOCKED
    assert heap.anon_vma
    assert drawing.space.locked_vm == ENVIRONMENT.locked_pages + 2


def test_beyond_the_lock_limit_it_stays() -> None:
    little = replace(MACHINE, rlimit_memlock=(ENVIRONMENT.locked_pages + 1) * PAGE)
    assert do("mlockall(MCL_FUTURE); brk(B+2)", little) == ("B+0", [])


def test_what_is_below_the_break_is_named_heap() -> None:
    drawing = Drawing(".", MACHINE)
    drawing.do(f"mmap(B+0, 1p, PROT_READ, {ANON})")
    names = []
    for call in ("brk(B+0)", "brk(B+0+0x0)", "brk(0)"):
        drawing.do(call)
        names.append({m.name for m in unpack_layout(drawing.space.layout()) if m.start == BREAK})
    assert names == [{NAME_NONE}] * 3
    drawing.do("munmap(B+0, 1p); brk(B+2)")
    assert unpack_layout(drawing.space.layout())[1].name == NAME_HEAP


def test_the_heap_is_executable_on_some_architectures() -> None:
    executable = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"EXEC_BRK"})
    call = "brk(B+1)"
    for environment, access in ((ENVIRONMENT, VM_READ | VM_WRITE), (executable, VM_ACCESS)):
        drawing = Drawing(".", environment)
        drawing.do(call)
        vma = drawing.space.lookup(environment.start_brk)
        assert vma.flags & VM_ACCESS == access
