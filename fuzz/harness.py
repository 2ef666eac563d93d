"""A worker process, and the only place that knows Atheris: `python -m fuzz.harness SETTINGS`.

With Atheris, the model is instrumented (branches only) and its engine keeps and picks the inputs. Where Atheris
does not exist, the same producer and loop run on a small pool of recent programs.

Atheris rewrites bytecode so that every basic block calls `atheris._trace_branch(number)`, looked up at run time.
Here that is the `add` of a set: cheap, and the branches of a program are known while it is made, before the
engine asks to run it. Only of programs that reach something new are they passed on to Atheris' own counters, by
its own function; what was reached long ago is no longer traced at all (`fuzz.tracing`).
"""

import contextlib
import ctypes
import faulthandler
import os
import random
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NoReturn

from fuzz import compiled
from fuzz.settings import Settings, encode_message
from fuzz.sources import PACKAGE, install
from fuzz.tracing import skip_reached

#: Longest byte form the engine is allowed.
MAX_BYTES: Final = 4096
_POOL: Final = 256
#: Programs after which branches that were reached are no longer traced; then after twice as many, and so on.
_FORGET: Final = 500
#: Seconds. 0 would not do: Atheris then takes whatever runs at its next tick for hung, and exits.
_NEVER: Final = 10**9
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: Sequence[str]) -> int:
    """Work as the settings say; all that is to be known goes through the pipe, what is printed is a log."""
    faulthandler.enable()
    settings = Settings.decode(arguments[0])
    die_with_parent(settings.session)

    def tell(kind: str, **fields: Any) -> None:
        os.write(settings.pipe, encode_message(kind, **fields))

    with Ending(tell):
        work(settings, tell)
    return 0


class Ending:
    """What raises in here ends the process at once, for the engine lets no exception through; the machine's faults
    are told.

    Anything else is a fault of this program: the supervisor sees the death and finds the traceback in the log.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        traceback.print_exception(error)
        with contextlib.suppress(OSError):
            if isinstance(error, OSError):
                self._tell("failure", text=describe_error(error))
            elif type(error).__name__ == "BridgeError":
                self._tell("failure", text=str(error))
        leave(1)


def describe_error(error: OSError) -> str:
    """One line about a file that cannot be read or written."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def die_with_parent(parent: int) -> None:
    """Have this process asked to stop when its parent dies, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def work(
    settings: Settings, tell: Callable[..., None], watch: Callable[[Any], None] | None = None
) -> None:
    """Fuzz as the settings say. `watch` is handed the worker before it begins: benchmarks count there."""
    if settings.cpus:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, settings.cpus)
    asked: list[int] = []
    # To stop may be asked for before there is a worker to be stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    # It is started with this one blocked, so that it is not ended by it before.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    engine = load_engine() if settings.guided else None
    reached: set[int] = set()
    branches = _import_model(settings, engine)

    # Not before the model was imported, for these import it.
    from fuzz.assemble import assemble
    from fuzz.exhaust import exhaust

    worker, producer = assemble(settings, tell, reached, branches)
    if watch is not None:
        watch(worker)
    if engine is None and settings.guided:
        tell("note", text="no Atheris here: fuzzing without coverage guidance")

    def stop(number: int, frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    if asked:
        worker.stop()
    with contextlib.closing(worker):
        worker.take_up()
        if settings.enumerate:
            exhaust(settings, worker, producer)
        elif engine is None:
            fuzz_unguided(settings, worker, producer)
        else:
            fuzz_guided(engine, reached, settings, worker, producer, tell)


def load_engine() -> Any:
    """Atheris, or None where there is none."""
    try:
        import atheris
    except ImportError:
        return None
    return atheris


def _import_model(settings: Settings, engine: Any) -> int:
    """Import the model: compiled, or instrumented and with its planted mistake; how many branches it has."""
    if settings.compiled:
        compiled.use(Path(settings.compiled))
        return 0
    edits: dict[str, list[tuple[str, str]]] = {}
    if settings.mistake:
        from fuzz.mistakes import find

        mistake = find(settings.mistake)
        edits[mistake.file] = [(mistake.before, mistake.after)]
    if engine is None:
        install(edits)
        return 0
    first = engine._reserve_counter()

    def instrument(code: CodeType) -> CodeType:
        patched: CodeType = engine.patch_code(code, False)
        return patched

    install(edits, instrument)
    import model.run  # noqa: F401

    count: int = engine._reserve_counter() - first - 1
    return count


def fuzz_guided(
    engine: Any,
    reached: set[int],
    settings: Settings,
    worker: Any,
    producer: Any,
    tell: Callable[..., None],
) -> None:
    """Let Atheris drive. Does not return: the process ends in here."""
    always = engine._reserve_counter()
    forget = _Forgetting(engine, worker)
    trace_branch: Callable[[int], None] | None = None

    ending = Ending(tell)

    def test_one_input(data: bytes) -> None:
        nonlocal trace_branch
        with ending:
            if trace_branch is None:
                # Not before: the engine sets its own when it starts.
                trace_branch = engine._trace_branch
                engine._trace_branch = reached.add
            prepared = producer.prepare(data)
            if worker.accept(prepared):
                for number in prepared.branches:
                    trace_branch(number)
            trace_branch(always)
            forget()
            if worker.is_over():
                worker.finish()
                worker.close()
                leave(0)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        with ending:
            return bytes(producer.edit(data, max_size, engine.Mutate))

    def crossover(first: bytes, second: bytes, max_size: int, seed: int) -> bytes:
        with ending:
            return bytes(producer.cross(first, second, max_size, engine.Mutate))

    options: dict[str, int | str] = {
        "seed": settings.seed or 1,
        "max_len": MAX_BYTES,
        "len_control": 0,
        "timeout": _NEVER,
        # Making a finding smaller takes its time; that is no slow unit.
        "report_slow_units": _NEVER,
        "rss_limit_mb": 0,
        "verbosity": 0,
        "artifact_prefix": f"{settings.state}/engine-",
    }
    # The engine's own answer to a signal is to write down its input and exit; Python's says where it happened.
    signals = ("segv", "bus", "abrt", "ill", "fpe", "int", "term", "xfsz", "usr1", "usr2")
    options |= {f"handle_{name}": 0 for name in signals}
    argv = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items())]
    engine.Setup(argv, test_one_input, custom_mutator=mutator, custom_crossover=crossover)
    engine.Fuzz()


class _Forgetting:
    """Stops tracing branches that were reached, when there are many new ones or it has been a while."""

    def __init__(self, engine: Any, worker: Any) -> None:
        self._engine = engine
        self._worker = worker
        self._calls = 0
        self._known = 0
        self._next = _FORGET

    def __call__(self) -> None:
        self._calls += 1
        if self._calls < self._next:
            return
        self._next = self._calls * 2
        if len(self._worker.covered) > self._known:
            self._known = len(self._worker.covered)
            skip_reached(PACKAGE, self._engine, self._worker.covered)


def fuzz_unguided(settings: Settings, worker: Any, producer: Any) -> None:
    """The same loop without an engine: edits are of recent programs."""
    rng = random.Random(settings.seed)
    pool: deque[bytes] = deque([b""], _POOL)
    while not worker.is_over():
        if rng.random() < 0.5:
            data = producer.edit(rng.choice(pool), MAX_BYTES, None)
        else:
            data = producer.cross(rng.choice(pool), rng.choice(pool), MAX_BYTES, None)
        worker.accept(producer.prepare(data))
        pool.append(data)
    worker.finish()


def leave(status: int) -> NoReturn:
    """End the process here and now: the engine's own end runs no Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
