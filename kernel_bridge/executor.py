"""Runs programs on the real kernel: batches in, observations out, whatever happens to the executor.

It knows batches, time limits and losses. Where executors run and how they are started is `machine`'s business, what is
refused `policy`'s.
"""

import os
import signal
import struct
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from abi import wire
from abi.calls import NAMES, Call, Program
from abi.environment import Environment, Geometry
from abi.trace import RECORD, unpack
from kernel_bridge import hugepages, policy
from kernel_bridge.build import writable_directory
from kernel_bridge.environment import capabilities, read_environment
from kernel_bridge.local import Local
from kernel_bridge.machine import BridgeError, Machine, MachineLost, Memory, Process
from kernel_bridge.objects import Objects, open_objects

_READERS: Final = {
    "auto": wire.READER_AUTO,
    "query": wire.READER_QUERY,
    "maps": wire.READER_MAPS,
}
_RUNNING: Final = frozenset((wire.PHASE_CALL, wire.PHASE_LAYOUT, wire.PHASE_RESET))
_NOBODY: Final = 65534
#: What the first process learns of its beginning; those after it have to begin alike, and a reset goes back to it.
_LEARNT: Final = (
    *("base_count", "base_size", "base_data", "base_locked", "base_uffd"),
    *("soft_as", "soft_data", "soft_memlock", "soft_stack"),
)
#: The fields of `wire.RESULT`.
_Entry = tuple[int, int, int, int, int, int, int]
#: How often in a row an executor may fail to start.
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class ExecutorConfig:
    """How an executor is set up.

    window, window_pages: where programs aim (bytes, pages); reader: "auto", "query" (PROCMAP_QUERY) or "maps"
    (text); rlimit_as: bytes; call_seconds, program_seconds: when it counts as hung; start_seconds: when its start
    does; endless_seconds: processor time after which a call that cannot end is ended; state: directory for the mapped
    file, None for one in the cache; drop_privileges: become an ordinary user if it starts as root; cpu: where the
    executor runs, None for anywhere; protect: lock and seal its own VMAs, as far as the kernel lets it.
    """

    window: int = Geometry().window
    window_pages: int = Geometry().window_pages
    reader: str = "auto"
    rlimit_as: int = 256 << 20
    call_seconds: float = 10.0
    program_seconds: float = 60.0
    start_seconds: float = 10.0
    endless_seconds: float = 0.02
    state: Path | None = None
    drop_privileges: bool = True
    cpu: int | None = None
    protect: bool = True


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a program was not observed to its end.

    kind: "signal", "exit", "hang", "oom" (its executor died so), "crash" (the kernel did), "refused" (it was not run),
    "too-large" (it or its trace does not fit, or it makes too many objects); signal: its number or 0; call: index of
    the call that ran, -1 for none; text: one line for people; console: what the kernel printed as it died.
    """

    kind: str
    signal: int
    call: int
    text: str
    console: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the kernel did: the packed trace (`abi.trace`), whole steps only.

    loss: why the trace ends early, None if it does not; dirty: what unmapping everything did not bring back to its
    initial value, "" if nothing was; fresh: how many blocks of the kernel it reached that no program before it did,
    where the kernel tells; near: how many of those that are watched, rarest: by how many programs before it the one of
    them was reached that fewest have.
    """

    data: bytes
    loss: Loss | None = None
    dirty: str = ""
    fresh: int = 0
    near: int = 0
    rarest: int = 0


@dataclass(slots=True)
class _Batch:
    """Programs on their way; `order` are the indices not yet sent, last first."""

    programs: Sequence[Program]
    observations: list[Observation | None]
    order: list[int]
    #: Index and encoded words of what is in the shared memory.
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    #: Encoded while the executor was busy; sent next.
    ahead: list[tuple[int, bytes]] = field(default_factory=list)
    #: Programs that must run alone, for one of them wipes the shared memory or kills the kernel.
    alone: set[int] = field(default_factory=set)
    #: Programs after which the process is of no use.
    final: set[int] = field(default_factory=set)
    #: Losses in a row that no program could be blamed for.
    blameless: int = 0
    #: Programs that are observed in full.
    full: frozenset[int] = frozenset()
    #: No more is run once the machine was lost.
    until_lost: bool = False
    #: How many of the programs are observed.
    end: int = 0


@dataclass(slots=True)
class _Held:
    """What an executor holds on its machine."""

    memory: Memory
    objects: Objects
    live: list[Process] = field(default_factory=list)


class KernelExecutor:
    """An executor and what it takes to replace it. Use from one thread, which must outlive it: the kernel kills the
    executor when the thread that started it ends.

    Raises:
        BridgeError: it cannot be started.
    """

    environment: Environment
    #: How often one was lost and a new process started, and how often one began anew by itself or as foreseen.
    restarts: int
    recycles: int

    def __init__(
        self, config: ExecutorConfig | None = None, machine: Machine | None = None
    ) -> None:
        """`machine`: where it runs, by default here; one that is given is not closed with the executor."""
        self.config = config or ExecutorConfig()
        if self.config.reader not in _READERS:
            raise BridgeError(f"no layout reader {self.config.reader!r}: {', '.join(_READERS)}")
        self.machine = machine or Local()
        self.restarts = 0
        self.recycles = 0
        self._batch: _Batch | None = None
        self._touched = False
        self._base: dict[str, int] = {}
        self._baseline = b""
        self._watched = b""
        self._held = self._hold()
        self._finalizer = weakref.finalize(self, _release, os.getpid(), self.machine, self._held)
        try:
            self._start()
            self._unsealed: tuple[tuple[int, int], ...] = ()
            self._sys_admin = "SYS_ADMIN" in capabilities(self.machine, self._process.pid)
            self.environment = read_environment(
                self._process.pid,
                self._memory,
                self._objects,
                Geometry(self.config.window, self.config.window_pages),
                self._probe,
            )
            if self.config.protect:
                self._unsealed = _unsealed(self.environment)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "KernelExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the executor and free everything. May be called twice."""
        self._finalizer()

    @property
    def is_closed(self) -> bool:
        """It was closed, and its machine can have another."""
        return not self._finalizer.alive

    @property
    def is_untouched(self) -> bool:
        """No program has run since it was made, or its machine was brought back."""
        return not self._touched

    @property
    def reader(self) -> str:
        """The layout reader in use: "query" or "maps"."""
        used = self._memory.get("used_reader")
        return next(name for name, value in _READERS.items() if value == used)

    @property
    def pid(self) -> int:
        """The running executor's process."""
        return self._process.pid

    @property
    def _is_root(self) -> bool:
        """Whether executors start as root."""
        return not self.machine.local or os.geteuid() == 0

    @property
    def _memory(self) -> Memory:
        return self._held.memory

    @property
    def _objects(self) -> Objects:
        return self._held.objects

    @property
    def _process(self) -> Process:
        if not self._held.live:
            raise BridgeError("the executor is closed, or could not be started again")
        return self._held.live[0]

    def printed(self) -> bytes:
        """What the kernel printed since this was last asked; nothing where that is not watched."""
        return self.machine.console()

    def watch(self, blocks: Sequence[int]) -> None:
        """From now on count which of these blocks of the kernel each program reaches, where the kernel tells:
        addresses, as KCOV has them, in order and at most `wire.MAX_WATCHED`."""
        assert self._batch is None, "a batch is under way"
        assert len(blocks) <= wire.MAX_WATCHED
        self._watched = struct.pack(f"<{len(blocks)}Q", *blocks)
        self._memory.write("reached", bytes(wire.AREAS["reached"][1]))
        self._memory.write("watched", self._watched)
        self._memory.set("watched", len(blocks))

    def reached(self) -> frozenset[int]:
        """Which of the watched blocks the last program reached: their places in what `watch` was given."""
        bits = int.from_bytes(self._memory.read("reached", 0, wire.MAX_WATCHED // 8), "little")
        return frozenset(place for place in range(len(self._watched) // 8) if bits >> place & 1)

    def run(self, programs: Sequence[Program], *, full: bool = False) -> list[Observation]:
        """Run every program from the initial state; an observation each, in order. `full`: observe all there is.

        Raises:
            BridgeError: executors die at start, again and again.
        """
        self.submit(programs, range(len(programs)) if full else ())
        return self.collect()

    def submit(self, programs: Sequence[Program], full: Iterable[int] = ()) -> None:
        """Begin to run the programs; `collect` gives the observations. `full`: indices of those observed in full."""
        assert self._batch is None, "a batch is under way"
        count = len(programs)
        self._batch = _Batch(
            programs,
            [None] * count,
            list(range(count - 1, -1, -1)),
            full=frozenset(full),
            end=count,
        )
        self._send(self._batch)

    def collect(self, *, until_lost: bool = False) -> list[Observation]:
        """Wait for the submitted programs. `until_lost`: if the machine is lost on one of them, those after it are not
        run, and have no observation.

        Raises:
            BridgeError: executors die at start, again and again.
        """
        batch, self._batch = self._batch, None
        assert batch is not None, "nothing was submitted"
        batch.until_lost = until_lost
        try:
            while batch.sent:
                self._encode_ahead(batch)
                trouble = self._wait()
                if trouble is None:
                    self._take(batch)
                else:
                    self._lose(batch, trouble)
        except BaseException:
            self._abandon()
            raise
        observations = [o for o in batch.observations[: batch.end] if o is not None]
        assert len(observations) == batch.end
        return observations

    def rate(
        self, programs: Sequence[Program], seconds: float, full: Iterable[int] = ()
    ) -> tuple[int, int, float]:
        """Repeat the programs for a while without Python: sequences and calls run, and the seconds it took. `full`:
        indices of those observed in full.

        Raises:
            BridgeError: the programs do not fit in one batch, or the executor died.
        """
        assert self._batch is None, "a batch is under way"
        indices = range(len(programs) - 1, -1, -1)
        batch = _Batch(programs, [None] * len(programs), list(indices), full=frozenset(full))
        self._encode_ahead(batch)
        memory = self._memory
        programs_before, calls_before = memory.get("programs"), memory.get("beats")
        recycles_before = memory.get("recycles")
        memory.set("rate_ns", int(seconds * 1e9))
        self._submit_words(batch, wire.REQUEST_RATE)
        trouble = self._wait()
        if trouble is not None or memory.get("stopped") or batch.order:
            died = trouble is not None
            self._abandon()
            raise BridgeError(
                f"the executor was lost ({trouble})" if died else "too many programs for one batch"
            )
        self.recycles += memory.get("recycles") - recycles_before
        return (
            memory.get("programs") - programs_before,
            memory.get("beats") - calls_before,
            memory.get("elapsed_ns") / 1e9,
        )

    # --- batches

    def _encode_ahead(self, batch: _Batch) -> None:
        """Encode what fits beside each other in the shared memory, as the next to be sent."""
        if batch.ahead:
            return
        room = wire.AREAS["programs"][1]
        while batch.order and len(batch.ahead) < wire.MAX_PROGRAMS:
            index = batch.order[-1]
            program = batch.programs[index]
            kind, reason = "refused", policy.refusal(program, self._sys_admin, self._unsealed)
            words = b""
            if not reason:
                flags = wire.FLAG_RECYCLE if policy.leaves_traces(program) else 0
                if index in batch.full:
                    flags |= wire.FLAG_FULL
                words = wire.encode(program, flags)
                if len(words) > wire.AREAS["programs"][1]:
                    kind, reason = "too-large", "its calls do not fit in the shared memory"
            if reason:
                batch.order.pop()
                batch.observations[index] = Observation(b"", Loss(kind, 0, -1, reason))
                continue
            if len(words) > room or (batch.ahead and index in batch.alone):
                break
            room -= len(words)
            batch.order.pop()
            batch.ahead.append((index, words))
            if policy.outlasts_exec(program):
                batch.final.add(index)
            if index in batch.alone or index in batch.final:
                break

    def _send(self, batch: _Batch) -> None:
        self._encode_ahead(batch)
        self._submit_words(batch, wire.REQUEST_RUN)

    def _submit_words(self, batch: _Batch, request: int) -> None:
        batch.sent, batch.ahead = batch.ahead, []
        if not batch.sent:
            return
        self._touched = True
        memory = self._memory
        memory.write("programs", b"".join([words for _, words in batch.sent]))
        for name in ("finished", "call", "partial", "cursor", "out", "stopped"):
            memory.set(name, 0)
        memory.set("count", len(batch.sent))
        memory.set("request", request)
        self._process.ring()

    def _again(self, batch: _Batch, indices: Iterable[int]) -> None:
        """Put programs back in front of those not yet sent."""
        batch.order.extend(index for index, _ in reversed(batch.ahead))
        batch.ahead = []
        batch.order.extend(reversed(list(indices)))

    def _take(self, batch: _Batch) -> None:
        """Collect a batch that came back, and send the next before looking at it."""
        results = self._results()
        sent = batch.sent
        if len(results[0]) < len(sent):
            self._again(batch, [index for index, _ in sent[len(results[0]) :]])
        elif sent[-1][0] in batch.final:
            self._abandon()
            self.recycles += 1
        self._send(batch)
        self._observe(batch, sent, *results)

    def _results(self) -> tuple[list[_Entry], bytes]:
        finished = self._memory.get("finished")
        index = self._memory.read("index", 0, finished * wire.RESULT.size)
        entries: list[_Entry] = list(wire.RESULT.iter_unpack(index))
        end = entries[-1][0] + entries[-1][1] if entries else 0
        return entries, self._memory.read("results", 0, end)

    def _observe(
        self,
        batch: _Batch,
        sent: Sequence[tuple[int, bytes]],
        entries: Sequence[_Entry],
        data: bytes,
    ) -> None:
        """Fill in the observations of the programs that were finished."""
        for (index, _), entry in zip(sent, entries, strict=False):
            offset, length, status, dirty, fresh, near, rarest = entry
            loss = None
            if status == wire.RESULT_TOO_LARGE:
                loss = Loss("too-large", 0, -1, "its trace does not fit in the shared memory")
            elif status == wire.RESULT_IDENTS:
                loss = Loss("too-large", 0, -1, f"it makes more than {wire.MAX_NEW_IDENTS} objects")
            batch.observations[index] = Observation(
                data[offset : offset + length],
                loss,
                wire.DIRTY_TEXTS[dirty],
                fresh,
                near,
                rarest,
            )
            self.recycles += dirty != wire.DIRTY_NO

    # --- time and death

    def _wait(self) -> str | None:
        """Wait for the answer. None when it is there, else what is wrong.

        "died"; "call" or "program": that limit was passed; "replaced": it works on other memory than ours; "machine":
        all of it is gone.
        """
        memory, config = self._memory, self.config
        tick = min(config.call_seconds, config.program_seconds, 1.0) / 4
        call_since = program_since = time.monotonic()
        beats = (-1, -1)
        programs = -1
        while True:
            try:
                answer = self._process.wait(tick)
            except MachineLost:
                return "machine"
            if answer:
                return None if memory.get("phase") == wire.PHASE_IDLE else "replaced"
            if answer is None:
                return "died"
            now = time.monotonic()
            beat, program = (memory.get("beats"), memory.get("recycles")), memory.get("programs")
            if beat != beats:
                beats, call_since = beat, now
            if program != programs:
                programs, program_since = program, now
            if now - call_since > config.call_seconds:
                return "call"
            if now - program_since > config.program_seconds:
                return "program"

    def _lose(self, batch: _Batch, trouble: str) -> None:
        """The executor is lost: name the program it was lost on, start another, send the rest."""
        self.restarts += 1
        if trouble == "machine":
            self._lose_machine(batch, trouble)
            return
        status = self._bury()
        if not self.machine.answers:
            self._lose_machine(batch, trouble)
            return
        memory = self._memory
        sent = batch.sent
        indices = [index for index, _ in sent]
        wiped = self._is_wiped()
        if wiped and len(sent) > 1:
            # Nothing that it reported can be believed: run these again, one at a time.
            batch.alone.update(indices)
            self._again(batch, indices)
        elif wiped:
            text = "the shared memory was wiped; " + _ending(status)
            batch.observations[indices[0]] = Observation(b"", Loss("signal", 0, -1, text))
        else:
            entries, data = self._results()
            done = len(entries)
            self._observe(batch, sent, entries, data)
            blamed = memory.get("phase") in _RUNNING
            batch.blameless = 0 if blamed or done else batch.blameless + 1
            if done < len(sent) and (blamed or batch.blameless == _ATTEMPTS):
                partial = memory.read("results", memory.get("out"), memory.get("partial"))
                loss = self._loss(batch.programs[indices[done]], trouble, status)
                batch.observations[indices[done]] = Observation(partial, loss)
                done += 1
                batch.blameless = 0
            self._again(batch, indices[done:])
        batch.sent = []
        self._start()
        self._send(batch)

    def _is_wiped(self) -> bool:
        """What the shared memory holds cannot be believed."""
        memory = self._memory
        return not memory.get("abi_hash") or memory.get("parent_hash") != memory.get("abi_hash")

    def _lose_machine(self, batch: _Batch, trouble: str) -> None:
        """The machine died under a batch: bring it back. It may have said before on which program; if not, they run
        one at a time."""
        indices = [index for index, _ in batch.sent]
        done, partial = 0, b""
        known = len(indices) == 1
        memory = self._memory
        # It has shown its memory while the program hung, and then did not end it.
        stuck = trouble in ("call", "program") and memory.get("phase") in _RUNNING
        if stuck and not self._is_wiped():
            entries, data = self._results()
            known, done = len(entries) < len(indices), len(entries)
            self._observe(batch, batch.sent, entries, data)
            partial = memory.read("results", memory.get("out"), memory.get("partial"))
        batch.sent = []
        self._held.live.clear()
        self.machine.revive()
        if known:
            console = self.machine.console().decode(errors="replace")
            loss = Loss("crash", 0, -1, f"the kernel was lost: {self.machine.cause}", console)
            batch.observations[indices[done]] = Observation(partial, loss)
            self._again(batch, indices[done + 1 :])
            if batch.until_lost:
                batch.order, batch.ahead, batch.end = [], [], indices[done] + 1
        else:
            batch.alone.update(indices[done:])
            self._again(batch, indices[done:])
        self._renew()
        self._start()
        self._send(batch)

    def _renew(self) -> None:
        """The machine is new: so is all that was made on it."""
        self._touched = False
        fresh = self._hold()
        self._held.memory, self._held.objects = fresh.memory, fresh.objects
        hugepages.share(self.machine)  # as the environment has it

    def _hold(self) -> _Held:
        return _Held(self.machine.share(), open_objects(self.machine, self._state))

    def _loss(self, program: Program, trouble: str, status: int) -> Loss:
        memory = self._memory
        call = memory.get("call")
        phase = memory.get("phase")
        name = NAMES[type(program[call])] if call < len(program) else "no call"
        where = f"in call {call} ({name})"
        if phase == wire.PHASE_LAYOUT:
            where = f"reading the layout after call {call} ({name})"
        elif phase == wire.PHASE_RESET:
            where = f"unmapping everything after call {call} ({name})"
        if trouble == "replaced":
            return Loss("exit", 0, call, f"its shared memory was replaced {where}")
        if trouble != "died":
            limit = getattr(self.config, f"{trouble}_seconds")
            return Loss("hang", 0, call, f"hung {where} for more than {limit:g} s")
        number = memory.get("lost_signal")
        if number:
            at, ip = memory.get("lost_addr"), memory.get("lost_ip")
            text = f"{_signal_name(number)} at {at:#x} (ip {ip:#x}) {where}"
            return Loss("signal", number, call, text)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGKILL and self._count_oom_kills() > self._oom_kills:
                return Loss("oom", number, call, f"killed by the OOM killer {where}")
            reason = ""
            if number in (signal.SIGSEGV, signal.SIGBUS):
                reason = ": its own image or stack was gone"
            return Loss("signal", number, call, f"{_signal_name(number)} {where}{reason}")
        if os.waitstatus_to_exitcode(status) == wire.EXIT_SIGNAL:
            text = f"its shared memory was replaced {where}"
            return Loss("signal", signal.SIGSEGV, call, text)
        return Loss("exit", 0, call, f"{where}: {self._start_error(status)}")

    def _abandon(self) -> None:
        """Stop whatever runs; the next batch finds a fresh executor, or none if it does not start."""
        if self._held.live:
            self._bury()
            self._start()

    def _bury(self) -> int:
        status = self._process.end()
        self._held.live.clear()
        return status

    # --- start

    def _state(self) -> Path:
        if self.config.state is None:
            return writable_directory("state")
        self.config.state.mkdir(parents=True, exist_ok=True)
        return self.config.state

    def _start(self) -> None:
        """Start an executor and wait until it is ready.

        Raises:
            BridgeError: it failed several times in a row.
        """
        problem = ""
        for _ in range(_ATTEMPTS):
            try:
                problem = self._try_start()
            except MachineLost as error:
                problem = str(error)
                self._held.live.clear()
                self.machine.revive()
                self._renew()
                continue
            if not problem:
                return
            self._process.end()
            self._held.live.clear()
        raise BridgeError(f"the executor does not start: {problem}")

    def _try_start(self) -> str:
        memory, config = self._memory, self.config
        memory.write("control", bytes(wire.AREAS["control"][1]))
        descriptors = dict(self._objects.descriptors)
        mapped = (*self._objects.described, *self._objects.segments_described)
        words = {
            "reader": _READERS[config.reader],
            "rlimit_as": config.rlimit_as,
            "user": _NOBODY if config.drop_privileges and self._is_root else 0,
            "protect": int(config.protect),
            "endless_us": int(config.endless_seconds * 1e6),
            "objects": sum(1 << fd for fd in descriptors),
            "kcov": int(self._objects.kcov is not None),
            "watched": len(self._watched) // 8,
            "contents": sum({1 << o.ident for o in mapped if o.contents}),
            "resident": sum({1 << o.ident for o in mapped if o.resident}),
            **{f"shm{n}": s.identifier + 1 for n, s in enumerate(self._objects.segments)},
            **self._base,
        }
        for name, value in words.items():
            memory.set(name, value)
        memory.write("baseline", self._baseline)
        memory.write("watched", self._watched)
        memory.write("objects", self._objects.table())
        self._oom_kills = self._count_oom_kills()
        if self._objects.kcov is not None:
            descriptors[wire.FD_KCOV] = self._objects.kcov
        self._held.live.append(self.machine.start(memory, descriptors, config.cpu))
        answer = self._process.wait(config.start_seconds)
        if answer:
            if not self._base:
                self._baseline = memory.read("baseline", 0, memory.get("base_count") * RECORD.size)
                self._base = {name: memory.get(name) for name in _LEARNT}
            return ""
        if answer is False:
            return f"it was not ready after {config.start_seconds:g} s"
        status = self._process.end()
        return f"{_ending(status)}: {self._start_error(status)}"

    def _start_error(self, status: int) -> str:
        step = os.waitstatus_to_exitcode(status) - wire.EXIT_START
        error = self._memory.get("error")
        if not 0 < step < len(wire.START_STEPS):
            return "it gave no reason"
        return wire.START_STEPS[step] + (f" ({os.strerror(error)})" if error else "")

    def _count_oom_kills(self) -> int:
        try:
            lines = self.machine.text("/proc/vmstat").splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def _probe(self, *program: Call) -> int:
        """The raw result of the last of these calls, which are a program.

        Raises:
            BridgeError: it was lost.
        """
        (observation,) = self.run([program])
        if observation.loss:
            raise BridgeError(f"a probe was lost: {observation.loss.text}")
        return unpack(observation.data, ())[-1].value


def _release(owner: int, machine: Machine, held: _Held) -> None:
    """The end of an executor; in a forked child of its owner only the descriptors are closed."""
    ours = os.getpid() == owner
    if ours:
        for one in held.live:
            one.end()
    held.live.clear()
    if ours or machine.local:
        with suppress(MachineLost):
            held.objects.close()
        held.memory.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"it died of {_signal_name(os.WTERMSIG(status))}"
    return f"it exited with status {os.waitstatus_to_exitcode(status)}"


def _unsealed(environment: Environment) -> tuple[tuple[int, int], ...]:
    """The ranges of the executor's own that the kernel could not seal."""
    own = environment.initial
    return tuple((vma.start, vma.end) for vma in own if vma.flags and "sl" not in vma.flags)
