"""Further kernels that run the same programs as a worker's, each compared with the model of its own.

A follower is a worker that is fed, not driven: it confirms, names and writes down what it finds as any other, in a
state directory of its own. When its kernel is lost for good it is left behind, and the others go on.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from abi.environment import Environment
from fuzz import corpus
from fuzz.booting import Booting
from fuzz.ledger import Tell
from fuzz.probe import examine
from fuzz.produce import Prepared, Producer
from fuzz.profiles import profile_of
from fuzz.settings import Settings
from fuzz.statistics import Statistics
from fuzz.steer import Steering
from fuzz.triage import load_known
from fuzz.worker import Worker
from kernel_bridge import BridgeError
from model.run import Model


def state_of(state: Path, name: str) -> Path:
    """Where what a further kernel shows is kept, below a session's directory."""
    return state / "targets" / name.replace("/", "-").replace(":", "-")


class Follower:
    """One further kernel, which is its maker's to end if it does not come about.

    Raises:
        BridgeError: it does not start.
    """

    def __init__(
        self,
        booting: Booting,
        settings: Settings,
        environment: Environment,
        tell: Tell,
        steering: Steering | None = None,
    ) -> None:
        """environment: that of the worker, whose predictions serve if all is the same here; steering: of what makes
        its programs, which learns from the blocks that they reach here, too."""
        target = booting.target
        self.name = target.name
        self._tell_all = tell
        self.is_lost = False
        executor = booting.executor()
        if settings.like:
            profile = profile_of(settings.profile, settings.changes)
        else:
            profile = examine(executor).profile
        state = state_of(settings.state_path, self.name)
        state.mkdir(parents=True, exist_ok=True)
        own = replace(
            settings,
            target=self.name,
            state=str(state),
            profile=profile.name,
            changes=tuple(sorted(change.name for change in profile.changes)),
            runs=None,
            shared=False,
            until_found=False,
            batch=target.batch or settings.batch,
        )
        model = Model(executor.environment, profile)
        self._shares_predictions = settings.like and executor.environment == environment
        self._producer = Producer(
            model, executor.environment, Random(settings.seed), Statistics(), set()
        )
        self._producer.steering = steering
        known = load_known(corpus.DIVERGENCES)
        self._worker = Worker(
            own,
            target.site(user=settings.user, worker=settings.worker),
            executor,
            self._producer,
            Statistics(),
            known,
            self._tell,
        )

    def take_up(self) -> None:
        """Compare what was running here when a worker died."""
        self._guard(self._worker.take_up)

    def take(self, prepared: Prepared) -> None:
        """Compare a program here, too."""
        if self._shares_predictions:
            if prepared.crash:
                return
            own = replace(prepared, branches=frozenset(), unmodelled="")
        else:
            own = self._producer.predict(prepared.program, full=prepared.full)
        self._guard(lambda: self._worker.accept(own))

    def stop(self) -> None:
        """No more than what was begun is to be done."""
        self._worker.stop()

    def finish(self) -> None:
        """Compare what is still to be compared."""
        self._guard(self._worker.finish)

    def close(self) -> None:
        """End its kernel."""
        self._worker.close()

    def _guard(self, act: Callable[[], object]) -> None:
        if self.is_lost:
            return
        try:
            act()
        except BridgeError as error:
            self.is_lost = True
            self._tell_all("left", name=self.name, text=str(error))

    def _tell(self, kind: str, **fields: Any) -> None:
        if kind == "finding":
            fields["signature"] = f"{fields['signature']} [{self.name}]"
            self._tell_all(kind, **fields)
        elif kind == "stats":
            seen = fields["occurrences"].items()
            self._tell_all(
                "follower",
                name=self.name,
                sequences=fields["sequences"],
                calls=fields["calls"],
                occurrences={f"{text} [{self.name}]": count for text, count in seen},
            )
        elif kind == "note":
            self._tell_all(kind, text=f"{self.name}: {fields['text']}")
        elif kind == "reached":
            self._tell_all(kind, **fields)
