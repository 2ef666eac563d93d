"""A tree of our own: a series applied to a base, and the user's tree as it was."""

import subprocess
from pathlib import Path

import pytest

from kernels import KernelError, UnknownKernelError
from kernels.workshop import SeriesError, Workshop

CODE = "int f(void)\n{\n\treturn 1;\n}\n"


def git(tree: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    ran = subprocess.run(["git", "-C", str(tree), *who, *words], capture_output=True, check=True)
    return ran.stdout.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with the source of something, no git tree."""
    path = tmp_path / "linux"
    (path / "mm").mkdir(parents=True)
    (path / "Makefile").write_text("VERSION = 7\n")
    (path / "mm" / "vma.c").write_text(CODE)
    return path


@pytest.fixture
def repository(tree: Path) -> Path:
    """The same as a git tree with two commits."""
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "one")
    (tree / "mm" / "vma.c").write_text(CODE.replace("1", "2"))
    git(tree, "commit", "-qam", "two")
    return tree


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    """As it would come by mail."""
    path = tmp_path / "0001-mm.patch"
    path.write_text(
        "Subject: mm: f\n\nWhy.\n---\n"
        "diff --git a/mm/vma.c b/mm/vma.c\n--- a/mm/vma.c\n+++ b/mm/vma.c\n"
        "@@ -1,4 +1,4 @@\n int f(void)\n {\n-\treturn 1;\n+\treturn 3;\n }\n"
    )
    return path


def inventory(tree: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(tree)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in tree.rglob("*")
        if path.is_file()
    }


def test_a_series_on_a_directory_that_is_no_git_tree(tree: Path, patch: Path) -> None:
    before = inventory(tree)
    said: list[str] = []
    workshop = Workshop(str(tree), said.append)
    base = workshop.commit()
    patched = workshop.apply(base, [patch])
    assert (workshop.tree / "mm" / "vma.c").read_text() == CODE.replace("1", "3")
    assert workshop.file(patched, "mm/vma.c") == CODE.replace("1", "3")
    assert workshop.file(patched, "mm/none.c") == ""
    assert "@@ -3 +3 @@" in workshop.diff(base, patched)
    workshop.check_out(base)
    assert (workshop.tree / "mm" / "vma.c").read_text() == CODE
    assert inventory(tree) == before, "the user's tree was written to"
    assert any("no git tree" in line for line in said)


def test_the_same_files_are_the_same_commits_and_keep_their_times(tree: Path, patch: Path) -> None:
    workshop = Workshop(str(tree), lambda _: None)
    base = workshop.commit()
    patched = workshop.apply(base, [patch])
    untouched = (workshop.tree / "Makefile").stat().st_mtime_ns
    again = Workshop(str(tree), lambda _: None)
    assert again.commit() == base
    assert again.apply(base, [patch]) == patched
    assert (again.tree / "Makefile").stat().st_mtime_ns == untouched, "all would be built anew"


def test_a_directory_that_has_changed_is_another_base(tree: Path) -> None:
    base = Workshop(str(tree), lambda _: None).commit()
    (tree / "mm" / "vma.c").write_text(CODE.replace("1", "5"))
    workshop = Workshop(str(tree), lambda _: None)
    assert workshop.commit() != base
    workshop.check_out(workshop.commit())
    assert "return 5" in (workshop.tree / "mm" / "vma.c").read_text()


def test_commits_of_a_git_tree(repository: Path) -> None:
    before = inventory(repository)
    workshop = Workshop(str(repository), lambda _: None)
    old, new = workshop.commit("HEAD~1"), workshop.commit()
    assert (old.subject, new.subject) == ("one", "two")
    workshop.check_out(old)
    assert (workshop.tree / "mm" / "vma.c").read_text() == CODE
    assert "+\treturn 2;" in workshop.diff(old, new)
    assert inventory(repository) == before
    with pytest.raises(UnknownKernelError, match="no commit nowhere"):
        workshop.commit("nowhere")


def test_what_does_not_apply_is_said_with_gits_words(repository: Path, patch: Path) -> None:
    workshop = Workshop(str(repository), lambda _: None)
    with pytest.raises(SeriesError, match=r"0001-mm.patch does not apply to") as caught:
        workshop.apply(workshop.commit(), [patch])
    assert "patch failed: mm/vma.c:1" in caught.value.lines
    assert workshop.apply(workshop.commit("HEAD~1"), [patch]).subject == "1 patches"


def test_a_patch_that_cannot_be_read_is_one_line(tree: Path, tmp_path: Path) -> None:
    workshop = Workshop(str(tree), lambda _: None)
    with pytest.raises(UnknownKernelError, match="No such file"):
        workshop.apply(workshop.commit(), [tmp_path / "none.patch"])


def test_a_series_is_several_files_in_order(tree: Path, patch: Path, tmp_path: Path) -> None:
    second = tmp_path / "0002.patch"
    second.write_text(
        patch.read_text().replace("return 3", "return 4").replace("return 1", "return 3")
    )
    workshop = Workshop(str(tree), lambda _: None)
    base = workshop.commit()
    assert "return 4" in workshop.file(workshop.apply(base, [patch, second]), "mm/vma.c")
    with pytest.raises(SeriesError, match=r"0002.patch does not apply"):
        workshop.apply(base, [second, patch])


def test_what_is_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownKernelError, match="not the source tree of a kernel"):
        Workshop(str(tmp_path / "empty"), lambda _: None)
    with pytest.raises(KernelError):
        Workshop(str(tmp_path / "nowhere"), lambda _: None)
