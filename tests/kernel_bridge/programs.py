"""Programs for the bridge's tests: seeded, and wilder than a fuzzer would make them."""

import random

from abi.calls import CALLS, SIGNATURES, Call, Fill, Kind, Program, build
from abi.consts import (
    FD_NAMES,
    MADV_HWPOISON,
    MADV_NAMES,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NAMES,
    MAP_PRIVATE,
    MAP_SHARED,
    PAGE,
    WORD,
)
from abi.environment import Environment
from abi.trace import Layout, Mapping, unpack
from abi.wire import IMAGE_BASE, SHARED_BASE, SHARED_SIZE
from fuzz.restraint import restrain
from kernel_bridge import Observation

_ADVICE = [v for v in MADV_NAMES.values() if v not in (MADV_HWPOISON, MADV_SOFT_OFFLINE)]


#: Without what takes a quarter of a second.
_CALLS = CALLS[:1] * 3 + tuple(cls for cls in CALLS if cls is not Fill)


def _address(rng: random.Random, env: Environment, wild: float) -> int:
    if rng.random() > wild:
        return env.geometry.window + rng.randrange(24) * PAGE
    return rng.choice(
        [
            0,
            PAGE,
            IMAGE_BASE,
            IMAGE_BASE + PAGE,
            SHARED_BASE - PAGE,
            SHARED_BASE,
            SHARED_BASE + PAGE,
            SHARED_BASE + rng.randrange(SHARED_SIZE // PAGE) * PAGE,
            SHARED_BASE + SHARED_SIZE,
            env.geometry.top - PAGE * rng.randrange(4),
            env.brk - PAGE,
            env.start_stack & -PAGE,
            env.task_size - PAGE,
            env.task_size,
            1 << 63,
            WORD & -PAGE,
            WORD,
            rng.getrandbits(64),
            rng.getrandbits(47) & -PAGE,
        ]
    )


def _length(rng: random.Random, env: Environment, wild: float) -> int:
    if rng.random() > wild:
        return rng.randrange(1, 9) * PAGE
    return rng.choice(
        [0, 1, PAGE + 1, SHARED_SIZE, 200 << 20, env.task_size, WORD, 1 << 63, rng.getrandbits(64)]
    )


def call(rng: random.Random, env: Environment, wild: float) -> Call:
    """A random call; `wild` is how likely each address and length is out of the ordinary."""
    cls = rng.choice(_CALLS)
    words = []
    for _, kind in SIGNATURES[cls]:
        match kind:
            case Kind.ADDRESS:
                word = _address(rng, env, wild)
            case Kind.LENGTH:
                word = _length(rng, env, wild)
            case Kind.OFFSET:
                word = rng.choice([0, 0, 0, PAGE, 63 * PAGE, 1, 1 << 40, rng.getrandbits(64)])
            case Kind.PROT:
                word = rng.choice([0, 1, 3, 3, 3, 5, 7, rng.getrandbits(32)])
            case Kind.MAP_FLAGS:
                word = rng.choice([MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, rng.randrange(16)])
                word |= rng.choice([MAP_ANONYMOUS, MAP_ANONYMOUS, 0])
                word |= rng.choice([MAP_FIXED, MAP_FIXED, 0])
                word |= rng.choice([0, 0, 0, *MAP_NAMES.values()])
            case Kind.ADVICE:
                word = rng.choice([*_ADVICE, 200])
            case Kind.FD:
                word = rng.choice([-1, *FD_NAMES.values(), 18, 999])
            case _:
                word = rng.randrange(8)
        words.append(word)
    return restrain(build(cls, words))


def program(rng: random.Random, env: Environment, calls: int = 8, wild: float = 0.0) -> Program:
    """A random program of that many calls."""
    return tuple(call(rng, env, wild) for _ in range(calls))


def initial(env: Environment) -> Layout:
    """The layout before a program."""
    return tuple(Mapping(v.start, v.end, v.offset, v.ident, v.perms, v.name) for v in env.initial)


def values(env: Environment, observation: Observation) -> list[int]:
    """The raw results of an observation's steps."""
    return [step.value for step in unpack(observation.data, initial(env))]
