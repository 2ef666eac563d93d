"""`vmadiff check`: a corpus on one kernel, for continuous integration."""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fuzz.check import Bug, Case, Checked, check
from fuzz.corpus import DIVERGENCES, DROPPED, PACKAGED, QUARANTINE, SUFFIX, read_text, shipped
from fuzz.expectation import Statements, load_statements
from fuzz.formats import FAILED, VERDICTS, counted, render
from fuzz.output import check_output
from fuzz.status import DIVERGES, INCOMPLETE, OK, UnusableError, UsageError
from fuzz.storage import UNFINISHED, write_atomically
from fuzz.targets import LOCAL
from fuzz.triage import Known
from kernel_bridge import BridgeError
from model.profile import BY_NAME

#: Executors on the running kernel, at most.
_WORKERS: Final = 4


def check_corpus(options: Namespace) -> int:
    """`vmadiff check`"""
    for output in (options.output, options.json):
        check_output(output)
    statements = load_statements(DIVERGENCES)
    cases = list(_cases(options.paths, statements))
    workers = options.workers
    if workers is None:
        # A guest has one processor, and its boot costs more than it saves.
        local = min(_WORKERS, len(os.sched_getaffinity(0)))
        workers = local if options.target == LOCAL else 1
    began = time.monotonic()
    try:
        checked = check(
            cases,
            [] if options.paths else list(_bugs()),
            statements.known,
            options.target,
            user=options.user,
            workers=workers,
        )
    except BridgeError as error:
        raise UnusableError(str(error)) from None
    seconds = time.monotonic() - began
    title = f"vmadiff: {checked.release} {checked.machine}, profile {checked.profile}"
    text = render(checked.results, options.format, title)
    if options.output:
        write_atomically(options.output, text.encode())
    else:
        print(text, end="", flush=True)
    if options.json:
        data = json.dumps(_json(checked, options.target, seconds), indent=1)
        write_atomically(options.json, data.encode() + b"\n")
    if checked.problem:
        print(f"vmadiff: an executor was lost: {checked.problem}", file=sys.stderr)
    print(f"{title}: {counted(checked.results)} in {seconds:.1f} s", file=sys.stderr)
    if any(result.verdict in FAILED for result in checked.results):
        return DIVERGES
    return OK if checked.compared else INCOMPLETE


def _cases(paths: Sequence[Path], statements: Statements) -> Iterator[Case]:
    """The programs in files and directories, once each; without any, those that come with vmadiff."""
    found = (file for path in paths or [*shipped(), DIVERGENCES] for file in _files(path))
    for file in dict.fromkeys(found):
        try:
            text = read_text(file)
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from None
        named = file if paths else file.relative_to(PACKAGED)
        stated = statements.read(text, str(file))
        yield Case(str(named.with_suffix("")), _shown(file), text, stated)


def _files(path: Path) -> list[Path]:
    """The program, or those of a directory and what is below it, but for what `vmadiff corpus` has put aside there."""
    if not path.is_dir():
        return [path]
    try:
        files = sorted(
            file
            for file in path.rglob(f"*{SUFFIX}")
            if not {*file.relative_to(path).parts} & {QUARANTINE, DROPPED}
            and not file.name.startswith(UNFINISHED)
        )
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not files:
        raise UsageError(f"{path}: no programs (*{SUFFIX}) there")
    return files


def _bugs() -> Iterator[Bug]:
    """The bugs of kernels that the model follows."""
    for path in sorted(DIVERGENCES.glob("*.json")):
        entry = json.loads(path.read_text())
        if "change" in entry:
            listed = Known((), tuple(entry["kernels"]), entry["cause"], path.stem)
            change = BY_NAME[entry["change"]]
            # A bug of the newest kernels has no end yet.
            has = change.until is not None or not entry["fixed"]
            yield Bug(f"{DIVERGENCES.name}/{path.stem}", _shown(path), listed, change, has)


def _shown(path: Path) -> str:
    """The path as services want it that show it beside the source: from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _json(checked: Checked, target: str, seconds: float) -> dict[str, Any]:
    results = [asdict(result) for result in checked.results]
    return {
        "target": target,
        "kernel": checked.release,
        "machine": checked.machine,
        "profile": checked.profile,
        "seconds": round(seconds, 3),
        "counts": {
            verdict: sum(result.verdict == verdict for result in checked.results)
            for verdict in VERDICTS
        },
        "compared": checked.compared,
        "problem": checked.problem or None,
        "results": results,
    }
