"""A reproducer as a test for the kernel's tools/testing/selftests/mm, on its harness (kselftest_harness.h)."""

import re
from collections.abc import Iterator

from fuzz.repro.body import Line
from fuzz.repro.c import assigned, checks, functions
from fuzz.repro.case import Case
from fuzz.repro.source import Source, comment, split, texts, wrap

_LONGEST = 60


def text(case: Case) -> str:
    """The C file of the test. Its calls are made in the test itself, or, where it matters what else is mapped, in a
    process of their own.

    Raises:
        ReproError: there is none.
    """
    source = Source(case)
    apart = source.needs_own_calls()
    parts = source.parts(checks(source) if apart else [])
    head = [
        case.title,
        "",
        *source.about(),
        "",
        "For tools/testing/selftests/mm.",
    ]
    if source.alone:
        head.append(
            "To be linked with -static -Wl,-Ttext-segment=0x20000000: it wants to know all that is mapped."
        )
    rows = [
        "// SPDX-License-Identifier: GPL-2.0",
        *comment(head),
        "#define _GNU_SOURCE",
        '#include "../kselftest_harness.h"',
        *source.headers(parts),
        "",
        *source.definitions(),
        "#define OUT 2",
        "#define CANNOT KSFT_SKIP",
        "",
        source.code(parts),
        "",
        *(_apart(source) if apart else _here(source)),
    ]
    return "\n".join(rows) + "\n"


def _name(case: Case) -> str:
    return re.sub(r"\W+", "_", case.title).strip("_").lower()[:_LONGEST].strip("_") or "program"


def _here(source: Source) -> list[str]:
    return [
        *source.declarations(),
        "",
        f"TEST({_name(source.case)})",
        "{",
        "\tconst char *want;",
        "",
        *(f"\t{row}" for row in source.preparation()),
        *(f"\t{row}" for row in source.beginning()),
        *(row for line in source.statements for row in _rows(line)),
        "}",
        "",
        "TEST_HARNESS_MAIN",
    ]


def _apart(source: Source) -> list[str]:
    if source.alone:
        begin = ['\tchar *arguments[] = { (char *)"test", NULL };', "", "\tbegin_again(arguments);"]
    else:
        begin = ["\tprepare();", "\tmake_calls();"]
    main = [
        "int main(int argc, char **argv)",
        "{",
        '\tif (!strcmp(argv[0], "alone")) {',
        "\t\tprepare();",
        "\t\trun_on_own_stack(make_calls);",
        "\t}",
        "\treturn test_harness_run(argc, argv);",
        "}",
    ]
    return [
        *functions(source, '\tdprintf(OUT, "agrees: %d calls\\n", calls_made);'),
        "",
        f"TEST({_name(source.case)})",
        "{",
        *begin,
        "}",
        "",
        *(main if source.alone else ["TEST_HARNESS_MAIN"]),
    ]


def _rows(line: Line) -> Iterator[str]:
    match line.how:
        case "blank":
            yield ""
        case "comment":
            yield f"\t/* {line.call} */"
        case "is":
            pieces = [piece.strip() for piece in split(line.call)]
            yield from wrap("ASSERT_EQ(", [*line.want, "raw(" + pieces[0], *pieces[1:]], "));")
        case "reaches":
            pieces = [piece.strip() for piece in split(line.call)]
            yield from wrap("ASSERT_STREQ(", [f'"{line.want[0]}"', *pieces], ");")
        case "layout":
            yield from assigned(line.want)
            yield f"\tASSERT_STREQ(want, {line.call});"
        case "again":
            yield f"\tASSERT_STREQ(want, {line.call});"
        case "text":
            first, *rest = texts(line.want, "\t\t     ")
            rows = [f"\tASSERT_STREQ({first.strip()}", *rest]
            rows[-1] += f", {line.call});"
            yield from rows
