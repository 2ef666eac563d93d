"""A reproducer as one C file, on libc alone."""

from collections.abc import Iterator

from fuzz.repro.body import Line
from fuzz.repro.case import Case
from fuzz.repro.source import Source, comment, needs_child, split, texts, wrap


def text(case: Case) -> str:
    """The C file: its exit status is 0 where all is as the model says, 1 where not, 2 where it cannot run.

    Raises:
        ReproError: there is none.
    """
    source = Source(case)
    parts = source.parts(checks(source))
    static = "-static -Wl,-Ttext-segment=0x20000000 " if source.alone else ""
    head = [
        case.title,
        "",
        *source.about(),
        "",
        f"cc -O1 -Wall -Wextra {static}-o repro repro.c && ./repro",
        "exit status: 0 all is as expected, 1 it is not, 2 it cannot run here",
    ]
    rows = [
        *comment(head),
        "#define _GNU_SOURCE",
        *source.headers(parts),
        "",
        *source.definitions(),
        "#define OUT 1",
        "#define CANNOT 2",
        "",
        source.code(parts),
        "",
        *functions(source, '\tdprintf(OUT, "agrees: %d calls\\n", calls_made);'),
        "",
        "int main(int argc, char **argv)",
        "{",
        "\t(void)argc;",
        *(["\tbegin_again(argv);"] if source.alone else ["\t(void)argv;"]),
        *(f"\t{row}" for row in ["prepare();", *_start(source)]),
        "}",
    ]
    return "\n".join(rows) + "\n"


def checks(source: Source) -> list[str]:
    """The parts that check results and texts."""
    accesses = any(line.how == "reaches" for line in source.statements)
    return ["expect", "reaches"] if accesses else ["expect"]


def functions(source: Source, goodbye: str) -> list[str]:
    """prepare() and make_calls()."""
    return [
        *source.declarations(),
        "",
        "static void prepare(void)",
        "{",
        *(f"\t{row}" for row in source.preparation()),
        "}",
        "",
        "static void make_calls(void)",
        "{",
        "\tconst char *want;",
        *(["\tint child;"] if needs_child(source.statements) else []),
        "",
        *(f"\t{row}" for row in source.beginning()),
        *(row for line in source.statements for row in _rows(line)),
        "",
        goodbye,
        "\t_exit(0);",
        "}",
    ]


def _start(source: Source) -> list[str]:
    return ["run_on_own_stack(make_calls);" if source.alone else "make_calls();"]


def _rows(line: Line) -> Iterator[str]:
    match line.how:
        case "blank":
            yield ""
        case "comment":
            yield f"\t/* {line.call} */"
        case "statement":
            yield f"\t{line.call}"
        case "is":
            pieces = [piece.strip() for piece in split(line.call)]
            yield from wrap("is(", [*pieces, *line.want], ");")
        case "reaches":
            pieces = [piece.strip() for piece in split(line.call)]
            yield from wrap("reaches(", [*pieces, f'"{line.want[0]}"'], ");")
        case "layout":
            yield from assigned(line.want)
            yield f"\tsame({line.call}, want);"
        case "text":
            yield from _same(line, "\t")
        case "again":
            yield f"\tsame({line.call}, want);"
        case "child":
            yield from _same(line, "\t\t")


def _same(line: Line, indent: str) -> list[str]:
    head = f"{indent}same({line.call}, "
    first, *rest = line.want
    rows = [head + first, *texts(rest, indent + " " * (len(head) - len(indent)))]
    rows[-1] += ");"
    return rows


def assigned(want: tuple[str, ...]) -> list[str]:
    """The text that is wanted, as an assignment."""
    first, *rest = want
    rows = [f"\twant = {first}", *texts(rest, "\t       ")]
    rows[-1] += ";"
    return rows
