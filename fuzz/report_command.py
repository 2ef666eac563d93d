"""`vmadiff report`: what a state directory holds, as an index for people or in a format for machines."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fuzz import corpus, history
from fuzz.catalog import Catalog, Row
from fuzz.chronicle import INDEX
from fuzz.formats import render
from fuzz.pages import index
from fuzz.results import of_row
from fuzz.status import OK, UsageError
from fuzz.storage import UNFINISHED, write_atomically
from fuzz.triage import load_known

_TEXT: Final = "text"


def report(options: Namespace) -> int:
    """`vmadiff report`"""
    state: Path = options.state
    if not state.is_dir():
        raise UsageError(f"{state}: no such directory")
    output: Path = options.output or state
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: not a directory")
    rows = Catalog(state, load_known(corpus.DIVERGENCES)).rows()
    points, damaged = history.read(state)
    if output.resolve() != state.resolve():
        output.mkdir(parents=True, exist_ok=True)
        for row in rows:
            _copy(state / row.path, output / row.path)
    write_atomically(output / INDEX, index.page(rows, points, damaged).encode())
    if options.format == _TEXT:
        print("\n".join([*lines(rows), f"written to {output / INDEX}"]))
    else:
        title = f"vmadiff: findings in {state}"
        print(render([of_row(row, state) for row in rows], options.format, title), end="")
    return OK


def lines(rows: Sequence[Row]) -> list[str]:
    """A finding a line: status, how often it was seen, title."""
    if not rows:
        return ["nothing was found"]
    width = max(len(row.status) for row in rows)
    return [f"{row.status:<{width}}  {row.count or '':>7}  {row.title}" for row in rows]


def _copy(source: Path, target: Path) -> None:
    """Bring the directory `target` up to date with `source`, file by file."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        if entry.is_file() and not entry.name.startswith(UNFINISHED):
            write_atomically(target / entry.name, Path(entry).read_bytes())
