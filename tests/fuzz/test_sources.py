"""Importing the model from changed source, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.mistakes import MISTAKES, find
from fuzz.sources import substitute

ROOT = Path(__file__).parent.parent.parent


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout or done.stderr


def test_edits_reach_the_module_and_nothing_else() -> None:
    out = run(
        "from fuzz.sources import install\n"
        "install({'model/errors.py': [('The program has reached', 'EDITED')]})\n"
        "import model.errors, model.profile\n"
        "print('EDITED' in model.errors.Unmodelled.__doc__, model.errors.__file__)\n"
    )
    assert out == f"True {ROOT / 'model/errors.py'}\n"
    assert "EDITED" not in (ROOT / "model/errors.py").read_text()
    assert "EDITED" not in run("import model.errors; print(model.errors.Unmodelled.__doc__)")


def test_transformation_sees_every_module() -> None:
    out = run(
        "from fuzz.sources import install\n"
        "seen = []\n"
        "install(None, lambda code: (seen.append(code.co_filename.rpartition('/')[2]), code)[1])\n"
        "import model.run\n"
        "print('run.py' in seen, 'mremap.py' in seen, all('/' not in name for name in seen))\n"
    )
    assert out == "True True True\n"


def test_too_late_is_an_error() -> None:
    out = run("import model.run\nfrom fuzz.sources import install\ninstall()\n")
    assert "imported too early" in out


@pytest.mark.parametrize("source", ["none here", "twice twice"])
def test_text_must_occur_once(source: str) -> None:
    with pytest.raises(ValueError, match="not once"):
        substitute(source, "twice", "thrice", "a name")


def test_mistakes_have_names_of_their_own() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)
    assert all(find(mistake.name) is mistake for mistake in MISTAKES)
    with pytest.raises(KeyError):
        find("no such mistake")
