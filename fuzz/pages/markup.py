"""HTML as a tree, so that no text can be taken for markup, and a page around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote
from xml.etree.ElementTree import Element, tostring

from fuzz.printable import printable

Content: TypeAlias = Element | str

_HERE: Final = Path(__file__).parent
#: Attributes that are words of Python.
_NAMES: Final = {"class_": "class", "for_": "for"}
#: Nothing is loaded that is not in the page.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def tag(name: str, /, *content: Content, **attributes: object) -> Element:
    """An element. Of attributes' names `_` is `-`; True is an attribute without a value, None and False are none."""
    element = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            text = "" if value is True else str(value)
            element.set(_NAMES.get(key, key.replace("_", "-")), printable(text))
    for each in content:
        append(element, each)
    return element


def append(element: Element, content: Content) -> None:
    """Add an element or text to the end of `element`."""
    if isinstance(content, Element):
        element.append(content)
    elif len(element):
        element[-1].tail = (element[-1].tail or "") + printable(content)
    else:
        element.text = (element.text or "") + printable(content)


def links(files: Sequence[str]) -> Element:
    """A list of files that lie beside the page."""
    return tag("ul", *(tag("li", tag("a", name, href=quote(name))) for name in files))


def document(title: str, *body: Content) -> str:
    """A whole page. The style and the script are in it; it can be read without the script."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", (_HERE / "page.css").read_text()),
    )
    script = tag("script", (_HERE / "page.js").read_text())
    page = tag("html", head, tag("body", *body, script), lang="en")
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"
