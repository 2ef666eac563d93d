"""Compiles the native programs into a cache directory and gives their paths: the executor, and the agent of guests.

It knows compilers and caches, not what they do. `python -m kernel_bridge` prints the path.
"""

import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which
from typing import Final

import cachedir

NATIVE: Final = Path(__file__).parent / "native"
HEADERS: Final = (
    "abi.gen.h",
    "agent.h",
    "child.h",
    "events.h",
    "executor.h",
    "filler.h",
    "layout.h",
    "observe.h",
    "special.h",
    "sys.h",
    "executor.lds",
)
FLAGS: Final = (
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-pic",
    "-fno-strict-aliasing", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-fno-sanitize=all", "-fcf-protection=none", "-mgeneral-regs-only", "-mno-red-zone",
    "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Binary:
    """A native program: its name, its sources, what the compiler is told besides FLAGS."""

    name: str
    sources: tuple[str, ...]
    flags: tuple[str, ...] = ()


EXECUTOR: Final = Binary(
    "executor",
    (
        "child.c",
        "coverage.c",
        "events.c",
        "executor.c",
        "filler.c",
        "inject.c",
        "layout.c",
        "memory.c",
        "observe.c",
        "special.c",
        "start.c",
    ),
    ("-Wl,-T,executor.lds",),
)
AGENT: Final = Binary("agent", ("agent.c", "memory.c"))
#: What a machine without a compiler is told.
ADVICE: Final = "install the package `gcc`, or run `pip install ziglang`"


class BuildError(Exception):
    """The executor cannot be built; the message is one line that says what to do."""


def writable_directory(name: str) -> Path:
    """A directory `name` in the first cache directory that can be written, made if needed.

    Raises:
        BuildError: there is none.
    """
    try:
        return cachedir.writable_directory(name)
    except cachedir.CacheError as error:
        raise BuildError(str(error)) from None


def compilers() -> Iterator[list[str]]:
    """Command lines of compilers to try, best first."""
    if os.environ.get("CC"):
        yield shlex.split(os.environ["CC"])
        return
    for name in ("cc", "gcc", "clang"):
        path = which(name)
        if path:
            yield [path]
    if importlib.util.find_spec("ziglang"):
        yield [sys.executable, "-m", "ziglang", "cc"]


def build(binary: Binary = EXECUTOR) -> Path:
    """The path of a binary, compiled now unless these sources and this compiler made it before.

    Raises:
        BuildError: there is no compiler, or none that can build it, or no directory for it.
    """
    return _build(binary, os.environ.get("CC"), tuple(cachedir.cache_directories()))


@cache
def _build(binary: Binary, _cc: str | None, _caches: tuple[Path, ...]) -> Path:
    problems = []
    for compiler in compilers():
        try:
            return _build_with(binary, compiler)
        except _CompilerError as error:
            problems.append(str(error))
    if not problems:
        raise BuildError(f"no C compiler found: {ADVICE}")
    raise BuildError(f"{'; '.join(problems)}: {ADVICE}")


class _CompilerError(Exception):
    pass


def _build_with(binary: Binary, compiler: list[str]) -> Path:
    directory = writable_directory("build")
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        version = _run([*compiler, "--version"], scratch).splitlines()[:1]
        digest = hashlib.sha256(repr((compiler, version, FLAGS, binary.flags)).encode())
        for name in (*binary.sources, *HEADERS):
            digest.update((NATIVE / name).read_bytes())
        path = directory / f"{binary.name}-{digest.hexdigest()[:16]}"
        if path.exists():
            return path
        made = Path(scratch) / binary.name
        _run([*compiler, *FLAGS, *binary.flags, "-o", str(made), *binary.sources], scratch)
        made.chmod(0o755)
        made.replace(path)
    return path


def _run(command: list[str], scratch: str) -> str:
    name = shlex.join(command[:3] if command[1:2] == ["-m"] else command[:1])
    # Without HOME zig knows no place for its own cache, which one file does not need.
    zig = {"ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch}
    environment = {**zig, **os.environ}
    try:
        done = subprocess.run(
            command, cwd=NATIVE, env=environment, capture_output=True, text=True, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CompilerError(f"{name} does not run ({error})") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise _CompilerError(f"{name} cannot build the native programs ({reason.strip()})")
    return done.stdout
