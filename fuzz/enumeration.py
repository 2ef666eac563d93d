"""What `vmadiff enumerate` is asked to do: the bound, where to begin, and how long it may take."""

import time
from argparse import Namespace
from dataclasses import fields, replace
from random import Random
from typing import Any, Final

from abi.consts import MREMAP_NAMES
from abi.environment import Environment
from fuzz.bound import KINDS, MOST_PAGES, MOST_VMAS, MREMAP, Bound, Enumeration
from fuzz.display import duration
from fuzz.produce import Producer
from fuzz.progress import Progress, Standing
from fuzz.site import Executor
from fuzz.statistics import Statistics
from fuzz.status import UnusableError, UsageError
from model.run import Model

#: What is enumerated if nothing else is said: about five minutes on two processors.
DEFAULT: Final = Bound(
    call=MREMAP,
    vmas=3,
    pages=4,
    kinds=(
        "anonymous private",
        "faulted",
        "inaccessible",
        "memfd shared",
        "file private",
        "devzero private",
        "uffd missing",
    ),
    flags=tuple(range(8)),
    resize=1,
    full=10,
)
_RANDOM: Final = frozenset(
    (
        *(
            "also",
            "branches",
            "corpus",
            "coverage",
            "guided",
            "left",
            "made",
            "mremap_success_share",
        ),
        *("multi_vma_share", "seed", "statistics"),
    )
)
#: Programs that are tried for an estimate: so many at so many places.
_TRIED: Final = 64
_PLACES: Final = 12


def begin(
    options: Namespace, environment: Environment, profile: str
) -> tuple[Standing, Enumeration]:
    """Where an enumeration stands that begins or goes on as the command line says, and its programs; its kernel has
    `environment`.

    Raises:
        UsageError: there is nothing to resume, or it is another bound or kernel, or there is no program of that number.
        UnusableError: a kind of mapping is asked for that this machine lacks.
    """
    if options.resume:
        standing = _resumed(options, environment, profile)
        programs = Enumeration(standing.bound)
        if programs.total != standing.total:
            raise UsageError("what is to be resumed is of another version of vmadiff")
        return standing, programs
    bound = bound_of(options)
    lacking = bound.missing(environment)
    if options.kinds:
        for kind, why in lacking.items():
            raise UnusableError(f"no mapping can be {kind!r} here: {why}")
    bound = replace(bound, kinds=tuple(kind for kind in bound.kinds if kind not in lacking))
    programs, first = Enumeration(bound), options.first
    check_number("--from", first, programs.total)
    release, total = environment.release, programs.total
    return Standing(bound, options.target, release, profile, total, first, first), programs


def bound_of(options: Namespace) -> Bound:
    """The bound that the command line says.

    Raises:
        UsageError: it is too large, or says something of mremap, which is not the call.
    """
    given = {name: getattr(options, name) for name in _names()}
    given = {name: value for name, value in given.items() if value is not None}
    bound = replace(DEFAULT, **given)
    for name, most in (("vmas", MOST_VMAS), ("pages", MOST_PAGES)):
        if getattr(bound, name) > most:
            raise UsageError(f"--{name} {getattr(bound, name)}: must be {most} or less")
    if bound.call == MREMAP:
        return bound
    for name in ("flags", "resize"):
        if name in given:
            raise UsageError(f"--{name} is of mremap, not of {bound.call}")
    return replace(bound, flags=(), resize=0)


def check_number(option: str, number: int, total: int) -> None:
    """There is a program of that number.

    Raises:
        UsageError: there is none.
    """
    if not 0 <= number < total:
        raise UsageError(f"{option} {number}: the programs are 0 to {total - 1}")


def _names() -> list[str]:
    return [each.name for each in fields(Bound)]


def _resumed(options: Namespace, environment: Environment, profile: str) -> Standing:
    progress = Progress(options.state)
    try:
        standing = progress.read()
    except FileNotFoundError:
        raise UsageError(f"{options.state}: there is no enumeration to resume") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    for name in _names():
        given, there = getattr(options, name), getattr(standing.bound, name)
        if given is not None and given != there:
            raise UsageError(f"--{name}: what is to be resumed has another")
    for there, now in (
        (standing.target, options.target),
        (standing.kernel, environment.release),
        (standing.profile, profile),
    ):
        if there != now:
            raise UsageError(f"what is to be resumed was compared with {there}, not {now}")
    standing.release()
    return standing


def kinds(text: str) -> tuple[str, ...]:
    """The kinds that a list of names is.

    Raises:
        ValueError: a name is of none; the message says which there are.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in chosen:
        if name not in KINDS:
            raise ValueError(f"no kind is called {name!r}; there are {', '.join(KINDS)}")
    return chosen


def flags(text: str) -> tuple[int, ...]:
    """The sets of flags that a list such as `0,MAYMOVE,MAYMOVE|FIXED` is.

    Raises:
        ValueError: a flag is none of mremap's.
    """
    names = {name.removeprefix("MREMAP_"): bit for name, bit in MREMAP_NAMES.items()}
    chosen = []
    for each in text.split(","):
        bits = 0
        for name in each.split("|"):
            name = name.strip().removeprefix("MREMAP_")
            if name != "0" and name not in names:
                raise ValueError(f"no flag is called {name!r}; there are 0, {', '.join(names)}")
            bits |= names.get(name, 0)
        chosen.append(bits)
    return tuple(dict.fromkeys(chosen))


def outline(standing: Standing, environment: Environment) -> list[str]:
    """What is enumerated, in lines, and which of the usual kinds cannot be."""
    bound = standing.bound
    lacking = DEFAULT.missing(environment)
    usual = tuple(kind for kind in DEFAULT.kinds if kind not in lacking)
    resized = f" that changes the length by up to {bound.resize}" if bound.call == MREMAP else ""
    return [
        f"{standing.total:,} programs: layouts of up to {bound.vmas} VMAs in {bound.pages} pages, each with every"
        f" {bound.call}{resized}",
        f"kinds: {', '.join(bound.kinds)}",
        *(f"left out: {kind} ({why})" for kind, why in lacking.items() if bound.kinds == usual),
    ]


def estimate(
    standing: Standing, programs: Enumeration, model: Model, executor: Executor, workers: int
) -> str:
    """How long what is left takes, in a line: some of it is tried. workers: how many are at work at once."""
    environment = executor.environment
    producer = Producer(model, environment, Random(0), Statistics(), set())
    places = range(0, standing.total, max(1, standing.total // _PLACES))
    batches = [
        [
            (programs.program(number, environment.geometry), programs.is_full(number))
            for number in range(place, min(place + _TRIED, standing.total))
        ]
        for place in places
    ]
    begun = time.monotonic()
    for place, batch in enumerate(batches):
        for program, full in batch:
            producer.predict(program, full=full)
        if place:
            executor.collect()
        executor.submit(
            [program for program, _ in batch], [i for i, (_, f) in enumerate(batch) if f]
        )
    executor.collect()
    tried = sum(map(len, batches))
    each = (time.monotonic() - begun) / tried
    left = duration(standing.left * each / workers)
    return (
        f"{standing.left:,} left, {each * 1e3:.2f} ms each as tried on {tried}:"
        f" about {left} with {workers} worker{'s' if workers > 1 else ''}"
    )


def to_json(summary: dict[str, Any], standing: Standing) -> dict[str, Any]:
    """The summary of the session, with how the enumeration stands and without what is about programs made at random."""
    data = {key: value for key, value in summary.items() if key not in _RANDOM}
    return data | {
        "bound": standing.bound.to_json(),
        "programs": standing.total,
        "first": standing.first,
        "next": standing.compared,
        "left": standing.left,
        "left_out": [[each.begin, each.end] for each in standing.left_out],
        "complete": standing.is_complete,
    }


def closing(standing: Standing) -> list[str]:
    """How it stands at the end."""
    if standing.is_complete:
        return [f"all programs from {standing.first:,} to {standing.total - 1:,} are compared"]
    lines = []
    if standing.left:
        lines.append(
            f"{standing.left:,} of {standing.total:,} programs are left; --resume goes on with {standing.compared:,}"
        )
    lines += [
        f"not compared, for workers died of it: {each.begin:,} to {each.end - 1:,}"
        for each in standing.left_out
    ]
    return lines
