"""Who may import whom. That model and bridge cannot see each other makes their comparison worth something."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("abi", "cachedir", "fuzz", "kernel_bridge", "kernels", "model")
MAY_IMPORT = {
    "abi": {"abi"},
    "model": {"abi", "model"},
    "cachedir": set(),
    "kernel_bridge": {"abi", "cachedir", "kernel_bridge"},
    "kernels": {"cachedir", "kernels"},
    "fuzz": set(PACKAGES),
}
IMPURE = {
    "asyncio", "ctypes", "datetime", "io", "multiprocessing", "os", "pathlib", "random", "secrets", "select",
    "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
IMPURE_BUILTINS = {"breakpoint", "exec", "eval", "input", "open", "print"}
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_direction_of_imports(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert roots(path) & set(PACKAGES) <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", sorted((ROOT / "model").rglob("*.py")), ids=identify)
def test_model_is_pure(path: Path) -> None:
    assert not roots(path) & IMPURE
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_BUILTINS


def test_only_the_harness_knows_atheris() -> None:
    assert [identify(path) for path in MODULES if "atheris" in roots(path)] == ["fuzz/harness.py"]


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_modules_say_what_they_are(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no docstring"
