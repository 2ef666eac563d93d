"""Blocks and their lines, in a program that gcc instruments as it does a kernel."""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from kernels import KernelError
from kernels.blocks import blocks

CODE = """\
void one(void), two(void);
int choose(int a)
{
	if (a > 1)
		one();
	else
		two();
	return a;
}
"""
HEADER = """\
static inline int twice(int a)
{
	return a > 3 ? a * 2 : a;
}
"""
MAIN = """\
#include "two.h"
unsigned long last[64];
int count;
int choose(int a);
void one(void) { }
void two(void) { }
void __sanitizer_cov_trace_pc(void)
{
	last[count++ % 64] = (unsigned long)__builtin_return_address(0);
}
int main(int argc, char **argv)
{
	choose(argc);
	return twice(argc);
}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None,
    reason="gcc's -fsanitize-coverage=trace-pc is what kernels are built with",
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Of mm/choose.c and init/main.c, which includes include/two.h."""
    for name, text in (("mm/choose.c", CODE), ("include/two.h", HEADER), ("init/main.c", MAIN)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    flags = ["-O1", "-g1", "-no-pie", "-fno-inline-small-functions", f"-I{tmp_path}/include"]
    gcc = ["gcc", *flags, "-c"]
    cover = "-fsanitize-coverage=trace-pc"
    subprocess.run([*gcc, cover, "mm/choose.c", "-o", "choose.o"], cwd=tmp_path, check=True)
    subprocess.run([*gcc, "init/main.c", "-o", "main.o"], cwd=tmp_path, check=True)
    subprocess.run(
        ["gcc", "-no-pie", "choose.o", "main.o", "-o", "image"], cwd=tmp_path, check=True
    )
    return tmp_path / "image"


def test_lines_are_those_of_the_source(image: Path) -> None:
    found = blocks(image, ["mm/choose.c"])
    assert len(found) >= 3, "a condition and its two ways"
    assert [each.address for each in found] == sorted(each.address for each in found)
    lines = {line for each in found for line in each.lines}
    assert {("mm/choose.c", number) for number in (4, 5, 7)} <= lines
    ways = [each for each in found if ("mm/choose.c", 7) in each.lines]
    assert all(("mm/choose.c", 5) not in each.lines for each in ways)


def test_addresses_are_those_that_are_told(image: Path, tmp_path: Path) -> None:
    """Behind the call, as the return address has it."""
    said = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(image)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    code = [line for line in said.splitlines() if ":\t" in line]
    behind = {
        int(after.partition(":")[0], 16)
        for line, after in pairwise(code)
        if "call" in line and "cov_trace_pc>" in line
    }
    assert {each.address for each in blocks(image, ["mm/choose.c"])} <= behind


def test_files_that_are_not_there_have_no_blocks(image: Path) -> None:
    assert blocks(image, ["mm/hoose.c"]) == []
    assert blocks(image, []) == []


def test_what_has_no_blocks_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-g1", "a.c", "-o", "plain"], cwd=tmp_path, check=True)
    assert blocks(tmp_path / "plain", ["mm/b.c"]) == [], "it has nothing of that file"
    with pytest.raises(KernelError, match="built without KCOV"):
        blocks(tmp_path / "plain", ["a.c"])
    (tmp_path / "text").write_text("no image")
    with pytest.raises(KernelError, match="text: "):
        blocks(tmp_path / "text", ["a.c"])
