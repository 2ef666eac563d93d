"""Real guests: since when, until when. Slow; needs kernels.

`vmadiff kernels fetch` and the package qemu-system-x86 make these run; the last needs what builds kernels, and a
source.
"""

import json
import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

import kernels
from fuzz.bisect_command import prebuilt
from fuzz.cli import main
from fuzz.corpus import PACKAGED

pytestmark = pytest.mark.slow
MOVE = PACKAGED / "witnesses" / "multi_vma_move.prog"
LEAK = """\
mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED, -1, 0)
mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, W+100)
"""
SOURCE = "linux-source-7.3"


def need(*names: str) -> None:
    """Skip where kernels are not at hand, or nothing boots them."""
    for name in names:
        try:
            kernels.find(name)
        except kernels.KernelError as error:
            pytest.skip(str(error))
    if which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")


def test_a_change_of_behaviour(tmp_path: Path) -> None:
    need("6.16.12", "6.17.8")
    out = tmp_path / "out.json"
    words = ["bisect", str(MOVE), "--behaviour", "--kernels", "6.16.12,6.17.8"]
    assert main([*words, "--json", str(out)]) == 0
    data = json.loads(out.read_text())
    assert (data["last_good"], data["first_bad"]) == ("6.16.12", "6.17.8")
    assert data["changes"][0]["difference"] == "call 3 (mremap) result: W+20, was -1 EFAULT"


def test_a_bug_that_came_and_went(tmp_path: Path) -> None:
    need("6.12.117", "6.16.12", "7.2.6", "7.2.12")
    program, out = tmp_path / "leak.prog", tmp_path / "out.json"
    program.write_text(LEAK)
    assert main(["bisect", str(program), "--json", str(out)]) == 0
    data = json.loads(out.read_text())
    assert "VmLck is not the sum of the locked VMAs" in data["signature"]
    names = prebuilt()
    assert (data["last_good"], data["first_bad"]) == ("6.12.117", "6.16.12")
    assert (data["last_bad"], data["first_good"]) == ("7.2.6", "7.2.12")
    assert {each["kernel"] for each in data["tried"]} | {*data["untried"]} == {*names}


def test_a_commit_that_breaks_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three commits on a kernel's source, the middle one lets no several VMAs move."""
    source = kernels.cache.directory(kernels.cache.SOURCES) / SOURCE / "tree"
    if not source.is_dir():
        pytest.skip(f"no {SOURCE} at hand; `vmadiff kernels build {SOURCE}` gets it")
    tree = tmp_path / "linux"
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(tree)], check=True)

    def git(*words: str) -> str:
        where = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        who = {
            f"GIT_{role}_{what}": "a"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        done = subprocess.run(
            ["git", "-C", str(tree), *words], capture_output=True, text=True, check=True,
            env=os.environ | where | who,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(subject: str) -> str:
        git("add", "--all", "--force")
        git("commit", "--quiet", "-m", subject)
        return git("rev-parse", "HEAD")

    mremap = tree / "mm" / "mremap.c"
    git("init", "--quiet")
    base = commit("as it is")
    mremap.write_text(mremap.read_text() + "\n/* before */\n")
    commit("mm/mremap: a comment")
    text = mremap.read_text()
    check = "static bool vma_multi_allowed(struct vm_area_struct *vma)\n{\n"
    assert check in text
    mremap.write_text(text.replace(check, f"{check}\tif (vma)\n\t\treturn false;\n"))
    broken = commit("mm/mremap: allow no moves of several VMAs")
    mremap.write_text(mremap.read_text() + "\n/* after */\n")
    last = commit("mm/mremap: another comment")

    out = tmp_path / "out.json"
    words = ["bisect", str(MOVE), "--behaviour", "--uml", "--tree", str(tree)]
    assert main([*words, "--good", base, "--bad", last, "--json", str(out)]) == 0
    data = json.loads(out.read_text())
    assert data["first_bad"] == broken
    assert data["lines"][-1].endswith('("mm/mremap: allow no moves of several VMAs")')
    assert git("status", "--porcelain") == ""
