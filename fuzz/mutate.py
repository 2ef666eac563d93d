"""Changed programs: a stream edit of one program, or the splice of two.

The base program is walked with the model at its side, so that an edit can aim at what exists at its place. An edit
is a small function of the calls ahead; the rest of the program is kept, but for calls that an edit robbed of what
they aimed at. Knows no rule of the kernel.

Deterministic: the same generator state, run and programs give the same program.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from abi.calls import CALLS, SIGNATURES, Call, Kind, Mmap, Mremap, Program, arguments, build
from abi.consts import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE, WORD
from abi.environment import Geometry, Object
from fuzz.aim import Aim, Run
from fuzz.encode import MAX_CALLS
from fuzz.generate import draw_call, draw_sequel, follow, let_fail, move, spoil, touch_vma
from fuzz.odds import USUAL
from fuzz.statistics import Statistics
from fuzz.steer import STEERED, Steering

#: Changes the calls ahead, the next one first; may step calls itself.
Edit = Callable[[Aim, list[Call]], None]

#: How often a call that lost what it aimed at is aimed anew.
MENDED: Final = 0.6
#: Programs longer than this only shrink.
_LONG: Final = 24
#: Calls about a range that exists, and the places of its start and its length among the arguments.
_AIMED: Final = {
    cls: (names.index("addr"), names.index("length"))
    for cls in CALLS
    if cls is not Mmap and {"addr", "length"} <= set(names := [name for name, _ in SIGNATURES[cls]])
}
_EDITS: Final = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6)


def mutate(
    program: Program,
    rng: Random,
    run: Run,
    geometry: Geometry,
    objects: Sequence[Object],
    *,
    unprivileged: bool = False,
    statistics: Statistics | None = None,
    steering: Steering | None = None,
) -> Program:
    """`program` with 1 to 6 edits, seldom with an allocation that fails; `run` is at its start and has stepped it then.

    Raises:
        whatever the model raises outside its domain. There is no program then: begin anew with a new run.
    """
    aim = Aim(rng, run, geometry, objects, unprivileged, statistics, steering)
    ahead = list(program)
    places = sorted((aim.below(len(program) + 1) for _ in range(aim.pick(_EDITS))), reverse=True)
    edits = EDITS if len(program) <= _LONG else SHRINKING
    failing = _failing(aim, program) if aim.fails else -1
    walked = 0
    while ahead or places:
        while places and (places[-1] <= walked or not ahead):
            places.pop()
            aim.pick(edits)(aim, ahead)
        if not ahead or len(aim.calls) >= MAX_CALLS:
            break
        if walked == failing:
            aim.step(let_fail(aim))
        aim.step(mend(aim, ahead.pop(0)))
        walked += 1
    return _finish(aim)


def _failing(aim: Aim, program: Program) -> int:
    """Before which call an allocation fails: any, or by the lift of what it is, where programs are steered."""
    if aim.steering is None or not program or aim.chance(1 - STEERED):
        return aim.below(len(program) + 1)
    return aim.steering.choose([type(call) for call in program], aim.random())


def crossover(
    first: Program,
    second: Program,
    rng: Random,
    run: Run,
    geometry: Geometry,
    objects: Sequence[Object],
    *,
    unprivileged: bool = False,
    statistics: Statistics | None = None,
) -> Program:
    """A piece of `second` in the place of a piece of `first`; `run` has stepped the result then.

    Raises:
        as `mutate`.
    """
    aim = Aim(rng, run, geometry, objects, unprivileged, statistics)
    begin, end = _cut(aim, first)
    low, high = _cut(aim, second)
    tail = first[end:] if aim.chance(0.5) else ()
    for call in (first[:begin] + second[low:high] + tail)[:MAX_CALLS]:
        aim.step(mend(aim, call))
    return _finish(aim)


def _cut(aim: Aim, program: Program) -> tuple[int, int]:
    one, other = aim.below(len(program) + 1), aim.below(len(program) + 1)
    return min(one, other), max(one, other)


def _finish(aim: Aim) -> Program:
    if not aim.calls:
        aim.step(draw_call(aim))
    if aim.statistics is not None:
        aim.statistics.sequences += 1
    return tuple(aim.calls)


def mend(aim: Aim, call: Call) -> Call:
    """The call; if what it aimed at is no more, half of the time one that aims at what is there.

    Without this, programs lose their targets edit by edit, and end up failing at once.
    """
    places = _AIMED.get(type(call))
    if not (places or isinstance(call, Mremap)) or not aim.vmas:
        return call
    words = list(arguments(call))
    addr = words[places[0] if places else 0]
    if any(vma.start <= addr < vma.end for vma in aim.vmas) or aim.chance(1 - MENDED):
        return call
    start, length = aim.span()
    if not isinstance(call, Mremap):
        assert places
        words[places[0]], words[places[1]] = start, length
        return build(type(call), words)
    if call.old_len != call.new_len:
        return Mremap(start, length, call.new_len, call.flags, call.new_addr)
    return Mremap(start, length, length, call.flags, aim.target(start, length))


# Edits of the program.


def insert(aim: Aim, ahead: list[Call]) -> None:
    """One call more."""
    ahead.insert(0, draw_call(aim))


def insert_move(aim: Aim, ahead: list[Call]) -> None:
    """One fixed move more."""
    ahead.insert(0, move(aim))


def insert_touch(aim: Aim, ahead: list[Call]) -> None:
    """A write that makes a VMA faulted from here on."""
    ahead.insert(0, touch_vma(aim))


def insert_recipe(aim: Aim, ahead: list[Call]) -> None:
    """A few calls that belong together."""
    follow(aim, draw_sequel(aim), min(len(aim.calls) + 4, MAX_CALLS))


def delete(aim: Aim, ahead: list[Call]) -> None:
    """One call less."""
    del ahead[:1]


def delete_some(aim: Aim, ahead: list[Call]) -> None:
    """Up to four calls less."""
    del ahead[: 1 + aim.below(4)]


def duplicate(aim: Aim, ahead: list[Call]) -> None:
    """The next call twice."""
    ahead[:0] = ahead[:1]


def swap(aim: Aim, ahead: list[Call]) -> None:
    """The next two calls in the other order."""
    ahead[:2] = reversed(ahead[:2])


def replace(aim: Aim, ahead: list[Call]) -> None:
    """Another call in place of the next."""
    ahead[:1] = [draw_call(aim)]


# Edits of the next call.


def reaim(aim: Aim, ahead: list[Call]) -> None:
    """An address at or next to an edge of a VMA that exists here."""
    _edit_argument(aim, ahead, (Kind.ADDRESS,), lambda _: aim.mapped())


def nudge(aim: Aim, ahead: list[Call]) -> None:
    """An address, length or offset a page or a byte more or less."""
    kinds = (Kind.ADDRESS, Kind.LENGTH, Kind.OFFSET)
    by = aim.pick((PAGE, -PAGE, PAGE, -PAGE, PAGE, -PAGE, 1, -1))
    _edit_argument(aim, ahead, kinds, lambda value: value + by)


def toggle(aim: Aim, ahead: list[Call]) -> None:
    """A flag, a protection bit, another advice, mode or access."""
    if not ahead:
        return
    call = ahead[0]
    signature = SIGNATURES[type(call)]
    chosen = [i for i, (_, kind) in enumerate(signature) if kind in _CHOICES]
    if chosen:
        i = aim.pick(chosen)
        words = list(arguments(call))
        words[i] = aim.spoil(words[i], signature[i][1])
        ahead[0] = build(type(call), words)


def redraw(aim: Aim, ahead: list[Call]) -> None:
    """A usual protection, advice, mode, policy or other choice in place of what is there."""
    if not ahead:
        return
    call = ahead[0]
    words = list(arguments(call))
    for i, (_, kind) in enumerate(SIGNATURES[type(call)]):
        if kind in USUAL and kind is not Kind.MREMAP_FLAGS:
            words[i] = aim.usual(kind)
    ahead[0] = build(type(call), words)


def stretch(aim: Aim, ahead: list[Call]) -> None:
    """A length that ends at or next to an edge; both of a move that keeps its size."""
    if not ahead:
        return
    call = ahead[0]
    length = aim.extent(next((w for w, kind in _kinds(call) if kind is Kind.ADDRESS), 0))
    if isinstance(call, Mremap) and call.old_len == call.new_len and aim.chance(0.7):
        ahead[0] = Mremap(call.addr, length, length, call.flags, call.new_addr)
    else:
        _edit_argument(aim, ahead, (Kind.LENGTH,), lambda _: length)


def retarget(aim: Aim, ahead: list[Call]) -> None:
    """Another destination of the next mremap; if the next call is none, a move before it."""
    if not ahead or not isinstance(ahead[0], Mremap):
        insert_move(aim, ahead)
        return
    call = ahead[0]
    target = aim.target(call.addr, max(call.old_len, call.new_len) % (1 << 40))
    flags = call.flags | MREMAP_MAYMOVE | MREMAP_FIXED
    ahead[0] = Mremap(call.addr, call.old_len, call.new_len, flags, target)


def widen(aim: Aim, ahead: list[Call]) -> None:
    """The next mremap as a fixed move over several VMAs; if the next call is none, such a move before it."""
    start, length = aim.span(2)
    target = aim.target(start, length)
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    if ahead and isinstance(ahead[0], Mremap):
        flags |= ahead[0].flags & MREMAP_DONTUNMAP
        del ahead[0]
    ahead.insert(0, Mremap(start, length, length, flags, target))


def spoil_next(aim: Aim, ahead: list[Call]) -> None:
    """An argument, or more, next to what it was or wild."""
    if ahead:
        ahead[0] = spoil(aim, ahead[0])


#: What is chosen rather than measured.
_CHOICES: Final = frozenset(Kind) - {Kind.ADDRESS, Kind.LENGTH, Kind.OFFSET, Kind.PAGES}


def _kinds(call: Call) -> list[tuple[int, Kind]]:
    """The arguments of `call`, each with its kind."""
    signature = SIGNATURES[type(call)]
    return [(word, kind) for word, (_, kind) in zip(arguments(call), signature, strict=True)]


def _edit_argument(
    aim: Aim, ahead: list[Call], kinds: tuple[Kind, ...], change: Callable[[int], int]
) -> None:
    """Change one argument of these kinds of the next call, if it has one."""
    if not ahead:
        return
    call = ahead[0]
    chosen = [i for i, (_, kind) in enumerate(SIGNATURES[type(call)]) if kind in kinds]
    if chosen:
        i = aim.pick(chosen)
        words = list(arguments(call))
        words[i] = change(words[i]) & WORD
        ahead[0] = build(type(call), words)


SHRINKING: Final[tuple[Edit, ...]] = (delete, delete_some, delete_some, replace, reaim, nudge)
#: As likely as they are frequent.
EDITS: Final[tuple[Edit, ...]] = (
    *(insert,) * 3,
    *(insert_move,) * 2,
    *(insert_touch,) * 2,
    *(insert_recipe,) * 3,
    *(delete,) * 4,
    *(delete_some,) * 2,
    duplicate,
    swap,
    swap,
    *(replace,) * 3,
    *(reaim,) * 4,
    *(nudge,) * 4,
    *(toggle,) * 3,
    *(redraw,) * 2,
    *(stretch,) * 3,
    *(retarget,) * 3,
    *(widen,) * 3,
    *(spoil_next,) * 2,
)
