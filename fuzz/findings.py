"""Divergences on disk: one directory each, named by its signature, written whole or not at all.

findings/<signature>/report.md       for people, as a mail
                     report.html     the same, with a picture
                     program         the smallest program that shows it, to replay
                     repro.c, kselftest.c    the same for those who have no vmadiff, where that can be had
                     original        the program with which it was found, if that is another
                     trace           both sides of each of its calls
                     finding.json    all of that for other programs
                     kernel.json     the kernel, what the model took it for, and its environment
"""

import fcntl
import json
import re
from base64 import b85decode, b85encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import compress, decompress, error

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program, parse
from fuzz.blame import Blame
from fuzz.compare import Divergence
from fuzz.mail import mail
from fuzz.pages.finding import page
from fuzz.pages.text import page as text_page
from fuzz.replay import Replay
from fuzz.report import report, step_json
from fuzz.repro import Case, ReproError, c, kselftest
from fuzz.storage import write_atomically, write_directory


@dataclass(frozen=True, slots=True)
class Finding:
    """A divergence that was confirmed, or (stable False) one that did not come back each time.

    replay: its program, up to and with the diverging call, and what both sides did; profile: the name of the model's
    profile; changes: the names of its changes; original: the program as it was found; minimized: how the program was
    made smaller, in a line, "" if it was not, in minimize_seconds; sequences, seconds: how many programs its worker had
    compared by then, and for how long it had worked.
    """

    replay: Replay
    profile: str
    changes: tuple[str, ...]
    seed: int
    blame: Blame
    stable: bool = True
    original: Program = ()
    minimized: str = ""
    minimize_seconds: float = 0.0
    sequences: int = 0
    seconds: float = 0.0

    @property
    def signature(self) -> str:
        """One line that names the kind of divergence."""
        return self.replay.text

    @property
    def program(self) -> Program:
        """Up to and with the diverging call."""
        return self.replay.program

    @property
    def environment(self) -> Environment:
        """Where it ran."""
        return self.replay.environment

    @property
    def divergence(self) -> Divergence:
        """What differs."""
        assert self.replay.divergence is not None, "a finding diverges"
        return self.replay.divergence

    @property
    def values(self) -> tuple[int, ...]:
        """The results of the calls before the diverging one, which both sides agree on."""
        return tuple(step.value for step in self.replay.theirs[: self.divergence.index])

    def text(self) -> str:
        """The report for people."""
        return report(
            self.signature,
            self.program,
            self.divergence,
            self.values,
            self.environment,
            self.profile,
            (*self.blame.lines(), *((f"minimized: {self.minimized}",) * bool(self.minimized))),
        )

    def program_text(self, program: Program) -> str:
        """A program in its text form, to replay."""
        calls = format_program(program, self.environment.geometry)
        return f"# {self.signature}\n# {self.environment.release}, profile {self.profile}\n{calls}"

    def to_json(self) -> dict[str, Any]:
        """All but the environment as plain data."""
        d = self.divergence
        return {
            "signature": self.signature,
            "stable": self.stable,
            "program": format_program(self.program, self.environment.geometry),
            "original": format_program(self.original, self.environment.geometry),
            "minimized": self.minimized,
            "index": d.index,
            "field": d.field,
            "model": step_json(d.ours),
            "kernel": step_json(d.theirs),
            "values": list(self.values),
            "full": self.replay.full,
            "seed": self.seed,
            "traces": [b85encode(compress(data)).decode() for data in self.replay.packed],
            "minimize_seconds": self.minimize_seconds,
            "sequences": self.sequences,
            "seconds": self.seconds,
            "blame": self.blame.to_json(),
        }

    def kernel_json(self) -> dict[str, Any]:
        """What it was found on."""
        return {
            "release": self.environment.release,
            "machine": self.environment.machine,
            "profile": self.profile,
            "changes": list(self.changes),
            "environment": self.environment.to_json(),
        }

    def files(self) -> dict[str, bytes]:
        """The contents of its directory, by name."""
        files = {
            "program": self.program_text(self.program).encode(),
            "trace": "\n".join([*self.replay.lines(layouts=True), ""]).encode(),
            "finding.json": _json(self.to_json()),
            "kernel.json": _json(self.kernel_json()),
        }
        if self.original and self.original != self.program:
            files["original"] = self.program_text(self.original).encode()
        files |= reproducers(self.replay, self.signature, self.profile)
        notes = (f"minimized: {self.minimized}",) * bool(self.minimized)
        names = sorted([*files, "report.md"])
        told = (self.replay, self.profile, self.blame, notes, names)
        return {"report.md": mail(*told).encode(), "report.html": page(*told).encode(), **files}


def load(path: Path) -> Finding:
    """The finding in the directory `path`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or one of a kernel's report or a failure of the model.
    """
    try:
        data = json.loads((path / "finding.json").read_text())
        kernel = json.loads((path / "kernel.json").read_text())
        environment = Environment.from_json(kernel["environment"])
        program, original = (
            parse(data[name], environment.geometry) for name in ("program", "original")
        )
        expected, observed = (decompress(b85decode(each)) for each in data["traces"])
        seen = Replay.of(program, environment, (expected, observed), full=data["full"])
        if seen.divergence is None:
            raise ValueError("its traces agree")
        return Finding(
            seen,
            kernel["profile"],
            tuple(kernel["changes"]),
            data["seed"],
            Blame.from_json(data["blame"]),
            data["stable"],
            original,
            data["minimized"],
            data["minimize_seconds"],
            data["sequences"],
            data["seconds"],
        )
    except (ValueError, KeyError, TypeError, error) as problem:
        raise ValueError(f"{path}: not a finding of this version: {problem!r}") from None


def reproducers(replay: Replay, title: str, profile: str) -> dict[str, bytes]:
    """The C files of a program, by name, as far as they can be had."""
    files: dict[str, bytes] = {}
    with suppress(ReproError):
        case = Case.of(replay, title, profile)
        files["repro.c"] = c.text(case).encode()
        files["kselftest.c"] = kselftest.text(case).encode()
    return files


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, indent=1).encode() + b"\n"


def name_of(signature: str) -> str:
    """The directory name of a signature: its words, and a hash of all of it."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", signature).strip("-")[:80]
    return f"{words}-{sha256(signature.encode()).hexdigest()[:8]}"


def write(directory: Path, finding: Finding) -> tuple[Path, bool]:
    """Write `finding` below `directory`; its path, and whether it was not there before.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    path = directory / name_of(finding.signature)
    return path, write_directory(path, finding.files())


def rewrite(path: Path, finding: Finding) -> None:
    """Bring what was written of it up to date, file by file.

    Raises:
        OSError: it could not be written.
    """
    for name, data in finding.files().items():
        write_atomically(path / name, data, durable=True)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether what was written at `path` has not been made smaller yet, and nobody is at it; in here nobody else is.
    Whoever dies in here lets go of it.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    with (path / "kernel.json").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield not json.loads((path / "finding.json").read_text())["minimized"]


def write_crash(directory: Path, signature: str, program_text: str, trace: str) -> Path:
    """Write down a program on which the model itself failed, with the Python traceback.

    Raises:
        OSError: it could not be written.
    """
    path = directory / name_of(signature)
    text = f"{signature}\n\n{program_text}\n{trace}"
    files = {
        "report.md": text.encode(),
        "report.html": text_page(signature, text, ("program", "report.md")).encode(),
        "program": f"# {signature}\n{program_text}".encode(),
    }
    write_directory(path, files)
    return path
