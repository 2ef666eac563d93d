"""Where calls aim: addresses, lengths and all other arguments, drawn against the space as it is now.

Rules lie at edges, so addresses and lengths are drawn at, next to and across the edges of existing VMAs. Knows
the address ranges that exist and the objects of the executor; knows no rule of the kernel. All randomness comes
from the `random.Random` it is given.
"""

from collections.abc import Generator, Sequence
from functools import lru_cache
from random import Random
from typing import Any, Final, Protocol, TypeVar

from abi.calls import Call, Fail, Fill, Kind
from abi.consts import (
    ACCESS_READ,
    ACCESS_WRITE,
    PAGE,
    PMD_SIZE,
    RLIMIT_AS,
    RLIMIT_MEMLOCK,
    WORD,
)
from abi.environment import Geometry, Object
from fuzz.odds import (
    ANON,
    BAD_FDS,
    BITS,
    BYTES,
    EDGES,
    EXTRA_FLAGS,
    FILE,
    FILES,
    KINDS,
    OBSTACLES,
    OTHERS,
    PAGES,
    PROTS,
    SMALL,
    SPANS,
    UFFD_MODES,
    USUAL,
    WILD_ADDRESSES,
    WILD_LENGTHS,
    WILD_NUMBERS,
    WILD_OFFSETS,
    WILD_PAGES,
    ZERO,
)
from fuzz.restraint import FILL_SHARE, RESTRAINED, cheapen, is_costly, restrain
from fuzz.statistics import Statistics, spanned
from fuzz.steer import STEERED, Steering, Trait

#: Programs mostly live in this many pages, so that what they map is adjacent.
DENSE_PAGES: Final = 64
#: Spans are kept shorter than this, unless nothing shorter exists.
_LONG_SPAN: Final = 2048 * PAGE
#: One call in 2000 is costly (measured); of these, this share is made: one call in 20000.
_COSTLY_SHARE: Final = 0.1
#: Of programs, the share in which allocations are made to fail: what the kernel made of them takes long to find out.
FAILING: Final = 0.2
#: Where there may be fewer mappings than this, to reach the limit costs no more than some calls; the share of programs
#: in which it is reached then.
MANY_MAPPINGS: Final = 4096
FILLING: Final = 0.03
#: How often a wild address is an edge of one of the executor's own VMAs.
_FOREIGN_SHARE: Final = 0.02
_VM_WRITE: Final = 2
#: The mappings of a fill, which are there to be counted.
_VM_FILLER: Final = 1 << 60
_VM_HUGETLB: Final = 0x400000
#: Huge pages of the window that are aimed at.
_HUGE_PAGES: Final = 8
#: Limits that leave more than this are not reached.
_MOST_ROOM: Final = 1 << 32

#: Usual values, each once: what steered draws choose from.
_DISTINCT: Final = {kind: tuple(dict.fromkeys(values)) for kind, values in USUAL.items()}

T = TypeVar("T")

#: A recipe at work: yields calls, is sent their raw results.
Steps = Generator[Call, int, None]


class Vma(Protocol):
    """What is looked at of a VMA: where it is (bytes), and its VM_* flags."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def flags(self) -> int: ...


class Space(Protocol):
    """What is looked at of an address space: its VMAs in address order."""

    @property
    def vmas(self) -> Sequence[Vma]: ...


class Run(Protocol):
    """The model in the middle of a program."""

    @property
    def space(self) -> Space: ...
    def step(self, call: Call) -> int: ...


@lru_cache(maxsize=8)
def _descriptors(
    objects: tuple[tuple[str, int], ...],
) -> tuple[tuple[int, ...], ...]:
    """What to draw descriptors from: files, /dev/zero, userfaultfds, files of the kernel, obstacles to moves, and any
    with bad ones."""
    by_name = dict(objects)
    kernel = ("sysfs", "sysfs", "proc")
    uffds = ("uffd0", "uffd0", "uffd0", "uffd1", "uffd2")
    return (
        tuple(by_name[name] for name in FILES if name in by_name) or (-1,),
        tuple(by_name[name] for name in ("devzero",) if name in by_name) or (-1,),
        tuple(by_name[name] for name in uffds if name in by_name),
        tuple(by_name[name] for name in kernel if name in by_name) or (-1,),
        tuple(by_name[name] for name in OBSTACLES if name in by_name) or (-1,),
        BAD_FDS + tuple(fd for _, fd in objects),
    )


class Aim:
    """Draws arguments against the space of one run, and steps it.

    `vmas` are the VMAs that a program may call its own, as of the last `look`: those below the top, without what
    was there before. `calls` is the program so far; `run` has stepped exactly these.
    """

    __slots__ = (
        "_by_name",
        "_files",
        "_fill_share",
        "_foreign",
        "_getrandbits",
        "_high",
        "_hugetlb",
        "_kept",
        "_kernel",
        "_low",
        "_obstacles",
        "_others",
        "_uffds",
        "_unprivileged",
        "_vmas",
        "_window",
        "_zeros",
        "calls",
        "fails",
        "fills",
        "random",
        "run",
        "statistics",
        "steering",
    )

    def __init__(
        self,
        rng: Random,
        run: Run,
        geometry: Geometry,
        objects: Sequence[Object],
        unprivileged: bool = False,
        statistics: Statistics | None = None,
        steering: Steering | None = None,
    ) -> None:
        self.random = rng.random
        self._getrandbits = rng.getrandbits
        self.run = run
        self.calls: list[Call] = []
        self._window = geometry.window
        top = geometry.top
        self._low, self._high = (self._window, top) if self._window < top else (top, WORD)
        self._unprivileged = unprivileged
        self.statistics = statistics
        #: What is known of what leads to blocks that are watched, if there are any.
        self.steering = steering
        (
            self._files,
            self._zeros,
            self._uffds,
            self._kernel,
            self._obstacles,
            self._others,
        ) = _descriptors(tuple((each.name, each.fd) for each in objects))
        self._by_name = {each.name: each.fd for each in objects}
        self._hugetlb = next((each.fd for each in objects if each.name == "hugetlb"), -1)
        self._foreign = tuple((vma.start, vma.end) for vma in run.space.vmas)
        self._kept = frozenset(start for start, _ in self._foreign if start >= self._window)
        self._vmas: list[Vma] | None = None
        environment = getattr(run.space, "environment", None)
        config = getattr(environment, "config", ())
        #: Whether allocations are to be made to fail in this program, where that can be had.
        self.fails = "FAULT_INJECTION" in config and self.random() < min(
            FAILING * self.lift(Fail), 0.6
        )
        few = getattr(environment, "max_map_count", MANY_MAPPINGS) < MANY_MAPPINGS
        #: Whether the limit of mappings is to be reached in this program, where that is cheap.
        self.fills = few and self.random() < FILLING
        self._fill_share = 1.0 if few else FILL_SHARE

    @property
    def vmas(self) -> list[Vma]:
        """The VMAs worth aiming at, as they are now."""
        vmas = self._vmas
        if vmas is None:
            low, high, kept = self._low, self._high, self._kept
            vmas = self._vmas = [
                vma
                for vma in self.run.space.vmas
                if low <= (start := vma.start) < high
                and start not in kept
                and not vma.flags & _VM_FILLER
            ]
        return vmas

    def step(self, call: Call) -> int:
        """Make the call, restrained.

        Raises:
            whatever the model raises outside its domain; the call is then the last of `calls`.
        """
        if type(call) in RESTRAINED:
            call = restrain(call, self._unprivileged)
            if is_costly(call):
                share = self._fill_share if isinstance(call, Fill) else _COSTLY_SHARE
                if self.random() >= share:
                    call = cheapen(call)
        self.calls.append(call)
        self._vmas = None
        statistics = self.statistics
        if statistics is None:
            value = self.run.step(call)
        else:
            vmas = spanned(self.run.space.vmas, call)
            value = self.run.step(call)
            statistics.count(call, value, vmas)
        return value

    # Chance.

    def chance(self, share: float) -> bool:
        """True for this share of draws."""
        return self.random() < share

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        return int(self.random() * n)

    def pick(self, table: Sequence[T]) -> T:
        """One of `table`."""
        return table[int(self.random() * len(table))]

    def choose(self, table: Sequence[T], each: Sequence[T]) -> T:
        """One of `table`, a recipe or a draw; where programs are steered, often one of `each` by its lift."""
        steering = self.steering
        if steering is None:
            return self.pick(table)
        if self.random() < STEERED:
            return self.note(each[steering.choose(each, self.random())])
        return self.note(self.pick(table))

    def note(self, chosen: T) -> T:
        """Have it known that the program is made of this."""
        if self.steering is not None:
            self.steering.used.add(chosen)
        return chosen

    def lift(self, trait: Trait) -> float:
        """How much more programs with this trait reach what is watched; 1 where nothing is."""
        return self.steering.lift(trait) if self.steering else 1.0

    # Addresses.

    def page(self) -> int:
        """A page of the window: mostly a dense one, sometimes at a 2 MiB boundary."""
        if self.random() < 0.03:
            return (
                self._window + self.pick((1, 1, 2, 3)) * PMD_SIZE + self.pick((-1, 0, 0, 1)) * PAGE
            )
        return self._window + int(self.random() * DENSE_PAGES) * PAGE

    def low_page(self) -> int:
        """A page that leaves room for a carpet in the dense part of the window."""
        if self.random() < 0.03:
            return self._window + self.pick((1, 2)) * PMD_SIZE - self.below(8) * PAGE
        return self._window + int(self.random() * (DENSE_PAGES // 2)) * PAGE

    def huge_page(self) -> int:
        """A boundary of huge pages in the window."""
        return self._window + self.below(_HUGE_PAGES) * PMD_SIZE

    def is_huge(self, vma: Vma) -> bool:
        """Whether `vma` has huge pages of hugetlb."""
        return vma.flags & _VM_HUGETLB != 0

    def vma(self) -> Vma | None:
        """One of the program's VMAs, if there is any."""
        vmas = self.vmas
        return vmas[int(self.random() * len(vmas))] if vmas else None

    def writable(self) -> Vma | None:
        """One of the program's VMAs, mostly one that can be written to."""
        for _ in range(3):
            vma = self.vma()
            if vma is None or vma.flags & _VM_WRITE:
                break
        return vma

    def mapped(self) -> int:
        """An address at, in or near a VMA."""
        vma = self.vma()
        if vma is None:
            return self.page()
        draw = self.random()
        if draw < 0.50:
            return vma.start
        if draw < 0.70:
            return self.inside(vma)
        if draw < 0.80:
            return vma.end - PAGE
        if draw < 0.88:
            return vma.end
        if draw < 0.94:
            return vma.start - PAGE
        return self.page()

    def inside(self, vma: Vma) -> int:
        """A page of `vma`, a near one if it is long."""
        pages = (vma.end - vma.start) // PAGE
        return vma.start + int(self.random() * min(pages, 1024)) * PAGE

    def vacant(self) -> int:
        """Where a mapping goes: next to a VMA, in a dense page, seldom over a VMA."""
        draw = self.random()
        vmas = self.vmas
        if vmas:
            if draw < 0.45:
                return vmas[int(self.random() * len(vmas))].end
            if draw < 0.55:
                return vmas[int(self.random() * len(vmas))].start - self.pages()
            if draw < 0.65:
                return self.inside(vmas[int(self.random() * len(vmas))])
        return self.page()

    def target(self, start: int, length: int) -> int:
        """Where [start, start + length) is moved to: free, occupied, adjacent, seldom overlapping itself."""
        draw = self.random()
        if draw < 0.05:
            return (start + (self.below(2 * length // PAGE + 1) - length // PAGE) * PAGE) & WORD
        target = self._target(start, length, (draw - 0.05) / 0.95)
        if target < start + length and start < target + length:
            target = self.away(length)
        return target & WORD

    def _target(self, start: int, length: int, draw: float) -> int:
        vmas = self.vmas
        if draw < 0.24 or not vmas:
            return self.away(length)
        for _ in range(3):
            vma = vmas[int(self.random() * len(vmas))]
            if vma.end <= start or start + length <= vma.start:
                break
        if draw < 0.42:
            return vma.end
        if draw < 0.54:
            return vma.start - length
        if draw < 0.68:
            return vma.start
        if draw < 0.79:
            return self.inside(vma)
        if draw < 0.85:
            return vma.end - length
        if draw < 0.89:
            return start + length
        if draw < 0.93:
            return start - length
        if draw < 0.95:
            return vma.start + (-length) % PMD_SIZE
        return self.page()

    def away(self, length: int) -> int:
        """A page where little is mapped, far enough for long moves."""
        page = DENSE_PAGES + int(self.random() * DENSE_PAGES) * (1 if length < PMD_SIZE else 32)
        return self._window + page * PAGE

    # Lengths.

    def small(self) -> int:
        """A few pages, in bytes."""
        return self.pick(SMALL) * PAGE

    def room(self, *, locked: bool = False) -> int:
        """The bytes that the limits leave for mapping, or for locking; some number where that is not known."""
        space: Any = self.run.space
        environment = getattr(space, "environment", None)
        if environment is None:
            return _LONG_SPAN
        if locked:
            room = space.limits[RLIMIT_MEMLOCK] - space.locked_vm * PAGE
        else:
            room = space.limits[RLIMIT_AS] - space.total_vm * PAGE
        return int(min(room, _MOST_ROOM)) & -PAGE if room > PAGE else PAGE

    def pages(self) -> int:
        """A small length, in bytes; seldom around 2 MiB, and more seldom huge."""
        draw = self.random()
        if draw < 0.965:
            return self.pick(PAGES) * PAGE
        if draw < 0.992:
            return self.pick((512, 512, 513, 511, 1024)) * PAGE
        return (64 + self.below(237)) << 20

    def extent(self, start: int) -> int:
        """A length from `start` to an edge of a VMA behind it, or a page short of or past it; or a small one."""
        vmas = self.vmas
        draw = self.random()
        if draw < 0.75:
            for i, vma in enumerate(vmas):
                if vma.end > start:
                    beyond = vmas[min(i + self.pick(EDGES), len(vmas) - 1)]
                    edge = beyond.end if draw < 0.65 or beyond.start <= start else beyond.start
                    if draw > 0.5 and draw < 0.65:
                        edge += PAGE if draw < 0.57 else -PAGE
                    if start < edge < start + _LONG_SPAN:
                        return edge - start
                    break
        return self.pick(PAGES) * PAGE

    def span(self, least: int = 1) -> tuple[int, int]:
        """The start and length of a range over one VMA or several, `least` if there are as many."""
        vmas = self.vmas
        if not vmas:
            return self.page(), self.pick(PAGES) * PAGE
        count = max(least, self.pick(SPANS))
        first = int(self.random() * max(1, len(vmas) - count + 1))
        last = min(first + count, len(vmas)) - 1
        if vmas[last].end - vmas[first].start > _LONG_SPAN:
            last = first
        low, high = vmas[first], vmas[last]
        start = low.start
        draw = self.random()
        if draw < 0.35:
            start = self._interior(low)
        elif draw < 0.38:
            start -= PAGE
        end = high.end
        draw = self.random()
        if draw < 0.35:
            end = self._interior(high)
        elif draw < 0.42:
            end += self.pick((1, 1, 2)) * PAGE
        elif draw < 0.46 and last + 1 < len(vmas) and vmas[last + 1].start - start < _LONG_SPAN:
            end = vmas[last + 1].start
        return start, end - start if end > start else PAGE

    def range(self) -> tuple[int, int]:
        """The start and length of a span, or from near an edge to another."""
        if self.random() < 0.6:
            return self.span()
        addr = self.mapped()
        return addr, self.extent(addr)

    def _interior(self, vma: Vma) -> int:
        """A page boundary that cuts `vma`; its start if it has one page."""
        pages = (vma.end - vma.start) // PAGE
        return vma.start + (1 + int(self.random() * min(pages - 1, 1024))) * PAGE * (pages > 1)

    # The other arguments.

    def usual(self, kind: Kind) -> int:
        """A value that arguments of this kind usually have (`odds.USUAL`)."""
        steering = self.steering
        if steering is None or self.random() >= STEERED:
            return self.pick(USUAL[kind])
        values = _DISTINCT[kind]
        return values[steering.choose(values, self.random(), kind)]

    def prot(self) -> int:
        """A protection; most often one that a page is used with."""
        return self.pick(PROTS)

    def advice(self) -> int:
        """A known advice; most often one that changes flags."""
        return self.usual(Kind.ADVICE)

    def mremap_flags(self) -> int:
        """Flags of mremap; most often a fixed move."""
        return self.usual(Kind.MREMAP_FLAGS)

    def uffd_mode(self) -> int:
        """A mode of UFFDIO_REGISTER."""
        return self.pick(UFFD_MODES)

    def access(self) -> int:
        """Read or write, more often write: it is what makes a VMA faulted."""
        return ACCESS_WRITE if self.random() < 0.7 else ACCESS_READ

    def uffd(self) -> int:
        """A userfaultfd descriptor; a bad one if the executor has none."""
        return self.pick(self._uffds) if self._uffds else -1

    def has_uffd(self) -> bool:
        """Whether the executor has a userfaultfd."""
        return bool(self._uffds)

    def kind(self) -> tuple[int, int]:
        """The flags and the descriptor that say what is mapped."""
        flags, origin = self.pick(KINDS)
        if origin == ANON:
            return flags, -1
        table = self._files if origin == FILE else self._zeros if origin == ZERO else self._others
        return flags, self.pick(table)

    def descriptor(self, name: str) -> int:
        """The descriptor of an object, -1 if the executor has none such."""
        return self._by_name.get(name, -1)

    def segments(self) -> bool:
        """Whether the executor has SysV segments."""
        return bool(getattr(self.run.space, "segments", ()))

    def obstacle(self) -> int:
        """What a move of several VMAs refuses, mapped privately."""
        return self.pick(self._obstacles)

    def file(self) -> int:
        """A file or a memfd."""
        return self.pick(self._files)

    def kernel(self) -> int:
        """A file of the kernel, under /sys or /proc."""
        return self.pick(self._kernel)

    def hugetlb(self) -> int:
        """The object of huge pages; a bad descriptor if there is none."""
        return self._hugetlb

    def extra_flags(self) -> int:
        """Bits of mmap that modify; most often none."""
        return self.pick(EXTRA_FLAGS)

    def offset(self, addr: int, fd: int) -> int:
        """An offset; for half of the files such that neighbours in the window are contiguous."""
        draw = self.random()
        if fd < 0:
            return 0 if draw < 0.95 else self.below(4) * PAGE
        if draw < 0.5:
            return addr - self._window & (DENSE_PAGES - 1) * PAGE
        if draw < 0.8:
            return 0
        return (self.below(16) if draw < 0.95 else 60 + self.below(5)) * PAGE

    # Off the path: what an argument is spoiled to.

    def spoil(self, value: int, kind: Kind) -> int:
        """Another value for an argument that is `value`: next to it, wild, or of a kind nobody uses."""
        return self._spoiled(value, kind) & WORD

    def _spoiled(self, value: int, kind: Kind) -> int:
        if kind is Kind.ADDRESS:
            return self._wild_address(value)
        if kind is Kind.LENGTH:
            return self._wild_length(value)
        bits = BITS.get(kind)
        if bits:
            return self._toggle(value, bits)
        if kind is Kind.ADVICE:
            return self._wild_advice(value)
        if kind is Kind.FD:
            return self.pick(self._others)
        if kind is Kind.OFFSET:
            return value ^ PAGE if self.random() < 0.4 else self.pick(WILD_OFFSETS)
        if kind is Kind.PAGES:
            return self.pick(WILD_PAGES)
        if kind is Kind.NUMBER:
            return value + self.pick((1, -1)) if self.random() < 0.3 else self.pick(WILD_NUMBERS)
        others = OTHERS.get(kind)
        return self.pick(others) if others else self._getrandbits(64)

    def _wild_address(self, value: int) -> int:
        draw = self.random()
        if draw < 0.25:
            return value + self.pick(BYTES)
        if draw < 0.50:
            return value + (PAGE if draw < 0.375 else -PAGE)
        if draw < 0.70:
            return self.pick(WILD_ADDRESSES)
        if draw < 0.70 + _FOREIGN_SHARE and self._foreign:
            return self.pick(self.pick(self._foreign))
        if draw < 0.85:
            return self.page()
        return self.mapped()

    def _wild_length(self, value: int) -> int:
        draw = self.random()
        if draw < 0.40:
            return value + self.pick(BYTES)
        if draw < 0.60:
            return value + (PAGE if draw < 0.5 else -PAGE)
        if draw < 0.85:
            return self.pick(WILD_LENGTHS)
        if draw < 0.90:
            return -value
        return self.pages()

    def _wild_advice(self, value: int) -> int:
        draw = self.random()
        if draw < 0.4:
            return self.below(128)
        if draw < 0.7:
            return value | 1 << 32 + self.below(32)
        return self._getrandbits(self.pick((8, 16, 32, 64)))

    def _toggle(self, value: int, bits: Sequence[int]) -> int:
        value ^= self.pick(bits)
        return value ^ self.pick(bits) if self.random() < 0.2 else value
