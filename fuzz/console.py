"""Recognises what a kernel reports of itself on its console: oopses, BUGs, WARNINGs, sanitizers, lockdep, hangs.

Pure: it is given bytes as they come, from a serial console or from /dev/kmsg, and knows no kernel. A title is in the
style of syzkaller's, so that people and their tools know it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: What printk puts before a line on a console, and what /dev/kmsg does.
_PREFIX: Final = re.compile(
    r"^(?:\d+,\d+,\d+,[^;]*;)?(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?"
)
_CUT: Final = re.compile(r"^-+\[ cut here \]-+$")
_RULE: Final = re.compile(r"^={20,}$")
_END: Final = re.compile(r"^---\[ end (trace|Kernel panic)")
_FRAME: Final = re.compile(
    r"^\s*(\? )?(?:\[<[0-9a-f]+>\] )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
)
_RIP: Final = re.compile(r"^(?:E?RIP|pc *)\s*: (?:[0-9a-f]{4}:)?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x")
_ACCESS: Final = re.compile(r"^(Read|Write) of size \d+ ")
_FUNC: Final = r"([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a report of some kind begins. title: a template, for the groups of the pattern and {func}; fatal: the kernel
    does not go on; rank: which of several names a chain, the highest."""

    name: str
    begin: re.Pattern[str]
    title: str
    rank: int
    fatal: bool = False


def _kind(name: str, begin: str, title: str, rank: int, *, fatal: bool = False) -> _Kind:
    return _Kind(name, re.compile(begin), title, rank, fatal)


_KINDS: Final = (
    _kind("kasan", rf"^BUG: KASAN: ([\w-]+)(?: on address \S+)? in {_FUNC}", "KASAN: {0}{access} in {1}", 9),
    _kind("kasan", r"^BUG: KASAN: ([\w-]+)", "KASAN: {0}{access} in {func}", 9),
    _kind("kmsan", rf"^BUG: KMSAN: ([\w-]+) in {_FUNC}", "KMSAN: {0} in {1}", 9),
    _kind("kfence", rf"^BUG: KFENCE: ([\w -]+) in {_FUNC}", "KFENCE: {0} in {1}", 9),
    _kind("kcsan", r"^BUG: KCSAN: ([\w-]+) in (\S+) / (\S+)", "KCSAN: {0} in {1} / {2}", 5),
    _kind("kcsan", r"^BUG: KCSAN: ([\w-]+) in (\S+)", "KCSAN: {0} in {1}", 5),
    _kind("ubsan", r"^UBSAN: ([\w-]+) in \S+", "UBSAN: {0} in {func}", 5),
    _kind(
        "oops", r"^BUG: (?:unable to handle )?kernel NULL pointer dereference",
        "BUG: kernel NULL pointer dereference in {func}", 8, fatal=True,
    ),
    _kind(
        "oops", r"^BUG: unable to handle (?:kernel )?(?:page fault for address|paging request)",
        "BUG: unable to handle kernel paging request in {func}", 8, fatal=True,
    ),
    _kind(
        "oops", r"^(?:Oops: )?general protection fault", "general protection fault in {func}", 8,
        fatal=True,
    ),
    _kind("bug", r"^kernel BUG at \S+!", "kernel BUG in {func}", 8, fatal=True),
    _kind("oops", r"^(?:traps: )?PANIC: double fault", "PANIC: double fault in {func}", 8, fatal=True),
    _kind("oops", r"^BUG: (?:TASK )?stack guard page was hit",
        "BUG: stack guard page was hit in {func}", 8, fatal=True),
    _kind("oops", r"^(?:Oops: )?(divide error|invalid opcode|stack segment|int3): \d", "{0} in {func}", 8, fatal=True),
    _kind("oops", r"^Oops: (\w+)", "Oops in {func}", 7, fatal=True),
    _kind("bug", r"^list_(add|del) corruption", "BUG: corrupted list in {func}", 6),
    _kind("bug", r"^BUG: Bad (page state|page map|page cache|rss-counter state)", "BUG: Bad {0}{in_func}", 6),
    _kind(
        "bug", r"^BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context in {func}", 6,
    ),
    _kind("bug", r"^BUG: scheduling while atomic", "BUG: scheduling while atomic in {func}", 6),
    _kind("lockup", r"^watchdog: BUG: soft lockup", "BUG: soft lockup in {func}", 6),
    _kind("lockup", r"(?:^|: )(?:Watchdog detected hard LOCKUP|hard LOCKUP)", "BUG: hard lockup in {func}", 6),
    _kind("stall", r"^(?:rcu: )?INFO: (?:rcu_\w+ |task )?(?:self-)?detected (?:expedited )?stall",
        "INFO: rcu detected stall in {func}", 6),
    _kind("stall", r"^(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected", "INFO: rcu detected stall in {func}", 6),
    _kind("hung", r"^INFO: task \S+:\d+ blocked for more than \d+ seconds", "INFO: task hung in {func}", 6),
    _kind("lockdep", r"^WARNING: possible (circular|irq lock inversion|recursive) lock",
        "possible deadlock in {func}", 5),
    _kind("lockdep", r"^WARNING: inconsistent lock state", "inconsistent lock state in {func}", 5),
    _kind("lockdep", r"^WARNING: (suspicious RCU usage|bad unlock balance detected|held lock freed"
        r"|lock held when returning to user space)", "WARNING: {0} in {func}", 5),
    _kind("warning", rf"^WARNING: (?:CPU: \d+ PID: \d+ at )?\S+:\d+ (?:at )?{_FUNC}", "WARNING in {0}", 4),
    _kind("warning", r"^WARNING: (?:CPU: \d+ PID: \d+ at )?[\w/.-]+\.[ch]:\d+", "WARNING in {func}", 4),
    _kind("panic", r"^Kernel panic - not syncing: (.*)", "kernel panic: {0}", 3, fatal=True),
)  # fmt: skip
#: Functions that only report.
_GENERIC: Final = re.compile(
    r"^(?:dump_stack\w*|show_\w+|print_\w+|(?:__)?kasan_\w+|check_memory_region|__asan_\w+|__warn\w*"
    r"|warn_slowpath\w*|report_bug|handle_bug|exc_\w+|asm_exc_\w+|asm_\w+|(?:__)?die\w*|oops_\w+|v?panic|nmi_\w+"
    r"|(?:__)?ubsan_\w+|handle_overflow|(?:__)?lock_acquire|validate_chain|check_\w+lock\w*|lockdep_\w+|lock_\w+"
    r"|_raw_spin_\w+|_*might_sleep|__might_resched|__schedule|schedule\w*|page_fault_oops|no_context"
    r"|(?:__)?bad_area\w*|(?:__)?kcsan_\w+|__tsan_\w+|bad_page|invalid_op|do_error_trap|do_trap|fixup_bug"
    r"|watchdog\w*|__list_(?:add|del)\w*|rcu_\w+|sched_\w+|update_process_times|tick_\w+|(?:__)?hrtimer_\w+"
    r"|timer_\w+|sysvec_\w+)$"
)
#: Lines that a report has at most; frames that make its key.
_MOST_LINES: Final = 400
_KEY_FRAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Crash:
    """A report. kind: "oops", "kasan", "warning" ...; title: one line; frames: the functions that were active, the
    innermost first, those that only report left out; text: all of it; fatal: the kernel does not go on after it."""

    kind: str
    title: str
    frames: tuple[str, ...]
    text: str
    fatal: bool = False

    @property
    def key(self) -> str:
        """The same for reports of one fault: the title and the innermost frames."""
        return " < ".join((self.title, *self.frames[:_KEY_FRAMES]))


class Console:
    """Takes a console's bytes as they come and gives the reports in it, each when it is whole."""

    def __init__(self) -> None:
        self._partial = b""
        self._lines: list[str] = []
        self._begun = False
        self._fatal = False

    def feed(self, data: bytes) -> list[Crash]:
        """The reports that these bytes complete."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        found: list[Crash] = []
        for line in lines:
            found += self._take(line.replace(b"\0", b"").decode(errors="replace").rstrip("\r"))
        return found

    def flush(self) -> list[Crash]:
        """What there is, though its end has not come: nothing more will."""
        found = self.feed(b"\n") if self._partial else []
        return [*found, *self._close()]

    def _take(self, line: str) -> Iterator[Crash]:
        text = _PREFIX.sub("", line, count=1)
        kind = _beginning(text)
        opening = _CUT.match(text) or (_RULE.match(text) and not self._begun)
        ends = opening and not self._fatal
        if kind is not None:
            ends = not (self._fatal and _follows(kind))
        if ends and self._begun:
            yield from self._close()
        if kind is not None and not self._begun:
            self._begun, self._fatal = True, kind.fatal
        elif opening and not self._begun:
            # What comes next says whether it opens anything.
            self._lines = [text]
            return
        if not self._begun:
            # Rules and their kind may be followed by one more line before the report proper.
            if len(self._lines) > 1:
                self._lines.clear()
            elif self._lines:
                self._lines.append(text)
            return
        self._lines.append(text)
        over = _END.match(text) and not (self._fatal and "trace" in text)
        closed = _RULE.match(text) and len(self._lines) > 2 and not self._fatal
        if over or closed or len(self._lines) >= _MOST_LINES:
            yield from self._close()

    def _close(self) -> list[Crash]:
        lines, begun = self._lines, self._begun
        self._lines, self._begun, self._fatal = [], False, False
        return [_report(lines)] if begun else []


def reports(data: bytes) -> list[Crash]:
    """All reports in a whole console."""
    console = Console()
    return [*console.feed(data), *console.flush()]


def worst(crashes: list[Crash]) -> Crash | None:
    """The one that names the others: the first of the highest rank."""
    ranks = {kind.name: kind.rank for kind in reversed(_KINDS)}
    return max(crashes, key=lambda crash: ranks[crash.kind], default=None)


def _beginning(text: str) -> _Kind | None:
    return next((kind for kind in _KINDS if kind.begin.search(text)), None)


def _follows(kind: _Kind) -> bool:
    """After a fatal report it is a part of that, or the end that it leads to."""
    return kind.fatal or kind.name == "panic"


def _report(lines: list[str]) -> Crash:
    kind, match = next(
        (k, m) for line in lines for k in _KINDS if (m := k.begin.search(line)) is not None
    )
    frames = _frames(lines)
    rip = next((m.group(1) for line in lines if (m := _RIP.match(line))), "")
    if _GENERIC.match(rip):
        rip = ""
    func = rip or next(iter(frames), "unknown")
    access = next((f" {m.group(1)}" for line in lines if (m := _ACCESS.match(line))), "")
    groups = [_plain(group or "") for group in match.groups()]
    in_func = f" in {func}" if func != "unknown" else ""
    title = kind.title.format(*groups, func=_plain(func), access=access, in_func=in_func)
    return Crash(kind.name, title, frames, "\n".join(lines) + "\n", kind.fatal)


def _frames(lines: list[str]) -> tuple[str, ...]:
    """The functions of the first stack, innermost first."""
    found: list[str] = []
    inside = False
    for line in lines:
        if line.lstrip().startswith(("Call Trace:", "Call trace:", "stack backtrace:", "Stack:")):
            if found:
                break
            inside = True
            continue
        match = _FRAME.match(line) if inside else None
        if match and not match.group(1) and not _GENERIC.match(match.group(2)):
            found.append(_plain(match.group(2)))
    return tuple(found)


def _plain(name: str) -> str:
    """A function's name without what the compiler added."""
    return re.sub(r"\.(?:isra|part|constprop|cold|llvm)[.\d]*", "", name)
