"""What shows something, made smaller: fewer items, whatever they are. Proposes; the caller's predicate disposes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shorten(items: Sequence[T], shows: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """The items without all that can go while what is left still `shows`, tried in spans that are halved until they are
    single items; none of these can go any more. What is left is never nothing, nor tried twice in a row."""
    kept = tuple(items)
    size = len(kept) // 2
    while size:
        before = len(kept)
        at = 0
        while at < len(kept):
            rest = kept[:at] + kept[at + size :]
            if rest and shows(rest):
                kept = rest
            else:
                at += size
        if size == 1 and len(kept) == before:
            break
        size = min(max(size // 2, 1), len(kept) // 2)
    return kept
