"""What machines read is valid by their own schemas and parsers, whatever is in names and details."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from tap.line import Result as TapResult
from tap.parser import Parser

from fuzz.formats import FAILED, FORMATS, VERDICTS, Result, counted, render

SCHEMAS = Path(__file__).parent.parent / "schemas"
JUNIT = xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")
SARIF = Draft4Validator(json.loads((SCHEMAS / "sarif-2.1.0-rtm.4.json").read_text()))

ONE_OF_EACH = (
    Result("a.prog", "agrees", seconds=0.25),
    Result("b.prog", "known", "brk layout: a known one\nits cause", 1.0, "dir/b c.prog", 3),
    Result("c.prog", "diverges", "mremap result: model 0, kernel EINVAL\nmore", 1500.5, "/x/c", 7),
    Result("d.prog", "crashed", "BUG: <KASAN> & co\n\x1b[31mstack\x00"),
    Result("e.prog", "unknown", "unmodelled from call 2 on", file="e.prog"),
)

results = st.builds(
    Result,
    name=st.text(min_size=1),
    verdict=st.sampled_from(VERDICTS),
    detail=st.text(),
    seconds=st.none() | st.floats(0, 1e6),
    file=st.text().map(lambda text: text.replace("\x00", "")),
    line=st.integers(0, 1000),
)


def parse_ktap(text: str) -> list[tuple[str, int, str, str]]:
    """Status, number, description and directive of each test, of a text that has the form of
    Documentation/dev-tools/ktap.rst and no line of any other."""
    first, *lines = text.removesuffix("\n").split("\n")
    assert first == "KTAP version 1"
    lines = [line for line in lines if line != "#" and not line.startswith("# ")]
    plan, *tests = lines
    assert re.fullmatch(r"1\.\.\d+", plan)
    found = []
    for number, line in enumerate(tests, start=1):
        match = re.fullmatch(
            r"(ok|not ok) (\d+) - ([^#]*?)(?: # (SKIP|TODO|XFAIL|TIMEOUT|ERROR)( .*)?)?", line
        )
        assert match, line
        assert int(match[2]) == number
        found.append((match[1], number, match[3], match[4] or ""))
    assert plan == f"1..{len(found)}"
    return found


def parse_tap(text: str) -> list[TapResult]:
    lines = list(Parser().parse_text(text))
    assert lines[0].category == "version"
    assert lines[1].category == "plan"
    assert {line.category for line in lines[2:]} <= {"test", "diagnostic"}
    tests = [line for line in lines if isinstance(line, TapResult)]
    assert lines[1].expected_tests == len(tests)
    assert [test.number for test in tests] == list(range(1, len(tests) + 1))
    return tests


def test_junit_follows_its_schema() -> None:
    text = render(ONE_OF_EACH, "junit", "corpus on 6.18")
    JUNIT.validate(text)
    (suite,) = ElementTree.fromstring(text.encode())
    assert suite.attrib == {
        "name": "corpus on 6.18", "tests": "5", "failures": "1", "errors": "1", "skipped": "2",
        "time": "1501.750",
    }  # fmt: skip
    children = [[child.tag for child in case] for case in suite]
    assert children == [[], ["skipped"], ["failure"], ["error"], ["skipped"]]
    failure = suite[2][0]
    assert failure.get("message") == "mremap result: model 0, kernel EINVAL"
    assert (failure.text or "").startswith("/x/c:7\n")
    assert (suite[3][0].text or "") == "BUG: <KASAN> & co\n\ufffd[31mstack\ufffd"


def test_sarif_follows_its_schema() -> None:
    log = json.loads(render(ONE_OF_EACH, "sarif", "corpus on 6.18"))
    SARIF.validate(log)
    (run,) = log["runs"]
    known, diverges, crashed = run["results"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [rules[each["ruleIndex"]] for each in run["results"]] == ["known", "diverges", "crashed"]
    assert [each["level"] for each in run["results"]] == ["note", "error", "error"]
    assert known["suppressions"] == [{"kind": "external"}]
    place = known["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "dir/b%20c.prog"}, "region": {"startLine": 3}}
    place = diverges["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "file:///x/c"
    assert "locations" not in crashed
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"] == "e.prog: unmodelled from call 2 on"


def test_tap_says_what_failed() -> None:
    tests = parse_tap(render(ONE_OF_EACH, "tap", "corpus on 6.18"))
    assert [(test.ok, test.todo, test.skip) for test in tests] == [
        (True, False, False),
        (False, True, False),
        (False, False, False),
        (False, False, False),
        (True, False, True),
    ]


def test_ktap_says_what_failed() -> None:
    text = render(ONE_OF_EACH, "ktap", "corpus on 6.18")
    assert parse_ktap(text) == [
        ("ok", 1, "a.prog", ""),
        ("ok", 2, "b.prog", "XFAIL"),
        ("not ok", 3, "c.prog", ""),
        ("not ok", 4, "d.prog", ""),
        ("ok", 5, "e.prog", "SKIP"),
    ]
    before, _, _ = text.partition("not ok 3")
    assert before.endswith("# mremap result: model 0, kernel EINVAL\n# more\n")
    assert text.endswith("# Totals: pass:1 fail:2 xfail:1 xpass:0 skip:1 error:0\n")


def test_text_tells_failures_in_full() -> None:
    lines = render(ONE_OF_EACH, "text", "corpus on 6.18").splitlines()
    assert lines[:5] == [
        "corpus on 6.18",
        "a.prog: agrees",
        "b.prog: known: brk layout: a known one",
        "c.prog: diverges: mremap result: model 0, kernel EINVAL",
        "    more",
    ]
    assert lines[-1] == "1 agrees, 1 known, 1 diverges, 1 crashed, 1 unknown"


def test_json_has_it_all() -> None:
    data = json.loads(render(ONE_OF_EACH, "json", "corpus on 6.18"))
    assert data["title"] == "corpus on 6.18"
    assert data["counts"] == {verdict: int(verdict != "unexpected") for verdict in VERDICTS}
    assert [Result(**each) for each in data["results"]] == list(ONE_OF_EACH)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(results, max_size=5), st.text())
def test_any_text_is_valid(given: list[Result], title: str) -> None:
    JUNIT.validate(render(given, "junit", title))
    SARIF.validate(json.loads(render(given, "sarif", title)))
    json.loads(render(given, "json", title))
    failed = [result.verdict in FAILED for result in given]
    assert [status == "not ok" for status, *_ in parse_ktap(render(given, "ktap", title))] == failed
    tests = parse_tap(render(given, "tap", title))
    assert [not test.ok and not test.todo for test in tests] == failed


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_valid(name: str) -> None:
    text = render((), name, "nothing")
    assert text.endswith("\n")
    assert counted(()) == "nothing ran"
    if name == "junit":
        JUNIT.validate(text)
    elif name == "sarif":
        SARIF.validate(json.loads(text))


def test_what_was_to_diverge_and_agrees_is_a_failure() -> None:
    given = [Result("a.prog", "unexpected", "unexpectedly agrees", 0.5, "a.prog", 1)]
    assert [status for status, *_ in parse_ktap(render(given, "ktap", ""))] == ["not ok"]
    assert "fail:1 " in render(given, "ktap", "")
    (suite,) = ElementTree.fromstring(render(given, "junit", "").encode())
    assert (suite.get("failures"), [each.tag for each in suite[0]]) == ("1", ["failure"])
    (run,) = json.loads(render(given, "sarif", ""))["runs"]
    assert [(each["ruleId"], each["level"]) for each in run["results"]] == [("unexpected", "error")]
