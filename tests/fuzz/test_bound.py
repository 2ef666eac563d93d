"""Programs by number: what they are made of, and that a number always says the same."""

from argparse import Namespace
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from abi.calls import Mmap, Mremap
from abi.consts import MREMAP_FIXED, MREMAP_MAYMOVE, PAGE
from abi.program import format_program
from fuzz.bound import ALIKE, KINDS, MOST_PAGES, Bound, Enumeration, stands_for_itself
from fuzz.cli import build_parser
from fuzz.enumeration import DEFAULT, begin, bound_of, flags, kinds, outline
from fuzz.progress import Progress
from fuzz.spans import SPANNING
from fuzz.status import UnusableError, UsageError
from model.profile import PROFILES
from model.run import Model
from tests.environments import ENVIRONMENT

W = ENVIRONMENT.geometry
AIM = MREMAP_MAYMOVE | MREMAP_FIXED
SMALL = Bound("mremap", 2, 2, ("anonymous private", "memfd shared"), (0, AIM), 0, 3)


def test_programs_are_numbered_without_gaps_or_doubles() -> None:
    programs = Enumeration(SMALL)
    made = [programs.program(number, W) for number in range(programs.total)]
    assert len(set(made)) == len(made) > 100
    assert all(isinstance(program[-1], Mremap) for program in made)
    assert Counter(len(program) for program in made)[1] > 0, "nothing mapped at all"


def test_a_number_says_the_same_each_time() -> None:
    one, other = Enumeration(SMALL), Enumeration(replace(SMALL))
    last = one.total - 1
    assert format_program(one.program(last, W), W) == (
        "mmap(W+16, 1p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, memfd, 0)\n"
        "mmap(W+17, 1p, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, memfd, 0)\n"
        "mremap(W+1552, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+17)\n"
    )
    assert one.program(last, W) == other.program(last, W)


def test_layouts_have_the_vmas_that_were_asked_for() -> None:
    """Neighbours that the kernel makes one VMA of are not among them."""
    bound = replace(DEFAULT, pages=3, flags=(0,), resize=0)
    programs = Enumeration(bound)
    model = Model(ENVIRONMENT, PROFILES["7.3"])
    layouts = {programs.program(number, W)[:-1] for number in range(programs.total)}
    counts = Counter[int]()
    for calls in layouts:
        run = model.start()
        for call in calls:
            run.step(call)
        own = [vma for vma in run.space.vmas if vma.start >= W.window]
        assert len(own) == sum(isinstance(call, Mmap) for call in calls)
        assert all(one.end <= other.start for one, other in pairwise(own))
        assert all(vma.end <= W.window + 19 * PAGE for vma in own)
        counts[len(own)] += 1
    assert counts[0] == 1
    assert counts[3] > counts[2] > counts[1] > len(bound.kinds)


def test_every_kind_can_be_made_in_every_length() -> None:
    model = Model(ENVIRONMENT, PROFILES["7.3"])
    for kind in KINDS:
        programs = Enumeration(Bound("mremap", 1, MOST_PAGES, (kind,), (0,), 0, 1))
        layouts = {programs.program(number, W)[:-1] for number in range(programs.total)}
        assert len(layouts) == 1 + MOST_PAGES, kind
        lengths = set()
        for calls in layouts - {()}:
            run = model.start()
            for call in calls:
                run.step(call)
            (vma,) = (vma for vma in run.space.vmas if vma.start >= W.window)
            lengths.add((vma.end - vma.start) // PAGE)
        assert lengths == set(range(1, MOST_PAGES + 1)), kind


def test_of_kinds_that_are_alike_the_first_comes_first() -> None:
    assert {kind for row in ALIKE for kind in row} <= KINDS.keys()
    chosen = ("tmpfs shared", "faulted", "memfd shared")
    assert stands_for_itself(("memfd shared", "faulted", "tmpfs shared"), chosen)
    assert not stands_for_itself(("tmpfs shared", "faulted", "memfd shared"), chosen)
    assert not stands_for_itself(("tmpfs shared", "faulted"), chosen)
    assert stands_for_itself(("tmpfs shared", "faulted"), ("tmpfs shared", "faulted"))


def test_what_is_observed_in_full_differs_between_layouts() -> None:
    programs = Enumeration(replace(SMALL, full=10))
    full = [number for number in range(10_000) if programs.is_full(number)]
    assert 900 < len(full) < 1100
    for many in (10, 20, 250):
        assert len({number % many for number in full}) == many
    every = Enumeration(replace(SMALL, full=1))
    assert all(every.is_full(number) for number in range(200))


def test_a_bound_survives_being_written() -> None:
    assert Bound.from_json(DEFAULT.to_json()) == DEFAULT


def test_kinds_that_a_machine_lacks() -> None:
    bound = replace(SMALL, kinds=("faulted", "ext4 shared", "uffd missing"))
    assert bound.missing(ENVIRONMENT) == {}
    poor = replace(
        ENVIRONMENT,
        objects=tuple(o for o in ENVIRONMENT.objects if o.name not in ("ext4", "uffd0")),
        missing={"ext4": "no mkfs"},
    )
    assert bound.missing(poor) == {"ext4 shared": "no mkfs", "uffd missing": "there is no uffd0"}


def chosen(*arguments: str) -> Namespace:
    return build_parser().parse_args(["enumerate", *arguments])


def test_what_the_command_line_says() -> None:
    assert bound_of(chosen()) == DEFAULT
    assert bound_of(chosen("--vmas", "1", "--kinds", "faulted", "--full", "1")) == replace(
        DEFAULT, vmas=1, kinds=("faulted",), full=1
    )
    other = bound_of(chosen("--call", "munmap", "--pages", "5"))
    assert other == replace(DEFAULT, call="munmap", pages=5, flags=(), resize=0)
    for arguments, message in (
        (("--vmas", "5"), "--vmas 5: must be 4 or less"),
        (("--pages", "9"), "--pages 9: must be 8 or less"),
        (("--call", "mlock", "--flags", "0"), "--flags is of mremap, not of mlock"),
    ):
        with pytest.raises(UsageError, match=message):
            bound_of(chosen(*arguments))


def test_kinds_that_are_missing_are_left_out_and_named() -> None:
    poor = replace(ENVIRONMENT, objects=tuple(o for o in ENVIRONMENT.objects if o.name != "uffd0"))
    standing, programs = begin(chosen("--pages", "2", "--from", "7"), poor, "7.3")
    assert standing.bound.kinds == DEFAULT.kinds[:-1]
    assert (standing.total, standing.first, standing.next) == (programs.total, 7, 7)
    assert "left out: uffd missing (there is no uffd0)" in outline(standing, poor)
    with pytest.raises(UnusableError, match="no mapping can be 'uffd missing' here"):
        begin(chosen("--kinds", "uffd missing"), poor, "7.3")


def test_another_numbering_or_kernel_is_not_resumed(tmp_path: Path) -> None:
    resume = chosen("--resume", "--state", str(tmp_path))
    with pytest.raises(UsageError, match="there is no enumeration to resume"):
        begin(resume, ENVIRONMENT, "7.3")
    first, _ = begin(chosen("--pages", "1", "--from", "9"), ENVIRONMENT, "7.3")
    Progress(tmp_path).write(first)
    assert begin(resume, ENVIRONMENT, "7.3")[0] == first
    with pytest.raises(UsageError, match=r"was compared with 7\.3, not 6\.12"):
        begin(resume, ENVIRONMENT, "6.12")
    Progress(tmp_path).write(replace(first, total=first.total + 1))
    with pytest.raises(UsageError, match="another version"):
        begin(resume, ENVIRONMENT, "7.3")
    Progress(tmp_path).path.write_text("{}")
    with pytest.raises(UsageError, match="not the state of an enumeration"):
        begin(resume, ENVIRONMENT, "7.3")


def test_help_names_the_usual_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chosen("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert f"(default: {', '.join(DEFAULT.kinds)})" in said
    assert f"{{{','.join(('mremap', *sorted(SPANNING)))}}}" in said


def test_lists_of_names() -> None:
    assert kinds("faulted, memfd shared,faulted") == ("faulted", "memfd shared")
    assert flags("0,MAYMOVE,MREMAP_MAYMOVE | FIXED,FIXED|MAYMOVE") == (0, 1, 3)
    with pytest.raises(ValueError, match="no kind is called 'heap'; there are anonymous"):
        kinds("faulted,heap")
    with pytest.raises(ValueError, match="no flag is called 'STAY'; there are 0, MAYMOVE"):
        flags("STAY")


def test_the_default_is_as_large_as_is_said() -> None:
    """In README.md, with how long it takes."""
    assert Enumeration(DEFAULT).total == 2_258_364
