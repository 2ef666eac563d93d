"""The model with a planted mistake, for fuzzers that are not ours."""

from fuzz.mistakes import find
from fuzz.sources import Transform, install


def plant(name: str, transform: Transform | None = None) -> None:
    """From now on the model is imported with the mistake `name`, "" for none, and its code transformed.

    Raises:
        KeyError: there is no such mistake.
    """
    mistake = find(name) if name else None
    install({mistake.file: [(mistake.before, mistake.after)]} if mistake else {}, transform)
