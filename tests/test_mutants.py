"""The wrong patches of bench/mutants: each says what is wrong with it, and is a diff that can be read."""

from email import message_from_string
from pathlib import Path

import pytest
from unidiff.patch import PatchSet

PATCHES = sorted((Path(__file__).parent.parent / "bench" / "mutants" / "patches").glob("*.patch"))
CLASSES = {"behaviour", "crash", "inconsistency", "harmless"}


def heads() -> dict[str, dict[str, str]]:
    return {path.stem: dict(message_from_string(path.read_text()).items()) for path in PATCHES}


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_each_says_what_it_is(path: Path) -> None:
    mail = message_from_string(path.read_text())
    assert mail["Subject"].startswith(("mm", "userfaultfd", "fs")), mail["Subject"]
    assert mail["Expected"] in CLASSES
    assert set((mail["Also"] or "crash").replace(" ", "").split(",")) <= CLASSES
    assert 0 < float(mail["Kasan"] or 1) <= 1
    assert mail["Area"]
    if mail["Expected"] != "harmless":
        assert mail["Wrong"]
        assert mail["Shown-by"]
    message, _, diff = str(mail.get_payload()).partition("\n---\n")
    assert message.strip(), "a reviewer reads why"
    changed = PatchSet(diff)
    assert changed
    assert all(each.path.startswith(("mm/", "fs/userfaultfd.c", "include/")) for each in changed)
    assert sum(each.added + each.removed for each in changed) <= 80, "a few lines"


def test_there_are_as_many_as_a_ground_truth_takes() -> None:
    found = heads().values()
    wrong = [head for head in found if head["Expected"] != "harmless"]
    assert len(wrong) >= 40
    assert len(found) - len(wrong) >= 10
    assert sum("Reintroduces" in head for head in wrong) >= 12
    areas = {head["Area"] for head in wrong}
    assert areas >= {"mremap", "merge", "split", "madvise", "mprotect", "munmap", "mlock", "mseal"}
