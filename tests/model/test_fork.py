"""fork(2): what its child reports, and what it changes for its parent."""

from dataclasses import replace

import pytest

from abi.program import parse
from abi.trace import Child, Step, unpack
from model.errors import Unmodelled
from model.observe import flags_section, pages_section
from model.profile import PROFILES
from model.run import Model
from tests.environments import ENVIRONMENT, IMAGE, initial_layout
from tests.pictures import Drawing

W = ENVIRONMENT.geometry.window
FIRST = W >> 12
FORKS = replace(ENVIRONMENT, config=ENVIRONMENT.config | {"UFFD_FORK"})


def steps(text: str, *, full: bool = True, environment: object = ENVIRONMENT) -> tuple[Step, ...]:
    program = parse(text.replace(";", "\n"), ENVIRONMENT.geometry)
    model = Model(environment, PROFILES["7.3"])  # type: ignore[arg-type]
    return unpack(model.run(program, full=full), initial_layout(ENVIRONMENT))


def child_of(text: str, **options: object) -> Child:
    (child,) = [step.child for step in steps(text, **options) if step.child]  # type: ignore[arg-type]
    return child


def pages(child: Child) -> dict[int, int]:
    return {page - FIRST: entry for page, entry in child.contents}


MAP = "mmap(W+0, {}p, PROT_READ|PROT_WRITE, {}|MAP_ANONYMOUS|MAP_FIXED, -1, 0);"
PRIVATE, SHARED = MAP.format(2, "MAP_PRIVATE"), MAP.format(2, "MAP_SHARED")


@pytest.mark.parametrize("mapping", [PRIVATE, SHARED])
def test_a_child_sees_what_was_written(mapping: str) -> None:
    child = child_of(mapping + "touch(W+1, 1, write); fork()")
    assert [(m.start - W) >> 12 for m in child.layout[2:]] == [0]
    assert list(pages(child)) == [1]


@pytest.mark.parametrize(
    ("advice", "mappings", "contents"),
    [("MADV_DONTFORK", 0, []), ("MADV_WIPEONFORK", 1, []), ("MADV_RANDOM", 1, [0, 1])],
)
def test_advice_on_forks(advice: str, mappings: int, contents: list[int]) -> None:
    child = child_of(f"{PRIVATE} touch(W+0, 2, write); madvise(W+0, 2p, {advice}); fork()")
    assert len(child.layout) == 2 + mappings
    assert list(pages(child)) == contents
    assert child.counters[:2] == (0, 2 * mappings)


def test_nothing_is_locked_in_a_child() -> None:
    last = steps(PRIVATE + "mlock(W+0, 2p); fork()")[-1]
    assert last.child and last.counters and last.flags and last.child.flags
    assert last.child.counters[0] == 0 < last.counters[0]
    assert last.child.flags != last.flags


def test_registration_ends_unless_forks_are_reported() -> None:
    for fd, environment, missing in (
        ("uffd0", FORKS, False),
        ("uffd2", ENVIRONMENT, False),
        ("uffd2", FORKS, True),
    ):
        text = f"{PRIVATE} uffd_register({fd}, W+0, 2p, UFFDIO_REGISTER_MODE_MISSING); fork()"
        last = steps(text, environment=environment)[-1]
        assert last.child
        assert pages(last.child) == ({0: 2, 1: 2} if missing else {})
        assert last.events == (((0x13, 18, 0, 0, 0),) if missing else ())


def test_guards_are_inherited() -> None:
    text = "touch(W+0, 2, write); madvise(W+1, 1p, MADV_GUARD_INSTALL); fork()"
    for mapping in (PRIVATE, SHARED):
        assert pages(child_of(mapping + text))[1] == 1


def test_markers_are_inherited_with_their_registration_only() -> None:
    text = (
        SHARED + "uffd_register(uffd2, W+0, 2p, UFFDIO_REGISTER_MODE_WP);"
        "uffd_writeprotect(uffd2, W+0, 2p, UFFDIO_WRITEPROTECT_MODE_WP); fork()"
    )
    for environment in (ENVIRONMENT, FORKS):
        assert pages(child_of(text, environment=environment)) == {}


def test_what_a_child_reads_is_in_the_page_cache() -> None:
    text = (
        SHARED
        + "{} uffd_register(uffd0, W+0, 2p, UFFDIO_REGISTER_MODE_MISSING); touch(W+0, 1, read)"
    )
    assert steps(text.format(""))[-1].value == 2
    assert steps(text.format("fork();"))[-1].value == 0


def test_a_fork_is_charged_for_what_it_copies() -> None:
    small = replace(ENVIRONMENT, memory_pages=3)
    wanted = "mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0);"
    more = wanted + wanted.replace("W+0", "W+2") + "fork();"
    assert steps(more, environment=small)[-1].value == -12
    kept = wanted + wanted.replace("W+0", "W+2") + "madvise(W+0, 4p, MADV_DONTFORK); fork()"
    assert steps(kept, environment=small)[-1].value == 0


def test_the_executor_has_to_be_whole() -> None:
    with pytest.raises(Unmodelled, match="own memory"):
        steps(f"madvise({IMAGE.start:#x}, 1p, MADV_DONTFORK); fork()")


def test_a_fork_changes_nothing_for_the_parent() -> None:
    drawing = Drawing("WW..ww")
    space = drawing.space
    before = space.layout(), flags_section(space), pages_section(space)
    assert drawing.do("fork()") == ["0"]
    assert (space.layout(), flags_section(space), pages_section(space)) == before


def test_without_full_observation_a_child_has_no_flags() -> None:
    assert child_of(PRIVATE + "fork()", full=False).flags is None
