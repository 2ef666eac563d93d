"""What the documents name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
#: `dir/file.ext` of this project, in text or drawings.
_NAMED = re.compile(
    r"\b((?:abi|corpus|docs|fuzz|kernel_bridge|model|tests)/[\w/.-]+\.(?:py|c|h|md|prog))\b"
)
_LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(path: Path) -> None:
    text = path.read_text()
    assert [name for name in _NAMED.findall(text) if not (ROOT / name).exists()] == []
    assert [link for link in _LINK.findall(text) if not (path.parent / link).exists()] == []
