"""`docs/ci.md`: its jobs are YAML, and the commands in them are commands, of kernels that are known."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fuzz.cli import build_parser
from kernels.registry import KNOWN

TEXT = (Path(__file__).parent.parent / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
GITHUB, GITLAB = (yaml.safe_load(block) for block in BLOCKS)
KERNELS = {kernel.name for kernel in KNOWN} | {"local"}


def commands(value: Any) -> Iterator[str]:
    """All lines that a shell runs."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("run", "script", "before_script"):
                yield from "\n".join([each] if isinstance(each, str) else each).splitlines()
            else:
                yield from commands(each)
    elif isinstance(value, list):
        for each in value:
            yield from commands(each)


INDENTED = [
    line.split("#")[0].strip() for line in TEXT.splitlines() if line.startswith("    vmadiff ")
]
LINES = [
    line[line.index(".venv/bin/vmadiff") :].replace(".venv/bin/", "")
    for job in (GITHUB, GITLAB)
    for line in commands(job)
    if "vmadiff" in line
]


def test_there_is_a_job_of_each() -> None:
    assert len(BLOCKS) == 2
    assert len(LINES) == 7
    assert len(INDENTED) == 6


@pytest.mark.parametrize("line", [*LINES, *INDENTED])
def test_commands_are_commands(line: str) -> None:
    name, *words = shlex.split(re.sub(r"\$\{\{ matrix.kernel \}\}|\$KERNEL", "7.3.4", line))
    assert name == "vmadiff"
    options = build_parser().parse_args(words)
    if options.command == "check_corpus":
        assert options.format in ("junit", "sarif")


def test_kernels_are_known() -> None:
    (matrix,) = GITLAB["vmadiff"]["parallel"]["matrix"]
    assert set(matrix["KERNEL"]) <= KERNELS
    assert set(GITHUB["jobs"]["guests"]["strategy"]["matrix"]["kernel"]) <= KERNELS


def test_what_is_uploaded_was_written() -> None:
    written = set(re.findall(r"-o (\S+)", "\n".join(LINES)))
    reports = GITLAB["vmadiff"]["artifacts"]["reports"]["junit"]
    steps = GITHUB["jobs"]["guests"]["steps"]
    sarif = [step["with"]["sarif_file"] for step in steps if "sarif_file" in step.get("with", {})]
    assert {*reports, *sarif} == written
