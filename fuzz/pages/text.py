"""A page around a text: what a kernel reported, with a picture of what ran; how the model failed."""

from collections.abc import Sequence
from typing import Final

from fuzz.pages.markup import Content, document, links, tag
from fuzz.pages.picture import Picture
from fuzz.replay import Replay

_HOW_TO_READ: Final = (
    "Each row is the address space after one call of the program that is left, from low addresses at the left to high"
    " ones at the right, as the model of the kernel's rules has it: what the kernel would do without the fault. A bar"
    " is one mapping (VMA). A strip at a bar's foot marks pages that are in memory. Point at a bar, or move to it with"
    " the Tab key, for its addresses, permissions and flags. What was mapped before the first call, and stays, is left"
    " out."
)


def page(title: str, text: str, files: Sequence[str] = (), predicted: Replay | None = None) -> str:
    """The page of `text`; `files` are the names of those beside it, `predicted` is a program as the model has it."""
    body: list[Content] = [tag("h1", title)]
    if predicted is not None:
        picture = Picture(predicted)
        body += [
            tag("h2", "The address space over time"),
            tag("p", _HOW_TO_READ, class_="hint"),
            picture.legend(),
            picture.table(),
            tag("h2", "The report"),
        ]
    body.append(tag("pre", text.rstrip()))
    if files:
        body.append(links(files))
    return document(title, tag("main", *body))
