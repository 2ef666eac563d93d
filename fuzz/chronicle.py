"""What a session writes down of itself while it runs: its figures, what it saw when, and the index of it all.

STATE/history.jsonl              its figures at intervals (fuzz.history)
STATE/findings/NAME/seen.json    when and how often each finding was seen (fuzz.seen)
STATE/known/NAME/                explained divergences that were seen, the same
STATE/index.html                 the list of findings and the curves (fuzz.pages.index)
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Final

from fuzz import corpus, history, seen
from fuzz.catalog import Catalog
from fuzz.display import Figures
from fuzz.findings import name_of
from fuzz.history import Point
from fuzz.pages import index
from fuzz.storage import write_atomically, write_directory
from fuzz.triage import load_known

INDEX: Final = "index.html"
#: Seconds between two points, at first; later as many as make this part of the session's time.
_INTERVAL: Final = 10.0
_SHARE: Final = 1 / 200


class Chronicle:
    """That of one session, which runs on a kernel with a model of `profile`.

    Raises:
        OSError, ValueError: the explained divergences cannot be read.
    """

    def __init__(
        self,
        state: Path,
        session: str,
        kernel: str,
        profile: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._session = session
        self._kernel = kernel
        self._profile = profile
        self._clock = clock
        self._catalog = Catalog(state, load_known(corpus.DIVERGENCES))
        self._places: dict[str, tuple[Path, str]] = {}
        self._told: dict[Hashable, Mapping[str, int]] = {}
        self._untold: Counter[str] = Counter()
        self._written = 0.0
        self._due = _INTERVAL

    def found(self, signature: str, path: str, cause: str, kernel: str, there: str = "") -> None:
        """A worker has told of a finding: it is in the directory `path`, or explained by `cause`; `kernel` is the
        release that showed it, `there` the signature that it has on that kernel, if that is not the one it is told by.

        Raises:
            OSError: it could not be written.
        """
        there = there or signature
        place = Path(path) if path else self._state / "known" / name_of(there)
        if cause and not path:
            data = json.dumps({"signature": there, "cause": cause}, indent=1).encode() + b"\n"
            write_directory(place, {"finding.json": data})
        if path or cause:
            self._places.setdefault(signature, (place, kernel))
            self._due = min(self._due, self._written + _INTERVAL)

    def hear(self, source: Hashable, occurrences: Mapping[str, int]) -> None:
        """How often `source` has seen each signature since it began."""
        before = self._told.get(source, {})
        for signature, count in occurrences.items():
            self._untold[signature] += count - before.get(signature, 0)
        self._told[source] = dict(occurrences)

    def forget(self, source: Hashable) -> None:
        """What `source` tells from now on begins at 0."""
        self._told.pop(source, None)

    def is_due(self, seconds: float) -> bool:
        """Whether it is time to write, `seconds` after the session began."""
        return seconds >= self._due

    def write(self, figures: Figures) -> None:
        """Write down how it stands.

        Raises:
            OSError: it could not be written.
        """
        self._written = figures.seconds
        self._due = figures.seconds + max(_INTERVAL, figures.seconds * _SHARE)
        now = int(self._clock())
        for signature, times in list(self._untold.items()):
            place = self._places.get(signature)
            # Of what did not come again nothing is told.
            if place is not None and times and place[0].is_dir():
                seen.record(place[0], times, place[1], now)
                del self._untold[signature]
        rows = self._catalog.rows()
        findings = sum("findings/" in row.path for row in rows)
        history.append(self._state, self._point(figures, now, findings))
        points, damaged = history.read(self._state)
        page = index.page(rows, points, damaged)
        write_atomically(self._state / INDEX, page.encode())

    def _point(self, f: Figures, now: int, findings: int) -> Point:
        return Point(
            at=now,
            session=self._session,
            kernel=self._kernel,
            profile=self._profile,
            seconds=round(f.seconds, 1),
            sequences=f.sequences,
            calls=f.calls,
            sequences_per_second=round(f.sequences_per_second, 1),
            calls_per_second=round(f.calls_per_second, 1),
            corpus=f.corpus,
            coverage=f.covered,
            branches=f.branches,
            blocks=f.blocks,
            findings=findings,
            new=f.new,
            known=f.known,
            unstable=f.unstable,
            losses=f.losses,
        )
