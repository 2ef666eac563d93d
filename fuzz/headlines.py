"""What the kernel reports about itself: which lines begin a report, of what kind it is, and its title.

Titles are those that syzkaller gives (`KASAN: slab-use-after-free Read in vma_merge`), so that they can be looked up.
Pure: lines without printk's prefix in, values out. How reports are cut out of a console is in `fuzz.console`, whom they
are put down to in `fuzz.crashes`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fuzz import frames


class CrashKind(StrEnum):
    """Kinds of report, the gravest first."""

    OOPS = "oops"
    BUG = "bug"
    KASAN = "kasan"
    KFENCE = "kfence"
    KMSAN = "kmsan"
    PANIC = "panic"
    BAD = "bad state"
    UBSAN = "ubsan"
    KCSAN = "kcsan"
    WARNING = "warning"
    LOCKDEP = "lockdep"
    HANG = "hang"
    SILENCE = "silence"


#: How the signature of a kernel's report begins.
KERNEL: Final = "the kernel reported: "
#: The kernel does not survive these.
FATAL: Final = frozenset({CrashKind.OOPS, CrashKind.BUG, CrashKind.PANIC})
#: Memory that is not what it should be: a fault that follows is no other bug.
_MEMORY: Final = frozenset({CrashKind.KASAN, CrashKind.KFENCE, CrashKind.KMSAN})
_STANDING: Final = frozenset({CrashKind.HANG, CrashKind.SILENCE})
#: Panics that only say that there was a report.
_ECHOES: Final = re.compile(
    r"kernel panic: (?:.*panic_on_warn|Fatal exception|Fatal machine check|hung_task|softlockup"
    r"|RCU Stall|Hard LOCKUP|Oops|.*panic_on_oops|NMI: Not continuing)",
    re.I,
)
#: Frames that take part in the key.
_TOP: Final = 3
_LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class Crash:
    """One report. frames: functions of the stack, innermost first, without those that only report; text: as it was
    on the console."""

    kind: CrashKind
    title: str
    frames: tuple[str, ...] = ()
    text: str = ""

    @property
    def key(self) -> str:
        """The same for two reports of one bug: the title and the frames that it does not name."""
        top = self.frames[:_TOP]
        named = top and self.title.endswith(f" in {top[0]}")
        return " < ".join((self.title, *(top[1:] if named else top)))

    @property
    def signature(self) -> str:
        """One line that names the bug, as `fuzz.triage` has it for divergences."""
        return KERNEL + self.key


@dataclass(frozen=True, slots=True)
class Headline:
    """A line that begins a report.

    pattern: matches the line; its group `func`, if any, is the function that is to blame; title: made of the
    pattern's other groups, `{access}` (what KASAN's second line says) and ` in {func}`, which goes where no function
    is known; where: "line" takes the function from the line if it can, "lock" from the lock that is waited for,
    "registers" from them, "trace" from the stack; fenced: it ends with a line of ===; dies: an `Oops: 0000 [#1]`
    that follows is part of it.
    """

    kind: CrashKind
    pattern: re.Pattern[str]
    title: str
    where: str = "trace"
    fenced: bool = False
    dies: bool = False


def _headline(kind: CrashKind, pattern: str, title: str, where: str = "trace") -> Headline:
    fenced = kind in (*_MEMORY, CrashKind.UBSAN, CrashKind.KCSAN) or "hung" in title
    dies = kind in (CrashKind.OOPS, CrashKind.BUG) and not title.startswith("kernel panic")
    return Headline(kind, re.compile(pattern), title, where, fenced, dies)


_FUNC: Final = r"(?P<func>[A-Za-z_][\w.$]*)"
#: Lockdep's lines have been printed as `[ INFO: ... ]`, `[ BUG: ... ]` and `WARNING: ...`.
_LOCKDEP: Final = r"(?:\[ )?(?:WARNING|INFO|BUG): "
_NULL: Final = r"(?:unable to handle )?kernel NULL pointer dereference"
_PAGING: Final = r"[Uu]nable to handle (?:kernel paging request|page fault|kernel data access)"
#: `Oops: 0000 [#1] SMP`, `Oops: general protection fault, probably for ...: 0000 [#1]`, `Oops [#1]`
_DIE: Final = r"(?:Oops: |Internal error: )?{}\b(?:.*[:\]] |.* - .*)?(?:[0-9a-f]{{4,16}} )?\[#\d+\]"

K = CrashKind
#: The first that matches counts.
HEADLINES: Final = (
    # What a guest's watcher says where nothing more came (kernel_bridge/guest.py).
    _headline(K.SILENCE, r"\[vmadiff: (?P<a>lost connection: .+)\]$", "{a}", "none"),
    _headline(
        K.KASAN, rf"BUG: KASAN: (?:double-free or )?(?P<a>invalid-free) in {_FUNC}",
        "KASAN: {a} in {func}", "line",
    ),
    _headline(K.KASAN, rf"BUG: KASAN: double-free in {_FUNC}", "KASAN: invalid-free in {func}", "line"),
    _headline(K.KASAN, rf"BUG: KASAN: (?P<a>[\w-]+)(?: in {_FUNC})?", "KASAN: {a}{access} in {func}", "line"),
    _headline(K.KMSAN, rf"BUG: KMSAN: (?P<a>[\w-]+)(?: in {_FUNC})?", "KMSAN: {a} in {func}", "line"),
    _headline(
        K.KFENCE, rf"BUG: KFENCE: (?P<a>[a-z -]+?)(?: in {_FUNC}.*)?$", "KFENCE: {a} in {func}", "line"
    ),
    _headline(
        K.KCSAN, r"BUG: KCSAN: (?P<a>[\w: -]+) in (?P<b>\S+(?: / \S+)?)", "KCSAN: {a} in {b}", "none"
    ),
    _headline(K.UBSAN, r"UBSAN: (?P<a>[A-Za-z][\w -]*?) in \S+", "UBSAN: {a} in {func}"),
    _headline(
        K.OOPS, rf"(?:BUG: |Unable to handle )?(?:{_NULL})",
        "BUG: unable to handle kernel NULL pointer dereference in {func}", "registers",
    ),
    _headline(
        K.OOPS, rf"(?:BUG: )?{_PAGING}",
        "BUG: unable to handle kernel paging request in {func}", "registers",
    ),
    _headline(
        K.OOPS, r"BUG: (?:.* )?stack guard page was hit at",
        "BUG: stack guard page was hit in {func}", "registers",
    ),
    _headline(K.OOPS, r"(?:traps: )?PANIC: double fault", "PANIC: double fault in {func}", "registers"),
    _headline(
        K.BUG, r"kernel BUG at \S*lib/list_debug\.c", "BUG: corrupted list in {func}", "registers"
    ),
    _headline(K.BUG, r"(?:kernel|Kernel) BUG (?:at|in) \S+", "kernel BUG in {func}", "registers"),
    _headline(
        K.OOPS, _DIE.format("(?P<a>general protection fault|divide error|invalid opcode|int3)"),
        "{a} in {func}", "registers",
    ),
    _headline(K.OOPS, _DIE.format("stack segment"), "stack segment fault in {func}", "registers"),
    _headline(
        K.OOPS, _DIE.format(r"(?:kernel )?stack (?:overflow|guard page)"),
        "kernel stack overflow in {func}", "registers",
    ),
    _headline(K.OOPS, r"Insufficient stack space to handle exception", "kernel stack overflow in {func}", "registers"),
    _headline(K.OOPS, r"Internal error: .*\[#\d+\]", "Internal error in {func}", "registers"),
    _headline(
        K.OOPS, r"Oops(?: - [\w ]+)?(?::.*)? \[#\d+\]|Kernel BUG \[#\d+\]", "Oops in {func}", "registers"
    ),
    _headline(
        K.OOPS,
        r"Kernel panic - not syncing: (?P<a>Segfault with no mm|Kernel mode fault|Kernel mode signal \d+"
        r"|Kernel tried to access user memory)",
        "kernel panic: {a} in {func}", "registers",
    ),
    _headline(
        K.PANIC, rf"Kernel panic - not syncing: stack-protector: Kernel (?P<a>stack is corrupted) in: {_FUNC}",
        "kernel panic: {a} in {func}", "line",
    ),
    _headline(
        K.PANIC, r"Kernel panic - not syncing: corrupted stack end",
        "kernel panic: corrupted stack end in {func}",
    ),
    _headline(K.PANIC, r"Kernel panic - not syncing: (?P<a>.*)", "kernel panic: {a}", "none"),
    _headline(K.HANG, r"INFO: task .+ blocked (?:in I/O wait )?for more than \d+ s", "INFO: task hung in {func}"),
    _headline(K.HANG, r"INFO: task .+ can't die for more than \d+ s", "INFO: task can't die in {func}"),
    _headline(
        K.HANG, r"(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls?",
        "INFO: rcu detected stall in {func}", "registers",
    ),
    _headline(K.HANG, r"(?:NMI )?(?:watchdog: )?BUG: soft lockup", "BUG: soft lockup in {func}", "registers"),
    _headline(
        K.HANG, r"(?:NMI watchdog: |watchdog: |CPU\d+: )*(?:BUG: )?Watchdog detected hard LOCKUP",
        "BUG: hard lockup in {func}", "registers",
    ),
    _headline(K.HANG, r"BUG: workqueue lockup", "BUG: workqueue lockup", "none"),
    _headline(K.WARNING, r"WARNING: .*lib/refcount\.c:\d+ .*", "WARNING: refcount bug in {func}"),
    _headline(K.WARNING, r"WARNING: .*lib/debugobjects\.c:\d+ .*", "WARNING: ODEBUG bug in {func}"),
    _headline(
        K.WARNING, rf"WARNING: CPU: \d+ PID: \d+ at (?:\S+:\d+ )?(?:{_FUNC}\+0x)?", "WARNING in {func}", "line"
    ),
    _headline(
        K.WARNING, rf"WARNING: (?:.* )?at (?:{_FUNC}\+0x|0x)\S*, CPU#\d+: ", "WARNING in {func}", "line"
    ),
    _headline(
        K.LOCKDEP,
        _LOCKDEP + r"(?:possible (?:circular|recursive) locking|possible irq lock inversion"
        r"|\S+-safe -> \S+-unsafe lock order)",
        "possible deadlock in {func}", "lock",
    ),
    _headline(K.LOCKDEP, _LOCKDEP + "inconsistent lock state", "inconsistent lock state in {func}"),
    _headline(K.LOCKDEP, _LOCKDEP + "suspicious RCU usage", "WARNING: suspicious RCU usage in {func}"),
    _headline(K.LOCKDEP, _LOCKDEP + "bad unlock balance", "WARNING: bad unlock balance in {func}"),
    _headline(K.LOCKDEP, _LOCKDEP + "bad contention", "WARNING: bad contention in {func}"),
    _headline(K.LOCKDEP, _LOCKDEP + "held lock freed", "WARNING: held lock freed in {func}"),
    _headline(K.LOCKDEP, _LOCKDEP + "[Nn]ested lock was not taken", "WARNING: nested lock was not taken in {func}"),
    _headline(
        K.LOCKDEP, _LOCKDEP + "(?:.* )?still has locks held", "WARNING: still has locks held in {func}", "lock"
    ),
    _headline(
        K.LOCKDEP, _LOCKDEP + "lock held when returning to user space",
        "WARNING: lock held when returning to user space in {func}", "lock",
    ),
    _headline(K.LOCKDEP, _LOCKDEP + "[Ii]nvalid wait context", "BUG: invalid wait context in {func}"),
    _headline(K.LOCKDEP, "INFO: (?P<a>trying to register non-static key)", "INFO: {a} in {func}"),
    _headline(
        K.LOCKDEP, "BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context in {func}",
    ),
    _headline(K.LOCKDEP, "BUG: scheduling while atomic", "BUG: scheduling while atomic in {func}"),
    _headline(
        K.LOCKDEP, r"BUG: using (?P<a>\w+\(\)) in preemptible", "BUG: using {a} in preemptible code in {func}"
    ),
    _headline(K.LOCKDEP, r"BUG: (?P<a>workqueue leaked lock(?:,| or) atomic\w*)", "BUG: {a}", "none"),
    _headline(
        K.LOCKDEP, r"BUG: (?P<a>(?:spinlock|rwlock) [\w ]+?) on (?:CPU|UP)", "BUG: {a} in {func}"
    ),
    _headline(K.BAD, r"BUG: Bad page (?P<a>state|cache)", "BUG: Bad page {a} in {func}"),
    _headline(K.BAD, r"BUG: Bad page (?P<a>map)", "BUG: Bad page {a}", "none"),
    _headline(K.BAD, r"BUG: Bad rss-counter state", "BUG: Bad rss-counter state", "none"),
    _headline(K.BAD, r"BUG (?P<a>\S+) \([^)]*\): (?P<b>\S.*)", "BUG {a}: {b} in {func}"),
    _headline(K.BAD, r"BUG: (?P<a>\S.*)", "BUG: {a}", "none"),
)  # fmt: skip

#: A report between the kernel's marks of which no line is known.
UNKNOWN: Final = _headline(K.WARNING, "", "unknown report in {func}", "registers")
_CONTINUES: Final = re.compile(
    r"(?:Oops|Internal error|[a-z][\w ,]*: ).*\[#\d+\]|.*: [0-9a-f]{4} \[#\d+\]"
)
_ACCESS: Final = re.compile(r"(Read|Write) (?:of size|at addr)")
_LOCK: Final = re.compile(r".*\bat: (?:\[<\S+>\] )?([A-Za-z_][\w.$]*)\+0x")
_NUMBERS: Final = (
    (re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|\(____ptrval____\)", re.I), "ADDR"),
    (re.compile(r"(?<![A-Za-z_])\d+\b"), "NUM"),
)
#: What a panic's text ends with that is another each time.
_TAIL: Final = re.compile(r" exitcode=.*| \((?!_).*|\.+$|:$")


def headline(line: str) -> Headline | None:
    """What report begins with `line`, None if it is an ordinary one."""
    return next((each for each in HEADLINES if each.pattern.match(line)), None)


def continues(line: str) -> bool:
    """Whether `line` is the `Oops: 0000 [#1]` of a report that has begun already."""
    return bool(_CONTINUES.match(line))


def describe(headline: Headline, line: str, lines: Sequence[str], text: str) -> Crash:
    """The report that began with `line`; `lines` are all of it without prefixes, `text` is it with them."""
    waiting = headline.kind is CrashKind.HANG
    traces = list(frames.stacks(lines, interrupts=not waiting))
    trace = next((t for t in traces if t.called), traces[0] if traces else None)
    names = list(trace.frames) if trace else []
    if headline.where == "registers":
        names = [*filter(None, [frames.pointer(lines)]), *names]
    kept = frames.telling(names, waiting)
    match = headline.pattern.match(line)
    groups = match.groupdict("") if match else {}
    func = frames.plain_name(groups.pop("func", ""))
    if headline.where == "lock":
        func = next((frames.plain_name(m[1]) for m in map(_LOCK.match, lines) if m), "")
    if kept and (not func or frames.serves(func)):
        func = kept[0]
    access = next((f" {m[1]}" for m in map(_ACCESS.match, lines) if m), "")
    form = headline.title if func else headline.title.removesuffix(" in {func}")
    words = {name: steady(value) for name, value in groups.items()}
    return Crash(headline.kind, form.format(func=func, access=access, **words), kept, text)


def steady(text: str) -> str:
    """The text without what is another each time: addresses, numbers, statuses."""
    text = _TAIL.sub("", text.strip())
    for pattern, word in _NUMBERS:
        text = pattern.sub(word, text)
    return text[:_LONGEST]


def silence(title: str, text: str = "") -> Crash:
    """A kernel that no longer answers and does not say why; `title` says how that shows."""
    return Crash(CrashKind.SILENCE, title, (), text)


def follows(crash: Crash, before: Iterable[Crash]) -> bool:
    """Whether `crash` is only what became of the kernel after one of those `before` it.

    An oops explains all that comes after it, damaged memory explains an oops, one thing that stands still explains
    another; a warning explains nothing but the panic that was asked for.
    """
    for earlier in before:
        if earlier.kind in FATAL:
            return True
        if earlier.kind in _MEMORY and crash.kind in FATAL | _MEMORY:
            return True
        if earlier.kind in _STANDING and crash.kind in _STANDING:
            return True
        if crash.kind is CrashKind.PANIC and _ECHOES.match(crash.title):
            return True
    return False


def causes(crashes: Sequence[Crash]) -> list[Crash]:
    """The reports of one kernel, in order, without those that only follow from an earlier one."""
    return [crash for i, crash in enumerate(crashes) if not follows(crash, crashes[:i])]


def gravest(crashes: Sequence[Crash]) -> Crash | None:
    """The report to name a kernel's death by: of the causes the gravest, of like ones the first."""
    order = list(CrashKind)
    return min(causes(crashes), key=lambda crash: order.index(crash.kind), default=None)
