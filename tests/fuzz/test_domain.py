"""`docs/domain.md` says what the model does: a sample of each cell is run, and on the kernel too."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from abi.calls import Program
from abi.environment import Environment, Geometry
from abi.program import parse
from abi.trace import unpack
from fuzz import domain, reference
from fuzz.compare import first_divergence, initial_layout
from fuzz.domain import EVERYTHING, GROUPS, RULES, Verdict, cell
from fuzz.kinds import BACKINGS, STATES, UNMAPPABLE, Sample, backing, states
from fuzz.probe import examine
from fuzz.refusals import all_limits
from fuzz.samples import CALL_SAMPLES, CallSample, sample_calls
from fuzz.triage import explanation, load_known, signature
from model.errors import Unmodelled
from model.observe import is_opaque
from model.profile import PROFILES
from model.run import Model
from tests.kernels import executor

KINDS = (*BACKINGS, *UNMAPPABLE, *STATES)


def program(kind: Sample, call: CallSample, geometry: Geometry) -> Program:
    page = 512 if kind.aligned else 8
    return parse("\n".join(sample_calls(kind, call, page)), geometry)


def made(kind: Sample, geometry: Geometry) -> Program:
    return program(kind, CALL_SAMPLES[0], geometry)[:-1]


@pytest.fixture(scope="module")
def machine() -> Environment:
    return reference.environment()


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(*reference.machines()[0])


def lacks(machine: Environment, kind: Sample) -> list[str]:
    return [name for name in kind.objects if all(o.name != name for o in machine.objects)]


def test_every_kind_has_its_column() -> None:
    shown = [sample for _, samples in GROUPS for sample in samples]
    assert sorted(sample.kind for sample in shown) == sorted(sample.kind for sample in KINDS)


def test_every_rule_covers_a_cell_and_speaks_of_what_is_compared() -> None:
    cells = [cell(kind.kind, call) for kind in KINDS for call in domain.calls()]
    used = {rule for each in cells for _, rule in each.rules}
    assert [rule for rule in RULES if rule not in used] == []
    assert all(set(rule.aspects) <= set(EVERYTHING) for rule in RULES)
    assert all(rule.verdict is not Verdict.EXACT and rule.reason for rule in RULES)


def test_a_private_ring_is_unmodelled_without_its_change(machine: Environment) -> None:
    kind = next(each for each in KINDS if each.kind == "xdp private")
    if lacks(machine, kind):
        pytest.skip(f"the reference machine has no {', '.join(lacks(machine, kind))}")
    calls = made(kind, machine.geometry)
    with pytest.raises(Unmodelled, match="ring"):
        Model(machine, PROFILES["6.1"]).run(calls)
    Model(machine, PROFILES["6.12"]).run(calls)


@pytest.mark.parametrize("kind", [*BACKINGS, *STATES], ids=lambda kind: kind.kind)
def test_a_sample_is_of_its_kind(kind: Sample, model: Model, machine: Environment) -> None:
    if lacks(machine, kind):
        pytest.skip(f"the reference machine has no {', '.join(lacks(machine, kind))}")
    run = model.start(full=True)
    try:
        for call in made(kind, machine.geometry):
            value = run.step(call)
            assert not -4096 < value < 0, call
    except Unmodelled as unmodelled:
        if cell(kind.kind, "mmap").verdict("result") is not Verdict.UNMODELLED:
            pytest.fail(unmodelled.reason)
        return
    vmas = [vma for vma in run.space.vmas if not vma.file or vma.file.inode.ident not in (1, 2)]
    assert any(kind.kind in (backing(run.space, vma), *states(run.space, vma)) for vma in vmas), (
        "the calls make something else"
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_what_is_exact_is_modelled_and_compared(
    kind: Sample, model: Model, machine: Environment
) -> None:
    if lacks(machine, kind):
        pytest.skip(f"the reference machine has no {', '.join(lacks(machine, kind))}")
    wrong = []
    for call in CALL_SAMPLES:
        said = cell(kind.kind, call.name)
        try:
            steps = unpack(
                model.run(program(kind, call, machine.geometry), full=True),
                initial_layout(machine),
            )
        except Unmodelled as unmodelled:
            if said.verdict("result") is not Verdict.UNMODELLED:
                wrong.append(f"{call.name}: unmodelled: {unmodelled.reason}")
            continue
        if said.verdict("result") is Verdict.UNMODELLED:
            wrong.append(f"{call.name} is modelled")
        last = steps[-1]
        assert None not in (last.flags, last.counters, last.pages, last.contents)
    assert wrong == []


@pytest.mark.parametrize("kind", [*BACKINGS, *STATES], ids=lambda kind: kind.kind)
def test_contents_and_residency_are_compared_where_said(
    kind: Sample, model: Model, machine: Environment
) -> None:
    if lacks(machine, kind):
        pytest.skip(f"the reference machine has no {', '.join(lacks(machine, kind))}")
    run = model.start(full=True)
    try:
        for call in made(kind, machine.geometry):
            run.step(call)
    except Unmodelled:
        return
    window = machine.geometry.window
    vmas = [v for v in run.space.vmas if v.start >= window or backing(run.space, v) == "heap"]
    said = cell(kind.kind, "mmap")
    opaque = any(is_opaque(run.space, vma) for vma in vmas)
    assert opaque == (said.verdict("contents") is Verdict.UNMODELLED)
    absent = any(vma.file and not vma.anonymous and not vma.file.inode.resident for vma in vmas)
    assert (absent or opaque) == (said.verdict("residency") is Verdict.UNMODELLED)


def test_every_end_of_the_model_has_its_reason() -> None:
    assert set(domain.ENDS) == set(all_limits())


def test_the_file_is_fresh() -> None:
    assert domain.PATH.read_text() == domain.text(), "run `python -m fuzz.domain`"


def test_the_command_checks_writes_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(domain, "PATH", tmp_path / "domain.md")
    assert domain.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert domain.main([]) == 0
    assert domain.main(["--check"]) == 0
    assert domain.main(["--what"]) == 2


def test_no_cell_is_empty() -> None:
    rows = [line for line in domain.text().splitlines() if line.startswith("| ")]
    assert all(all(word.strip() for word in row.strip("|").split("|")) for row in rows)


@pytest.mark.slow
def test_model_and_kernel_agree_on_every_sample() -> None:
    with executor() as kernel:
        environment = kernel.environment
        initial = initial_layout(environment)
        known = load_known(domain.PACKAGED / "divergences")
        own = Model(environment, examine(kernel).profile)
        samples = list(_predicted(own))
        observed = kernel.run([each for _, each, _ in samples], full=True)
        wrong = []
        for (name, each, expected), seen in zip(samples, observed, strict=True):
            found = first_divergence(expected, seen.data, initial)
            if seen.loss or (
                found
                and not explanation(signature(each[found.index], found), environment.release, known)
            ):
                wrong.append(f"{name}: {seen.loss or signature(each[found.index], found)}")
        assert wrong == [], "\n".join(wrong)


def _predicted(model: Model) -> Iterator[tuple[str, Program, bytes]]:
    for kind in KINDS:
        if lacks(model.environment, kind):
            continue
        for call in CALL_SAMPLES:
            made = program(kind, call, model.environment.geometry)
            with suppress(Unmodelled):
                yield f"{kind.kind}, {call.name}", made, model.run(made, full=True)
