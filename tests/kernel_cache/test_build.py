"""Builds: the configuration, what make is told, and what becomes of its complaints. make is a stand-in."""

import os
import sys
from pathlib import Path

import pytest

import kernels as package
from kernels import KernelError, UnknownKernelError, cache
from kernels.build import FEATURES, BuildFailed, build
from tests.kernel_cache.conftest import install

_MAKE = """\
#!{python} -S
import os, sys
from pathlib import Path
words = [word for word in sys.argv[1:] if not word.startswith("-")]
given = dict(word.split("=", 1) for word in words if "=" in word)
out = Path(given["O"])
with open(out.parent / "calls", "a") as calls:
    print(*sys.argv[1:], "MAKEFLAGS" in os.environ, file=calls)
if "allnoconfig" in words:
    wanted = Path(given["KCONFIG_ALLCONFIG"]).read_text()
    lines = [line for line in wanted.splitlines() if "CONFIG_SECRETMEM" not in line]
    (out / ".config").write_text("\\n".join(lines))
    sys.exit()
print("  CC      mm/mmap.o")
print("  CC [M]  mm/mremap.o")
print("  LD      vmlinux")
if os.environ.get("TROUBLE"):
    print("mm/vma.c:7:3: error: expected ';' before '}}' token")
    print("mm/vma.c:9:3: error: 'x' undeclared")
    print("make[2]: *** [mm/vma.o] Error 1")
    sys.exit(2)
(out / "include" / "config").mkdir(parents=True, exist_ok=True)
(out / "include" / "config" / "kernel.release").write_text("7.3.4-vmadiff\\n")
(out / words[-1]).write_bytes(b"\\x7fELF " + words[-1].encode())
"""


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all that a build needs, and nothing else."""
    directory = tmp_path / "bin"
    install(directory, "make", _MAKE.format(python=sys.executable))
    for name in ("gcc", "ld", "flex", "bison", "bc", "perl"):
        install(directory, name, "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What looks like the source of a kernel."""
    path = tmp_path / "linux"
    for name in ("Makefile", "Kconfig", "mm/mmap.c"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("")
    return path


def make_calls(kernels: Path) -> list[str]:
    return (kernels / cache.BUILDS / "calls").read_text().splitlines()


def run(
    tree: Path,
    *features: str,
    arch: str = "x86",
    name: str | None = None,
    said: list[str] | None = None,
) -> package.Kernel:
    notes = said if said is not None else []
    return build(str(tree), arch, features, name, notes.append, lambda *_: None)


def test_a_kernel_of_a_tree(tree: Path) -> None:
    said: list[str] = []
    seen: list[tuple[int, str]] = []
    kernel = build(
        str(tree), "x86", ["debug-vm"], None, said.append, lambda n, last: seen.append((n, last))
    )
    assert kernel == package.find("linux-x86-debug-vm")
    assert (kernel.arch, kernel.release) == ("x86", "7.3.4-vmadiff")
    assert (kernel.features, kernel.origin) == (("debug-vm",), f"built from {tree}")
    assert kernel.vmlinux == kernel.image
    assert kernel.image.read_bytes() == b"\x7fELF vmlinux"
    assert kernel.config is not None
    assert "CONFIG_DEBUG_VM=y" in kernel.config.read_text()
    assert said == ["not in this kernel: CONFIG_SECRETMEM"]
    assert seen == [(1, "mm/mmap.o"), (2, "mm/mremap.o")]


def test_the_tree_is_only_read(tree: Path) -> None:
    before = sorted(tree.rglob("*"))
    run(tree)
    assert sorted(tree.rglob("*")) == before


def test_what_make_is_told(tree: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "-j --jobserver-auth=3,4")
    run(tree, "kcov", "kasan", arch="uml")
    configured, compiled = make_calls(kernels)
    place = kernels / cache.BUILDS / "linux-uml-kasan-kcov"
    assert f"-C {tree} O={place} ARCH=um CC=gcc" in configured
    assert f"KCONFIG_ALLCONFIG={place}/" in configured
    assert "CFLAGS_mremap.o=-g1 -mcmodel=small" in compiled, "calls that can be told"
    assert "KCOV_INSTRUMENT_mremap.o=y" in compiled
    assert compiled.endswith(" linux False")


def test_coverage_of_some_files_only(tree: Path, kernels: Path) -> None:
    build(
        str(tree), "x86", ["kcov"], None, lambda _: None, lambda *_: None,
        out="shared", covered=["mm/mremap.c", "fs/userfaultfd.c"],
    )  # fmt: skip
    _, compiled = make_calls(kernels)
    words = [word for word in compiled.split() if word.startswith("KCOV")]
    assert words == ["KCOV_INSTRUMENT_mremap.o=y", "KCOV_INSTRUMENT_userfaultfd.o=y"]
    assert "CFLAGS_mlock.o=-g1" in compiled, "stacks have lines all the same"
    assert f"O={kernels / cache.BUILDS / 'shared'} " in compiled
    assert "linux-x86-kcov" in cache.names()


def test_stacks_get_lines_without_coverage(tree: Path, kernels: Path) -> None:
    run(tree)
    _, compiled = make_calls(kernels)
    assert "CFLAGS_mremap.o=-g1" in compiled
    assert "KCOV" not in compiled


def test_ccache_is_used_where_it_is(tree: Path, kernels: Path, programs: Path) -> None:
    install(programs, "ccache", "")
    run(tree)
    assert "CC=ccache gcc HOSTCC=ccache gcc" in make_calls(kernels)[0]


@pytest.mark.parametrize("feature", FEATURES)
def test_every_feature_has_a_fragment(tree: Path, feature: str) -> None:
    plain, rich = run(tree), run(tree, feature)
    assert plain.config is not None
    assert rich.config is not None
    assert len(rich.config.read_text()) > len(plain.config.read_text())


def test_a_failure_has_the_compilers_words(
    tree: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tree)
    monkeypatch.setenv("TROUBLE", "yes")
    with pytest.raises(BuildFailed) as caught:
        run(tree)
    assert caught.value.lines == (
        "mm/vma.c:7:3: error: expected ';' before '}' token",
        "mm/vma.c:9:3: error: 'x' undeclared",
    )
    assert "mm/vma.c:7:3: error: expected" in str(caught.value)
    assert "(and 1 more)" in str(caught.value)
    assert "mm/mmap.o" in caught.value.log.read_text()
    assert package.find("linux-x86").image.is_file()


def test_missing_tools_are_named(tree: Path, programs: Path) -> None:
    for name in ("flex", "bison"):
        (programs / name).unlink()
    install(programs, "gcc", "#!/bin/sh\nexit 1\n")
    with pytest.raises(KernelError, match=r"install flex bison libelf-dev$"):
        run(tree)


def test_user_mode_linux_needs_no_libelf(tree: Path, programs: Path) -> None:
    install(programs, "gcc", "#!/bin/sh\nexit 1\n")
    assert run(tree, arch="uml").arch == "uml"


@pytest.mark.parametrize("place", [".config", "include/config/auto.conf"])
def test_a_tree_that_was_built_in_place(tree: Path, place: str) -> None:
    (tree / place).parent.mkdir(parents=True, exist_ok=True)
    (tree / place).write_text("")
    with pytest.raises(UnknownKernelError, match="make mrproper"):
        run(tree)


def test_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UnknownKernelError, match="not the source tree of a kernel"):
        run(tmp_path)
    with pytest.raises(UnknownKernelError, match="neither a directory nor a source package"):
        run(tmp_path / "none")


@pytest.mark.parametrize("name", ["7.3.4", "6.99", "uml-7.2"])
def test_names_of_kernels_that_are_fetched(tree: Path, name: str) -> None:
    with pytest.raises(UnknownKernelError, match="can be fetched; choose another"):
        run(tree, name=name)


def test_a_name_of_another_trees_kernel(tree: Path, tmp_path: Path) -> None:
    run(tree, name="mine")
    run(tree, "kcov", name="mine")
    other = tmp_path / "other"
    os.rename(tree, other)
    with pytest.raises(UnknownKernelError, match="there is a kernel mine already"):
        run(other, name="mine")
    with pytest.raises(UnknownKernelError, match="names of kernels"):
        run(other, name="../mine")
