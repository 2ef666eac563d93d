"""The reader of strace's output: every form it prints a call in gives the same call."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.strace import (
    StraceError,
    Syscall,
    annotation,
    fields,
    format_call,
    items,
    number,
    numbered,
    read,
    split,
)

TRACES = sorted((Path(__file__).parent / "traces").glob("*.strace"))
MUNMAP = Syscall(7, "munmap", ("0x7f0000001000", "4096"), 0)
NAMES = {"PROT_READ": 1, "PROT_WRITE": 2, "MAP_HUGE_SHIFT": 26}


def calls(*lines: str) -> list[Syscall]:
    found, strange = read([f"{line}\n" for line in lines])
    assert strange == 0
    return found


@pytest.mark.parametrize(
    "line",
    [
        "7 munmap(0x7f0000001000, 4096) = 0",
        "7 munmap(0x7f0000001000, 4096)     = 0",
        "7 munmap(0x7f0000001000, 4096)     = 0 <0.000012>",
        "[pid     7] munmap(0x7f0000001000, 4096) = 0",
        "[pid 7] 12:01:59 munmap(0x7f0000001000, 4096) = 0",
        "7 12:01:59.123456 munmap(0x7f0000001000, 4096) = 0",
        "7 1700000000.123456 munmap(0x7f0000001000, 4096) = 0",
        "7      0.000123 munmap(0x7f0000001000, 4096) = 0",
        "7<bash> munmap(0x7f0000001000, 4096) = 0",
        "7 [00007f12345678ab] munmap(0x7f0000001000, 4096) = 0",
        "7 [  11] munmap(0x7f0000001000, 4096) = 0",
        "7 munmap(0x7f0000001000 /* here */, 4096) = 0",
    ],
)
def test_a_call_in_every_form(line: str) -> None:
    assert calls(line) == [MUNMAP]


def test_an_error_has_its_name_and_a_call_that_never_returned_no_value() -> None:
    failed, gone = calls(
        "7 mmap(NULL, 0, PROT_NONE, MAP_PRIVATE, 3</a, b>, 0) = -1 EINVAL (Invalid argument)",
        "7 exit_group(0)                     = ?",
    )
    assert (failed.error, failed.failed) == ("EINVAL", True)
    assert failed.arguments[4] == "3</a, b>"
    assert gone.value is None and gone.failed


def test_descriptors_and_their_annotations() -> None:
    (opened,) = calls('7 openat(AT_FDCWD</tmp>, "a)b, c", O_RDONLY) = 3</dev/zero<char 1:5>>')
    assert opened.arguments == ("AT_FDCWD</tmp>", '"a)b, c"', "O_RDONLY")
    assert (opened.value, opened.note) == (3, "/dev/zero<char 1:5>")
    assert annotation("4<TCP:[127.0.0.1:1->127.0.0.1:2]>") == "TCP:[127.0.0.1:1->127.0.0.1:2]"
    assert number("4</memfd:x>(deleted)", {}) == 4
    assert annotation("4</memfd:x>(deleted)") == "/memfd:x"
    assert annotation("0x1") == ""


def test_annotations_of_sockets_and_paths_with_an_arrow_in_them() -> None:
    words = (
        '3<UNIX:[12->13, "/x"]>',
        "4<TCPv6:[[::1]:80->[::1]:90]>",
        "5</a->",
        "6</dev/tty<char 5:0>>",
        "1<<_A|1<<_B",
    )
    assert split(", ".join(words)) == words


def test_an_interrupted_call_counts_where_it_ends() -> None:
    assert calls(
        "7 mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1 <unfinished ...>",
        "8 brk(NULL) = 0x1000",
        "7 <... mmap resumed>, 0) = 0x7f0000000000",
    ) == [
        Syscall(8, "brk", ("NULL",), 0x1000),
        Syscall(
            7,
            "mmap",
            ("NULL", "4096", "PROT_NONE", "MAP_PRIVATE|MAP_ANONYMOUS", "-1", "0"),
            0x7F0000000000,
        ),
    ]


def test_what_others_may_use_at_once_counts_where_it_begins() -> None:
    first, second, third = calls(
        "7 munmap(0x7f0000001000, 4096 <unfinished ...>",
        "7 <... munmap resumed>) = 0",
        "7 vfork( <unfinished ...>",
        "8 brk(NULL) = 0x1000",
        "7 <... vfork resumed>) = 8",
    )
    assert first == MUNMAP
    assert (second.name, second.arguments, second.value) == ("vfork", (), 8)
    assert third.pid == 8


def test_a_call_whose_end_is_missing_never_returned() -> None:
    assert calls("7 vfork( <unfinished ...>", "7 brk(NULL) = 0x1000")[0].value is None
    assert calls("7 mmap(NULL <unfinished ...>", "7 brk(NULL) = 0x1000") == [
        Syscall(7, "brk", ("NULL",), 0x1000)
    ]


def test_lines_of_strace_itself_are_none() -> None:
    assert calls(
        "strace: Process 8 attached",
        "7 --- SIGCHLD {si_signo=SIGCHLD, si_pid=8} ---",
        "7 munmap(0x7f0000001000, 4096) = 0",
        " > /usr/lib/libc.so.6(munmap+0xb) [0x11ea07]",
        "7 +++ exited with 0 +++",
        "[pid 7] [????????????????] +++ killed by SIGKILL +++",
        "",
    ) == [MUNMAP]


def test_a_line_may_be_broken_by_strace() -> None:
    (call,) = calls(
        "7 clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached",
        ", child_tidptr=0x7f0000000a10) = 8",
    )
    assert call.arguments[1:] == ("flags=SIGCHLD", "child_tidptr=0x7f0000000a10")
    assert call.value == 8


def test_processes_without_a_number() -> None:
    found = calls("fork() = 8", "[pid 7] brk(NULL) = 0x1000", "[pid 8] brk(NULL) = 0x1000")
    assert [call.pid for call in numbered(found)] == [7, 7, 8]
    assert [call.pid for call in numbered(calls("brk(NULL) = 0x1000"))] == [0]
    # What was begun with a number may end without one.
    (call,) = calls("[pid 7] brk(NULL <unfinished ...>", "<... brk resumed>) = 0x1000")
    assert (call.pid, call.value) == (7, 0x1000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NULL", 0),
        ("0x10", 16),
        ("-1", -1),
        ("0600", 0o600),
        ("PROT_READ|PROT_WRITE|0x8", 11),
        ("0x3 /* PROT_READ|PROT_WRITE */", 3),
        ("21<<MAP_HUGE_SHIFT", 21 << 26),
        ("8192*1024", 8 << 20),
        ("3</a|b>", 3),
    ],
)
def test_numbers(text: str, value: int) -> None:
    assert number(text, NAMES) == value


@pytest.mark.parametrize("text", ["", "PROT_EXEC", "{a=1}", "0x", "1 2"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever int() says
        number(text, NAMES)


def test_structures_and_lists() -> None:
    text = "{range={start=0x7f00, len=0x2000}, mode=A|B, ioctls=1<<_C|1<<_D}"
    assert fields(text) == {
        "range": "{start=0x7f00, len=0x2000}",
        "start": "0x7f00",
        "len": "0x2000",
        "mode": "A|B",
        "ioctls": "1<<_C|1<<_D",
    }
    assert items("[{a=1, b=2}, {a=3}]") == ("{a=1, b=2}", "{a=3}")


@pytest.mark.parametrize("lines", [[], ["hello"], ["\x7fELF\x02", "\0\0"], ["int main(void)"] * 9])
def test_other_text_is_refused(lines: list[str]) -> None:
    with pytest.raises(StraceError, match=r"^x: not the output of strace$"):
        read(lines, "x")


def test_a_strange_line_is_counted() -> None:
    assert read([format_call(MUNMAP), "hello"]) == ([MUNMAP], 1)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_every_line_of_a_real_trace_is_understood(path: Path) -> None:
    found, strange = read(path.read_text().splitlines())
    assert strange == 0 and len(found) > 10


NUMBERS = st.one_of(
    st.integers(0, (1 << 64) - 1).map(hex), st.integers(-9, 1 << 40).map(str), st.just("NULL")
)
STRINGS = st.text(st.sampled_from('ab ,()[]{}<>=|-/*\\"'), max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
PATHS = st.text(st.sampled_from("ab ,()[]{}=|-/"), max_size=12)
DESCRIPTORS = st.builds("{}</{}>".format, st.integers(0, 99), PATHS.filter(lambda p: "->" not in p))
WORDS = st.one_of(NUMBERS, STRINGS, DESCRIPTORS, st.sampled_from(["A|B", "1<<C", "AT_FDCWD"]))
LISTS = st.lists(WORDS, min_size=1, max_size=3).map(lambda words: f"[{', '.join(words)}]")
STRUCTURES = st.lists(WORDS | LISTS, min_size=1, max_size=3).map(
    lambda words: "{" + ", ".join(f"f{i}={word}" for i, word in enumerate(words)) + "}"
)
CALLS = st.one_of(
    st.builds(
        Syscall,
        st.integers(1, 99999),
        st.sampled_from(["mmap", "munmap", "clone3", "openat", "_llseek"]),
        st.lists(WORDS | LISTS | STRUCTURES, max_size=6).map(tuple),
        st.one_of(st.none(), st.integers(0, (1 << 63) - 1)),
    ),
    st.builds(
        Syscall, st.integers(1, 9), st.just("brk"), st.just(()), st.just(-1), st.just("ENOMEM")
    ),
    st.builds(
        Syscall,
        st.integers(1, 9),
        st.just("open"),
        st.just(()),
        st.integers(0, 99),
        note=PATHS.map("/{}".format),
    ),
)


@given(call=CALLS)
def test_reading_what_was_written(call: Syscall) -> None:
    assert read([format_call(call)]) == ([call], 0)


@given(call=CALLS, data=st.data())
def test_an_interruption_changes_nothing(call: Syscall, data: st.DataObject) -> None:
    line = format_call(call)
    begun = line.index("(") + 1
    end = line.rindex(")" if call.value is None or call.error == "" else ") = -1")
    if call.note:
        end = line.index(")")
    cuts = [at for at in range(begun, end + 1) if at == begun or line[at - 2 : at] == ", "]
    at = data.draw(st.sampled_from(cuts))
    other = Syscall(100000, "brk", ("NULL",), 0x1000)
    broken = [
        f"{line[:at]} <unfinished ...>",
        format_call(other),
        f"{call.pid} <... {call.name} resumed>{line[at:]}",
    ]
    found, strange = read(broken)
    assert strange == 0
    assert sorted(found, key=lambda each: each.pid) == sorted([call, other], key=lambda e: e.pid)


@given(words=st.lists(WORDS | LISTS | STRUCTURES, min_size=1, max_size=6))
def test_arguments_come_apart_where_they_were_joined(words: list[str]) -> None:
    assert split(", ".join(words)) == tuple(words)
