"""What each command does, between the command line and the modules that do it."""

import os
import random
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from abi.calls import Program
from abi.environment import Environment, Geometry
from abi.program import ProgramError, format_call, format_program
from fuzz import corpus, reference
from fuzz.bisect_command import bisect as bisect
from fuzz.bound import Enumeration
from fuzz.check_command import check_corpus as check_corpus
from fuzz.compiled import CompileError
from fuzz.compiled import build as build_compiled
from fuzz.compiled import is_built as is_compiled
from fuzz.console import reports
from fuzz.corpus import shipped
from fuzz.corpus_command import corpus_command as corpus_command
from fuzz.coverage import lines as coverage_lines
from fuzz.coverage import measure as measure_coverage
from fuzz.coverage import to_json as coverage_json
from fuzz.display import Figures, Screen, columns, duration, summary
from fuzz.enumeration import begin as begin_enumeration
from fuzz.enumeration import bound_of, check_number, closing, estimate, outline
from fuzz.enumeration import to_json as enumeration_json
from fuzz.explain import explain as explain_program
from fuzz.faults import Trial, counts, try_all
from fuzz.faults import to_json as faults_json
from fuzz.formats import render
from fuzz.headlines import causes
from fuzz.imports import import_strace as read_strace
from fuzz.kernels_command import default_kernels, fetch_missing
from fuzz.kernels_command import kernels as kernels
from fuzz.matrix import compare as compare_kernels
from fuzz.matrix import lines as matrix_lines
from fuzz.matrix import to_json as matrix_json
from fuzz.minimize_command import minimize as minimize
from fuzz.mistakes import MISTAKES
from fuzz.output import check_output, write_json
from fuzz.patch.command import patch as patch
from fuzz.probe import examine
from fuzz.profiles import profile_for
from fuzz.progress import Progress
from fuzz.replay import Replay
from fuzz.replay import replay as replay_all
from fuzz.report import result_text
from fuzz.report_command import report as report
from fuzz.repro_command import repro as repro
from fuzz.restraint import restrain_program
from fuzz.results import of_replays
from fuzz.resume import check_kernel, take_up, tidy
from fuzz.selftest import selftest as try_mistakes
from fuzz.session import Options, Outcome, Session
from fuzz.status import (
    DIVERGES,
    INCOMPLETE,
    INTERRUPTED,
    OK,
    UnusableError,
    UsageError,
)
from fuzz.storage import write_atomically
from fuzz.strace import StraceError
from fuzz.targets import LOCAL, Target, refuse_strict_commit
from fuzz.third import DoesNotApplyError, opinion, third
from kernel_bridge import BridgeError, KernelExecutor
from model.errors import Unmodelled
from model.profile import CHANGES, Profile
from model.run import Model

_DEFAULT_SECONDS = 60.0
_READERS = {"query": "PROCMAP_QUERY", "maps": "/proc/self/maps"}


def fuzz(options: Namespace) -> int:
    """`vmadiff fuzz`"""
    return _fuzz(options)


def soak(options: Namespace) -> int:
    """`vmadiff soak`"""
    return _fuzz(options, _compiled())


def _compiled() -> Path | None:
    """The compiled model; None, and a line about it, where there can be none."""
    try:
        if not is_compiled():
            print("compiling the model: about a minute, once", flush=True)
        return build_compiled()
    except CompileError as error:
        print(f"the model runs as it is written, at half the speed: {error}", flush=True)
        return None


def _fuzz(options: Namespace, compiled: Path | None = None) -> int:
    check_output(options.json)
    past = take_up(options) if options.resume else None
    _make_directory(options.state)
    directory = options.corpus or options.state / "corpus"
    _make_directory(directory)
    os.listdir(directory)
    tidy(options.state, directory, past.process[0] if past else 0)
    names = options.target or [LOCAL]
    options.target, also = names[0], tuple(dict.fromkeys(names[1:]))
    for name in also:
        Target(name).close()
    with _executor(options) as executor:
        profile, environment = profile_for(executor, options.profile), executor.environment
    changes = sorted(change.name for change in profile.changes)
    if past:
        check_kernel(past, options.state, environment.release, profile.name, changes)
    seconds = options.time
    if seconds is None:
        seconds = 0.0 if options.runs else _DEFAULT_SECONDS
    workers = _workers(options)
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    title = (
        f"vmadiff: {environment.release} {environment.machine}, profile {profile.name}, seed {seed}"
    )
    print(title)
    if past:
        done = past.sums.get("sequences", 0)
        print(f"resumed after {duration(past.seconds)} and {done:,} sequences")
    if environment.missing:
        reasons = "; ".join(f"{name} ({why})" for name, why in sorted(environment.missing.items()))
        print(f"left out: {reasons}")
    sys.stdout.flush()
    session = Session(
        Options(
            state=options.state.resolve(),
            corpus=directory.resolve(),
            profile=profile.name,
            changes=tuple(changes),
            seed=seed,
            workers=workers,
            seconds=seconds or None,
            runs=options.runs,
            guided=not options.unguided,
            seeds=not options.unseeded,
            unmask=options.unmask,
            user=options.user,
            target=options.target,
            also=also,
            compiled=compiled,
            release=environment.release,
            held=options.profile or "",
            resumable=True,
        ),
        Screen(sys.stdout, columns()),
        title,
        past,
    )
    outcome = session.run()
    print("\n".join(summary(outcome.figures, profile.name, options.target, seed)))
    for name, ran in outcome.also.items():
        print(f"also {name}: {ran['sequences']:,} sequences, {ran['calls']:,} calls")
    for name, why in outcome.left.items():
        print(f"unknown from then on: {name}, which was left behind: {why}")
    for text, path in outcome.new.items():
        print(f"  {text}\n    {path}/report.md" if path else f"  {text}")
    if options.json:
        data = _summary_json(outcome, environment, profile, options.target, seed)
        data["resumed"] = past.resumed if past else 0
        write_json(options.json, data)
    if outcome.failure:
        raise UnusableError(outcome.failure)
    if outcome.new:
        return DIVERGES
    if outcome.interrupted:
        return INTERRUPTED
    return INCOMPLETE if outcome.left or outcome.unfinished else OK


def _workers(options: Namespace) -> int:
    """One for each processor, unless it is said or programs are to be the same each time; no more than programs."""
    repeats = options.runs is not None and options.seed is not None
    workers: int = options.workers or (1 if repeats else len(os.sched_getaffinity(0)))
    return min(workers, options.runs or workers)


def enumerate_bound(options: Namespace) -> int:
    """`vmadiff enumerate`"""
    if options.show is not None:
        return _show_numbered(options)
    check_output(options.json)
    _make_directory(options.state)
    progress = Progress(options.state)
    try:
        with progress.held():
            return _enumerate(options, progress)
    except BlockingIOError:
        raise UnusableError(f"{options.state}: another enumeration is at work there") from None


def _enumerate(options: Namespace, progress: Progress) -> int:
    processors = len(os.sched_getaffinity(0))
    workers = options.workers or processors
    with _executor(options) as executor:
        profile, environment = profile_for(executor, options.profile), executor.environment
        standing, programs = begin_enumeration(options, environment, profile.name)
        title = f"vmadiff: {environment.release} {environment.machine}, profile {profile.name}"
        print("\n".join([title, *outline(standing, environment)]), flush=True)
        model, busy = Model(environment, profile), min(workers, processors)
        print(estimate(standing, programs, model, executor, busy), flush=True)
    progress.write(standing)
    session = Session(
        Options(
            state=options.state.resolve(),
            corpus=options.state.resolve(),
            profile=profile.name,
            changes=tuple(sorted(change.name for change in profile.changes)),
            seed=0,
            workers=workers,
            seconds=options.time or None,
            runs=standing.left,
            guided=False,
            seeds=False,
            unmask=options.unmask,
            user=options.user,
            target=options.target,
            release=environment.release,
            enumerate=True,
        ),
        Screen(sys.stdout, columns()),
        title,
    )
    outcome = session.run()
    standing = progress.read()
    lines = summary(outcome.figures, profile.name, options.target)
    print("\n".join([*lines, *closing(standing)]))
    for text, path in outcome.new.items():
        print(f"  {text}\n    {path}/report.md" if path else f"  {text}")
    if options.json:
        data = _summary_json(outcome, environment, profile, options.target, 0)
        write_json(options.json, enumeration_json(data, standing))
    if outcome.failure:
        raise UnusableError(outcome.failure)
    if outcome.new:
        return DIVERGES
    if outcome.interrupted:
        return INTERRUPTED
    return OK if standing.is_complete else INCOMPLETE


def _show_numbered(options: Namespace) -> int:
    programs = Enumeration(bound_of(options))
    check_number("--show", options.show, programs.total)
    geometry = Geometry()
    print(format_program(programs.program(options.show, geometry), geometry), end="")
    return OK


def run(options: Namespace) -> int:
    """`vmadiff run`"""
    check_output(options.json)
    with _executor(options) as executor:
        environment = executor.environment
        sources = [
            (path, name, _harmless(path, program, environment))
            for path in options.files
            for name, program in _read_all(path, environment.geometry)
        ]
        programs = [(name, program) for _, name, program in sources]
        model = Model(environment, profile_for(executor, options.profile))
        executor.printed()
        results = replay_all(programs, executor, model)
        printed = "".join(result.console for result in results).encode() + executor.printed()
    crashes = causes(reports(printed))
    if options.format == "text":
        for result in results:
            print("\n".join(result.lines(options.layouts)))
        if options.vma_tests:
            _print_third_opinions(options.vma_tests, results, model)
        for crash in crashes:
            print(f"\n{crash.signature}\n\n{crash.text}", end="")
    else:
        title = (
            f"vmadiff: {environment.release} {environment.machine}, profile {model.profile.name}"
        )
        told = of_replays(results, [path for path, *_ in sources], crashes)
        print(render(told, options.format, title), end="")
    if options.json:
        data = _replay_json(results, environment, model.profile.name)
        write_json(options.json, {**data, "reports": [crash.signature for crash in crashes]})
    if crashes or any(result.divergence is not None or result.crash for result in results):
        return DIVERGES
    return OK if all(result.is_complete for result in results) else INCOMPLETE


def _print_third_opinions(tree: Path, results: list[Replay], model: Model) -> None:
    """What the tree's own mm/vma.c makes of the calls that diverge."""
    diverging = [result for result in results if result.divergence is not None]
    if not diverging:
        return
    with third(tree) as asked:
        for result in diverging:
            try:
                lines = opinion(asked, result, model)
            except DoesNotApplyError as error:
                lines = [f"the kernel's VMA tests cannot be asked: {error}"]
            print("\n".join([f"\n{result.name}:", *(f"  {line}" for line in lines)]))


def faults(options: Namespace) -> int:
    """`vmadiff faults`"""
    check_output(options.json)
    trials: list[Trial] = []
    with _executor(options) as executor:
        environment = executor.environment
        if "FAULT_INJECTION" not in environment.config:
            raise UsageError(
                f"{environment.release} has no fault injection: see `vmadiff kernels build --help`"
            )
        model = Model(environment, profile_for(executor, options.profile))

        def say(trial: Trial) -> None:
            print(trial.line(environment), flush=True)
            if trial.replay.divergence is not None:
                print("\n".join(trial.replay.lines()))

        for path in options.files:
            for name, program in _read_all(path, environment.geometry):
                print(f"{name}:")
                harmless = _harmless(path, program, environment)
                trials += try_all(name, harmless, executor, model, say)
    total = counts(trials)
    print(f"{total['trials']} trials, {total['agree']} as the model allows")
    if options.json:
        write_json(options.json, faults_json(trials, environment))
    if any(trial.replay.divergence is not None for trial in trials):
        return DIVERGES
    return OK if total["agree"] == total["trials"] else INCOMPLETE


def explain(options: Namespace) -> int:
    """`vmadiff explain`"""
    with _executor(options) as executor:
        environment = executor.environment
        program = _read(options.file, environment.geometry)
        model = Model(environment, profile_for(executor, options.profile))
    try:
        for call, value, rules in explain_program(model, program):
            result = result_text(call, value, environment.geometry)
            print(f"{format_call(call, environment.geometry)} = {result}")
            for rule in rules:
                print(f"    {rule}")
    except Unmodelled as error:
        print(f"unmodelled from here on: {error.reason}")
        return INCOMPLETE
    return OK


def import_strace(options: Namespace) -> int:
    """`vmadiff import strace`"""
    path: Path = options.file
    try:
        with path.open(errors="replace") as lines:
            made = read_strace(lines, path.name, Geometry(), pid=options.pid, limit=options.limit)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except StraceError as error:
        raise UsageError(str(error)) from None
    if options.pid is not None and options.pid not in made.pids:
        known = ", ".join(map(str, made.pids)) or "none"
        raise UsageError(
            f"{path}: no memory calls of a process {options.pid}; it has those of {known}"
        )
    _make_directory(options.output)
    files = [options.output / (each.name + corpus.SUFFIX) for each in made.programs]
    for file, each in zip(files, made.programs, strict=True):
        write_atomically(file, each.text.encode())
    print("\n".join(made.lines()))
    print(f"written to {options.output}/")
    return _run_imported(files, options) if options.run else OK


def _run_imported(files: list[Path], options: Namespace) -> int:
    """Replay the files; a line for each, every step of those that do not agree."""
    status = OK
    with _executor(options) as executor:
        model = Model(executor.environment, profile_for(executor, options.profile))
        for path in files:
            program = _read(path, executor.environment.geometry)
            program = _harmless(path, program, executor.environment)
            (result,) = replay_all([(path.name, program)], executor, model)
            if result.divergence is not None or result.crash:
                status = DIVERGES
                print("\n".join(result.lines()))
            else:
                status = status or (OK if result.is_complete else INCOMPLETE)
                print(f"{path.name}: {result.verdict()}")
    return status


def probe(options: Namespace) -> int:
    """`vmadiff probe`"""
    check_output(options.json)
    with _executor(options) as executor:
        environment, reader = executor.environment, executor.reader
        probed = examine(executor)
    rights = ", ".join(sorted(environment.capabilities)) or "none"
    usable = ", ".join(f"{each.name} ({each.fs})" for each in environment.objects)
    rows = [
        ("kernel", f"{environment.release} {environment.machine}"),
        ("profile", probed.profile.name),
        ("layouts", _READERS[reader]),
        ("rights", rights),
        ("usable", usable),
    ]
    rows += [("missing", f"{name}: {why}") for name, why in sorted(environment.missing.items())]
    rows += [("undecided", f"{name}: {why}") for name, why in sorted(probed.undecided.items())]
    for change in CHANGES:
        sign = "has" if change in probed.profile.changes else "has not"
        rows.append((sign, f"{change.name}: {change.subject}"))
    print("\n".join(f"{name:<10} {text}" for name, text in rows))
    if options.json:
        data = {
            "kernel": environment.release,
            "machine": environment.machine,
            "profile": probed.profile.name,
            "nearest": probed.nearest.name,
            "changes": sorted(change.name for change in probed.profile.changes),
            "undecided": probed.undecided,
            "layouts": reader,
            "usable": [each.name for each in environment.objects],
            "missing": environment.missing,
            "environment": environment.to_json(),
        }
        write_json(options.json, data)
    return OK


def coverage(options: Namespace) -> int:
    """`vmadiff coverage`"""
    check_output(options.json)
    machine = reference.environment()
    programs = list(_programs(options.files or shipped(), machine.geometry))
    measured = measure_coverage(programs, reference.machines())
    print("\n".join(coverage_lines(measured)))
    if options.json:
        write_json(options.json, coverage_json(measured))
    return DIVERGES if measured.missing() else OK


def _programs(paths: Iterable[Path], geometry: Geometry) -> Iterator[Program]:
    """The programs in files and directories."""
    for file in _files(paths):
        yield _read(file, geometry)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files of programs, directories looked into."""
    for path in paths:
        try:
            yield from [path] if not path.is_dir() else sorted(path.glob(f"*{corpus.SUFFIX}"))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None


def matrix(options: Namespace) -> int:
    """`vmadiff matrix`"""
    check_output(options.json)
    names = options.kernels or default_kernels(options.fetch)
    files = list(_files(options.files or shipped()))
    if options.fetch:
        fetch_missing(names, print)

    def maker(path: Path) -> Callable[..., Program]:
        return lambda geometry: _read(path, geometry)

    columns = compare_kernels(
        [(path.stem, maker(path)) for path in files],
        names,
        lambda text: print(text, flush=True),
        user=options.user,
        workers=options.workers,
    )
    print("\n".join(["", *matrix_lines(columns)]))
    if options.json:
        write_json(options.json, matrix_json(columns))
    verdicts = {cell.verdict for column in columns for cell in column.cells}
    if verdicts & {"diverges", "crashed"} or any(column.reports for column in columns):
        return DIVERGES
    return INCOMPLETE if any(column.problem for column in columns) else OK


def selftest(options: Namespace) -> int:
    """`vmadiff selftest`"""
    check_output(options.json)
    if options.list:
        for mistake in MISTAKES:
            print(f"{mistake.name:<36} {mistake.file:<20} {mistake.rule}")
        return OK
    names = {mistake.name for mistake in MISTAKES}
    unknown = sorted(set(options.only or ()) - names)
    if unknown:
        raise UsageError(f"no planted mistake is called {', '.join(unknown)}; see --list")
    chosen = [m for m in MISTAKES if not options.only or m.name in options.only]
    with _executor(options) as executor, tempfile.TemporaryDirectory(prefix="vmadiff-") as state:
        profile = examine(executor).profile
        model = Model(executor.environment, profile)

        def blames_kernel(finding: Path) -> bool:
            program = _read(finding / "program", executor.environment.geometry)
            (result,) = replay_all([(finding.name, program)], executor, model)
            diverges = result.divergence is not None and result.divergence.field != "consistency"
            return diverges or bool(result.crash)

        try:
            results = try_mistakes(
                chosen,
                profile.name,
                tuple(sorted(change.name for change in profile.changes)),
                Path(state),
                Screen(sys.stdout, None),
                options.sequences,
                options.seed,
                options.workers,
                not options.unguided,
                blames_kernel,
                options.user,
            )
        except RuntimeError as error:
            raise UnusableError(str(error)) from None
        except ValueError as error:
            raise UsageError(str(error)) from None
    missed = [result.name for result in results if not result.found]
    found = len(results) - len(missed)
    print(f"planted {len(results)}, found {found}, missed {len(missed)}")
    if options.json:
        data = {
            "planted": len(results),
            "found": found,
            "missed": missed,
            "sequences": options.sequences,
            "seed": options.seed,
            "profile": profile.name,
            "results": [result.to_json() for result in results],
        }
        write_json(options.json, data)
    return DIVERGES if missed else OK


@contextmanager
def _executor(options: Namespace) -> Iterator[KernelExecutor]:
    name = getattr(options, "target", LOCAL)
    try:
        with Target(name) as target, target.start(user=options.user) as executor:
            refuse_strict_commit(target, executor)
            yield executor
    except BridgeError as error:
        raise UnusableError(str(error)) from None


def _read(path: Path, geometry: Geometry) -> Program:
    try:
        return corpus.read_program(path, geometry)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ProgramError as error:
        raise UsageError(str(error)) from None


def _read_all(path: Path, geometry: Geometry) -> list[tuple[str, Program]]:
    try:
        return corpus.read_programs(path, geometry)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ProgramError as error:
        raise UsageError(str(error)) from None


def _harmless(path: Path, program: Program, environment: Environment) -> Program:
    """The program without what takes memory from the machine for good, should this user be able to."""
    harmless = restrain_program(program, not environment.capabilities)
    for before, after in zip(program, harmless, strict=True):
        if before != after:
            geometry = environment.geometry
            was, now = format_call(before, geometry), format_call(after, geometry)
            print(f"{path}: {was} would harm this machine; it runs as {now}", file=sys.stderr)
    return harmless


def _summary_json(
    outcome: Outcome, environment: Environment, profile: Profile, target: str, seed: int
) -> dict[str, Any]:
    f: Figures = outcome.figures
    return {
        "sequences": f.sequences,
        "calls": f.calls,
        "seconds": round(f.seconds, 3),
        "sequences_per_second": round(f.sequences_per_second, 1),
        "calls_per_second": round(f.calls_per_second, 1),
        "divergences_new": f.new,
        "divergences_known": f.known,
        "unstable": f.unstable,
        "unmodelled": sum(f.unmodelled.values()),
        "unmodelled_reasons": f.unmodelled,
        "mremap_success_share": round(f.mremap_success, 4),
        "multi_vma_share": round(f.multi_vma, 4),
        "executor_restarts": f.executor_restarts,
        "worker_restarts": f.worker_restarts,
        "losses": f.losses,
        "target": target,
        "also": outcome.also,
        "left": outcome.left,
        "profile": profile.name,
        "kernel": environment.release,
        "seed": seed,
        "workers": f.workers,
        "guided": f.guided,
        "made": outcome.made,
        "corpus": f.corpus,
        "coverage": f.covered,
        "branches": f.branches,
        "kernel_blocks": f.blocks,
        "interrupted": outcome.interrupted,
        "failure": outcome.failure or None,
        "new": [{"signature": text, "directory": path} for text, path in outcome.new.items()],
        "known": [{"signature": text, "cause": cause} for text, cause in outcome.known.items()],
        "statistics": outcome.statistics,
    }


def _replay_json(results: list[Replay], environment: Environment, profile: str) -> dict[str, Any]:
    """All programs; of a single one its fields on top as well."""
    data: dict[str, Any] = {"kernel": environment.release, "profile": profile}
    data["programs"] = [result.to_json() for result in results]
    if len(results) == 1:
        data.update(data["programs"][0])
    return data


def _make_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise UnusableError(f"{path}: no right to read and write there")
