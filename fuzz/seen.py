"""When and how often a finding was seen, and on which kernels: `seen.json` in its directory."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cachedir
from fuzz.storage import write_atomically

NAME: Final = "seen.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """first, last: seconds since 1970; count: programs that showed it; kernels: their releases."""

    first: int
    last: int
    count: int
    kernels: tuple[str, ...]


def read(directory: Path) -> Seen | None:
    """What is known of the finding in `directory`; None if that is nothing, or is damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        data = json.loads((directory / NAME).read_bytes())
        return Seen(
            int(data["first"]),
            int(data["last"]),
            int(data["count"]),
            tuple(str(each) for each in data["kernels"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def record(directory: Path, times: int, kernel: str, now: int) -> None:
    """The finding in `directory` was seen `times` more by `now` (seconds since 1970) on `kernel`. Sessions that share a
    directory wait for each other.

    Raises:
        OSError: it could not be written.
    """
    with cachedir.locked(directory):
        before = read(directory) or Seen(now, now, 0, ())
        after = Seen(
            min(before.first, now),
            max(before.last, now),
            before.count + times,
            tuple(sorted({*before.kernels, kernel})),
        )
        data = json.dumps(asdict(after), indent=1).encode() + b"\n"
        write_atomically(directory / NAME, data)
