"""What programs gave, in the formats that machines for continuous integration read.

| verdict | TAP | KTAP | JUnit | SARIF |
|---|---|---|---|---|
| agrees | ok | ok | passed | nothing |
| known | not ok, TODO | ok, XFAIL | skipped | a suppressed note |
| diverges, crashed | not ok | not ok | failure, error | an error |
| unexpected | not ok | not ok | failure | an error |
| unknown | ok, SKIP | ok, SKIP | skipped | a notification |

TAP is version 13 (testanything.org), KTAP version 1 (Documentation/dev-tools/ktap.rst), JUnit what Jenkins reads, SARIF
2.1.0 (OASIS).
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import PurePath
from typing import Any, Final, Literal, get_args
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from fuzz.printable import printable

Verdict = Literal["agrees", "known", "diverges", "crashed", "unexpected", "unknown"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
#: `unexpected`: it was to diverge, and agrees.
FAILED: Final = ("diverges", "crashed", "unexpected")

#: What each verdict that is not `agrees` means.
_MEANINGS: Final = {
    "diverges": "The kernel does not do what the model says.",
    "crashed": "The kernel reported a fault of its own, or died.",
    "unexpected": "A divergence that was foreseen does not show any more.",
    "known": "An explained divergence.",
    "unknown": "Not compared to the end.",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What one program gave.

    name: of the program; detail: text for people, its first line the gist, "" if there is nothing to say; seconds: None
    if that is not known; file, line: where it is, the line that of the call in question, from 1, 0 if there is none.
    """

    name: str
    verdict: Verdict
    detail: str = ""
    seconds: float | None = None
    file: str = ""
    line: int = 0

    @property
    def gist(self) -> str:
        """The first line of the detail."""
        return self.detail.partition("\n")[0].strip()


def render(results: Sequence[Result], format: str, title: str) -> str:  # noqa: A002 -- the word for it
    """`results` as a text in one of FORMATS; `title` says what was run, on which kernel.

    Raises:
        KeyError: there is no such format.
    """
    return _RENDERERS[format](results, title)


def _text(results: Sequence[Result], title: str) -> str:
    lines = [title]
    for result in results:
        lines.append(f"{result.name}: {result.verdict}" + (f": {result.gist}" * bool(result.gist)))
        if result.verdict in FAILED:
            lines += [f"    {line}".rstrip() for line in result.detail.splitlines()[1:]]
    return "\n".join([*lines, counted(results)]) + "\n"


def counted(results: Sequence[Result]) -> str:
    """How many there are of each verdict, in a line."""
    counts = Counter(result.verdict for result in results)
    return ", ".join(f"{counts[each]} {each}" for each in VERDICTS if counts[each]) or "nothing ran"


def _json(results: Sequence[Result], title: str) -> str:
    counts = Counter(result.verdict for result in results)
    data = {
        "title": title,
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "results": [asdict(result) for result in results],
    }
    return json.dumps(data, indent=1) + "\n"


def _tap(results: Sequence[Result], title: str) -> str:
    lines = ["TAP version 13", f"1..{len(results)}", *_comments(title)]
    for number, result in enumerate(results, start=1):
        sign, directive = {
            "known": ("not ok", "TODO known"),
            "unknown": ("ok", "SKIP unknown"),
        }.get(result.verdict, ("not ok" if result.verdict in FAILED else "ok", ""))
        lines.append(_test_line(sign, number, result, directive))
        if result.verdict in FAILED:
            lines += _comments(result.detail)
    return "\n".join(lines) + "\n"


def _ktap(results: Sequence[Result], title: str) -> str:
    lines = ["KTAP version 1", *_comments(title), f"1..{len(results)}"]
    for number, result in enumerate(results, start=1):
        if result.verdict in FAILED:
            lines += _comments(result.detail)
        sign, directive = {
            "known": ("ok", "XFAIL known"),
            "unknown": ("ok", "SKIP unknown"),
        }.get(result.verdict, ("not ok" if result.verdict in FAILED else "ok", ""))
        lines.append(_test_line(sign, number, result, directive))
    counts = Counter(result.verdict for result in results)
    totals = {
        "pass": counts["agrees"],
        "fail": sum(counts[verdict] for verdict in FAILED),
        "xfail": counts["known"],
        "xpass": 0,
        "skip": counts["unknown"],
        "error": 0,
    }
    lines.append("# Totals: " + " ".join(f"{name}:{count}" for name, count in totals.items()))
    return "\n".join(lines) + "\n"


def _test_line(sign: str, number: int, result: Result, directive: str) -> str:
    # A `#` would begin a directive, a number at the beginning be that of the test.
    name = " ".join(printable(result.name).replace("#", ":").split())
    gist = f": {printable(result.gist)}" if directive and result.gist else ""
    return f"{sign} {number} - {name}" + (f" # {directive}{gist}" if directive else "")


def _comments(text: str) -> list[str]:
    return [f"# {printable(line)}".rstrip() for line in text.splitlines()]


def _junit(results: Sequence[Result], title: str) -> str:
    counts = Counter(result.verdict for result in results)
    seconds = sum(result.seconds or 0.0 for result in results)
    totals = {
        "name": printable(title),
        "tests": str(len(results)),
        "failures": str(counts["diverges"] + counts["unexpected"]),
        "errors": str(counts["crashed"]),
        "time": f"{seconds:.3f}",
    }
    suites = Element("testsuites", totals)
    skipped = str(counts["known"] + counts["unknown"])
    suite = SubElement(suites, "testsuite", {**totals, "skipped": skipped})
    for result in results:
        test = {"name": printable(result.name), "classname": "vmadiff"}
        if result.seconds is not None:
            test["time"] = f"{result.seconds:.3f}"
        case = SubElement(suite, "testcase", test)
        element = "failure" if result.verdict in FAILED else "skipped"
        element = "error" if result.verdict == "crashed" else element
        if result.verdict != "agrees":
            words = {"type": result.verdict, "message": printable(result.gist)}
            text = f"{_place(result)}\n{result.detail}" if _place(result) else result.detail
            SubElement(case, element, words).text = printable(text)
    indent(suites, " ")
    text = tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _place(result: Result) -> str:
    return result.file + (f":{result.line}" if result.file and result.line else "")


def _sarif(results: Sequence[Result], title: str) -> str:
    told = [result for result in results if result.verdict in (*FAILED, "known")]
    rules = [verdict for verdict in _MEANINGS if any(r.verdict == verdict for r in told)]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "vmadiff",
                        "rules": [
                            {"id": rule, "shortDescription": {"text": _MEANINGS[rule]}}
                            for rule in rules
                        ],
                    }
                },
                "automationDetails": {"description": {"text": printable(title)}},
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {
                                "level": "warning",
                                "message": {"text": printable(f"{result.name}: {_told(result)}")},
                                **_locations(result),
                            }
                            for result in results
                            if result.verdict == "unknown"
                        ],
                    }
                ],
                "results": [_sarif_result(result, rules) for result in told],
            }
        ],
    }
    return json.dumps(log, indent=1) + "\n"


def _sarif_result(result: Result, rules: Sequence[str]) -> dict[str, Any]:
    # The same divergence of the same program is one alert, whatever line it has come to stand in.
    print_ = sha256(f"{result.name}\n{result.verdict}\n{result.gist}".encode()).hexdigest()
    data: dict[str, Any] = {
        "ruleId": result.verdict,
        "ruleIndex": rules.index(result.verdict),
        "level": "note" if result.verdict == "known" else "error",
        "message": {"text": printable(f"{result.name}: {_told(result)}")},
        "partialFingerprints": {"vmadiff/v1": print_},
        **_locations(result),
    }
    if result.verdict == "known":
        data["suppressions"] = [{"kind": "external"}]
    return data


def _told(result: Result) -> str:
    return result.detail.strip() or _MEANINGS[result.verdict]


def _locations(result: Result) -> dict[str, Any]:
    if not result.file:
        return {}
    path = PurePath(result.file)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    place: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if result.line:
        place["region"] = {"startLine": result.line}
    return {"locations": [{"physicalLocation": place}]}


_RENDERERS: Final[dict[str, Callable[[Sequence[Result], str], str]]] = {
    "text": _text,
    "json": _json,
    "junit": _junit,
    "tap": _tap,
    "ktap": _ktap,
    "sarif": _sarif,
}
FORMATS: Final = tuple(_RENDERERS)
