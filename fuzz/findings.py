"""Divergences on disk: one directory each, named by its signature, written whole or not at all.

findings/<signature>/report.txt      for people
                     program.prog    the program up to the diverging call
                     finding.json    both sides, the machine and the profile; `vmadiff run` replays program.prog
"""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_program
from fuzz.compare import Divergence
from fuzz.report import report, step_json
from fuzz.storage import write_directory


@dataclass(frozen=True, slots=True)
class Finding:
    """A divergence that was confirmed, or (stable False) one that did not come back each time.

    program: up to and with the diverging call; values: the results of its calls up to that one, which both
    sides agree on; profile: the name of the model's profile; changes: the names of its changes.
    """

    signature: str
    program: Program
    divergence: Divergence
    values: tuple[int, ...]
    environment: Environment
    profile: str
    changes: tuple[str, ...]
    seed: int
    stable: bool = True

    def text(self) -> str:
        """The report for people."""
        return report(
            self.signature,
            self.program,
            self.divergence,
            self.values,
            self.environment,
            self.profile,
            self.stable,
        )

    def program_text(self) -> str:
        """The program in its text form, to replay."""
        calls = format_program(self.program, self.environment.geometry)
        return f"# {self.signature}\n# {self.environment.release}, profile {self.profile}\n{calls}"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        d = self.divergence
        return {
            "signature": self.signature,
            "stable": self.stable,
            "program": format_program(self.program, self.environment.geometry),
            "index": d.index,
            "field": d.field,
            "model": step_json(d.ours),
            "kernel": step_json(d.theirs),
            "values": list(self.values),
            "profile": self.profile,
            "changes": list(self.changes),
            "seed": self.seed,
            "environment": self.environment.to_json(),
        }


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
    files = {
        "report.txt": finding.text().encode(),
        "program.prog": finding.program_text().encode(),
        "finding.json": json.dumps(finding.to_json(), indent=1).encode() + b"\n",
    }
    return path, write_directory(path, files)


def write_crash(directory: Path, signature: str, program_text: str, trace: str) -> Path:
    """Write down a program on which the model itself failed, with the Python traceback.

    Raises:
        OSError: it could not be written.
    """
    path = directory / name_of(signature)
    files = {
        "report.txt": f"{signature}\n\n{program_text}\n{trace}".encode(),
        "program.prog": f"# {signature}\n{program_text}".encode(),
    }
    write_directory(path, files)
    return path
