"""`vmadiff corpus`: programs that are kept, merged, thinned out, counted and looked after. No kernel is needed."""

import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from abi.calls import CALLS, NAMES, Call
from abi.environment import Geometry
from abi.program import ProgramError, parse_all
from fuzz import reference
from fuzz.classes import universe
from fuzz.corpus import (
    DIVERGENCES,
    DROPPED,
    QUARANTINE,
    files_of,
    is_named_by_content,
    name_of,
    read_text,
    shipped,
)
from fuzz.cover import Measured, additional, enough, together
from fuzz.expectation import Expectation, Statements, load_statements
from fuzz.output import write_json
from fuzz.reach import NOTHING, Meter, Reach
from fuzz.regression import Regression, from_path, from_text
from fuzz.status import DIVERGES, OK, UnusableError, UsageError
from fuzz.storage import sync_directory, write_atomically

#: The corpus that `vmadiff fuzz` makes.
DIRECTORY: Final = Path(".vmadiff/corpus")
#: Programs without a word on how far it is.
_MANY: Final = 200


def corpus_command(options: Namespace) -> int:
    """`vmadiff corpus add | merge | min | stats | verify`"""
    actions: dict[str, Callable[[Namespace], int]] = {
        "add": _add,
        "merge": _merge,
        "min": _min,
        "stats": _stats,
        "verify": _verify,
    }
    return actions[options.action](options)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file of a corpus that is as it should be."""

    path: Path
    regression: Regression


# What each does.


def _add(options: Namespace) -> int:
    statements = load_statements(DIVERGENCES)
    directory = _made(options.corpus or DIRECTORY)
    made = []
    for path in options.files:
        try:
            made.append((path, from_path(path, statements, fixed=options.fixed)))
        except ProgramError as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
    there = {kept.regression.name: kept for kept in _read(directory, statements)}
    for path, regression in made:
        kept = there.get(regression.name)
        if kept is not None:
            regression = kept.regression.joined(regression)
        elif not regression.stated:
            regression = replace(regression, stated=(Expectation(),))
        file = kept.path if kept is not None else directory / regression.name
        if kept is not None and kept.regression == regression:
            print(f"{path}: is there: {file}")
        else:
            write_atomically(file, regression.text().encode(), durable=True)
            there[regression.name] = _Kept(file, regression)
            print(f"{path}: {file}")
        for each in regression.stated:
            print(f"    {each}")
    return OK


def _merge(options: Namespace) -> int:
    statements = load_statements(DIVERGENCES)
    directory = _made(options.corpus or DIRECTORY)
    ours = {kept.regression.name: kept for kept in _read(directory, statements)}
    sources = [_existing(path) for path in options.directories]
    theirs = {
        kept.regression.name: kept
        for path in reversed(sources)
        if not path.samefile(directory)
        for kept in _read(path, statements)
    }
    both = [(ours[name], theirs[name]) for name in sorted(theirs.keys() & ours.keys())]
    new = [theirs[name] for name in sorted(theirs.keys() - ours.keys())]
    measured = _measure([*ours.values(), *new])
    covered = together(measured[: len(ours)])
    added = additional(measured[len(ours) :], covered)
    by_path = {kept.path: kept.regression for kept in new}
    for each in added:
        regression = by_path[each.path]
        write_atomically(directory / regression.name, regression.text().encode(), durable=True)
    said = 0
    for kept, other in both:
        # What is stated there and not here.
        stated = other.regression.joined(kept.regression).stated
        joined = replace(kept.regression, stated=stated)
        if joined != kept.regression:
            write_atomically(kept.path, joined.text().encode(), durable=True)
            said += 1
    print(f"{directory}: {len(ours)} programs, {_figures(covered)}")
    print(
        f"{len(theirs)} others: {len(both)} are there, {len(added)} of {len(new)} new ones reach more"
    )
    if said:
        print(f"{said} of those that are there now state what the others do")
    total = together([*measured[: len(ours)], *added])
    print(f"{directory}: {len(ours) + len(added)} programs, {_figures(total)}")
    return OK


def _min(options: Namespace) -> int:
    statements = load_statements(DIVERGENCES)
    directory = _existing(options.corpus or DIRECTORY)
    measured = _measure(list(_read(directory, statements)))
    kept = enough(measured)
    before, after = together(measured), together(kept)
    assert before == after, "what is kept reaches as much"
    stays = {each.path for each in kept}
    dropped = [each.path for each in measured if each.path not in stays]
    if not options.dry_run:
        _put_aside(dropped, directory.absolute().parent / DROPPED)
    print(f"before: {_row(measured)}, {_figures(before)}")
    print(f"after:  {_row(kept)}, {_figures(after)}")
    stated = sum(each.stays for each in kept)
    if stated:
        print(f"{stated} stay for what their headers state")
    if dropped:
        verb = "would go" if options.dry_run else "went"
        print(f"{len(dropped)} {verb} to {directory.parent / DROPPED}/")
    return OK


def _stats(options: Namespace) -> int:
    statements = load_statements(DIVERGENCES)
    usual = [DIRECTORY] if DIRECTORY.is_dir() else shipped()
    directories = [_existing(options.corpus)] if options.corpus else usual
    kept = [each for directory in directories for each in _read(directory, statements)]
    measured = _measure(kept)
    calls = _calls(kept)
    reach = together(measured)
    size = sum(each.path.stat().st_size for each in kept)
    rows = [
        (NAMES[cls], calls[cls], sum(own is cls for own, _ in reach.classes), len(universe(cls)))
        for cls in CALLS
    ]
    print(", ".join(map(str, directories)))
    print(f"{_row(measured)}, {size} bytes, {_figures(reach)}")
    print(f"{'call':<20} {'times':>7}  classes")
    for name, times, classes, of in rows:
        print(f"{name:<20} {times:>7}  {classes} of {of}")
    if options.json:
        _write_json(options.json, directories, measured, size, reach, rows)
    return OK


def _verify(options: Namespace) -> int:
    statements = load_statements(DIVERGENCES)
    directory = _existing(options.corpus or DIRECTORY)
    files = files_of(directory)
    damaged = [(path, why) for path in files if (why := _damage(path, statements))]
    names = {path.name for path, _ in damaged}
    if not options.dry_run:
        _put_aside([path for path, _ in damaged], directory.absolute().parent / QUARANTINE)
    verb = "would go" if options.dry_run else "went"
    for _, why in damaged:
        print(f"{why}; it {verb} to {directory.parent / QUARANTINE}/")
    print(f"{directory}: {len(files) - len(names)} programs, {len(names)} damaged files")
    return DIVERGES if damaged else OK


# Files.


def _read(directory: Path, statements: Statements) -> Iterator[_Kept]:
    """The programs of a corpus; of what is damaged a line is said."""
    for path in files_of(directory):
        why = _damage(path, statements)
        if why:
            print(f"vmadiff: left out: {why}", file=sys.stderr)
        else:
            yield _Kept(path, from_text(read_text(path), str(path), statements))


def _damage(path: Path, statements: Statements) -> str:
    """What is wrong with a file of a corpus, in a line that names it; "" if nothing is."""
    try:
        if path.exists() and not path.is_file():
            return f"{path}: not a file"
        text = read_text(path)
        from_text(text, str(path), statements)
    except ProgramError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if is_named_by_content(path) and name_of(text) != path.name:
        return f"{path}: its name is not that of its calls: cut off, or edited"
    return ""


def _put_aside(paths: Sequence[Path], directory: Path) -> None:
    """Move files into `directory`, under names that are free there. Each is in one place or the other, at any time."""
    if not paths:
        return
    directory.mkdir(exist_ok=True)
    for path in paths:
        os.rename(path, _free(directory, path))
    sync_directory(directory)
    sync_directory(paths[0].parent)


def _free(directory: Path, path: Path) -> Path:
    """A name in `directory` that is not taken, but by the same program."""
    names = [path.name, *(f"{path.stem}-{number}{path.suffix}" for number in range(2, 10_000))]
    for name in names:
        there = directory / name
        if not os.path.lexists(there) or _is_same(there, path):
            return there
    raise UnusableError(f"{directory}: no name is left for {path.name}")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory")
    return directory


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{directory}: not a directory") from None
    return directory


# Figures.


def _measure(kept: Iterable[_Kept]) -> list[Measured]:
    """What each reaches on the machines of `fuzz.reference`."""
    files = list(kept)
    if len(files) >= _MANY:
        print(f"measuring {len(files)} programs", file=sys.stderr)
    meter = Meter(reference.machines())
    measured = []
    for each in files:
        programs = parse_all(each.regression.calls, Geometry(), str(each.path))
        reach = NOTHING
        for program in programs:
            reach |= meter.measure(program)
        calls = sum(map(len, programs))
        measured.append(Measured(each.path, calls, reach, bool(each.regression.stated)))
    return measured


def _calls(kept: Iterable[_Kept]) -> Counter[type[Call]]:
    return Counter(
        type(call)
        for each in kept
        for program in parse_all(each.regression.calls, Geometry(), str(each.path))
        for call in program
    )


def _row(items: Sequence[Measured]) -> str:
    return f"{len(items)} programs, {sum(each.calls for each in items)} calls"


def _figures(reach: Reach) -> str:
    return f"{len(reach.branches)} branches, {len(reach.classes)} classes"


def _write_json(
    path: Path,
    directories: Sequence[Path],
    measured: Sequence[Measured],
    size: int,
    reach: Reach,
    rows: Sequence[tuple[str, int, int, int]],
) -> None:
    data: dict[str, Any] = {
        "directories": [str(each) for each in directories],
        "programs": len(measured),
        "calls": sum(each.calls for each in measured),
        "bytes": size,
        "branches": len(reach.branches),
        "classes": len(reach.classes),
        "by_call": {
            name: {"times": times, "classes": classes, "of": of}
            for name, times, classes, of in rows
        },
    }
    write_json(path, data)
