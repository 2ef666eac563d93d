"""A kernel's console as a stream: bytes in as they come, reports out as they end.

It knows printk's prefixes and where a report begins and ends; what it says is read in `fuzz.headlines`.
"""

import re
from typing import Final

from fuzz.frames import is_frame
from fuzz.headlines import UNKNOWN, Crash, CrashKind, Headline, continues, describe, headline

#: Bytes that are kept for a finding, and of one line at most.
KEPT: Final = 256 << 10
_LONGEST: Final = 8192
#: Lines of a report at most; ordinary lines in a row that end one; lines between a mark and its headline.
_MOST_LINES: Final = 2000
_QUIET: Final = 30
_LEAD: Final = {"cut": 400, "dump": 60, "fence": 8}

_JUNK: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\0]")
_PREFIX: Final = re.compile(
    r"\d+,\d+,\d+,[^;]*;"  # /dev/kmsg
    r"|(?:.*?\bkernel: )?(?:<\d+>)?(?:.*?\[ *\d+\.\d{4,}\](?:\[ *[TC]\d+\])*)? ?"
)
_CUT: Final = re.compile(r"-+\[ cut here \]-+")
_FENCE: Final = re.compile(r"={5,}\s*$")
_END: Final = re.compile(r"-+\[ end (?:trace|Kernel panic)")
_ASKED_FOR: Final = re.compile(r"Kernel panic - not syncing: (?:\w+: )?panic_on_warn set")
#: What mm/debug.c and UML print of their state before they report.
_DUMP: Final = re.compile(
    r"(?:vma|mm|vmg|vmi) [0-9a-f]{8,} |page: ?refcount|page:[0-9a-f]{8,} |Pid: \d+, comm: "
)
#: Lines that ordinary output does not look like.
_OF_REPORT: Final = re.compile(
    r".*\b(?:[\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+|[0-9a-f]{16}|0x[0-9a-f]{8,})\b"
    r"|\s*(?:</?\w+>|#\d+: |-> #\d+ |\w+\(\S*\);|\*\*\* |[RE]?[A-Z0-9]{2,3}: [0-9a-f]{4,})"
    r"|(?:CPU: |Hardware name: |Modules linked in|Call [Tt]race:|Code: |RIP: |Stack:|Tainted: |Workqueue: "
    r"|Comm: |Kernel Offset|Rebooting in|Sending NMI|NMI backtrace|task:|stack backtrace:|rcu: "
    r"|Showing all locks|\d+ locks? held|no locks held|Possible |other info|and this task|which lock|the existing"
    r"|but task is|(?:Read|Write) of size|The buggy|Memory state|page dumped|raw: |flags: )"
)


def strip(line: str) -> str:
    """The line without escapes and what printk, syslog or /dev/kmsg put before the text."""
    line = _JUNK.sub("", line)
    match = _PREFIX.match(line)
    return line[match.end() :] if match else line


def reports(data: bytes) -> list[Crash]:
    """All reports in what a kernel has printed, in order; `fuzz.headlines` says which of them count."""
    console = Console()
    return console.feed(data) + console.flush()


class Console:
    """What a kernel prints. `keep`: so many bytes of it are kept."""

    def __init__(self, keep: int = KEPT) -> None:
        self._keep = keep
        self._tail = bytearray()
        self._partial = bytearray()
        #: Lines from a mark on, of what may become a report; which mark it was.
        self._lead: list[str] = []
        self._mark = ""
        self._lines: list[str] = []
        self._headline: Headline | None = None
        self._first = ""
        self._died = False
        self._ordinary = 0

    @property
    def unfinished(self) -> bool:
        """A report has begun and not ended."""
        return self._headline is not None or self._mark == "cut"

    @property
    def text(self) -> str:
        """The last of what was printed."""
        return _JUNK.sub("", self._tail[-self._keep :].decode(errors="replace"))

    def feed(self, data: bytes) -> list[Crash]:
        """Take what was printed next; the reports that have ended with it."""
        self._tail += data
        if len(self._tail) > 2 * self._keep:
            del self._tail[: -self._keep]
        self._partial += data
        found: list[Crash] = []
        begin = 0
        while True:
            end = self._partial.find(b"\n", begin, begin + _LONGEST + 1)
            if end < 0:
                if len(self._partial) - begin <= _LONGEST:
                    break
                self._take(self._partial[begin : begin + _LONGEST], found)
                begin += _LONGEST
            else:
                self._take(self._partial[begin:end], found)
                begin = end + 1
        del self._partial[:begin]
        return found

    def flush(self) -> list[Crash]:
        """Nothing more will come, or not for a while: the reports that were not at their end."""
        found: list[Crash] = []
        if self._partial:
            self._take(self._partial, found)
            self._partial.clear()
        if self._headline is None and self._mark == "cut" and any(map(is_frame, self._lead)):
            self._open(UNKNOWN, "")
        self._close(found)
        self._forget()
        return found

    def _take(self, raw: bytes | bytearray, found: list[Crash]) -> None:
        line = _JUNK.sub("", raw.decode(errors="replace"))
        text = strip(line)
        if self._headline is None:
            self._look(line, text, found)
        else:
            self._go_on(self._headline, line, text, found)

    # --- before a report

    def _look(self, line: str, text: str, found: list[Crash]) -> None:
        """A line outside of reports: a mark, a headline, or neither."""
        begun = headline(text)
        if begun is not None:
            self._lead.append(line)
            self._open(begun, text)
            if begun.kind is CrashKind.SILENCE:
                self._close(found)
        elif self._mark == "cut" and _END.match(text):
            self._lead.append(line)
            self._open(UNKNOWN, "")
            self._close(found)
        elif _CUT.match(text):
            self._begin("cut", line, keep=self._mark == "dump")
        elif self._mark:
            self._lead.append(line)
            if _FENCE.match(text) and self._mark == "fence":
                self._begin("fence", line)
            elif len(self._lead) > _LEAD[self._mark]:
                self._forget()
        elif _FENCE.match(text):
            self._begin("fence", line)
        elif _DUMP.match(text):
            self._begin("dump", line)

    def _begin(self, mark: str, line: str, keep: bool = False) -> None:
        self._lead = [*(self._lead if keep else ()), line]
        self._mark = mark

    def _forget(self) -> None:
        self._lead, self._mark = [], ""

    # --- within one

    def _open(self, begun: Headline, text: str) -> None:
        self._lines, self._headline, self._first = self._lead, begun, text
        self._forget()
        self._died = begun.kind is CrashKind.OOPS and continues(text)
        self._ordinary = 0

    def _go_on(self, open_: Headline, line: str, text: str, found: list[Crash]) -> None:
        """A line within a report: it goes on, ends, or gives way to the next."""
        if _END.match(text):
            self._lines.append(line)
            self._close(found)
            return
        if _FENCE.match(text):
            if open_.fenced:
                self._lines.append(line)
            self._close(found)
            if not open_.fenced:
                self._begin("fence", line)
            return
        if _CUT.match(text) or self._is_next(open_, text):
            self._close(found)
            self._look(line, text, found)
            return
        self._lines.append(line)
        self._ordinary = 0 if _OF_REPORT.match(text) or is_frame(text) else self._ordinary + 1
        if self._ordinary >= _QUIET or len(self._lines) >= _MOST_LINES:
            self._close(found)

    def _is_next(self, open_: Headline, text: str) -> bool:
        """Whether another report begins: not the `Oops: 0000 [#1]` of this one, nor the panic that it was to become and
        that shows its stack."""
        if headline(text) is None:
            return False
        if _ASKED_FOR.match(text) and not any(is_frame(strip(each)) for each in self._lines):
            return False
        if open_.dies and not self._died and continues(text):
            self._died = True
            return False
        return True

    def _close(self, found: list[Crash]) -> None:
        if self._headline is None:
            return
        lines = self._lines[: len(self._lines) - self._ordinary]
        plain = [strip(line) for line in lines]
        found.append(describe(self._headline, self._first, plain, "\n".join(lines) + "\n"))
        self._lines, self._headline, self._first = [], None, ""
        self._ordinary = 0
