"""Directories of programs in their text form, one `.prog` file each, named by what they say.

The comment at the top of a file may state how the program fares on which kernels (`fuzz.expectation`); it is no part of
the name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from abi.calls import Program
from abi.environment import Geometry
from abi.program import ProgramError, calls_only, format_program, parse, parse_all
from fuzz.storage import UNFINISHED, write_atomically

#: What comes with the project, next to its packages.
PACKAGED = Path(__file__).resolve().parent.parent / "corpus"
#: Kernel bugs, explained (fuzz.triage.load_known).
DIVERGENCES = PACKAGED / "divergences"
SUFFIX = ".prog"
#: Beside a corpus: files of it that are no programs, and programs that it can do without.
QUARANTINE = "quarantine"
DROPPED = "dropped"


def shipped() -> list[Path]:
    """The directories of programs that come with the project."""
    return [
        PACKAGED / name for name in ("seeds", "witnesses", "classes") if (PACKAGED / name).is_dir()
    ]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a corpus: its program, or one line about why it has none."""

    path: Path
    program: Program
    problem: str = ""


def read_program(path: Path, geometry: Geometry) -> Program:
    """The program in the file `path`.

    Raises:
        ProgramError: the text is no program; the message names file and line.
        OSError: the file cannot be read.
    """
    return parse(read_text(path), geometry, str(path))


def read_programs(path: Path, geometry: Geometry) -> list[tuple[str, Program]]:
    """The programs in the file `path`, one or several, with a name for each: that of the file, and the number if there
    are several.

    Raises:
        ProgramError: the text is no program; the message names file and line.
        OSError: the file cannot be read.
    """
    programs = parse_all(read_text(path), geometry, str(path))
    if len(programs) == 1:
        return [(str(path), programs[0])]
    return [(f"{path}#{number}", program) for number, program in enumerate(programs, start=1)]


def read_text(path: Path) -> str:
    """The text of a program.

    Raises:
        ProgramError: it is none; the message names the file.
        OSError: the file cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ProgramError(f"{path}: not text: {error.reason} at byte {error.start}") from None


def load(directory: Path, geometry: Geometry, skip: set[str] | None = None) -> Iterator[Entry]:
    """The programs of `directory` in the order of their names; files named in `skip` are passed over.

    Raises:
        OSError: the directory cannot be read. A file that cannot is an entry with a problem.
    """
    for path in files_of(directory):
        if skip is not None and path.name in skip:
            continue
        try:
            yield Entry(path, read_program(path, geometry))
        except ProgramError as error:
            yield Entry(path, (), str(error))
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Entry(path, (), f"{path}: {error.strerror}")


def name_of(text: str) -> str:
    """The file name of the program with this text: its comments do not count."""
    return sha256(calls_only(text).encode()).hexdigest()[:16] + SUFFIX


def is_named_by_content(path: Path) -> bool:
    """Whether the file was named by `name_of`, not by a person."""
    return re.fullmatch(r"[0-9a-f]{16}", path.stem) is not None


def files_of(directory: Path) -> list[Path]:
    """The files of programs in `directory`, by name.

    Raises:
        OSError: the directory cannot be read.
    """
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix == SUFFIX and not path.name.startswith(UNFINISHED)
    )


def save(directory: Path, program: Program, geometry: Geometry) -> str:
    """Write `program` to `directory` under the name it returns; nothing happens when it is there.

    Raises:
        OSError: it could not be written.
    """
    text = format_program(program, geometry)
    name = name_of(text)
    path = directory / name
    if not path.exists():
        write_atomically(path, text.encode())
    return name
