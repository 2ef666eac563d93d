"""The page of a finding: what happened, the picture of it, and the text that is mailed."""

from collections.abc import Sequence
from itertools import groupby
from textwrap import dedent
from xml.etree.ElementTree import Element

from fuzz.mail import Judgement, Section, sections, subject, summary
from fuzz.pages.markup import Content, document, links, tag
from fuzz.pages.picture import Picture
from fuzz.replay import Replay


def page(
    replay: Replay,
    profile: str,
    judgement: Judgement,
    notes: Sequence[str] = (),
    files: Sequence[str] = (),
) -> str:
    """The page about the divergence of `replay`; `notes` as for a mail, `files` the names of those beside it."""
    divergence = replay.divergence
    assert divergence is not None, "there is nothing to tell"
    name = subject(replay)
    body: list[Content] = [
        tag("h1", name),
        tag("p", summary(replay, divergence), class_="lead"),
        tag("p", tag("strong", "Likely wrong: "), f"{judgement.suspect}; {judgement.because}."),
        *Picture(replay).section(),
    ]
    first, *rest = sections(replay, profile, judgement, notes, files)
    facts = Section("Where", first.paragraphs[1:])
    for section in (*rest, facts):
        if section.title != "Who is likely wrong":
            body += [tag("h2", section.title), *_text(section)]
    if files:
        body += [tag("h2", "Files"), links(files)]
    return document(name, tag("main", *body))


def _text(section: Section) -> list[Element]:
    """Paragraphs, what is indented as it is, and the list."""
    made: list[Element] = []
    for is_text, group in groupby(section.paragraphs, key=lambda line: line[:1].strip() != ""):
        lines = list(group)
        if is_text:
            made += [tag("p", *_quoted(line)) for line in lines]
        elif any(lines):
            # Each line is indented by four: a blank one within has nothing to take away.
            made.append(tag("pre", dedent("\n".join(lines)).strip("\n")))
    if section.items:
        made.append(tag("ul", *(tag("li", *_quoted(item)) for item in section.items)))
    return made


def _quoted(text: str) -> list[Content]:
    """Text with what is between backticks as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return [text]
    return [tag("code", piece) if odd % 2 else piece for odd, piece in enumerate(pieces)]
