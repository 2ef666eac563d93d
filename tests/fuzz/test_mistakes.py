"""Planted mistakes: each fits the model's source, and fuzzing against the real kernel finds typical ones fast."""

from collections import Counter
from io import StringIO
from pathlib import Path

import pytest

from fuzz.display import Screen
from fuzz.mistakes import MISTAKES, Mistake, check, find
from fuzz.probe import examine
from fuzz.selftest import Result, selftest
from kernel_bridge import BridgeError, KernelExecutor
from model.profile import Profile

#: One of each part of the model; each is found after at most 300 sequences with the seed below.
TYPICAL = (
    "gap-dropped",
    "last-vma-moves-whole",
    "merge-upwards-ignores-pgoff",
    "split-unfaults-upper",
    "read-makes-faulted",
    "advice-stops-at-hole",
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: str(mistake.name))
def test_applies_once_and_compiles(mistake: Mistake) -> None:
    check(mistake)
    assert mistake.before != mistake.after
    assert mistake.rule


def test_there_are_enough_and_names_differ() -> None:
    assert len(MISTAKES) >= 40
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)
    changes = {(mistake.file, mistake.before, mistake.after) for mistake in MISTAKES}
    assert len(changes) == len(MISTAKES)


def test_names_are_words_with_hyphens() -> None:
    for mistake in MISTAKES:
        assert mistake.name.replace("-", "").isalnum(), mistake.name
        assert mistake.name == mistake.name.lower()


def test_every_part_of_the_model_has_some() -> None:
    per_file = Counter(Path(mistake.file).stem for mistake in MISTAKES)
    parts = ("mremap", "space", "flags", "mmap", "placement", "munmap", "mprotect", "madvise")
    assert all(per_file[part] for part in (*parts, "fault", "uffd"))
    assert per_file["mremap"] >= 20


def test_a_text_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"mistake lost: model/space\.py: 'no such text' occurs 0"):
        check(Mistake("lost", "model/space.py", "no such text", "", ""))


def test_what_is_no_python_is_an_error() -> None:
    with pytest.raises(SyntaxError):
        check(Mistake("broken", "model/munmap.py", "space.unmap(start, end)", "if", ""))


@pytest.fixture(scope="module")
def profile() -> Profile:
    """The running kernel's."""
    try:
        with KernelExecutor() as executor:
            return examine(executor).profile
    except BridgeError as error:
        pytest.skip(f"no executor here: {error}")


def _fuzz(profile: Profile, tmp_path: Path, *names: str) -> list[Result]:
    return selftest(
        [find(name) for name in names],
        profile.name,
        tuple(sorted(change.name for change in profile.changes)),
        tmp_path,
        Screen(StringIO(), None),
        sequences=3000,
        seed=1,
        guided=False,
        user=True,
    )


def test_typical_mistakes_are_found_soon(profile: Profile, tmp_path: Path) -> None:
    for result in _fuzz(profile, tmp_path, *TYPICAL):
        assert result.found, result.line()
        assert "the model failed" not in result.signature, result.line()
