"""Builds kernels from source: a minimal configuration of ours, out of tree and again and again in the same place.

The tree of the user is only read. What a tree does not know of our configuration is left out, and said.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Final

from kernels import cache
from kernels.archive import open_archive
from kernels.cache import KernelError

CONFIG: Final = Path(__file__).parent / "config"
#: Programs that a build needs, and the Debian packages that have them.
_NEEDED: Final = {
    "make": "make", "gcc": "gcc", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils",
}  # fmt: skip
_HEADERS: Final = {"libelf.h": "libelf-dev", "openssl/ssl.h": "libssl-dev"}
#: Files whose coverage is of interest.
_COVERED: Final = (
    "gup", "huge_memory", "hugetlb", "khugepaged", "ksm", "madvise", "memory", "mlock", "mmap", "mmap_lock",
    "mprotect", "mremap", "mseal", "pagewalk", "rmap", "shmem", "userfaultfd", "util", "vma", "vma_exec", "vma_init",
)  # fmt: skip
_PACKAGE: Final = re.compile(r"linux-source-\d+\.\d+")
_OBJECT: Final = re.compile(r"^  (CC|LD|AR|AS|LINK) ")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """arch: "x86" or "uml"; features: names of fragments of the configuration; name: what to call the kernel."""

    arch: str = "x86"
    features: tuple[str, ...] = ()
    name: str | None = None


def build(source: str, options: Options, say: Say) -> cache.Kernel:
    """Build a kernel from a tree, or from the Debian package of that name, into the cache.

    Raises:
        KernelError: something is missing, or it does not build; the message has the compiler's words.
    """
    _check_tools()
    tree = _tree(source, say)
    place = hashlib.sha256(repr((str(tree), options.arch, options.features)).encode()).hexdigest()
    objects = cache.directory() / ".build" / f"{tree.name}-{options.arch}-{place[:12]}"
    objects.mkdir(parents=True, exist_ok=True)
    arch = "um" if options.arch == "uml" else "x86_64"
    command = ["make", "-C", str(tree), f"O={objects}", f"ARCH={arch}", *_compiler()]
    _configure(command, tree, objects, options, say)
    release = _run([*command, "-s", "kernelrelease"], objects).strip().splitlines()[-1]
    if "kcov" in options.features:
        command += [f"KCOV_INSTRUMENT_{name}.o=y" for name in _COVERED]
    target = "linux" if options.arch == "uml" else "vmlinux"
    jobs = len(os.sched_getaffinity(0))
    _compile([*command, f"-j{jobs}", target], objects, say)
    name = options.name or "-".join((release.partition("-")[0], options.arch, *options.features))
    origin = f"built from {tree.name}"
    with cache.adding(name, options.arch, release, origin, options.features) as made:
        shutil.copyfile(objects / target, made / cache.IMAGE)
        (made / cache.IMAGE).chmod(0o755)
        shutil.copyfile(objects / ".config", made / "config")
    return cache.find(name)


def _check_tools() -> None:
    missing = [package for program, package in _NEEDED.items() if which(program) is None]
    roots = (Path("/usr/include"), Path("/usr/include/x86_64-linux-gnu"))
    missing += [
        package
        for header, package in _HEADERS.items()
        if not any((root / header).exists() for root in roots)
    ]
    if missing:
        raise KernelError(f"building a kernel needs the packages {' '.join(missing)}")


def _compiler() -> list[str]:
    return ["CC=ccache gcc"] if which("ccache") else []


def _tree(source: str, say: Say) -> Path:
    """The tree to build: a directory, or what a package of Debian's holds."""
    path = Path(source)
    if path.is_dir():
        if not (path / "mm" / "mremap.c").is_file():
            raise KernelError(f"{source}: no kernel tree, for mm/mremap.c is not in it")
        return path.resolve()
    if not _PACKAGE.fullmatch(source):
        raise KernelError(f"{source}: neither a directory nor a package such as linux-source-7.3")
    tree = cache.directory() / ".sources" / source
    if tree.is_dir():
        return tree
    tree.parent.mkdir(exist_ok=True)
    scratch = tree.parent / f"{source}.new"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    open_archive(say).unpack(source, scratch)
    say(f"unpacking {source}")
    (packed,) = scratch.glob("usr/src/linux-source-*.tar.xz")
    with tarfile.open(packed) as archive:
        archive.extractall(scratch / "tree", filter="tar")
    (unpacked,) = (scratch / "tree").iterdir()
    unpacked.rename(tree)
    shutil.rmtree(scratch)
    return tree


def _configure(
    command: Sequence[str], tree: Path, objects: Path, options: Options, say: Say
) -> None:
    """Merge the fragments, unless that was done with the same ones."""
    names = ("common", options.arch, *options.features)
    fragments = [CONFIG / f"{name}.config" for name in names]
    wanted = "".join(path.read_text() for path in fragments)
    done = objects / ".fragments"
    if done.exists() and done.read_text() == wanted and (objects / ".config").exists():
        return
    _run([*command, "-s", "allnoconfig"], objects)
    merge = tree / "scripts" / "kconfig" / "merge_config.sh"
    _run(
        [
            "sh",
            str(merge),
            "-m",
            "-O",
            str(objects),
            str(objects / ".config"),
            *map(str, fragments),
        ],
        tree,
    )
    _run([*command, "-s", "olddefconfig"], objects)
    got = (objects / ".config").read_text().splitlines()
    lines = [line for line in wanted.splitlines() if line.startswith("CONFIG_")]
    missing = [line for line in lines if line not in got and not line.endswith("=n")]
    if missing:
        say(f"not in this tree: {' '.join(line.removeprefix('CONFIG_') for line in missing)}")
    done.write_text(wanted)


def _compile(command: Sequence[str], objects: Path, say: Say) -> None:
    """Compile, with a line that counts; what the compiler complains of is kept."""
    say(f"building in {objects}")
    errors: list[str] = []
    compiled = 0
    terminal = sys.stdout.isatty()
    with subprocess.Popen(
        command,
        cwd=objects,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if _OBJECT.match(line):
                compiled += 1
                if terminal:
                    print(f"\r{compiled} objects", end="", flush=True)
            elif "error" in line.lower() or errors:
                errors.append(line.rstrip())
    if terminal:
        print("\r", end="")
    if process.returncode:
        raise KernelError("it does not build: " + " | ".join(errors[:8] or ["make said nothing"]))
    say(f"{compiled} objects built")


def _run(command: Sequence[str], directory: Path) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, env=_environment()
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise KernelError(f"{command[0]} failed: {' | '.join(words)}")
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "KCONFIG_NOTIMESTAMP": "1"}
