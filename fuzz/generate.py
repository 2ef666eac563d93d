"""Fresh programs: recipes that build a layout and then split, move and merge it.

A recipe is a generator of calls that is sent each result; it draws against the space as it is when it is asked
for the next call. Every call may then have an argument spoiled. A program is recipes one after the other, cut at
its length: first one that maps, then any. Nothing here knows what a call should return.

Deterministic: the same generator state and run give the same program.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final, TypeVar

from abi.calls import (
    SIGNATURES,
    Call,
    Fail,
    Madvise,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Program,
    Shmat,
    Touch,
    UffdRegister,
    UffdUnregister,
    arguments,
    build,
)
from abi.consts import (
    ACCESS_WRITE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
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
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_READ,
    PROT_WRITE,
    WORD,
)
from abi.environment import Geometry, Object
from fuzz import confine, filing, process, special, watch
from fuzz.aim import Aim, Run, Steps
from fuzz.huge import LAYING, USING
from fuzz.latent import ASKING, BUILDING
from fuzz.odds import BEYOND, SPECIAL_FLAGS
from fuzz.statistics import Statistics
from fuzz.steer import Steering

T = TypeVar("T")

Recipe = Callable[[Aim], Steps]

#: How often a call of a fresh program has an argument spoiled; an allocation failing, in a program where they are to.
SPOILED: Final = 0.3
FAILING_CALLS: Final = 0.25

_RW: Final = PROT_READ | PROT_WRITE
_VM_SHARED: Final = 8
_ANON: Final = MAP_PRIVATE | MAP_ANONYMOUS
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED

#: Calls of a program of unsaid length: 8 on average, 1 to 20.
_LENGTHS: Final = (1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 10, 10, 11, 12, 14, 17, 20)
#: How many allocations a call may have.
_ALLOCATIONS: Final = (1, 2, 3, 6, 6, 12, 12, 24)
_RARE_KINDS: Final = (
    (MAP_DROPPABLE | MAP_ANONYMOUS, -1),
    (MAP_DROPPABLE | MAP_ANONYMOUS, -1),
    (MAP_SHARED | MAP_ANONYMOUS, -1),
    (_ANON, -1),
)
_INVERSE_ADVICE: Final = (
    (MADV_DONTFORK, MADV_DOFORK),
    (MADV_DONTDUMP, MADV_DODUMP),
    (MADV_WIPEONFORK, MADV_KEEPONFORK),
    (MADV_RANDOM, MADV_NORMAL),
    (MADV_SEQUENTIAL, MADV_NORMAL),
    (MADV_SEQUENTIAL, MADV_RANDOM),
    (MADV_HUGEPAGE, MADV_NOHUGEPAGE),
    (MADV_HUGEPAGE, MADV_NOHUGEPAGE),
    (MADV_MERGEABLE, MADV_UNMERGEABLE),
    (MADV_GUARD_INSTALL, MADV_GUARD_REMOVE),
)


def generate(
    rng: Random,
    run: Run,
    geometry: Geometry,
    objects: Sequence[Object],
    length: int = 0,
    *,
    unprivileged: bool = False,
    statistics: Statistics | None = None,
    steering: Steering | None = None,
) -> Program:
    """A fresh program of `length` calls (0: 1 to 20, 8 on average); `run` is at its start and has stepped it then.

    Raises:
        whatever the model raises outside its domain. There is no program then: begin anew with a new run.
    """
    aim = Aim(rng, run, geometry, objects, unprivileged, statistics, steering)
    length = length or aim.pick(_LENGTHS)
    opening = confine.reach_map_limit if aim.fills else aim.choose(OPENINGS, EACH_OPENING)
    follow(aim, opening, length)
    while len(aim.calls) < length:
        follow(aim, draw_sequel(aim), length)
    if statistics is not None:
        statistics.sequences += 1
    return tuple(aim.calls)


def follow(aim: Aim, recipe: Recipe, limit: int) -> None:
    """Make the calls of a recipe, some of them spoiled, until the program has `limit` calls."""
    steps = recipe(aim)
    call = next(steps, None)
    while call is not None and len(aim.calls) < limit:
        if aim.fails and aim.random() < min(FAILING_CALLS * aim.lift(type(call)), 0.75):
            aim.step(let_fail(aim))
        value = aim.step(spoil(aim, call) if aim.random() < SPOILED else call)
        try:
            call = steps.send(value)
        except StopIteration:
            return


def let_fail(aim: Aim) -> Fail:
    """One of the first allocations of the next call fails."""
    return Fail(1 + aim.below(aim.pick(_ALLOCATIONS)))


def spoil(aim: Aim, call: Call) -> Call:
    """The call with one argument, seldom more, next to what it was or wild."""
    signature = SIGNATURES[type(call)]
    words = list(arguments(call))
    while words:
        i = aim.below(len(words))
        words[i] = aim.spoil(words[i], signature[i][1])
        if aim.random() < 0.8:
            break
    return build(type(call), words)


# Calls, one draw each.


def map_at(aim: Aim, addr: int, length: int) -> Mmap:
    """A mapping of any kind at `addr`."""
    flags, fd = aim.kind()
    flags |= MAP_FIXED | aim.extra_flags()
    return Mmap(addr, length, aim.prot(), flags, fd, aim.offset(addr, fd))


def map_anywhere(aim: Aim) -> Mmap:
    """A mapping of any kind: fixed, where it fits, at a hint, or wherever the kernel likes."""
    flags, fd = aim.kind()
    flags |= aim.extra_flags()
    draw = aim.random()
    addr = 0 if draw < 0.08 else aim.vacant()
    if draw > 0.30:
        flags |= MAP_FIXED
    elif draw > 0.18:
        flags |= MAP_FIXED_NOREPLACE
    return Mmap(addr, aim.pages(), aim.prot(), flags, fd, aim.offset(addr, fd))


def unmap(aim: Aim) -> Munmap:
    """munmap around an edge."""
    addr = aim.mapped()
    return Munmap(addr, aim.extent(addr) if aim.chance(0.5) else PAGE)


def protect(aim: Aim) -> Mprotect:
    """mprotect of a span, or from near an edge to another."""
    addr, length = aim.range()
    return Mprotect(addr, length, aim.prot())


def advise(aim: Aim) -> Madvise:
    """madvise of a span, or from near an edge to another."""
    addr, length = aim.range()
    return Madvise(addr, length, aim.advice())


def touch(aim: Aim) -> Touch:
    """Access to a few pages."""
    vma = aim.writable() if aim.chance(0.6) else None
    addr = vma.start if vma else aim.mapped()
    return Touch(addr, 1 + aim.below(8 if aim.chance(0.3) else 2), aim.access())


def touch_vma(aim: Aim) -> Touch:
    """A write to a page of a VMA: it is faulted then."""
    vma = aim.writable()
    if vma is None:
        return touch(aim)
    addr = vma.start if aim.chance(0.7) else aim.inside(vma)
    return Touch(addr, 1, ACCESS_WRITE)


def register(aim: Aim) -> UffdRegister:
    """Registration of a span with a userfaultfd."""
    addr, length = aim.range()
    return UffdRegister(aim.uffd(), addr, length, aim.uffd_mode())


def unregister(aim: Aim) -> UffdUnregister:
    """The reverse, of any span."""
    addr, length = aim.range()
    return UffdUnregister(aim.uffd(), addr, length)


def move(aim: Aim) -> Mremap:
    """A fixed move of unchanged size over one or more VMAs."""
    start, length = aim.span(2 if aim.chance(0.35) else 1)
    flags = _MOVE | (MREMAP_DONTUNMAP if aim.chance(0.12) else 0)
    return Mremap(start, length, length, flags, aim.target(start, length))


def resize(aim: Aim) -> Mremap:
    """Growth or shrinking of a VMA, in place or moved, or its duplication (old_len 0)."""
    vma = aim.vma()
    addr = vma.start if vma else aim.page()
    end = vma.end if vma else addr + PAGE
    draw = aim.random()
    if vma and draw < 0.3:
        addr = aim.inside(vma)
    old = end - addr
    if draw > 0.9:
        old = 0
    elif draw > 0.75:
        old = aim.extent(addr)
    elif draw > 0.68:
        return _cut_off(aim)
    new = old + aim.pages() if aim.chance(0.55) else aim.pages()
    flags = aim.pick((0, MREMAP_MAYMOVE, MREMAP_MAYMOVE, MREMAP_MAYMOVE, _MOVE, _MOVE))
    target = aim.target(addr, max(old, new)) if flags == _MOVE else 0
    return Mremap(addr, old, new, flags, target)


def _cut_off(aim: Aim) -> Mremap:
    """Shrinking from a length beyond all that is mapped; it moves to below, for all above is taken for its source."""
    vma, new = aim.writable(), aim.pages()
    addr = vma.start if vma else aim.page()
    flags = aim.pick((0, MREMAP_MAYMOVE, _MOVE, _MOVE, _MOVE))
    target = addr - new - aim.below(8) * PAGE & WORD if flags == _MOVE else 0
    return Mremap(addr, aim.pick(BEYOND), new, flags, target)


def duplicate(aim: Aim) -> Mremap:
    """old_len 0: a second mapping of what is shared, next to the first, over it, or where the kernel likes."""
    shared = [vma for vma in aim.vmas if vma.flags & _VM_SHARED]
    vma = aim.pick(shared) if shared and aim.chance(0.8) else aim.vma()
    addr = aim.inside(vma) if vma and aim.chance(0.3) else vma.start if vma else aim.page()
    length = aim.pages()
    if aim.chance(0.25):
        return Mremap(addr, 0, length, MREMAP_MAYMOVE, 0)
    # It overlaps its source only from its start on: no byte of it is behind that by the old length.
    draw = aim.random()
    if draw < 0.25:
        target = addr
    elif draw < 0.6:
        target = addr + (1 - aim.below(length // PAGE + 2)) * PAGE & WORD
    else:
        target = aim.target(addr, length)
    return Mremap(addr, 0, length, _MOVE, target)


def keep_source(aim: Aim) -> Mremap:
    """MREMAP_DONTUNMAP, with a hint or none."""
    vma = aim.vma()
    addr = vma.start if vma else aim.page()
    length = vma.end - addr if vma else PAGE
    if vma and aim.chance(0.4):
        addr = aim.inside(vma)
        length = min(vma.end - addr, aim.pages())
    target = 0 if aim.chance(0.4) else aim.target(addr, length)
    return Mremap(addr, length, length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, target)


def remap(aim: Aim) -> Mremap:
    """mremap with independent arguments."""
    addr = aim.mapped()
    old = aim.extent(addr)
    new = old if aim.chance(0.5) else aim.extent(addr)
    return Mremap(addr, old, new, aim.mremap_flags(), aim.target(addr, max(old, new)))


def _each(table: Iterable[T], group: T, members: Iterable[T]) -> tuple[T, ...]:
    """What is in `table`, each once, with the members of a group in place of it."""
    return tuple(each for each in dict.fromkeys((*table, *members)) if each is not group)


#: One call of any kind; as likely as it is frequent.
DRAWS: Final[tuple[Callable[[Aim], Call], ...]] = (
    *(map_anywhere,) * 9,
    *(move,) * 4,
    *(resize,) * 3,
    *(protect,) * 3,
    *(advise,) * 3,
    *(touch,) * 3,
    *(unmap,) * 2,
    remap,
    duplicate,
    keep_source,
    register,
    unregister,
    *process.DRAWS,
    *filing.CALLS,
    *(confine.confining,) * 3,
    *watch.CALLS,
    *special.DRAWS,
)
#: Each draw once, also those that are rare because they cost much.
EACH_DRAW: Final = _each(DRAWS, confine.confining, (*confine.DRAWS, *confine.RARE_DRAWS))


def draw_call(aim: Aim) -> Call:
    """One call, aimed at the space as it is."""
    return aim.choose(DRAWS, EACH_DRAW)(aim)


def draw_sequel(aim: Aim) -> Recipe:
    """A recipe for a space in which something is mapped."""
    return aim.choose(SEQUELS, EACH_SEQUEL)


# Recipes that map.


def lay_carpet(aim: Aim) -> Steps:
    """Small neighbouring mappings of mixed kinds, some with gaps between them, some written to."""
    at = aim.low_page()
    for _ in range(aim.pick((2, 3, 3, 4, 4, 5))):
        call = map_at(aim, at, aim.small())
        yield call
        if aim.random() < 0.25:
            yield Touch(at, 1, ACCESS_WRITE)
        at = call.addr + call.length + (aim.pick((0, 0, 0, 1, 2)) * PAGE)


def lay_siblings(aim: Aim) -> Steps:
    """Like mappings that differ in protection or in being faulted alone: one change merges them."""
    at = aim.low_page()
    flags, fd = aim.kind()
    if aim.chance(0.2):
        flags |= aim.pick(SPECIAL_FLAGS)
    for i in range(aim.pick((2, 3, 3, 4))):
        length = aim.small()
        prot = _RW if i % 2 == 0 or aim.random() < 0.3 else aim.prot()
        yield Mmap(at, length, prot, flags | MAP_FIXED, fd, aim.offset(at, fd))
        if prot & PROT_WRITE and aim.random() < 0.4:
            yield Touch(at, 1, ACCESS_WRITE)
        at += length


def lay_file(aim: Aim) -> Steps:
    """Pieces of one file side by side, most of them contiguous in the file."""
    at, fd = aim.low_page(), aim.file()
    flags = MAP_FIXED | (MAP_SHARED if aim.chance(0.5) else MAP_PRIVATE)
    offset = aim.below(4) * PAGE
    for _ in range(aim.pick((2, 3, 3, 4))):
        length = aim.small()
        yield Mmap(at, length, aim.pick((_RW, PROT_READ)), flags, fd, offset)
        if aim.random() < 0.2:
            yield Touch(at, 1, aim.access())
        at += length + (PAGE if aim.random() < 0.2 else 0)
        offset += length if aim.random() < 0.75 else aim.below(4) * PAGE


def lay_obstacle(aim: Aim) -> Steps:
    """A carpet with a VMA that moves only alone, first, in the middle or last; then a move over all of it."""
    start = at = aim.low_page()
    count = aim.pick((2, 2, 3, 3, 4))
    obstacle = aim.below(count)
    by_uffd = aim.has_uffd() and aim.chance(0.5)
    for i in range(count):
        length = aim.small()
        if i != obstacle:
            yield map_at(aim, at, length)
        elif by_uffd:
            yield Mmap(at, length, _RW, _ANON | MAP_FIXED, -1, 0)
            yield UffdRegister(aim.uffd(), at, length, aim.uffd_mode())
        else:
            call = special.unmoved(aim, at) if aim.chance(0.5) else None
            private = MAP_PRIVATE | MAP_FIXED
            call = call or Mmap(at, length, aim.prot(), private, aim.obstacle(), 0)
            yield call
            length = 16 * PAGE if isinstance(call, Shmat) else call.length
        at += length + (PAGE if aim.random() < 0.25 else 0)
    length = at - start + (PAGE if aim.random() < 0.1 else 0)
    yield Mremap(start, length, length, _MOVE, aim.target(start, length))


def place(aim: Aim) -> Steps:
    """Mappings where the kernel likes, of which some become neighbours."""
    for _ in range(aim.pick((1, 2, 2, 3))):
        flags, fd = aim.kind()
        hint = 0 if aim.chance(0.8) else aim.mapped()
        length = aim.pages() if aim.chance(0.85) else aim.pick((511, 512, 512, 513, 1024)) * PAGE
        yield Mmap(hint, length, aim.prot(), flags | aim.extra_flags(), fd, 0)


def map_some(aim: Aim) -> Steps:
    """Independent mappings."""
    for _ in range(aim.pick((1, 2, 3))):
        yield map_anywhere(aim)


# Recipes for a space in which something is mapped.


def move_span(aim: Aim) -> Steps:
    """One move."""
    yield move(aim)


def move_away_and_back(aim: Aim) -> Steps:
    """A move, perhaps a call in between, and the way back."""
    there = move(aim)
    yield there
    if aim.chance(0.3):
        yield draw_call(aim)
    back = there.addr if aim.chance(0.85) else there.addr + PAGE
    yield Mremap(there.new_addr, there.old_len, there.old_len, _MOVE, back)


def move_over(aim: Aim) -> Steps:
    """The destination is mapped first, a part of it or more, and moved over."""
    there = move(aim)
    at = there.new_addr + aim.pick((0, 0, 0, -1, 1)) * PAGE
    yield map_at(aim, at, there.new_len if aim.chance(0.5) else aim.small())
    yield there


def protect_there_and_back(aim: Aim) -> Steps:
    """A protection set and reset on a part: a split and a merge."""
    addr, length = aim.range()
    back = aim.pick((_RW, _RW, PROT_READ))
    yield Mprotect(addr, length, aim.prot())
    if aim.chance(0.4):
        yield touch(aim)
    if aim.chance(0.5):
        addr, length = aim.span()
    yield Mprotect(addr, length, back)


def fault_and_merge(aim: Aim) -> Steps:
    """Some VMAs are written to, then all are made alike."""
    yield touch_vma(aim)
    if aim.chance(0.5):
        yield touch_vma(aim)
    addr, length = aim.span()
    yield Mprotect(addr, length, aim.pick((_RW, _RW, PROT_READ)))


def register_and_move(aim: Aim) -> Steps:
    """A VMA is registered with a userfaultfd, moved with its neighbours, perhaps unregistered."""
    if aim.has_uffd():
        yield register(aim)
    yield move(aim)
    if aim.chance(0.3):
        yield unregister(aim)


def advise_there_and_back(aim: Aim) -> Steps:
    """An advice and its inverse, on one span or two."""
    there, back = aim.pick(_INVERSE_ADVICE)
    addr, length = aim.range()
    yield Madvise(addr, length, there)
    if aim.chance(0.3):
        yield move(aim)
    if aim.chance(0.5):
        addr, length = aim.span()
    yield Madvise(addr, length, back)


def map_and_advise(aim: Aim) -> Steps:
    """A mapping of a rare kind, and advice of its own for parts of it."""
    at, length = aim.low_page(), aim.small() + PAGE
    flags, fd = aim.pick(_RARE_KINDS) if aim.chance(0.7) else aim.kind()
    if aim.chance(0.4):
        flags |= aim.pick(SPECIAL_FLAGS)
    yield Mmap(at, length, aim.prot(), flags | MAP_FIXED, fd, 0)
    there, back = aim.pick(_INVERSE_ADVICE)
    advice = (there, back, there, back, aim.advice(), aim.advice())
    for _ in range(aim.pick((1, 2, 2))):
        start = at + aim.below(length // PAGE) * PAGE
        yield Madvise(start, at + length - start if aim.chance(0.5) else PAGE, aim.pick(advice))
    yield Madvise(at, length, aim.pick(advice))


def punch_and_refill(aim: Aim) -> Steps:
    """A hole in a VMA, and a mapping or a move into it."""
    vma = aim.vma()
    if vma is None:
        yield map_anywhere(aim)
        return
    addr, length = aim.inside(vma), aim.small()
    yield Munmap(addr, length)
    if aim.chance(0.5):
        yield Mmap(addr, length, _RW, _ANON | MAP_FIXED, -1, 0)
    else:
        source = aim.vma()
        start = source.start if source else addr
        yield Mremap(start, length, length, _MOVE, addr)


def change_size(aim: Aim) -> Steps:
    """Growth or shrinking."""
    yield resize(aim)


def share_and_duplicate(aim: Aim) -> Steps:
    """Shared memory, and a second mapping of it or of a part."""
    at, length = aim.low_page(), aim.small()
    flags, fd = (MAP_ANONYMOUS, -1) if aim.chance(0.5) else (0, aim.file())
    yield Mmap(at, length, aim.prot(), flags | MAP_SHARED | MAP_FIXED, fd, 0)
    if aim.chance(0.3):
        yield touch_vma(aim)
    yield duplicate(aim)


def anything(aim: Aim) -> Steps:
    """Two calls of any kind."""
    yield draw_call(aim)
    yield draw_call(aim)


#: As likely as they are frequent.
OPENINGS: Final[tuple[Recipe, ...]] = (
    *(lay_carpet,) * 8,
    *(lay_siblings,) * 5,
    *(lay_file,) * 3,
    *(lay_obstacle,) * 3,
    *(place,) * 2,
    *(map_some,) * 3,
    *BUILDING,
    *filing.MAPPING,
    *watch.BUILDING,
    *LAYING,
    *special.LAYING,
)
SEQUELS: Final[tuple[Recipe, ...]] = (
    *(move_span,) * 8,
    *(move_away_and_back,) * 4,
    *(move_over,) * 3,
    *(protect_there_and_back,) * 4,
    *(fault_and_merge,) * 3,
    *(register_and_move,) * 2,
    *(advise_there_and_back,) * 3,
    *(punch_and_refill,) * 2,
    *(change_size,) * 4,
    *(anything,) * 5,
    lay_carpet,
    lay_siblings,
    place,
    map_and_advise,
    share_and_duplicate,
    *process.RECIPES,
    *ASKING,
    *filing.FOLLOWING,
    *watch.FOLLOWING,
    *USING,
    *(confine.confine,) * 3,
)
#: Each once, also those that are rare because they cost much: what steered draws choose from.
EACH_OPENING: Final = tuple(dict.fromkeys(OPENINGS))
EACH_SEQUEL: Final = _each(
    SEQUELS, confine.confine, (*confine.RECIPES, *confine.RARE_RECIPES, *OPENINGS)
)
