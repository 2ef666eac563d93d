"""Text without the characters that neither HTML nor XML can hold, however they are written."""

import re
from typing import Final

#: Control characters, halves of surrogate pairs, and what is no character.
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """`text` with U+FFFD for each of them."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
