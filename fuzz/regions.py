"""The mappings of a traced process as far as its calls tell: what a program must map before it can go on with them.

It follows what succeeded, in the process's own addresses; why a call fails is not its business. It is no model of the
kernel: neighbours do not merge here, pages do not exist, and what cannot be told from calls is not known.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from abi.calls import (
    SIGNATURES,
    Brk,
    Call,
    Madvise,
    Mbind,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mprotect,
    Mremap,
    Mseal,
    Munlock,
    Munlockall,
    Munmap,
    PkeyMprotect,
    Prctl,
    ProcessMadvise,
    Setrlimit,
    SetVmaName,
    Shmat,
    Shmdt,
    UffdRegister,
    UffdUnregister,
    build,
)
from abi.consts import (
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MCL_CURRENT,
    MCL_FUTURE,
    MREMAP_DONTUNMAP,
    PAGE,
    PROT_READ,
    PROT_WRITE,
)

#: Advice that stays with a mapping: what it replaces, and whether it is the state of a new mapping.
_ADVICE: Final = {
    MADV_NORMAL: ("access", True),
    MADV_RANDOM: ("access", False),
    MADV_SEQUENTIAL: ("access", False),
    MADV_DOFORK: ("fork", True),
    MADV_DONTFORK: ("fork", False),
    MADV_UNMERGEABLE: ("merge", True),
    MADV_MERGEABLE: ("merge", False),
    MADV_HUGEPAGE: ("huge", False),
    MADV_NOHUGEPAGE: ("huge", False),
    MADV_DODUMP: ("dump", True),
    MADV_DONTDUMP: ("dump", False),
    MADV_KEEPONFORK: ("wipe", True),
    MADV_WIPEONFORK: ("wipe", False),
}
#: Calls that stay with a mapping: the group of which the last one counts, and whether it is the state of a new mapping.
_LASTING: Final[dict[type[Call], tuple[str, bool]]] = {
    PkeyMprotect: ("pkey", False),
    Mlock: ("lock", False),
    Mlock2: ("lock", False),
    Munlock: ("lock", True),
    UffdRegister: ("uffd", False),
    UffdUnregister: ("uffd", True),
    Mbind: ("policy", False),
    SetVmaName: ("name", False),
    Mseal: ("seal", False),
}
#: Calls that succeed on mapped memory only, over their whole range.
NEEDS_MAPPED: Final = (
    Mprotect, PkeyMprotect, Madvise, ProcessMadvise, Mremap, Mlock, Mlock2, Munlock, Mseal, UffdRegister, SetVmaName,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """A range that one call mapped (bytes), what it has become, and the calls that have marked it, by group.

    how: what mapped it; its address is where the region began, and `start` is behind that once it was cut; prot: now.
    """

    start: int
    end: int
    how: Mmap | Brk | Shmat
    prot: int
    marks: tuple[tuple[str, Call], ...] = ()

    def marked(self, group: str, call: Call | None) -> "Region":
        """With `call` as its mark of `group`, or none."""
        others = tuple(mark for mark in self.marks if mark[0] != group)
        if call is None:
            return replace(self, marks=others)
        anywhere = changed(call, addr=0, length=0)
        return replace(self, marks=tuple(sorted((*others, (group, anywhere)), key=lambda m: m[0])))

    def moved(self, distance: int) -> "Region":
        """The same at another address."""
        how = self.how
        if not isinstance(how, Brk):
            how = replace(how, addr=how.addr + distance)
        return replace(self, start=self.start + distance, end=self.end + distance, how=how)

    def setup(self) -> list[Call]:
        """The calls that make it."""
        how, size = self.how, self.end - self.start
        calls: list[Call] = []
        prot = self.prot
        if isinstance(how, Mmap):
            flags = how.flags & ~MAP_FIXED_NOREPLACE | MAP_FIXED
            made = how.prot if _charged(how) else prot
            offset = how.offset if how.flags & MAP_ANONYMOUS else how.offset + self.start - how.addr
            calls.append(Mmap(self.start, size, made, flags, how.fd, offset))
            if made != prot:
                calls.append(Mprotect(self.start, size, prot))
        elif isinstance(how, Shmat):
            calls.append(replace(how, addr=self.start))
        elif prot != PROT_READ | PROT_WRITE:
            calls.append(Mprotect(self.start, size, prot))
        for _, mark in sorted(self.marks, key=lambda each: each[0] == "seal"):
            # Nothing changes any more what is sealed.
            calls.append(changed(mark, addr=self.start, length=size))
        return calls


def _charged(how: Mmap) -> bool:
    """Memory that was promised when it was mapped stays promised, which keeps it from merging with other."""
    return how.flags & MAP_PRIVATE != 0 and how.prot & PROT_WRITE != 0


class Regions:
    """Regions in order of address, not overlapping; and the settings of the process that concern memory."""

    __slots__ = ("_starts", "brk", "regions", "settings", "start_brk")

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self._starts: list[int] = []
        self.start_brk = 0
        self.brk = 0
        #: The last of each kind of call that changes the process and not its mappings.
        self.settings: dict[tuple[object, ...], Call] = {}

    def copy(self) -> "Regions":
        """What a new process inherits."""
        other = Regions()
        other.regions, other._starts = list(self.regions), list(self._starts)
        other.start_brk, other.brk = self.start_brk, self.brk
        # A child has its parent's settings, but for mlockall() (mlock(2)).
        other.settings = {
            key: call for key, call in self.settings.items() if key[0] is not Mlockall
        }
        return other

    def overlapping(self, start: int, end: int) -> list[Region]:
        """The regions with a byte in [start, end), in order."""
        first = bisect_right(self._starts, start)
        if first and self.regions[first - 1].end > start:
            first -= 1
        return self.regions[first : bisect_left(self._starts, end, first)]

    def holes(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that nothing is known to be mapped in."""
        for region in self.overlapping(start, end):
            if region.start > start:
                yield start, region.start
            start = region.end
        if start < end:
            yield start, end

    def size(self) -> int:
        """How much is mapped (bytes)."""
        return sum(region.end - region.start for region in self.regions)

    def cut(self, start: int, end: int) -> list[Region]:
        """Take [start, end) out; the regions that were there, cut to it."""
        found = self.overlapping(start, end)
        if not found:
            return []
        rest = []
        low, high = found[0], found[-1]
        if low.start < start:
            rest.append(replace(low, end=start))
        if high.end > end:
            rest.append(replace(high, start=end))
        at = bisect_left(self._starts, low.start)
        self.regions[at : at + len(found)] = rest
        self._starts[at : at + len(found)] = [region.start for region in rest]
        return [replace(r, start=max(r.start, start), end=min(r.end, end)) for r in found]

    def put(self, region: Region) -> None:
        """Add a region in place of what is there. Parts of one that have become alike again are one."""
        if region.start >= region.end:
            return
        self.cut(region.start, region.end)
        at = last = bisect_left(self._starts, region.start)
        if at and _are_one(self.regions[at - 1], region):
            at -= 1
            region = replace(region, start=self.regions[at].start)
        if last < len(self.regions) and _are_one(region, self.regions[last]):
            region = replace(region, end=self.regions[last].end)
            last += 1
        self.regions[at:last] = [region]
        self._starts[at:last] = [region.start]

    def apply(self, call: Call, value: int, shm_size: int = PAGE) -> None:
        """The effect of a call that succeeded with `value`. A SysV segment has `shm_size` bytes."""
        if isinstance(call, Mmap):
            how = replace(call, addr=value)
            self.put(Region(value, value + up(call.length), how, call.prot))
        elif isinstance(call, Munmap):
            self.cut(call.addr, call.addr + up(call.length))
        elif isinstance(call, Mremap):
            self._mremap(call, value)
        elif isinstance(call, Brk):
            self._set_brk(call, value)
        elif isinstance(call, Shmat):
            how_shm = replace(call, addr=value)
            self.put(Region(value, value + up(shm_size), how_shm, PROT_READ | PROT_WRITE))
        elif isinstance(call, Shmdt):
            for region in list(self.regions):
                if isinstance(region.how, Shmat) and region.how.addr == call.addr:
                    self.cut(region.start, region.end)
        elif isinstance(call, (Mlockall, Munlockall, Prctl, Setrlimit)):
            self._set(call)
        else:
            self._mark(call)

    def _mremap(self, call: Mremap, value: int) -> None:
        old, new = up(call.old_len), up(call.new_len)
        distance = value - call.addr
        if old == 0:
            shared = self.overlapping(call.addr, call.addr + PAGE)
            if shared:
                whole = shared[0].moved(distance)
                self.put(replace(whole, start=value, end=value + new))
            return
        moving = self.cut(call.addr, call.addr + old)
        if call.flags & MREMAP_DONTUNMAP:
            for region in moving:
                self.put(region.marked("lock", None))
        self.cut(value, value + new)
        for region in moving:
            end = min(region.end + distance, value + new)
            if region is moving[-1] and new > old:
                end = value + new
            self.put(replace(region.moved(distance), end=end))

    def _set_brk(self, call: Brk, value: int) -> None:
        if not self.start_brk:
            self.start_brk = self.brk = value
        before, after = up(self.brk), up(value)
        if after < before:
            self.cut(after, before)
        elif after > before:
            self.put(Region(before, after, Brk(0), PROT_READ | PROT_WRITE))
        self.brk = value

    def _set(self, call: Mlockall | Munlockall | Prctl | Setrlimit) -> None:
        if isinstance(call, Prctl):
            self.settings[Prctl, call.option] = call
        elif isinstance(call, Setrlimit):
            self.settings[Setrlimit, call.resource] = call
        else:
            self.settings.pop((Mlockall,), None)
            if isinstance(call, Mlockall) and call.mcl_flags & MCL_FUTURE:
                self.settings[Mlockall,] = Mlockall(call.mcl_flags & ~MCL_CURRENT)
            lock: Call | None = Mlock(0, 0)
            if isinstance(call, Munlockall):
                lock = None
            elif not call.mcl_flags & MCL_CURRENT:
                return
            for region in list(self.regions):
                self.put(region.marked("lock", lock))

    def _mark(self, call: Call) -> None:
        """Protections, advice, and what else stays with the mappings in a range."""
        if isinstance(call, (Madvise, ProcessMadvise)):
            group, initial = _ADVICE.get(call.advice, ("", False))
            call = Madvise(call.addr, call.length, call.advice)
        else:
            group, initial = _LASTING.get(type(call), ("", False))
        prot = call.prot if isinstance(call, (Mprotect, PkeyMprotect)) else None
        if not group and prot is None:
            return
        addr, length = call.addr, call.length  # type: ignore[union-attr]
        start = addr & -PAGE
        for region in self.cut(start, start + up(addr - start + length)):
            other = region if prot is None else replace(region, prot=prot)
            self.put(other.marked(group, None if initial else call) if group else other)


def _are_one(low: Region, high: Region) -> bool:
    return low.end == high.start and replace(low, end=high.end) == replace(high, start=low.start)


def changed(call: Call, **values: int) -> Call:
    """The call with other values for those of its fields that it has."""
    cls = type(call)
    return build(cls, [values.get(name, getattr(call, name)) for name, _ in SIGNATURES[cls]])


def up(length: int) -> int:
    """Bytes, rounded up to whole pages."""
    return -(-length // PAGE) * PAGE


def extent(call: Call, value: int | None, shm_size: int = PAGE) -> list[tuple[int, int]]:
    """The ranges of whole pages that a call is about; `value` is what it returned, None if it failed."""
    found: list[tuple[int, int]] = []

    def add(start: int, length: int) -> None:
        found.append((start & -PAGE, up(start + length)))

    if isinstance(call, Mmap):
        if call.addr and call.addr != value:
            add(call.addr, call.length)
        if value is not None:
            add(value, call.length)
    elif isinstance(call, Mremap):
        add(call.addr, max(call.old_len, call.new_len))
        if value is not None:
            add(value, call.new_len)
        elif call.new_addr:
            add(call.new_addr, call.new_len)
    elif isinstance(call, Shmat):
        add(call.addr if value is None else value, shm_size)
    elif hasattr(call, "addr") and not isinstance(call, Brk):
        add(call.addr, getattr(call, "length", 0))
    return found


def made_before(start: int, end: int, fd: int) -> Mmap:
    """The mapping that must have been there: made by the kernel at execve(2) or before the trace began."""
    flags = MAP_PRIVATE | MAP_FIXED | (MAP_ANONYMOUS if fd == -1 else 0)
    return Mmap(start, end - start, PROT_READ | PROT_WRITE, flags, fd, 0)


def wall(start: int, end: int) -> Mmap:
    """Something in the way: keeps others from being placed where the traced process had what no call needs."""
    return Mmap(start, end - start, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
