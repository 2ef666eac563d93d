"""Builds kernels from source: our own minimal configuration, out of tree, where the next build goes on.

A user's tree is never written to. What comes out is a kernel of the cache like a fetched one.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from shutil import which
from typing import Final

import cachedir
from kernels import cache
from kernels.archive import Say
from kernels.cache import Kernel, KernelError, UnknownKernelError
from kernels.fetch import fetch_source
from kernels.registry import NAMES

ARCHES: Final = ("x86", "uml")
FEATURES: Final = ("kasan", "kcov", "fault-injection", "debug-vm")
#: Told how many files are compiled, and which is the latest.
Progress = Callable[[int, str], None]

_FRAGMENTS: Final = Path(__file__).parent / "config"
_ARCH: Final = {"x86": "x86_64", "uml": "um"}
#: ELF files both: QEMU boots a vmlinux, and addresses are looked up in it.
_IMAGE: Final = {"x86": "vmlinux", "uml": "linux"}
#: Files that are of interest, for their coverage and in stacks: what depends on the program and on nothing else.
_COVERED: Final = (
    "gup", "huge_memory", "hugetlb", "khugepaged", "ksm", "madvise", "memfd", "memory", "mempolicy", "migrate",
    "mincore", "mlock", "mmap", "mprotect", "mremap", "mseal", "msync", "pagewalk", "pgtable-generic", "rmap",
    "secretmem", "shmem", "userfaultfd", "vma", "vma_exec", "vma_init",
)  # fmt: skip
#: The same sources give the same objects, so that ccache finds them.
_SAME: Final = {
    "KBUILD_BUILD_TIMESTAMP": "1 January 2026",
    "KBUILD_BUILD_USER": "vmadiff",
    "KBUILD_BUILD_HOST": "vmadiff",
    "LC_ALL": "C",
    # No "+" behind the release of a commit that has no tag.
    "LOCALVERSION": "",
}
#: Programs that a build needs, and Debian's packages that have them.
_TOOLS: Final = {
    "make": "make", "gcc": "gcc", "ld": "binutils", "flex": "flex", "bison": "bison", "bc": "bc", "perl": "perl",
}  # fmt: skip
_LIBELF: Final = "gelf.h"
_BUILT: Final = "built from "
_LOG: Final = "build.log"
_CONFIG: Final = "vmadiff.config"
_OPTION: Final = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)
_OBJECT: Final = re.compile(r"\s+(?:CC|AS)(?: \[M\])?\s+(\S+\.o)")
_ERROR: Final = re.compile(r"error:|undefined reference|\*\*\* ")


class BuildFailed(KernelError):
    """The compiler refused; `lines` has its errors, `log` all it said."""

    def __init__(self, what: str, lines: Sequence[str], log: Path) -> None:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        super().__init__(
            f"{what} does not build: {lines[0] if lines else 'no reason given'}{more}; all in {log}"
        )
        self.lines = tuple(lines)
        self.log = log


def build(
    source: str,
    arch: str,
    features: Sequence[str],
    name: str | None,
    say: Say,
    progress: Progress,
    *,
    out: str = "",
    covered: Collection[str] | None = None,
) -> Kernel:
    """Build a kernel of a source tree, or of one of Debian's source packages, into the cache.

    `name` is made up of version, architecture and features if it is not given. out: the name of the directory that the
    build goes on from, where several kernels are built of one tree in turn; by default the kernel's. covered: the
    sources that KCOV is to tell of, by path; by default those of interest.

    Raises:
        UnknownKernelError: there is no such source, or the name cannot be used.
        BuildFailed: the compiler refuses.
        KernelError: it cannot be built here.
    """
    assert arch in ARCHES
    assert set(features) <= set(FEATURES)
    features = [each for each in FEATURES if each in features]
    if name is not None:
        cache.check_name(name)
    _need_tools(arch)
    if Path(source).is_dir():
        tree = Path(source).resolve()
        _check_tree(tree)
        origin, base = str(tree), tree.name
    else:
        tree, origin = fetch_source(source, say)
        base = origin.split()[1].partition("-")[0]
    name = name or "-".join([base, arch, *features])
    cache.check_name(name)
    _check_free(name, f"{_BUILT}{origin}")
    place = cache.directory(cache.BUILDS) / (out or name)
    place.mkdir(exist_ok=True)
    with cachedir.locked(place, lambda: say(f"another process builds {name}: waiting for it")):
        make = _Make(tree, place, arch, features, _COVERED if covered is None else covered)
        dropped = _configure(make, wanted(arch, features))
        if dropped:
            say(f"not in this kernel: {', '.join(dropped)}")
        make.run(_IMAGE[arch], progress)
        release = (place / "include/config/kernel.release").read_text().strip()
        with cache.adding(name, arch, release, f"{_BUILT}{origin}", features) as made:
            shutil.copy(place / _IMAGE[arch], made / cache.IMAGE)
            shutil.copyfile(place / ".config", made / cache.CONFIG)
    return cache.find(name)


def wanted(arch: str, features: Sequence[str]) -> str:
    """The options that such kernels are built with, as .config has them."""
    return "\n".join(_fragment(part) for part in ("common", arch, *features))


class _Make:
    """make(1) in `out`, of the sources in `tree`."""

    def __init__(
        self, tree: Path, out: Path, arch: str, features: Sequence[str], covered: Iterable[str]
    ) -> None:
        self.out = out
        self._name = out.name
        compiler = "ccache gcc" if which("ccache") else "gcc"
        self._command = [
            "make", "-C", str(tree), f"O={out}", f"ARCH={_ARCH[arch]}", f"CC={compiler}",
            f"HOSTCC={compiler}", f"-j{len(os.sched_getaffinity(0))}",
        ]  # fmt: skip
        stems = {Path(path).stem for path in covered}
        # Lines, which cost little: for what is covered, and for stacks that a report shows.
        flags = dict.fromkeys({*_COVERED, *stems}, "-g1")
        if "kcov" in features:
            self._command += [f"KCOV_INSTRUMENT_{each}.o=y" for each in sorted(stems)]
            if arch == "uml":
                # It calls by register, so that what is called cannot be told (`kernels.blocks`).
                flags |= dict.fromkeys(stems, "-g1 -mcmodel=small")
        self._command += [f"CFLAGS_{each}.o={flags[each]}" for each in sorted(flags)]
        # What a surrounding make left must not take part.
        kept = {
            k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
        }
        self._environment = {**kept, **_SAME}

    def run(self, target: str, progress: Progress, *words: str) -> None:
        """Make a target.

        Raises:
            BuildFailed: it cannot be made.
        """
        compiled, lines = 0, []
        log = self.out / _LOG
        with (
            log.open("w") as file,
            subprocess.Popen(
                [*self._command, target, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self._environment,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                if found := _OBJECT.match(line):
                    compiled += 1
                    progress(compiled, found.group(1))
                elif _ERROR.search(line):
                    lines.append(line.strip())
        if process.returncode:
            # What the compiler says comes before what make makes of it.
            plain = [line for line in lines if "***" not in line]
            raise BuildFailed(self._name, plain or lines, log)


def _configure(make: _Make, text: str) -> list[str]:
    """Write .config; the options that this tree does not have, or does not have so."""
    path = make.out / _CONFIG
    path.write_text(text)
    make.run("allnoconfig", lambda *_: None, f"KCONFIG_ALLCONFIG={path}")
    got = _options((make.out / ".config").read_text())
    return [
        option if value == "y" else f"{option}={value}"
        for option, value in _options(text).items()
        if got.get(option, "n") != value
    ]


def _options(text: str) -> dict[str, str]:
    return dict(_OPTION.findall(text))


def _fragment(name: str) -> str:
    return (_FRAGMENTS / f"{name}.config").read_text()


def _need_tools(arch: str) -> None:
    missing = [package for tool, package in _TOOLS.items() if which(tool) is None]
    if arch == "x86" and "gcc" not in missing:
        # objtool, which goes over every object of an x86 kernel, needs it.
        probe = subprocess.run(
            ["gcc", "-E", "-"], input=f"#include <{_LIBELF}>\n", capture_output=True, text=True
        )
        if probe.returncode:
            missing.append("libelf-dev")
    if missing:
        raise KernelError(f"to build kernels, install {' '.join(missing)}")


def _check_tree(tree: Path) -> None:
    if not all((tree / path).is_file() for path in ("Makefile", "Kconfig", "mm/mmap.c")):
        raise UnknownKernelError(f"{tree}: not the source tree of a kernel")
    if (tree / ".config").exists() or (tree / "include" / "config").exists():
        raise UnknownKernelError(
            f"{tree}: was configured or built in place, so that it cannot be built elsewhere; `make mrproper` there,"
            " or give a clean copy (`git worktree add`)"
        )


def _check_free(name: str, origin: str) -> None:
    if name in NAMES or re.fullmatch(r"[\d.]+", name):
        raise UnknownKernelError(f"{name} is the name of one that can be fetched; choose another")
    if name in cache.names() and (taken := cache.find(name).origin) != origin:
        raise UnknownKernelError(
            f"there is a kernel {name} already, {taken}: choose a --name, or `vmadiff kernels remove {name}`"
        )
