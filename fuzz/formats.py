"""Results of a test run in the forms that programs read: text, JSON, KTAP.

KTAP is that of the kernel's Documentation/dev-tools/ktap.rst: version 1, a plan, a line for each result, diagnostics
behind a `#` before it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

PASSED: Final = "passed"
#: It failed as was foreseen.
KNOWN: Final = "known"
SKIPPED: Final = "skipped"
FAILED: Final = "failed"
VERDICTS: Final = (PASSED, KNOWN, SKIPPED, FAILED)


@dataclass(frozen=True, slots=True)
class Result:
    """One test. verdict: one of VERDICTS; detail: why, its first line a summary; seconds: how long it took; file, line:
    what to look at, "" and 0 if there is nothing."""

    name: str
    verdict: str
    detail: str = ""
    seconds: float = 0.0
    file: str = ""
    line: int = 0

    @property
    def summary(self) -> str:
        """The first line of the detail."""
        return self.detail.partition("\n")[0]


def render(results: Sequence[Result], format: str, title: str) -> str:  # noqa: A002 the user's word
    """All results as text in one of FORMATS, with a newline at its end.

    Raises:
        KeyError: there is no such format.
    """
    return "".join(f"{line}\n" for line in _RENDERERS[format](results, title))


def counts(results: Sequence[Result]) -> str:
    """How many of each verdict, in words."""
    counted = Counter(result.verdict for result in results)
    return ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict])


def _text(results: Sequence[Result], title: str) -> Iterator[str]:
    yield title
    for result in results:
        if result.verdict != PASSED:
            place = f"{result.file}:{result.line}: " if result.file and result.line else ""
            yield f"{result.verdict}: {result.name}: {place}{result.summary}"
            yield from (f"    {line}".rstrip() for line in result.detail.splitlines()[1:])
    yield counts(results) or "nothing ran"


def _json(results: Sequence[Result], title: str) -> Iterator[str]:
    data = {"title": title, "results": [asdict(result) for result in results]}
    yield json.dumps(data, indent=1)


def _ktap(results: Sequence[Result], title: str) -> Iterator[str]:
    yield "KTAP version 1"
    yield f"# {title}"
    yield f"1..{len(results)}"
    for number, result in enumerate(results, start=1):
        directive = ""
        if result.verdict == KNOWN:
            directive = f" # XFAIL {result.summary}"
        elif result.verdict == SKIPPED:
            directive = f" # SKIP {result.summary}"
        elif result.verdict == FAILED:
            yield from (f"# {line}".rstrip() for line in result.detail.splitlines())
            if result.file and result.line:
                yield f"# at {result.file}:{result.line}"
        sign = "not ok" if result.verdict == FAILED else "ok"
        yield f"{sign} {number} {result.name.replace('#', '-')}{directive}"
    counted = Counter(result.verdict for result in results)
    yield (
        f"# Totals: pass:{counted[PASSED]} fail:{counted[FAILED]} xfail:{counted[KNOWN]} xpass:0"
        f" skip:{counted[SKIPPED]} error:0"
    )


_RENDERERS: Final[Mapping[str, Callable[[Sequence[Result], str], Iterator[str]]]] = {
    "ktap": _ktap,
    "text": _text,
    "json": _json,
}
FORMATS: Final = tuple(_RENDERERS)
