"""`vmadiff patch`: what a series of patches changes that user space can see."""

import json
import random
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from fuzz import corpus, history
from fuzz.booting import Booting
from fuzz.display import Screen, columns
from fuzz.follow import state_of
from fuzz.headlines import KERNEL
from fuzz.inflight import leftovers
from fuzz.kept_profiles import profile_of
from fuzz.kernels_command import Shown
from fuzz.output import check_output, read_json, write_json
from fuzz.pages import patch as pages
from fuzz.patch.cover import cover
from fuzz.patch.judge import CRASH, UNDECIDED, Judge, Judged
from fuzz.patch.pair import KASAN, Builder, Pair, Series
from fuzz.patch.result import Result
from fuzz.session import Options, Outcome, Session
from fuzz.sighting import image_checksum
from fuzz.status import INTERRUPTED, UnusableError, UsageError
from fuzz.storage import write_atomically
from fuzz.targets import Target
from fuzz.triage import load_known
from kernel_bridge import BridgeError
from kernels import KernelError, UnknownKernelError
from kernels.build import BuildFailed, Progress
from kernels.workshop import SeriesError, Workshop
from model.profile import Profile

#: Seconds of fuzzing, and which share of them is on a kernel with KASAN, unless said otherwise.
SECONDS: Final = 600.0
KASAN_SHARE: Final = 0.2
_ERRORS: Final = 20
_FACTS: Final = "patch.json"
_REACHED: Final = "reached.json"
_KASAN: Final = "kasan"
_RANGE: Final = ".."


@dataclass(slots=True)
class _Done:
    """Of this run: what became of the sessions."""

    interrupted: bool = False
    problems: list[str] = field(default_factory=list)


def patch(options: Namespace) -> int:
    """`vmadiff patch`"""
    check_output(options.json)
    _check(options)
    if options.base_image:
        builder, pair = None, _given(options)
    else:
        builder, pair = _built(options)
    state = (options.state / f"patch-{pair.key}").resolve()
    if options.restart:
        shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True, exist_ok=True)
    seed = _seed(state, options)
    profile, unbootable = _try_out(pair, options.user)
    print(f"{pair.what}\nprofile {profile.name}, seed {seed}, {state}", flush=True)
    done = _Done()
    if unbootable is None:
        _search(pair, state, profile, seed, options, done)
        if builder is not None and not options.first:
            _search_with_kasan(builder, state, profile, seed, options, done)
    if any(leftovers(place) for place in (state, state / _KASAN)):
        done.problems.append("there was no time for programs in flight: give more --time")
    result = _conclude(pair, state, profile, seed, options, done, unbootable)
    write_atomically(state / "report.html", pages.page(result).encode())
    write_json(state / "result.json", result.to_json())
    print("\n".join(["", *result.lines()]))
    print(f"\n{state / 'report.html'}")
    if options.json:
        write_json(options.json, result.to_json())
    return INTERRUPTED if done.interrupted and not result.status else result.status


def _check(options: Namespace) -> None:
    images = (options.base_image, options.patched_image)
    if any(images):
        if not all(images) or options.tree or options.series or options.range:
            raise UsageError("--base-image and --patched-image go together, and without a tree")
        return
    if not options.tree:
        raise UsageError("give --tree DIR, or --base-image and --patched-image")
    if bool(options.series) == bool(options.range):
        raise UsageError("give the patches: --series FILE ..., or --range A..B")
    if options.range and (_RANGE not in options.range or options.range.count(_RANGE) > 1):
        raise UsageError(f"--range {options.range}: not of the form A..B")


def _given(options: Namespace) -> Pair:
    names = (options.base_image, options.patched_image)
    for name in names:
        Target(name).close()
    key = sha256("\0".join(map(image_checksum, names)).encode()).hexdigest()[:16]
    return Pair(*names, f"{names[0]} and {names[1]}", key)


def _built(options: Namespace) -> tuple[Builder, Pair]:
    if options.range:
        base, _, tip = options.range.partition(_RANGE)
        series = Series(options.base or base or "HEAD", tip=tip or "HEAD")
    else:
        series = Series(options.base or "HEAD", tuple(options.series))
    try:
        workshop = Workshop(options.tree, _say)
        with workshop.locked():
            builder = Builder(workshop, series, options.arch, _say, _progress)
            return builder, builder.pair()
    except (BuildFailed, SeriesError) as error:
        print("\n".join(error.lines[:_ERRORS]), file=sys.stderr)
        raise UsageError(str(error)) from None
    except UnknownKernelError as error:
        raise UsageError(str(error)) from None
    except KernelError as error:
        raise UnusableError(str(error)) from None


def _progress() -> Progress:
    return Shown().progress


def _seed(state: Path, options: Namespace) -> int:
    """That of the first run in this directory, which a run that goes on keeps."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = int(json.loads((state / _FACTS).read_text())["seed"])
        if options.seed in (None, kept):
            return kept
        raise UsageError(f"{state} was begun with seed {kept}; `--restart` begins anew")
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    write_json(state / _FACTS, {"seed": seed})
    return int(seed)


def _try_out(pair: Pair, user: bool) -> tuple[Profile, Judged | None]:
    """The base's profile; and that the patched kernel does not boot, if it does not."""
    with Booting(pair.patched, user=user) as patched:
        try:
            with Target(pair.base) as target, target.start(user=user) as executor:
                profile = profile_of(executor, image_checksum(pair.base))
        except BridgeError as error:
            raise UnusableError(f"the base does not run: {error}") from None
        try:
            patched.executor()
        except BridgeError as error:
            title = f"{KERNEL}it does not boot"
            return profile, Judged(CRASH, title, str(error), "", 0, "")
        return profile, None


def _search(
    pair: Pair, state: Path, profile: Profile, seed: int, options: Namespace, done: _Done
) -> None:
    """Fuzz both kernels for what is left of the time."""
    share = 0.0 if options.first or options.base_image else options.kasan
    left = options.time * (1 - share) - _spent(state)
    watched = {pair.patched: pair.watched, pair.base: pair.watched_on_base}
    session = replace(
        _session(pair.patched, state, state, left, profile, seed, options),
        also=(pair.base,),
        watched={
            name: tuple(block.address for block in blocks)
            for name, blocks in watched.items()
            if blocks
        },
        like=True,
        until_found=options.first,
    )
    outcome = _fuzz(session, "both kernels", done)
    if outcome is not None:
        known = read_json(state / _REACHED)
        for name, programs in outcome.reached.items():
            here = known.setdefault(name, {})
            for place, program in programs.items():
                here.setdefault(str(watched[name][place].address), program)
        write_json(state / _REACHED, known)


def _search_with_kasan(
    builder: Builder, state: Path, profile: Profile, seed: int, options: Namespace, done: _Done
) -> None:
    """Fuzz the patched kernel, built with KASAN, for its share of the time."""
    place = state / _KASAN
    left = options.time * options.kasan - _spent(place)
    if left < 1 or done.interrupted:
        return
    try:
        with builder.locked():
            name = builder.build(builder.patched, "patched", KASAN)
    except KernelError as error:
        done.problems.append(f"no kernel with KASAN: {error}")
        return
    place.mkdir(exist_ok=True)
    session = _session(name, place, state, left, profile, seed + 1, options)
    _fuzz(session, "the patched kernel with KASAN", done)


def _session(
    target: str,
    place: Path,
    state: Path,
    seconds: float,
    profile: Profile,
    seed: int,
    options: Namespace,
) -> Options:
    """What is the same on all kernels. place: the directory of this one."""
    return Options(
        state=place,
        corpus=state / "corpus",
        profile=profile.name,
        changes=tuple(sorted(change.name for change in profile.changes)),
        seed=seed + _sessions(place),
        workers=options.workers,
        seconds=seconds,
        guided=not options.unguided,
        seeds=not options.unseeded,
        unmask=True,
        reduce_known=False,
        user=options.user,
        target=target,
        release=profile.name,
    )


def _fuzz(options: Options, what: str, done: _Done) -> Outcome | None:
    if options.seconds is not None and options.seconds < 1:
        return None
    options.corpus.mkdir(exist_ok=True)
    screen = Screen(sys.stdout, columns())
    outcome = Session(options, screen, f"vmadiff patch: {what}").run()
    done.interrupted = done.interrupted or outcome.interrupted
    if outcome.failure:
        done.problems.append(outcome.failure)
    done.problems += [f"{name} was lost: {why}" for name, why in outcome.left.items()]
    return outcome


def _conclude(
    pair: Pair,
    state: Path,
    profile: Profile,
    seed: int,
    options: Namespace,
    done: _Done,
    unbootable: Judged | None,
) -> Result:
    rows = [] if unbootable is None else [unbootable]
    known = load_known(corpus.DIVERGENCES)
    with Judge(pair.base, pair.patched, profile, known, pair.watched, user=options.user) as judge:
        for directory, side in _directories(state, pair):
            try:
                row = judge.judge(directory, side)
            except (BridgeError, ValueError) as error:
                row = Judged(UNDECIDED, directory.name, str(error), "", 0, str(directory))
            if row is not None:
                rows.append(row)
    covered, gone = (
        cover(lines, blocks, _reached(state, name)) if lines else ()
        for lines, blocks, name in (
            (pair.changed, pair.blocks, pair.patched),
            (pair.removed, pair.base_blocks, pair.base),
        )
    )
    last = _last_points(state)
    with_kasan = _last_points(state / _KASAN)
    changed_lines = set(pair.changed.lines) if pair.changed else set()
    return Result(
        pair.what,
        (pair.base, pair.patched),
        profile.name,
        tuple(
            replace(row, lines=tuple(line for line in row.lines if line in changed_lines))
            for row in rows
        ),
        pair.changed,
        covered,
        gone,
        _spent(state) + _spent(state / _KASAN),
        sum(point.sequences for point in last),
        sum(point.calls for point in last),
        _spent(state / _KASAN),
        sum(point.sequences for point in with_kasan),
        tuple(done.problems),
        state,
        seed,
    )


def _reached(state: Path, name: str) -> dict[int, str]:
    """The blocks of a kernel that were, by address."""
    known = read_json(state / _REACHED).get(name, {})
    return {int(address): program for address, program in known.items()}


def _directories(state: Path, pair: Pair) -> Iterator[tuple[Path, str]]:
    """Where findings are, and of which side."""
    base = state_of(state, pair.base)
    for place, side in ((state, "patched"), (state / _KASAN, "patched"), (base, "base")):
        for path in sorted((place / "findings").glob("*")):
            if path.is_dir():
                yield path, side


def _last_points(state: Path) -> list[history.Point]:
    """The last of each session."""
    points, _ = history.read(state)
    return list({point.session: point for point in points}.values())


def _spent(state: Path) -> float:
    return sum(point.seconds for point in _last_points(state))


def _sessions(state: Path) -> int:
    return len(_last_points(state))


def _say(text: str) -> None:
    print(text, flush=True)
