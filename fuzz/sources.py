"""Imports the model from source that is changed on the way: instrumented, or with a planted mistake.

Installed files are never touched and no bytecode is cached. Call `install` before anything imports the model.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PACKAGE = "model"

Edit = tuple[str, str]
Transform = Callable[[CodeType], CodeType]


class _Loader(SourceFileLoader):
    """Compiles a module anew, with its edits and its transformation."""

    def __init__(self, name: str, path: str, edits: Sequence[Edit], transform: Transform) -> None:
        super().__init__(name, path)
        self._edits = edits
        self._transform = transform

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        for before, after in self._edits:
            source = substitute(source, before, after, self.path)
        code: CodeType = self.source_to_code(source, self.path)
        return self._transform(code)


class _Finder(MetaPathFinder):
    def __init__(self, edits: Mapping[str, Sequence[Edit]], transform: Transform) -> None:
        self._edits = edits
        self._transform = transform

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        file = Path(spec.loader.path)
        edits = self._edits.get(f"{PACKAGE}/{file.name}", ())
        spec.loader = _Loader(fullname, str(file), edits, self._transform)
        return spec


def install(
    edits: Mapping[str, Sequence[Edit]] | None = None, transform: Transform | None = None
) -> None:
    """From now on modules of the model are imported with `edits` (file -> before, after) and `transform`."""
    imported = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    assert not imported, f"imported too early: {imported}"
    sys.meta_path.insert(0, _Finder(edits or {}, transform or _unchanged))


def substitute(source: str, before: str, after: str, name: Any = "source") -> str:
    """`source` with its one occurrence of `before` replaced by `after`.

    Raises:
        ValueError: `before` does not occur exactly once.
    """
    count = source.count(before)
    if count != 1:
        raise ValueError(f"{name}: {before!r} occurs {count} times, not once")
    return source.replace(before, after)


def _unchanged(code: CodeType) -> CodeType:
    return code
