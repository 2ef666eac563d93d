"""`vmadiff repro`: a program as a reproducer that needs nothing of vmadiff."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Final

from fuzz.replay import Replay
from fuzz.repro import Case, ReproError, c, kselftest, syz
from fuzz.status import DIVERGES, INCOMPLETE, OK
from fuzz.storage import write_atomically
from fuzz.triage import signature

_FORMS: Final[dict[str, Callable[[Case], str]]] = {
    "c": c.text,
    "kselftest": kselftest.text,
    "syz": syz.text,
}


def reproduce(result: Replay, profile: str, options: Namespace) -> int:
    """Write the reproducer of what was replayed, and say on stderr how that went; the exit status is 0 also where model
    and kernel differ."""
    say(f"{result.name}: {result.verdict()}")
    divergence = result.divergence
    if divergence is None:
        title = result.name.removesuffix(".prog")
    else:
        title = signature(result.program[divergence.index], divergence)
    try:
        text = _FORMS[options.form](Case.of(result, title, profile))
    except ReproError as error:
        say(f"vmadiff: {result.name} has no reproducer: {error}")
        return INCOMPLETE
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(options.output, text.encode())
    return OK


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr)
