"""A page around a text that is all there is to say: what a kernel reported, how the model failed."""

from collections.abc import Sequence

from fuzz.pages.markup import Content, document, links, tag


def page(title: str, text: str, files: Sequence[str] = ()) -> str:
    """The page of `text`; `files` are the names of those beside it."""
    body: list[Content] = [tag("h1", title), tag("pre", text.rstrip())]
    if files:
        body.append(links(files))
    return document(title, tag("main", *body))
