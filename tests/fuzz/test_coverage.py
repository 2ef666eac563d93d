"""What the shipped corpus exercises: everything that can be, and nothing that cannot."""

import json
from pathlib import Path

import pytest

from abi.calls import CALLS, SIGNATURES, Call
from abi.environment import Geometry
from abi.program import parse
from fuzz import reference, samples
from fuzz.classes import UNREACHABLE, Class, argument_classes, name_of, of_call, universe
from fuzz.cli import main
from fuzz.corpus import shipped
from fuzz.coverage import Coverage, lines, measure, to_json
from fuzz.refusals import errnos
from model.run import SEMANTICS, Model


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    geometry = reference.environment().geometry
    programs = []
    for directory in shipped():
        for path in sorted(directory.glob("*.prog")):
            programs.append(parse(path.read_text(), geometry, path.name))
    return measure(programs, reference.machines())


def shown(keys: list[tuple[type[Call], Class]]) -> list[str]:
    return [f"{name_of(cls)}: {aspect}: {name}" for cls, (aspect, name) in keys]


def test_everything_that_can_be_is_exercised(coverage: Coverage) -> None:
    assert shown(coverage.missing()) == []


def test_nothing_that_cannot_be_is(coverage: Coverage) -> None:
    assert shown(coverage.wrongly_unreachable()) == []


def test_every_class_that_was_met_is_in_the_table(coverage: Coverage) -> None:
    assert shown(coverage.unknown()) == []


def test_every_entry_of_the_table_is_about_a_class() -> None:
    keys = [(name_of(cls), each) for cls in CALLS for each in universe(cls)]
    idle = [e for e in UNREACHABLE if not any(e.matches(*key) for key in keys)]
    assert idle == []


def test_classes_are_listed_once() -> None:
    for cls in CALLS:
        assert len(set(universe(cls))) == len(universe(cls)), cls


@pytest.mark.parametrize("cls", CALLS, ids=name_of)
def test_the_representative_of_a_class_is_in_it(cls: type[Call]) -> None:
    space = Model(*reference.machines()[0]).start().space
    plain = samples.plain(cls)
    for name, kind in SIGNATURES[cls]:
        for each in argument_classes(cls, name, kind):
            call = samples.with_argument(plain, name, each)
            assert (name, each) in set(of_call(space, call)), call


def test_errnos_are_found_through_what_a_call_uses() -> None:
    found = {name_of(cls): errnos(cls) for cls in CALLS}
    assert {"EBADF", "EEXIST", "EOVERFLOW"} <= set(found["mmap"])
    assert "EPERM" in found["munmap"], "raised where a sealed mapping is gathered"
    assert found["touch"] == ()
    assert set(CALLS) == SEMANTICS.keys()


def test_generated_programs_are_fresh() -> None:
    assert samples.main(["--check"]) == 0, "run `python -m fuzz.samples`"


def test_generated_programs_are_written_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert samples.main(["--check"], tmp_path) == 1
    assert "stale" in capsys.readouterr().err
    (tmp_path / "old.prog").write_text("munlockall()\n")
    assert samples.main([], tmp_path) == 0
    assert samples.main(["--check"], tmp_path) == 0
    assert not (tmp_path / "old.prog").exists()
    assert samples.main(["--what"], tmp_path) == 2


def small(text: str) -> Coverage:
    program = parse(text, Geometry())
    return measure([program], reference.machines())


def test_counts_programs_not_machines() -> None:
    coverage = small("munmap(W+0, 1p)\nmunmap(W+0, 0)\n")
    munmap = next(cls for cls in CALLS if name_of(cls) == "munmap")
    assert coverage.calls[munmap] == 2
    assert coverage.reached[munmap, ("result", "ok")] == 1
    assert coverage.reached[munmap, ("result", "EINVAL")] == 1
    assert coverage.reached[munmap, ("length", "0")] == 1
    assert (munmap, ("length", "0")) not in coverage.missing()
    assert (munmap, ("length", "unaligned")) in coverage.missing()


def test_geometry_of_a_move() -> None:
    coverage = small(
        "mmap(W+0, 4p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
        "mmap(W+8, 4p, PROT_READ, MAP_PRIVATE|MAP_FIXED, devzero, 0)\n"
        "mremap(W+2, 10p, 10p, MREMAP_MAYMOVE|MREMAP_FIXED, W+12)\n"
    )
    mremap = next(cls for cls in CALLS if name_of(cls) == "mremap")
    assert {each for cls, each in coverage.reached if cls is mremap} >= {
        ("range starts", "inside a VMA"),
        ("range ends", "at a VMA's end"),
        ("range spans", "two VMAs"),
        ("range spans", "VMAs of several kinds"),
        ("range has", "a gap"),
        ("destination", "right above the source"),
        ("target", "free"),
        ("target has", "a neighbour below"),
        ("ineligible VMA", "last"),
        ("kind", "devzero private"),
        ("state", "read-only"),
        ("size", "same"),
    }


def test_the_text_names_what_is_missing_and_what_cannot_be() -> None:
    coverage = small("munmap(W+0, 1p)\n")
    text = "\n".join(lines(coverage))
    assert text.startswith("1 programs, 1 calls, ")
    assert "munmap: 1 calls\n    addr            in reach 1\n" in text
    assert "Not exercised, " in text
    data = to_json(coverage)
    assert data["calls"]["munmap"]["classes"]["result"]["ok"] == {"count": 1}
    assert ["munmap", "length", "0"] in data["missing"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.prog"
    path.write_text("munmap(W+0, 1p)\n")
    target = tmp_path / "out.json"
    assert main(["coverage", str(tmp_path), "--json", str(target)]) == 1
    assert "1 programs" in capsys.readouterr().out
    assert json.loads(target.read_text())["programs"] == 1
    assert main(["coverage", str(tmp_path / "none.prog")]) == 2
