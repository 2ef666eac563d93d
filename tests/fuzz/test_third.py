"""A third opinion on merges: what is asked, of which calls nothing can be, and, slowly, that a kernel's own code
answers as the model does."""

from pathlib import Path

import pytest

import kernels
from abi.program import parse
from abi.trace import unpack
from fuzz import corpus, reference
from fuzz.compare import diverging_step, initial_layout
from fuzz.replay import Replay
from fuzz.status import UnusableError, UsageError
from fuzz.third import DoesNotApplyError, Question, Third, opinion, question, third
from model.errors import Unmodelled
from model.profile import BY_NAME, PROFILES, Profile
from model.run import Model

ENVIRONMENT = reference.environment()
MODEL = Model(ENVIRONMENT, PROFILES["7.3"])
ANON = "MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0"
TWO = f"mmap(W+0, 2p, PROT_READ, {ANON})\nmmap(W+4, 2p, PROT_READ, {ANON})\n"
W = ENVIRONMENT.geometry.window


def ask(text: str, index: int = -1, model: Model = MODEL) -> Question:
    program = parse(text, ENVIRONMENT.geometry)
    return question(program, index % len(program), model)


def below(name: str, span: tuple[int, int]) -> tuple[str, int, int]:
    return name, W + span[0] * 4096, W + span[1] * 4096


def test_a_mapping_between_two() -> None:
    asked = ask(f"{TWO}mmap(W+2, 2p, PROT_READ, {ANON})\n")
    assert asked.span == below("", (0, 6))[1:]
    assert asked.lines == (
        "vma 200000000 200002000 200000 200000 71 0 0 1",
        "vma 200004000 200006000 200004 200004 71 0 0 1",
        "new 200002000 200004000 200002 200002 71 0 0 0",
    )


def test_what_is_mapped_over_is_gone() -> None:
    asked = ask(f"{TWO}mmap(W+1, 4p, PROT_NONE, {ANON})\n")
    assert [line.split()[:3] for line in asked.lines] == [
        ["vma", "200000000", "200001000"],
        ["vma", "200005000", "200006000"],
        ["new", "200001000", "200005000"],
    ]


def test_a_copy_has_the_offset_and_the_pages_of_its_source() -> None:
    text = f"{TWO.replace('PROT_READ', 'PROT_READ|PROT_WRITE')}touch(W+4, 1, write)\n"
    asked = ask(f"{text}mremap(W+4, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+40)\n")
    assert asked.lines[-1] == "new 200028000 20002a000 200004 200004 100073 0 1 200004000"


def test_other_flags_in_the_middle() -> None:
    asked = ask(f"mmap(W+0, 3p, PROT_READ, {ANON})\nmprotect(W+1, 1p, PROT_NONE)\n")
    assert asked.lines[-1] == "set 200001000 200002000 70"
    assert asked.span == below("", (1, 2))[1:]


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("munmap(W+0, 1p)", "maps nothing"),
        (f"mmap(W+0+0x1, 1p, PROT_READ, {ANON})", "the call fails"),
        ("mprotect(W+0, 2p, PROT_READ)", "no flags change"),
        ("mremap(W+4, 2p, 1p, MREMAP_MAYMOVE|MREMAP_FIXED, W+40)", "cut first"),
        ("mremap(W+4, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+6)", "meets its source"),
        ("mmap(W+9, 1p, PROT_READ, MAP_PRIVATE|MAP_FIXED, overlay, 0)", "stacked"),
    ],
)
def test_what_cannot_be_asked(last: str, why: str) -> None:
    with pytest.raises(DoesNotApplyError, match=why):
        ask(f"{TWO}{last}\n")


def test_the_opinion_on_a_divergence(tmp_path: Path) -> None:
    program = parse(f"{TWO}mmap(W+2, 2p, PROT_READ, {ANON})\n", ENVIRONMENT.geometry)
    initial = initial_layout(ENVIRONMENT)
    ours = unpack(MODEL.run(program), initial)
    apart = parse(f"{TWO}mmap(W+2, 2p, PROT_NONE, {ANON})\n", ENVIRONMENT.geometry)
    theirs = unpack(MODEL.run(apart), initial)
    divergence = diverging_step(ours, theirs, initial)
    replay = Replay("x", program, ENVIRONMENT, ours, theirs, divergence)
    binary = tmp_path / "vma"
    binary.write_text("#!/bin/sh\necho 200000000 200006000\n")
    binary.chmod(0o755)
    assert opinion(Third(binary), replay, MODEL) == [
        "mm/vma.c for user space makes W+0 .. W+6 of it, as the model does",
        "the model W+0 .. W+6, the kernel W+2 .. W+4",
    ]
    binary.write_text("#!/bin/sh\necho 'vma.c:7: Assertion failed' >&2\nexit 1\n")
    with pytest.raises(UnusableError, match="Assertion failed"):
        opinion(Third(binary), replay, MODEL)


def test_a_tree_without_the_tests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tools/testing/vma"), third(tmp_path):
        pass


@pytest.mark.slow
def test_a_kernel_s_own_code_answers_as_the_model_does() -> None:
    """Of every call of the shipped corpus of which it can be asked; and a model with another rule is found out."""
    tree = kernels.cache.directory(kernels.cache.SOURCES) / "linux-source-7.3" / "tree"
    if not tree.is_dir():
        pytest.skip("no linux-source-7.3 at hand; `vmadiff kernels build linux-source-7.3` gets it")
    asked = questions(MODEL)
    assert len(asked) > 3000
    older = PROFILES["7.3"].changes - {BY_NAME["merge_unfaulted_target"]}
    other = questions(Model(ENVIRONMENT, Profile("7.3 without", older)))
    try:
        with third(tree) as built:
            answers = built.ask([*asked.values()])
            wrong = built.ask([*other.values()])
    except UnusableError as error:
        pytest.skip(str(error))
    differ = [
        name for name, answer in zip(asked, answers, strict=True) if asked[name].span != answer
    ]
    assert differ == []
    assert [*wrong] != [each.span for each in other.values()]


def questions(model: Model) -> dict[tuple[str, int], Question]:
    """By program and number of the call."""
    found = {}
    for directory in corpus.shipped():
        for path in sorted(directory.glob("*.prog")):
            program = corpus.read_program(path, ENVIRONMENT.geometry)
            for index in range(len(program)):
                try:
                    found[path.name, index] = question(program, index, model)
                except DoesNotApplyError:
                    continue
                except Unmodelled:
                    break
    return found
