"""Worker processes: started, listened to, stopped, and buried. Knows nothing of what they say."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

from fuzz.settings import Message, Settings

#: Seconds without a word from a worker that was asked to finish, beside those in which its kernel may be silent, and
#: how many times as long it has in all.
PATIENCE = 20.0
_IN_ALL = 3
_CHUNK = 1 << 16


class Hand:
    """One worker process and the pipe its messages come through."""

    def __init__(self, settings: Settings, log: Path) -> None:
        """Start it; what it and the fuzzing engine print goes to `log`.

        Raises:
            OSError: it could not be started.
        """
        self.settings = settings
        self.log = log
        self.asked: float | None = None
        self.heard = time.monotonic()
        #: Seconds in which it may have nothing to say.
        self.patience = PATIENCE
        self._partial = b""
        read, write = os.pipe()
        try:
            # It is asked to end by a signal, which has to wait until it can hear.
            with log.open("ab") as out, _blocked(signal.SIGTERM):
                self.process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "fuzz.harness",
                        replace(settings, pipe=write).encode(),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    pass_fds=(write,),
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": _import_path()},
                )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self.pipe = read

    def messages(self) -> list[Message] | None:
        """What has arrived; None when there is no more to come."""
        chunk = os.read(self.pipe, _CHUNK)
        if not chunk:
            return None
        self.heard = time.monotonic()
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def ask(self) -> None:
        """Ask it to finish what it has begun and end."""
        if self.asked is None:
            self.asked = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    @property
    def is_overdue(self) -> bool:
        """It was asked to finish, and has neither done so nor said anything for too long."""
        if self.asked is None:
            return False
        now = time.monotonic()
        quiet, late = now - max(self.asked, self.heard), now - self.asked
        return quiet > self.patience or late > self.patience * _IN_ALL

    def kill(self) -> None:
        """End it and all it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def bury(self) -> int:
        """Wait for its end, which is near, and let go of it; the exit status as subprocess has it."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self.process.wait()
        self.kill()
        os.close(self.pipe)
        return status

    def last_words(self) -> str:
        """The last line of its log."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1].strip()
        return ""


class Crew:
    """The workers that are running."""

    def __init__(self) -> None:
        self.hands: list[Hand] = []
        self._selector = DefaultSelector()

    def hire(self, settings: Settings, log: Path) -> Hand:
        """Start a worker.

        Raises:
            OSError: it could not be started.
        """
        hand = Hand(settings, log)
        self.hands.append(hand)
        self._selector.register(hand.pipe, EVENT_READ, hand)
        return hand

    def listen(self, seconds: float) -> Iterator[tuple[Hand, list[Message] | None]]:
        """Wait up to `seconds` for messages; None for a worker that is gone, which is then to be let go."""
        for key, _ in self._selector.select(seconds):
            yield key.data, key.data.messages()

    def let_go(self, hand: Hand) -> int:
        """Bury a worker; its exit status."""
        self._selector.unregister(hand.pipe)
        self.hands.remove(hand)
        return hand.bury()

    def ask_all(self) -> None:
        """Ask all to finish; kill who is overdue."""
        for hand in self.hands:
            hand.ask()
            if hand.is_overdue:
                hand.kill()

    def close(self) -> None:
        """Kill whoever is left."""
        for hand in list(self.hands):
            hand.kill()
            self.let_go(hand)
        self._selector.close()


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Processes that are started in here have the signal wait until they unblock it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (number,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _import_path() -> str:
    """Where this package is found, for a worker that is started elsewhere."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
