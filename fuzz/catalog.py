"""What a state directory holds of findings, a row each: what an index lists.

STATE/findings/NAME            divergences and reports of the kernel
STATE/unstable/NAME            what did not come back each time
STATE/known/NAME               explained divergences that were seen
STATE/targets/KERNEL/...       the same, of further kernels

A file `status` in such a directory is the maintainer's: its first line is shown in place of what follows from the rest.
Nothing here writes it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuzz import seen
from fuzz.headlines import KERNEL
from fuzz.mail import field_of, title
from fuzz.storage import UNFINISHED
from fuzz.triage import Known, explanation

NEW: Final = "new"
KNOWN: Final = "known"
UNSTABLE: Final = "unstable"
CRASH: Final = "crash"
#: Directories of findings, and what is in them unless something else is known.
_PLACES: Final = {"findings": NEW, "unstable": UNSTABLE, "known": KNOWN}


@dataclass(frozen=True, slots=True)
class Row:
    """A finding. kind: what differs, or of which kind the report is; first, last: seconds since 1970; count: how often
    it was seen, 0 if that is not known; path: its directory, relative to the state directory; page: the file in it to
    read first, "" if there is none; detail: the cause of a known one, or why it cannot be read; call: the one of its
    program that diverges, from 0, -1 if there is none."""

    title: str
    signature: str
    kind: str
    status: str
    first: int
    last: int
    count: int
    kernels: tuple[str, ...]
    path: str
    page: str
    detail: str = ""
    call: int = -1


class Catalog:
    """The findings of a state directory. What is written once is read once, however often rows are asked for."""

    def __init__(self, state: Path, known: list[Known]) -> None:
        self._state = state
        self._known = known
        self._read: dict[Path, tuple[int, dict[str, Any]]] = {}

    def rows(self) -> list[Row]:
        """Those that are there now, the one that was seen last first.

        Raises:
            OSError: a directory or file cannot be read.
        """
        rows = [self._row(path, status) for path, status in self._directories()]
        return sorted(rows, key=lambda row: (-row.last, row.title, row.path))

    def _directories(self) -> Iterator[tuple[Path, str]]:
        targets = self._state / "targets"
        roots = [self._state, *(sorted(targets.iterdir()) if targets.is_dir() else ())]
        for root in roots:
            for name, status in _PLACES.items():
                directory = root / name
                if not directory.is_dir():
                    continue
                for path in sorted(directory.iterdir()):
                    if path.is_dir() and not path.name.startswith(UNFINISHED):
                        yield path, status

    def _row(self, path: Path, status: str) -> Row:
        data, written = self._finding(path)
        told = seen.read(path)
        signature = str(data.get("signature", path.name))
        kernels = told.kernels if told else tuple(filter(None, [_release(data)]))
        is_crash = "class" in data
        cause = str(data.get("cause", ""))
        if is_crash and status == NEW:
            status = CRASH
        if status in (NEW, CRASH):
            causes = [explanation(signature, kernel, self._known) for kernel in kernels]
            if kernels and all(causes):
                status, cause = KNOWN, next(each.cause for each in causes if each)
        return Row(
            str(data.get("title") or title(signature)),
            signature,
            str(data.get("class") or data.get("field") or _kind(signature)),
            _set_status(path) or status,
            told.first if told else written,
            told.last if told else written,
            told.count if told else 0,
            kernels,
            path.relative_to(self._state).as_posix(),
            next((n for n in ("report.html", "report.md") if (path / n).is_file()), ""),
            cause or str(data.get("problem", "")),
            int(data.get("index", -1)),
        )

    def _finding(self, path: Path) -> tuple[dict[str, Any], int]:
        """What finding.json says, and when the finding was written. Of a failure of the model there is a text only."""
        file = path / "finding.json"
        try:
            stamp = file.stat()
        except FileNotFoundError:
            text = path / "report.md"
            if not text.is_file():
                return {"problem": "no finding.json"}, int(path.stat().st_mtime)
            first = text.read_text(errors="replace").partition("\n")[0]
            return {"signature": first}, int(text.stat().st_mtime)
        known = self._read.get(file)
        if known is None or known[0] != stamp.st_mtime_ns:
            data = _load(file)
            # Of what may be large only this is needed.
            data["release"] = _release(data) or _release(_load(path / "kernel.json"))
            for name in ("environment", "model", "kernel"):
                data.pop(name, None)
            known = self._read[file] = stamp.st_mtime_ns, data
        return known[1], int(stamp.st_mtime)


def _kind(signature: str) -> str:
    """Of an explained one, of which there is no more than that, or of a failure of the model."""
    return CRASH if signature.startswith(KERNEL) else field_of(signature) or "model"


def _load(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        return {"problem": f"{file.name} is damaged"}
    return data if isinstance(data, dict) else {"problem": f"{file.name} is damaged"}


def _release(data: dict[str, Any]) -> str:
    environment = data.get("environment")
    place = environment if isinstance(environment, dict) else data
    return str(place.get("release", ""))


def _set_status(path: Path) -> str:
    """What the maintainer has written of it."""
    try:
        return (path / "status").read_text(errors="replace").partition("\n")[0].strip()
    except FileNotFoundError:
        return ""
