"""Programs from files on the model and on the kernel, step by step, side by side, observed in full."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from abi.calls import Program
from abi.environment import Environment
from abi.program import format_call
from abi.trace import Step, Trace, unpack
from fuzz.compare import Divergence, diverging_step, initial_layout
from fuzz.drawing import draw
from fuzz.report import difference_lines, layout_lines, object_names, result_text, step_json
from fuzz.settle import may_fail, settle
from fuzz.site import Executor
from fuzz.triage import signature
from model.errors import Unmodelled
from model.run import Model


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one program.

    unmodelled, crash: why the model stopped early; loss, loss_kind: how the executor was lost; console: what the kernel
    printed as it died; full: it was observed in full; packed: both traces as bytes, the model's first. Each trace has
    the steps that its side made.
    """

    name: str
    program: Program
    environment: Environment
    ours: Trace
    theirs: Trace
    divergence: Divergence | None
    unmodelled: str = ""
    crash: str = ""
    loss: str = ""
    loss_kind: str = ""
    console: str = ""
    full: bool = True
    packed: tuple[bytes, bytes] = (b"", b"")

    @classmethod
    def of(
        cls, program: Program, environment: Environment, packed: tuple[bytes, bytes], *, full: bool
    ) -> "Replay":
        """That of packed traces, the model's first."""
        initial = initial_layout(environment)
        ours, theirs = (unpack(data, initial) for data in packed)
        divergence = diverging_step(ours, theirs, initial)
        return cls("", program, environment, ours, theirs, divergence, full=full, packed=packed)

    @property
    def is_complete(self) -> bool:
        """Both sides made every step."""
        return len(self.ours) == len(self.theirs) == len(self.program)

    @property
    def text(self) -> str:
        """The signature of its divergence, "" without one."""
        if self.divergence is None:
            return ""
        return signature(self.program[self.divergence.index], self.divergence)

    def verdict(self) -> str:
        """How it went, in one line."""
        if self.divergence is not None:
            return f"diverges at call {self.divergence.index + 1} in its {self.divergence.field}"
        if self.crash:
            return f"the model failed: {self.crash.strip().splitlines()[-1]}"
        if self.unmodelled:
            return f"unmodelled from call {len(self.ours) + 1} on: {self.unmodelled}"
        if self.loss or not self.is_complete:
            return f"the executor was lost at call {len(self.theirs) + 1}: {self.loss}"
        return f"agrees ({len(self.program)} calls)"

    def lines(self, layouts: bool = False) -> list[str]:
        """All steps as text: call, model, kernel; with `layouts`, the layout after each step too."""
        environment, geometry = self.environment, self.environment.geometry
        rows = [("call", "model", "kernel")]
        for index, call in enumerate(self.program):
            sides = [
                result_text(call, trace[index].value, geometry) if index < len(trace) else "-"
                for trace in (self.ours, self.theirs)
            ]
            rows.append((format_call(call, geometry), sides[0], sides[1]))
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [f"{self.name}: {self.verdict()}"]
        bad = self.divergence.index if self.divergence else -1
        for index, row in enumerate(rows, start=-1):
            mark = ">>>" if index == bad >= 0 else "   "
            text = f"{mark} {row[0]:<{widths[0]}} | {row[1]:<{widths[1]}} | {row[2]}"
            lines.append(text.rstrip())
            if layouts and index >= 0:
                lines += ["", *(f"      {line}".rstrip() for line in self._drawn(index)), ""]
        if self.divergence is not None and not layouts:
            lines += ["", *difference_lines(self.divergence, environment)]
            lines += layout_lines(self.divergence, environment)
        return lines

    def _drawn(self, index: int) -> list[str]:
        sides = {"model": self.ours, "kernel": self.theirs}
        after = {name: t[index].layout for name, t in sides.items() if index < len(t)}
        if len(after) == 2 and after["model"] == after["kernel"]:
            after = {"both": after["model"]}
        initial = initial_layout(self.environment)
        own = {name: tuple(m for m in layout if m not in initial) for name, layout in after.items()}
        return draw(own, self.environment.geometry, object_names(self.environment)) if own else []

    def to_json(self) -> dict[str, Any]:
        """The steps with both results and layouts, as plain data."""
        return {
            "file": self.name,
            "agrees": self.divergence is None and self.is_complete,
            "verdict": self.verdict(),
            "divergence": self.divergence.index if self.divergence else None,
            "field": self.divergence.field if self.divergence else None,
            "unmodelled": self.unmodelled or None,
            "loss": self.loss or None,
            "steps": [self._step_json(index) for index in range(len(self.program))],
        }

    def _step_json(self, index: int) -> dict[str, Any]:
        call = self.program[index]
        geometry = self.environment.geometry

        def side(trace: Trace) -> dict[str, Any] | None:
            if index >= len(trace):
                return None
            step: Step = trace[index]
            return {"result": result_text(call, step.value, geometry), **step_json(step)}

        ours, theirs = side(self.ours), side(self.theirs)
        return {
            "call": format_call(call, geometry),
            "model": ours,
            "kernel": theirs,
            "agrees": ours is not None and ours == theirs,
        }


def replay(
    programs: Sequence[tuple[str, Program]], executor: Executor, model: Model, *, full: bool = True
) -> list[Replay]:
    """Run each named program on both sides, observed in full unless told otherwise.

    Raises:
        BridgeError: executors die at start, again and again.
    """
    executor.submit(
        [program for _, program in programs], range(len(programs)) if full else ()
    )  # and while the kernel is busy:
    predictions = [predict(model, program, full=full) for _, program in programs]
    initial = initial_layout(executor.environment)
    results = []
    for (name, program), predicted, observed in zip(
        programs, predictions, executor.collect(), strict=True
    ):
        expected, unmodelled, crash = predicted
        ours, theirs = unpack(expected, initial), unpack(observed.data, initial)
        if may_fail(program) and not (unmodelled or crash):
            try:
                expected = settle(model, program, theirs, initial, full=full)
                ours = unpack(expected, initial)
            except Unmodelled as error:
                unmodelled = error.reason
                pairs = zip(ours, theirs, strict=False)
                ours = tuple(our for our, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        results.append(
            Replay(
                name,
                program,
                executor.environment,
                ours,
                theirs,
                diverging_step(ours, theirs, initial),
                unmodelled,
                crash,
                "" if observed.loss is None else observed.loss.text,
                "" if observed.loss is None else observed.loss.kind,
                "" if observed.loss is None else observed.loss.console,
                full,
                (expected, observed.data),
            )
        )
    return results


def predict(model: Model, program: Program, *, full: bool = True) -> tuple[bytes, str, str]:
    """The model's packed trace, why it left its domain, and its traceback if it failed."""
    run = model.start(full=full)
    try:
        for call in program:
            run.step(call)
    except Unmodelled as error:
        return run.trace(whole=False), error.reason, ""
    except Exception:
        return run.trace(whole=False), "", traceback.format_exc()
    return run.trace(), "", ""
