"""Running programs: the table of semantics, traces, what an environment becomes."""

from dataclasses import replace

from abi.calls import CALLS, Munmap, Touch
from abi.consts import PAGE
from abi.environment import Environment, InitialVma
from abi.trace import (
    COUNT,
    FIRST_NEW_IDENT,
    NAME_NONE,
    NAME_STACK,
    PERM_READ,
    PERM_SHARED,
    PERM_WRITE,
    SECTION_PAGES,
    STEP,
    UNCHANGED,
    unpack,
)
from model.flags import VM_ACCOUNT, VM_MAYSHARE, VM_SEALED, VM_SHARED, VM_WRITE
from model.run import SEMANTICS, Model
from tests.environments import ENVIRONMENT, OBJECTS, initial_layout
from tests.pictures import PROFILE, Drawing, at


def test_every_call_has_semantics() -> None:
    assert set(SEMANTICS) == set(CALLS)


def test_an_unchanged_layout_is_reported_as_such() -> None:
    trace = Model(ENVIRONMENT, PROFILE).run((Munmap(at(0), PAGE), Touch(at(0), 1, 0)))
    size = ENVIRONMENT.total_pages
    last = STEP.pack(1, UNCHANGED, SECTION_PAGES, size, 0) + COUNT.pack(0)
    assert trace == STEP.pack(0, UNCHANGED, 0, 0, 0) + last


def test_a_trace_holds_results_and_whole_layouts() -> None:
    drawing = Drawing("ww")
    drawing.do("munmap(W+1, 1p); munmap(W+9, 1p); munmap(W+0, 0)")
    initial = initial_layout(ENVIRONMENT)
    steps = unpack(drawing.run.trace(), initial)
    assert [step.value for step in steps] == [at(0), 0, 0, -22]
    assert [len(step.layout) for step in steps] == [3, 3, 3, 3]
    assert steps[-1].layout[-1].end == at(1)


def test_runs_do_not_see_each_other() -> None:
    model = Model(ENVIRONMENT, PROFILE)
    drawing = Drawing("mm")
    program = drawing.program(
        "mmap(W+0, 1p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, memfd, 0); touch(W+0, 1, write);"
        "uffd_register(uffd0, W+0, 1p, 4); madvise(W+0, 1p, MADV_DONTNEED); touch(W+0, 1, read)"
    )
    assert model.run(program) == model.run(program) == Model(ENVIRONMENT, PROFILE).run(program)


def test_objects_are_numbered_as_they_appear() -> None:
    drawing = Drawing("ss.ss")
    records = unpack(drawing.run.trace(), ())[-1].layout
    assert [m.ident for m in records[2:]] == [FIRST_NEW_IDENT, FIRST_NEW_IDENT + 1]


def test_the_executors_vmas_have_the_flags_that_smaps_shows() -> None:
    space = Model(ENVIRONMENT, PROFILE).start().space
    image, shared = space.vmas
    assert image.flags & VM_SEALED
    assert shared.flags & VM_SHARED
    assert space.layout() == b"".join(m.pack() for m in initial_layout(ENVIRONMENT))


def _with_initial(*more: InitialVma) -> Environment:
    pages = sum(v.end - v.start for v in more) // PAGE
    return replace(
        ENVIRONMENT,
        initial=(*ENVIRONMENT.initial, *more),
        total_pages=ENVIRONMENT.total_pages + pages,
    )


def test_without_smaps_the_flags_follow_from_the_permissions() -> None:
    start = 0x6000_0000
    anonymous = InitialVma(
        start, start + PAGE, 0, 0, PERM_READ | PERM_WRITE, NAME_NONE, (), faulted=True
    )
    shared = InitialVma(
        start + PAGE, start + 2 * PAGE, 0, 9, PERM_READ | PERM_SHARED, 1, (), "tmpfs"
    )
    space = Model(_with_initial(anonymous, shared), PROFILE).start().space
    space.check()
    assert space.vmas[2].flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    assert space.vmas[2].anon_vma
    assert space.vmas[2].anonymous
    assert space.vmas[3].flags & (VM_SHARED | VM_MAYSHARE) == VM_SHARED | VM_MAYSHARE


def test_unknown_flags_of_smaps_are_passed_over() -> None:
    start = 0x6000_0000
    odd = InitialVma(start, start + PAGE, 0, 3, PERM_READ, NAME_STACK, ("rd", "??", "ac"))
    space = Model(_with_initial(odd), PROFILE).start().space
    assert space.vmas[2].flags == VM_ACCOUNT | 1
    file = space.vmas[2].file
    assert file is not None
    assert file.inode is space.files[10].inode


def test_a_missing_object_is_a_bad_descriptor() -> None:
    without = replace(ENVIRONMENT, objects=OBJECTS[2:])
    drawing = Drawing(".", without)
    assert drawing.do("mmap(NULL, 1p, 0, MAP_PRIVATE, memfd, 0)") == ["EBADF"]
