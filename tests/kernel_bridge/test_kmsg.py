"""The log of the running kernel: its records as lines, overruns, and what forbids to read it."""

import errno
import os
from pathlib import Path

import pytest

from kernel_bridge import kmsg
from kernel_bridge.kmsg import OVERRUN, Kmsg, KmsgError, text

#: What a test writes into the log of this machine says who it is. As what user space writes, no fuzzer believes it.
MARK = "vmadiff test of kmsg"


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (b"4,123,1234567,-;text\n", b"[    1.234567] text\n"),
        (b"0,1,0,-;\n", b"[    0.000000] \n"),
        (b"6,9,98765432100,-,caller=T12;a; b\n SUBSYSTEM=pci\n", b"[98765.432100] a; b\n"),
        (
            rb"4,1,1000000,-;one\x0a\x09two\x5c" + b"\n",
            b"[    1.000000] one\n[    1.000000] \ttwo\\\n",
        ),
        (b"12,5,1000000,-;from user space\n", b""),
        (b"no record", b""),
        (b"a,b,c;d\n", b""),
        (b"", b""),
    ],
)
def test_records(record: bytes, line: bytes) -> None:
    assert text(record) == line


def test_what_user_space_wrote_is_shown_if_asked_for() -> None:
    assert text(b"12,5,1000000,-;hello\n", own=True) == b"[    1.000000] hello\n"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes | OSError]:
    """What reading the log gives, one after the other, then nothing."""
    queue: list[bytes | OSError] = []

    def answer(descriptor: int, size: int) -> bytes:
        if not queue:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        next_ = queue.pop(0)
        if isinstance(next_, OSError):
            raise next_
        return next_

    monkeypatch.setattr(kmsg.os, "read", answer)
    (tmp_path / "kmsg").touch()
    return queue


def test_records_come_in_order(answers: list[bytes | OSError], tmp_path: Path) -> None:
    log = Kmsg(tmp_path / "kmsg")
    assert log.read() == b""
    answers += [b"4,1,1,-;one\n", b"12,2,2,-;user\n", b"4,3,3,-;two\n"]
    assert log.read() == b"[    0.000001] one\n[    0.000003] two\n"
    assert log.read() == b""
    log.close()
    log.close()


def test_overrun_is_said_and_reading_goes_on(
    answers: list[bytes | OSError], tmp_path: Path
) -> None:
    log = Kmsg(tmp_path / "kmsg")
    answers += [b"4,1,1,-;one\n", OSError(errno.EPIPE, "overrun"), b"4,900,3,-;two\n"]
    assert log.read() == b"[    0.000001] one\n" + OVERRUN + b"[    0.000003] two\n"
    log.close()


def test_other_errors_are_raised(answers: list[bytes | OSError], tmp_path: Path) -> None:
    log = Kmsg(tmp_path / "kmsg")
    answers.append(OSError(errno.EIO, "broken"))
    with pytest.raises(OSError, match="broken"):
        log.read()
    log.close()


def test_kernel_that_writes_without_end_does_not_hold_up_its_reader(
    answers: list[bytes | OSError], tmp_path: Path
) -> None:
    log = Kmsg(tmp_path / "kmsg")
    answers += [b"4,1,1,-;x\n"] * 6000
    assert log.read().count(b"\n") == 5000
    assert log.read().count(b"\n") == 1000
    log.close()


def test_refusal_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KmsgError, match=r"is not watched: /no/kmsg: No such file or directory$"):
        Kmsg("/no/kmsg")

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    setting = tmp_path / "dmesg_restrict"
    monkeypatch.setattr(kmsg, "_RESTRICTED", setting)
    monkeypatch.setattr(kmsg.os, "open", refuse)
    with pytest.raises(KmsgError, match=r"/dev/kmsg: Operation not permitted$"):
        Kmsg()
    setting.write_text("1\n")
    with pytest.raises(KmsgError, match=r"\(kernel.dmesg_restrict is 1: it takes CAP_SYSLOG\)$"):
        Kmsg()


def test_log_of_this_machine() -> None:
    try:
        log = Kmsg(own=True)
        plain = Kmsg()
    except KmsgError as error:
        pytest.skip(str(error))
    try:
        writer = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be written: {error.strerror}")
    lines = [f"{MARK}: line {n} of process {os.getpid()}" for n in range(3)]
    for line in lines:
        os.write(writer, f"<4>{line}\n".encode())
    os.close(writer)
    seen = [line.partition("] ")[2] for line in log.read().decode().splitlines()]
    assert [line for line in seen if f"of process {os.getpid()}" in line] == lines
    assert MARK.encode() not in plain.read(), "what user space writes is not believed"
    log.close()
    plain.close()
