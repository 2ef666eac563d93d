"""A divergence as a mail to the people whose kernel it is: plain text, no line longer than needed.

It is Markdown too: sections have underlined headings, what is not to be wrapped is indented by four.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final, Protocol

from abi.calls import Call
from abi.consts import PAGE
from abi.environment import Environment, Geometry
from abi.program import format_call
from fuzz.compare import Divergence
from fuzz.replay import Replay
from fuzz.report import difference_lines, layout_lines, result_text

_WIDTH: Final = 76
_INDENT: Final = "    "
#: The file of the kernel that a call is in, as titles of patches name it; `mm` for all others.
_AREAS: Final = {
    "mmap": "mm/mmap",
    "munmap": "mm/vma",
    "mprotect": "mm/mprotect",
    "pkey_mprotect": "mm/mprotect",
    "madvise": "mm/madvise",
    "process_madvise": "mm/madvise",
    "set_vma_name": "mm/madvise",
    "mremap": "mm/mremap",
    "touch": "mm/memory",
    "uffd_register": "mm/userfaultfd",
    "uffd_unregister": "mm/userfaultfd",
    "uffd_writeprotect": "mm/userfaultfd",
    "mlock": "mm/mlock",
    "mlock2": "mm/mlock",
    "munlock": "mm/mlock",
    "mlockall": "mm/mlock",
    "munlockall": "mm/mlock",
    "mseal": "mm/mseal",
    "msync": "mm/msync",
    "mincore": "mm/mincore",
    "remap_file_pages": "mm/mmap",
    "brk": "mm/mmap",
    "fork": "mm/mmap",
    "mbind": "mm/mempolicy",
    "shmat": "ipc/shm",
    "shmdt": "ipc/shm",
    "ftruncate": "mm/truncate",
}
#: The form of a signature (fuzz.triage.signature).
_SIGNATURE: Final = re.compile(
    r"(?P<call>\w+)(?:\[(?P<traits>[^\]]*)\])? (?P<field>\w+): (?P<what>.+)"
)
_SIDES: Final = re.compile(r"model (?P<model>.+), kernel (?P<kernel>.+)")
_ERRNO: Final = re.compile(r"E[A-Z0-9]+")

_FIELDS: Final = {"pages": "page tables:", "contents": "reading gives", "events": "events:"}
#: What a signature says of layouts (fuzz.triage.layout_difference), for who knows of no model.
_LAYOUTS: Final = {
    "kernel merged": "mappings are merged that should not be",
    "model merged": "mappings are not merged",
    "mapped elsewhere": "memory is mapped elsewhere",
    "split elsewhere": "mappings are split elsewhere",
    "extra mapping in kernel": "there is a mapping too many",
    "extra mapping in model": "a mapping is missing",
}

#: Files that show it, what they are, how they are used.
_REPRODUCERS: Final = (
    (
        "repro.c",
        "`repro.c` needs nothing but a C library; it exits with 1 if the kernel does this, with 0 if it does what is"
        " expected:",
        "cc -o repro repro.c && ./repro",
    ),
    (
        "kselftest.c",
        "`kselftest.c` is the same as a test for tools/testing/selftests/mm:",
        "cp kselftest.c tools/testing/selftests/mm/vmadiff.c",
    ),
    (
        "program",
        "`program` is the same for the fuzzer that found it, which shows both sides of every call:",
        "vmadiff run program",
    ),
)


class Judgement(Protocol):
    """Whose mistake it likely is, and why: the model's rules with their sources, how often it came again, what other
    kernels do. Sequences may be empty."""

    @property
    def suspect(self) -> str: ...
    @property
    def because(self) -> str: ...
    @property
    def rules(self) -> Sequence[str]: ...
    @property
    def stability(self) -> Sequence[str]: ...
    @property
    def history(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the text. Of `paragraphs`, lines that begin with a space stay as they are, others are wrapped; `items`
    are those of a list."""

    title: str
    paragraphs: tuple[str, ...] = ()
    items: tuple[str, ...] = ()


def title(text: str) -> str:
    """The subject of a mail about what has the signature `text`: `mm/mremap: mremap(FIXED, grow) fails with ENOMEM`."""
    match = _SIGNATURE.fullmatch(text)
    if match is None:
        return text
    call, field, what = match["call"], match["field"], match["what"]
    traits = ", ".join((match["traits"] or "").split(","))
    made = f"{call}({traits})"
    area = _AREAS.get(call, "mm")
    if field == "result":
        return f"{area}: {made} {_wrong_result(what)}"
    return f"{area}: after {made}, {_wrong_state(field, what)}"


def field_of(text: str) -> str:
    """What differs, of what has the signature `text`; "" if it is no divergence."""
    match = _SIGNATURE.fullmatch(text)
    return match["field"] if match else ""


def _wrong_result(what: str) -> str:
    sides = _SIDES.fullmatch(what)
    if sides is None:
        return what
    kernel, model = sides["kernel"], sides["model"]
    if _ERRNO.fullmatch(kernel):
        return f"fails with {kernel}" + (f", not {model}" if _ERRNO.fullmatch(model) else "")
    if _ERRNO.fullmatch(model):
        return f"succeeds, should be {model}"
    if kernel == f"another {model}":
        return f"returns {kernel} than it should"
    return f"returns {kernel}, not {model}"


def _wrong_state(field: str, what: str) -> str:
    if field == "layout":
        return _LAYOUTS.get(what, f"mappings have another {what}")
    if field == "counters":
        return what.replace("more in kernel", "too high").replace("less in kernel", "too low")
    if field == "flags":
        return "VmFlags: " + what.replace("model only", "lack").replace("kernel only", "have")
    sides = _SIDES.fullmatch(what)
    if sides is None:
        return what
    return f"{_FIELDS.get(field, field)} {sides['kernel']}, should be {sides['model']}"


def subject(replay: Replay) -> str:
    """The title of the divergence of `replay`."""
    return title(replay.text)


def mail(
    replay: Replay,
    profile: str,
    judgement: Judgement,
    notes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> str:
    """The mail about the divergence of `replay`, which was found by a model of `profile`; `notes` are lines about how
    it was found, `files` the names of those that lie beside it."""
    lines = [f"Subject: {subject(replay)}", ""]
    for section in sections(replay, profile, judgement, notes, files):
        if section.title:
            lines += [section.title, "-" * len(section.title), ""]
        for paragraph in section.paragraphs:
            lines += _wrapped(paragraph)
        for item in section.items:
            lines += wrap(
                item,
                _WIDTH,
                initial_indent="  * ",
                subsequent_indent="    ",
                break_long_words=False,
            )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def sections(
    replay: Replay,
    profile: str,
    judgement: Judgement,
    notes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> list[Section]:
    """What there is to say, in the order in which it is read; nothing empty."""
    divergence = replay.divergence
    assert divergence is not None, "there is nothing to tell"
    environment, geometry = replay.environment, replay.environment.geometry
    call = replay.program[divergence.index]
    ours = result_text(call, divergence.ours.value, geometry)
    theirs = result_text(call, divergence.theirs.value, geometry)
    told = [
        Section("", (summary(replay, divergence), "", *_kernel(replay, profile))),
        Section("Program", (_explained(replay), "", *program_lines(replay, divergence))),
        Section("Expected", _side(call, geometry, ours, divergence, "expected")),
        Section("Found", _side(call, geometry, theirs, divergence, "found")),
        Section("Layout", tuple(_indented(_difference(divergence, environment)))),
        Section("Rule", items=tuple(judgement.rules)),
        Section("Who is likely wrong", (f"{_sentence(judgement.suspect)}: {judgement.because}.",)),
        Section("Stability", items=(*judgement.stability, *notes)),
        Section("Since, until", items=tuple(judgement.history)),
        Section("Reproducer", reproducer(files)),
    ]
    return [section for section in told if section.paragraphs or section.items]


def summary(replay: Replay, divergence: Divergence) -> str:
    """What happened, in a sentence or two."""
    number, calls = divergence.index + 1, len(replay.program)
    which = "The only call" if calls == 1 else f"Call {number} of {calls}"
    how = {
        "result": "gives another result than the model of the kernel's rules says",
        "layout": "leaves another layout of the address space than the model of the kernel's rules says",
        "consistency": "leaves the kernel's own views of the address space at odds with each other",
    }.get(
        divergence.field,
        f"leaves {_LEFT.get(divergence.field, divergence.field)} other than the model of the kernel's rules says",
    )
    release = replay.environment.release or "this kernel"
    return f"{which} of the program below {how}, on {release}."


_LEFT: Final = {
    "counters": "counters (VmSize, VmLck and their like)",
    "flags": "VmFlags",
    "pages": "page table entries",
    "contents": "contents of memory",
    "events": "userfaultfd events",
    "child": "a child",
}


def _kernel(replay: Replay, profile: str) -> tuple[str, ...]:
    environment = replay.environment
    rights = ", ".join(f"CAP_{name}" for name in sorted(environment.capabilities)) or "none"
    rows = [
        ("kernel", f"{environment.release} {environment.machine}".strip()),
        ("config", ", ".join(sorted(environment.config)) or "nothing of interest"),
        ("rights", rights),
        ("model", f"that of {profile}"),
    ]
    lines: list[str] = []
    for name, text in rows:
        lines += wrap(
            text,
            _WIDTH,
            initial_indent=f"{_INDENT}{name:<8} ",
            subsequent_indent=_INDENT + " " * 9,
            break_long_words=False,
        )
    # In one piece, to be searched for.
    return (*lines, f"{_INDENT}kind     {replay.text}")


def _explained(replay: Replay) -> str:
    geometry = replay.environment.geometry
    text = "\n".join(replay.lines())
    anchors = (("W", geometry.window), ("T", geometry.top), ("B", geometry.heap))
    used = [(name, at) for name, at in anchors if re.search(rf"\b{name}[+-]\d", text)]
    if not used:
        return f"`p` is a page of {PAGE} bytes."
    where = ", ".join(f"{name} = {at:#x}" for name, at in used)
    name = used[0][0]
    return f"`p` is a page of {PAGE} bytes; {name}+2 is two pages above {name}, where {where}."


def program_lines(replay: Replay, divergence: Divergence) -> list[str]:
    """The calls, numbered and wrapped, with the results that both sides agree on."""
    geometry = replay.environment.geometry
    lines: list[str] = []
    for index, call in enumerate(replay.program):
        text = format_call(call, geometry)
        if index < divergence.index:
            text += f" = {result_text(call, replay.theirs[index].value, geometry)}"
        mark = ">>" if index == divergence.index else "  "
        lines += call_lines(text, f"{_INDENT}{mark} {index + 1:>2}  ")
    return lines


def call_lines(text: str, lead: str) -> list[str]:
    """A call behind `lead`, broken after commas and before `|` where it is too long."""
    pieces = re.split(r"(?<=, )|(?=\|)", text)
    lines, line, hanging = [], lead, " " * (len(lead) + 4)
    for piece in pieces:
        if len(line + piece.rstrip()) > _WIDTH + len(_INDENT) and line.strip():
            lines.append(line.rstrip())
            line = hanging
        line += piece
    return [*lines, line.rstrip()]


def _side(
    call: Call, geometry: Geometry, result: str, divergence: Divergence, which: str
) -> tuple[str, ...]:
    """What one side says; which of the drawings below shows it."""
    lines = call_lines(f"{format_call(call, geometry)} = {result}", _INDENT)
    if divergence.ours.layout != divergence.theirs.layout:
        lines += ["", f"and the layout `{which}` below."]
    elif divergence.field == "consistency":
        said = (
            "the views agree with each other" if which == "expected" else "they do not, see below"
        )
        lines += ["", f"The layout is the one below, and {said}."]
    elif divergence.field != "result":
        sign = "-" if which == "expected" else "+"
        lines += ["", f"and what is marked `{sign}` below."]
    return tuple(lines)


def _difference(divergence: Divergence, environment: Environment) -> list[str]:
    return [
        *difference_lines(divergence, environment),
        *layout_lines(divergence, environment)[1:],
    ]


def reproducer(files: Sequence[str]) -> tuple[str, ...]:
    """How to see it, with those of `files` that are for it."""
    lines: list[str] = []
    for name, what, command in _REPRODUCERS:
        if name in files:
            lines += ["", what, "", f"{_INDENT}{command}"]
    return tuple(lines[1:])


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"{_INDENT}{line}".rstrip() for line in lines]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _wrapped(paragraph: str) -> list[str]:
    if not paragraph or paragraph.startswith(" "):
        return [paragraph]
    return wrap(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
