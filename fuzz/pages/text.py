"""A page around a text: what a kernel reported, with a picture of what ran; how the model failed."""

from collections.abc import Sequence

from fuzz.pages.markup import Content, document, links, tag
from fuzz.pages.picture import Picture
from fuzz.replay import Replay


def page(title: str, text: str, files: Sequence[str] = (), predicted: Replay | None = None) -> str:
    """The page of `text`; `files` are the names of those beside it, `predicted` is a program as the model has it."""
    body: list[Content] = [tag("h1", title)]
    if predicted is not None:
        body += [*Picture(predicted).section(), tag("h2", "The report")]
    body.append(tag("pre", text.rstrip()))
    if files:
        body.append(links(files))
    return document(title, tag("main", *body))
