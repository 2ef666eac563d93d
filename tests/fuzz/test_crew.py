"""Worker processes, and sessions of them: workers that stand in for real ones, which wait, hang and die."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz import crew, session
from fuzz.crew import Hand
from fuzz.display import Screen
from fuzz.resume import Past
from fuzz.session import Options, Outcome, Session
from fuzz.settings import Settings

#: As the worker has it: `tell` says something, `asked` waits until it is asked to end, and so many seconds more.
PREAMBLE = f"""#!{sys.executable}
import json, os, signal, sys, time
settings = json.loads(sys.argv[-1])
seen = []
signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
def tell(kind, **fields):
    os.write(settings["pipe"], json.dumps({{"kind": kind, **fields}}).encode() + b"\\n")
def stats(sequences):
    tell("stats", sequences=sequences, calls=0, unstable=0, losses=0, occurrences={{}}, blocks=0,
         unmodelled={{}}, executor_restarts=0, statistics={{}}, reached=[], branches=0, made=0)
def finding(name):
    tell("finding", signature=name, path=settings["state"] + "/findings/" + name, cause="", report="",
         kernel="", signature_there=name)
def asked(seconds):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while not seen:
        time.sleep(0.01)
    time.sleep(seconds)
def end():
    tell("done")
    sys.exit(0)
"""


class Quiet(Screen):
    """Remembers what was said."""

    def __init__(self) -> None:
        super().__init__(sys.stdout, None)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def stand_in(path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Workers are this text."""
    script = path / "worker"
    script.write_text(PREAMBLE + text)
    script.chmod(0o755)
    monkeypatch.setattr(crew.sys, "executable", str(script))


def run(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    past: Past | None = None,
    **options: Any,
) -> tuple[Outcome, list[str]]:
    """A session of such workers."""
    stand_in(path, monkeypatch, text)
    for module in (crew, session):
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(session, "_GRACE", 0.0)
    state = path / "state"
    (state / "corpus").mkdir(parents=True, exist_ok=True)
    screen = Quiet()
    given = Options(
        **{
            "state": state,
            "corpus": state / "corpus",
            "profile": "6.18",
            "changes": (),
            "seed": 1,
            **options,
        }
    )
    return Session(given, screen, "", past).run(), screen.notes


def settings(state: Path) -> Settings:
    return Settings(
        worker=0,
        session=os.getpid(),
        pipe=-1,
        seed=1,
        state=str(state),
        corpus=str(state),
        profile="6.18",
        changes=(),
        guided=False,
    )


def test_a_worker_can_be_asked_to_end_before_it_hears(tmp_path: Path) -> None:
    """A real one, at once: it runs nothing, and ends as it should."""
    hand = Hand(settings(tmp_path), tmp_path / "log")
    hand.ask()
    told = []
    while (messages := hand.messages()) is not None:
        told += messages
    assert hand.bury() == 0, hand.last_words()
    assert told[-1]["kind"] == "done"
    assert [each["sequences"] for each in told if each["kind"] == "stats"][-1] == 0


def test_a_worker_may_be_as_silent_as_its_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a kernel that says nothing when the time is up; then it has something to tell."""
    outcome, notes = run(
        tmp_path,
        monkeypatch,
        """
tell("waits", seconds=600)
stats(3)
asked(2.5)
finding("silence")
stats(4)
end()
""",
        seconds=0.2,
    )
    assert list(outcome.new) == ["silence"]
    assert outcome.figures.sequences == 4
    assert (outcome.failure, outcome.unfinished, outcome.figures.worker_restarts) == ("", "", 0)
    assert notes == [f"NEW divergence: silence\n  {tmp_path}/state/findings/silence/report.md"]


def test_a_worker_that_is_lost_when_the_time_is_up_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    outcome, notes = run(
        tmp_path,
        monkeypatch,
        """
open(f"{settings['state']}/inflight-{settings['session']}-0.bin", "wb").close()
stats(5)
asked(600)
""",
        seconds=0.2,
    )
    assert outcome.unfinished == (
        "worker 0 died (signal 9) when the time was up:"
        f" what it was running is compared first by the next session in {state}"
    )
    assert notes == [outcome.unfinished]
    assert (outcome.failure, outcome.figures.worker_restarts) == ("", 0)
    assert outcome.figures.sequences == 5


def test_a_worker_that_never_ends_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it always has something to say."""
    outcome, _ = run(
        tmp_path,
        monkeypatch,
        """
asked(0)
while True:
    stats(1)
    time.sleep(0.1)
""",
        seconds=0.2,
    )
    assert outcome.unfinished == "worker 0 died (signal 9) when the time was up"


def test_a_worker_that_dies_in_time_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, notes = run(
        tmp_path,
        monkeypatch,
        """
stats(6)
if settings["runs"] == 10:
    sys.exit(1)
end()
""",
        runs=10,
    )
    assert outcome.figures.sequences == 12
    assert (outcome.failure, outcome.unfinished, outcome.figures.worker_restarts) == ("", "", 1)
    assert notes == ["worker 0 died (exit status 1); starting another"]
