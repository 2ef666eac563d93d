"""Calls and recipes around what belongs to a process or a range and no layout shows: policies, names, prctl, residency.

Like all draws and recipes they work on any space, and know nothing of what a call should return.
"""

from collections.abc import Callable
from typing import Final

from abi.calls import (
    Call,
    Kind,
    Madvise,
    Mbind,
    Mincore,
    Mmap,
    Mprotect,
    Mremap,
    PkeyMprotect,
    Prctl,
    ProcessMadvise,
    SetVmaName,
    Touch,
)
from abi.consts import (
    ACCESS_WRITE,
    MADV_FREE,
    MADV_PAGEOUT,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_PRIVATE,
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_LOCAL,
    MPOL_MF_MOVE,
    MPOL_MF_STRICT,
    MPOL_PREFERRED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PR_SET_MDWE,
    PR_SET_MEMORY_MERGE,
    PR_SET_THP_DISABLE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    WORD,
)
from fuzz.aim import Aim, Steps

_RW: Final = PROT_READ | PROT_WRITE
_MOVE: Final = MREMAP_MAYMOVE | MREMAP_FIXED
_KEYS: Final = (WORD, WORD, WORD, 0, 0, 1, 15, 16)
_NODES: Final = (1, 1, 1, 1, 0, 0, 2, 3)
_BIND_FLAGS: Final = (0, 0, 0, MPOL_MF_STRICT, MPOL_MF_STRICT | MPOL_MF_MOVE, MPOL_MF_MOVE)
#: Refusing executable memory outlasts the executor with 1, until it executes itself anew with 3; so 1 is rare.
_MDWE: Final = (*(3,) * 20, 0, 2, 4, 1)
#: Policies that are what they are on a machine with one node.
_POLICIES: Final = (
    (MPOL_BIND, 1),
    (MPOL_BIND, 1),
    (MPOL_PREFERRED, 1),
    (MPOL_LOCAL, 0),
    (MPOL_PREFERRED, 0),
    (MPOL_DEFAULT, 0),
)


def bind(aim: Aim) -> Mbind:
    """mbind of a span, mostly with a policy that fits."""
    addr, length = aim.range()
    if aim.chance(0.7):
        policy, nodes = aim.pick(_POLICIES)
    else:
        policy, nodes = aim.usual(Kind.POLICY), aim.pick(_NODES)
    return Mbind(addr, length, policy, nodes, aim.pick(_BIND_FLAGS))


def name(aim: Aim) -> SetVmaName:
    """A name for a span."""
    return SetVmaName(*aim.range(), aim.usual(Kind.NAME))


def ask_residency(aim: Aim) -> Mincore:
    """mincore of a span."""
    return Mincore(*aim.range())


def advise_self(aim: Aim) -> ProcessMadvise:
    """process_madvise of a span."""
    return ProcessMadvise(*aim.range(), aim.advice(), 0)


def protect_with_key(aim: Aim) -> PkeyMprotect:
    """pkey_mprotect of a span, mostly without a key."""
    return PkeyMprotect(*aim.range(), aim.prot(), aim.pick(_KEYS))


def control(aim: Aim) -> Prctl:
    """An option of prctl, set or reset."""
    draw = aim.random()
    if draw < 0.45:
        return Prctl(PR_SET_MEMORY_MERGE, aim.below(2), 0)
    if draw < 0.7:
        return Prctl(PR_SET_MDWE, aim.pick(_MDWE), 0)
    return Prctl(PR_SET_THP_DISABLE, aim.below(2), aim.pick((0, 0, 0, 2, 2, 1)))


def bind_neighbours(aim: Aim) -> Steps:
    """Neighbours with policies, alike or not, some touched; then a protection or a mapping to merge them."""
    flags, fd = aim.kind()
    at = start = aim.low_page()
    policy = aim.pick(_POLICIES)
    for _ in range(aim.pick((2, 2, 3))):
        length = aim.small()
        yield Mmap(at, length, _RW, flags | MAP_FIXED, fd, aim.offset(at, fd))
        if aim.chance(0.3):
            yield Touch(at, 1, aim.access())
        if aim.chance(0.7):
            policy = policy if aim.chance(0.6) else aim.pick(_POLICIES)
            yield Mbind(at, length, *policy, aim.pick(_BIND_FLAGS))
        at += length
    draw = aim.random()
    if draw < 0.4:
        yield Mbind(start, at - start, *policy, aim.pick(_BIND_FLAGS))
    elif draw < 0.7:
        yield Mremap(start, at - start, at - start, _MOVE, aim.away(at - start))
    else:
        yield Mmap(at, PAGE, _RW, flags | MAP_FIXED, fd, aim.offset(at, fd))


def name_neighbours(aim: Aim) -> Steps:
    """Neighbours with names, alike or not; then what merges them."""
    start, length = aim.range()
    yield SetVmaName(start, length, aim.usual(Kind.NAME))
    if aim.chance(0.5):
        yield Mremap(start, length, length, _MOVE, aim.target(start, length))
    yield SetVmaName(*aim.range(), aim.usual(Kind.NAME))


def merge_everything(aim: Aim) -> Steps:
    """Mappings before, while and after KSM may merge all there is."""
    flags, fd = aim.kind()
    at = aim.low_page()
    for place in range(4):
        if place == 1:
            yield Prctl(PR_SET_MEMORY_MERGE, 1, 0)
        if place == 3 and aim.chance(0.6):
            yield Prctl(PR_SET_MEMORY_MERGE, 0, 0)
        if aim.chance(0.7):
            length = aim.small()
            yield Mmap(at, length, _RW, flags | MAP_FIXED, fd, aim.offset(at, fd))
            at += length
    yield Mprotect(*aim.range(), aim.pick((_RW, PROT_READ)))


def refuse_execution(aim: Aim) -> Steps:
    """PR_SET_MDWE, and memory that is to become executable after all."""
    yield Prctl(PR_SET_MDWE, aim.pick(_MDWE), 0)
    prot = aim.pick((PROT_EXEC, PROT_READ | PROT_EXEC, _RW | PROT_EXEC))
    if aim.chance(0.5):
        flags, fd = aim.kind()
        at = aim.low_page()
        yield Mmap(at, aim.small(), prot, flags | MAP_FIXED, fd, aim.offset(at, fd))
    yield Mprotect(*aim.range(), prot)
    if aim.chance(0.3):
        yield Prctl(PR_SET_MDWE, aim.pick(_MDWE), 0)


def free_and_reclaim(aim: Aim) -> Steps:
    """Pages that MADV_FREE or MAP_DROPPABLE lets go, some written to again, and reclaim."""
    at, length = aim.low_page(), aim.small()
    kind = MAP_DROPPABLE if aim.chance(0.3) else MAP_PRIVATE
    yield Mmap(at, length, _RW, kind | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    pages = length // PAGE
    yield Touch(at, pages, ACCESS_WRITE if aim.chance(0.8) else aim.access())
    if aim.chance(0.85):
        yield Madvise(at, length if aim.chance(0.6) else PAGE, MADV_FREE)
    for _ in range(aim.below(3)):
        yield Touch(at + aim.below(pages) * PAGE, 1, aim.access())
    yield Madvise(at, length, MADV_PAGEOUT)
    if aim.chance(0.5):
        yield Mincore(at, length)


#: One call; as likely as it is frequent.
DRAWS: Final[tuple[Callable[[Aim], Call], ...]] = (
    bind,
    ask_residency,
    advise_self,
    protect_with_key,
    name,
    control,
)
#: As likely as they are frequent.
RECIPES: Final[tuple[Callable[[Aim], Steps], ...]] = (
    bind_neighbours,
    merge_everything,
    refuse_execution,
    free_and_reclaim,
    name_neighbours,
)
