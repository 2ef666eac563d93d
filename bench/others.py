"""Trinity and stress-ng, as Debian has them: how many calls per second they make. Neither has an oracle.

Both run as an ordinary user, in namespaces of their own where that is allowed, with limits of memory, processes, files
and time, and in an empty directory; trinity is given VM calls only, and none of the machine's files.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
#: Calls of ours that either of them makes.
VM_CALLS: Final = (
    *("mmap", "munmap", "mremap", "mprotect", "madvise"),
    *("mlock", "munlock", "msync", "mincore", "brk"),
)
#: The five that are asked of trinity, 64-bit.
TRINITY_CALLS: Final = VM_CALLS[:5]
#: A run of trinity: it counts calls, not seconds.
TRINITY_COUNT: Final = 200_000
#: stress-ng's of the same names, each for as long.
STRESSORS: Final = VM_CALLS[:5]
_SIZES: Final = {"mmap": "--mmap-bytes", "mremap": "--mremap-bytes"}
#: Seconds under strace, to see how many calls a bogo operation has.
_TRACED: Final = 3.0
#: Bytes: of an address space, which trinity fills with maps of maps; of a file.
_MEMORY: Final = 8 << 30
_FILE: Final = 64 << 20
_PROCESSES: Final = 64
#: Seconds more than it should take, after which all of it is killed.
_PATIENCE: Final = 60.0

_ATTEMPTED: Final = re.compile(r"^(\w+): \(attempted:(\d+)\. success:(\d+)\.", re.MULTILINE)
_METRIC: Final = re.compile(
    r"metrc?: +\[\d+\] (\S+) +(\d+) +([\d.]+) +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+"
)
_COUNTED: Final = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Rate:
    """calls, seconds: what was made in how long, None if it could not be; detail: of what parts; remark: what was
    counted, or why nothing was."""

    calls: float | None
    seconds: float
    remark: str
    detail: dict[str, float] = field(default_factory=dict)


def trinity(seed: int) -> Rate:
    """A run of trinity with one child, its start included.

    Raises:
        RuntimeError: it failed.
    """
    if shutil.which("trinity") is None:
        return Rate(None, 0.0, "not installed: apt-get install trinity")
    with _directory() as directory:
        command = ["trinity", "-q", "-C1", f"-N{TRINITY_COUNT}", f"-s{seed}", "-a64", "-l", "off"]
        command += [word for name in TRINITY_CALLS for word in ("-c", name)]
        # Sockets of some families make it crash as it starts.
        command += ["--enable-fds=memfd", "--stats", "-V", str(directory)]
        begun = time.perf_counter()
        printed = _run(command, directory, 60.0)
        seconds = time.perf_counter() - begun
    counts = parse_trinity(printed)
    if not counts:
        raise RuntimeError(f"trinity printed no statistics:\n{printed[-500:]}")
    calls = sum(attempted for attempted, _ in counts.values())
    done = {name: succeeded / attempted for name, (attempted, succeeded) in counts.items()}
    return Rate(calls, seconds, "calls attempted, by its statistics", done)


def stress_ng(seconds: float) -> Rate:
    """One worker of each stressor in turn, all within `seconds`.

    Raises:
        RuntimeError: it failed.
    """
    if shutil.which("stress-ng") is None:
        return Rate(None, 0.0, "not installed: apt-get install stress-ng")
    if shutil.which("strace") is None:
        return Rate(None, 0.0, "its calls were not counted: apt-get install strace")
    calls = spent = 0.0
    detail = {}
    for name in STRESSORS:
        per_operation = _calls_per_operation(name)
        operations, took = _stress(name, seconds / len(STRESSORS), ())
        calls += operations * per_operation
        spent += took
        detail[name] = operations * per_operation / took
    return Rate(calls, spent, "bogo operations times calls in each, by a run under strace", detail)


def parse_trinity(printed: str) -> dict[str, tuple[int, int]]:
    """Of `--stats`: how often each call was attempted, and succeeded."""
    return {name: (int(tried), int(done)) for name, tried, done in _ATTEMPTED.findall(printed)}


def parse_stress_ng(printed: str) -> dict[str, tuple[int, float]]:
    """Of `--metrics-brief`: bogo operations of each stressor, and seconds."""
    return {name: (int(count), float(took)) for name, count, took in _METRIC.findall(printed)}


def parse_strace(printed: str) -> dict[str, int]:
    """Of `strace -c`: how often each call was made."""
    counted = _COUNTED.findall(printed)
    return {name: int(count) for count, name in counted if name != "total"}


def _calls_per_operation(name: str) -> float:
    """VM calls that a bogo operation of a stressor has."""
    with _directory() as directory:
        summary = directory / "strace"
        traced = ("strace", "-f", "-c", "-o", str(summary))
        operations, _ = _stress(name, _TRACED, traced, directory)
        counts = parse_strace(summary.read_text())
    if not operations:
        raise RuntimeError(f"stress-ng --{name} did nothing in {_TRACED:g} s under strace")
    return sum(counts.get(call, 0) for call in VM_CALLS) / operations


def _stress(
    name: str, seconds: float, before: Sequence[str], directory: Path | None = None
) -> tuple[int, float]:
    """Bogo operations of one stressor, and seconds."""
    if directory is None:
        with _directory() as made:
            return _stress(name, seconds, before, made)
    command = [*before, "stress-ng", f"--{name}", "1", "--timeout", f"{max(1, round(seconds))}"]
    if name in _SIZES:
        command += [_SIZES[name], "64m"]
    command += ["--metrics-brief", "--no-rand-seed", "--temp-path", str(directory)]
    printed = _run(command, directory, seconds)
    metrics = parse_stress_ng(printed)
    if name not in metrics:
        raise RuntimeError(f"stress-ng printed no metrics of {name}:\n{printed[-500:]}")
    return metrics[name]


@contextmanager
def _directory() -> Iterator[Path]:
    """An empty directory that an ordinary user may write to."""
    with tempfile.TemporaryDirectory(prefix="vmadiff-bench-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def _run(command: Sequence[str], directory: Path, seconds: float) -> str:
    """What a confined command prints.

    Raises:
        RuntimeError: it failed, or did not end in time.
    """
    done = subprocess.run(
        [*_confinement(seconds + _PATIENCE), *command],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[:3])} failed ({done.returncode}):\n{done.stdout[-500:]}"
        )
    return done.stdout


def _confinement(seconds: float) -> list[str]:
    """What goes before a command. When the first process in there ends, which has so many seconds, all others do."""
    apart = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
    first = ["--mount-proc", "timeout", "--signal=KILL", f"{seconds:.0f}"]
    limits = ["prlimit", f"--as={_MEMORY}", f"--fsize={_FILE}", f"--nproc={_PROCESSES}", "--core=0"]
    if os.geteuid() != 0:
        return [*apart, "--user", "--map-current-user", *first, *limits]
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*apart, *first, *user, "--no-new-privs", *limits]
