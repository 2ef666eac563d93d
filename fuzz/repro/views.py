"""What a trace says, as the texts that a reproducer compares with what it sees (fuzz/repro/parts makes the same)."""

from collections.abc import Callable, Iterable

from abi.consts import (
    FD_NAMES,
    PAGE,
    TOUCH_ENDLESS,
    TOUCH_SIGBUS,
    TOUCH_SIGSEGV,
    UFFD_EVENT_FORK,
    UFFD_EVENT_REMAP,
    UFFD_EVENT_REMOVE,
    UFFD_EVENT_UNMAP,
)
from abi.trace import (
    CODES,
    NAME_CLASSES,
    NAME_FILE,
    NAME_FILLER,
    NAME_NONE,
    PAGE_NAMES,
    PAGE_PRESENT,
    Child,
    Layout,
    Mapping,
    Step,
)
from fuzz.report import object_names
from fuzz.repro.case import Case
from fuzz.repro.spelling import Spelling

_LOCKED = 1 << CODES.index("lo")
_READINGS = {TOUCH_SIGSEGV: "SIGSEGV", TOUCH_SIGBUS: "SIGBUS", TOUCH_ENDLESS: "endless"}


class Views:
    """The texts of one case."""

    def __init__(self, case: Case, spelling: Spelling) -> None:
        self._case = case
        self._spell = spelling.label
        self._names = object_names(case.environment) | {
            segment.ident: segment.name for segment in case.environment.segments
        }

    def layout(self, layout: Layout) -> str:
        """The mappings that are the program's, a line each."""
        return "".join(f"{self._mapping(m)}\n" for m in self._case.own(layout))

    def _mapping(self, mapping: Mapping) -> str:
        if mapping.name == NAME_FILLER:
            return f"{self._spell(mapping.start)} .. filler"
        if mapping.ident:
            what = self._names[mapping.ident]
        elif mapping.name == NAME_NONE:
            what = "anonymous"
        else:
            what = "file" if mapping.name == NAME_FILE else NAME_CLASSES[mapping.name]
        if mapping.ident or mapping.offset:
            what += f" offset {mapping.offset // PAGE}p"
        span = f"{self._spell(mapping.start)} .. {self._spell(mapping.end)}"
        return f"{span} {mapping.permissions()} {what}"

    def flags(self, layout: Layout, words: Iterable[int]) -> str:
        """VmFlags of each of these mappings."""
        own = set(self._case.own(layout))
        lines = []
        for mapping, word in zip(layout, words, strict=True):
            if mapping in own and mapping.name != NAME_FILLER:
                codes = [code for bit, code in enumerate(CODES) if word >> bit & 1]
                lines.append(" ".join([self._spell(mapping.start), *codes]) + "\n")
        return "".join(lines)

    def counters(self, seen: Step | Child, size: int | None = None) -> str:
        """The counters without what is the executor's own (pages)."""
        assert seen.counters is not None and seen.flags is not None
        environment = self._case.environment
        own = set(self._case.own(seen.layout))
        locked = sum(
            (m.end - m.start) // PAGE
            for m, word in zip(seen.layout, seen.flags, strict=True)
            if m not in own and word & _LOCKED
        )
        filled = sum((m.end - m.start) // PAGE for m in own if m.name == NAME_FILLER)
        code = sum((v.end - v.start) // PAGE for v in environment.initial if "ex" in v.flags)
        lock, data, stack, program = seen.counters
        lines = [] if size is None else [f"VmSize {size - environment.total_pages - filled}"]
        lines += [
            f"VmLck {lock - locked}",
            f"VmData {data}",
            f"VmStk {stack}",
            f"VmExe + VmLib {program - code}",
        ]
        return "".join(f"{line}\n" for line in lines)

    def pages(self, entries: Iterable[tuple[int, int]]) -> str:
        """Page table entries, those in a row that are alike as one."""
        return self._runs(entries, self._entry)

    def contents(self, entries: Iterable[tuple[int, int]]) -> str:
        """What reading gives, pages in a row that are alike as one."""
        return self._runs(entries, self._reading)

    def _runs(self, entries: Iterable[tuple[int, int]], describe: Callable[[int, int], str]) -> str:
        runs: list[list[int]] = []  # first page, how many, bits, word
        for page, entry in entries:
            bits, word = entry & 0xFF, entry >> 8
            if runs:
                start, count, first_bits, first = runs[-1]
                follows = first + (count if first >> 36 else 0)
                if (page, bits, word) == (start + count, first_bits, follows):
                    runs[-1][1] += 1
                    continue
            runs.append([page, 1, bits, word])
        return "".join(
            f"{self._spell(page * PAGE)} .. {self._spell((page + count) * PAGE)}"
            f" {describe(bits, word)}\n"
            for page, count, bits, word in runs
        )

    def _entry(self, bits: int, word: int) -> str:
        names = " ".join(name for bit, name in PAGE_NAMES.items() if bits & bit)
        return f"{names}, {self._word(word)}" if bits & PAGE_PRESENT else names

    def _reading(self, bits: int, word: int) -> str:
        return _READINGS.get(bits) or self._word(word)

    def _word(self, word: int) -> str:
        if not word:
            return "zero"
        if word >> 52 == 0xF:
            return f"page {word & 0xFFFFFFFF} of {self._names.get(word >> 32 & 63, '?')}"
        if word >> 36:
            return f"written by call {word >> 36} at {self._spell((word & (1 << 36) - 1) * PAGE)}"
        return f"{word:#x}"

    def events(self, events: Iterable[tuple[int, ...]]) -> str:
        """What the userfaultfd that reports did report."""
        return "".join(f"{self._event(event)}\n" for event in events)

    def _event(self, event: tuple[int, ...]) -> str:
        kind, fd, a, b, c = event
        assert fd == FD_NAMES["uffd2"]
        match kind:
            case _ if kind == UFFD_EVENT_REMAP:
                return f"REMAP {self._spell(a)} to {self._spell(b)} {c // PAGE} pages"
            case _ if kind in (UFFD_EVENT_REMOVE, UFFD_EVENT_UNMAP):
                name = "UNMAP" if kind == UFFD_EVENT_UNMAP else "REMOVE"
                return f"{name} {self._spell(a)} .. {self._spell(b)}"
            case _ if kind == UFFD_EVENT_FORK:
                return "FORK"
        return f"event {kind:#x}"
