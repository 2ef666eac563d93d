"""Which errnos each call can give: read from the model's source, by following what each call's function uses.

Nothing is run. A name that is used counts as called, so the answer may have an errno too many, never one too few.
"""

import ast
import errno
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import model
from abi.calls import Call
from model.run import SEMANTICS

_PACKAGE: Final = Path(model.__file__ or "").parent
#: More methods of one name than there are.
_NAMESAKES: Final = 8
#: A definition of the model: its module, and its name there; methods have their own name alone.
Place = tuple[str, str]
#: Functions that are called through a field, and the tables that hold them.
_INDIRECT: Final[Mapping[str, tuple[Place, ...]]] = dict.fromkeys(
    ("mmap", "area"), (("kinds", "KINDS"),)
)


def errnos(call: type[Call]) -> tuple[str, ...]:
    """The errnos that the call's function, or anything it uses, raises."""
    function = SEMANTICS[call]
    return _errnos(function.__module__.removeprefix("model."), function.__name__)


def limits(call: type[Call]) -> tuple[str, ...]:
    """Where the model ends for a call: the reasons of every `Unmodelled` that it may raise, `...` for what varies."""
    function = SEMANTICS[call]
    return _limits(function.__module__.removeprefix("model."), function.__name__)


def all_limits() -> tuple[str, ...]:
    """The reasons of every `Unmodelled` of the model."""
    return tuple(sorted({r for node, _ in _definitions().values() for r in _ends(node)}))


@cache
def _errnos(module: str, name: str) -> tuple[str, ...]:
    return tuple(sorted({name for node in _reached(module, name) for name in _raised(node)}))


@cache
def _limits(module: str, name: str) -> tuple[str, ...]:
    return tuple(sorted({reason for node in _reached(module, name) for reason in _ends(node)}))


@cache
def _reached(module: str, name: str) -> tuple[ast.AST, ...]:
    """A definition, and all that it uses."""
    seen: dict[Place, ast.AST] = {}
    ahead = [(module, name)]
    definitions = _definitions()
    while ahead:
        place = ahead.pop()
        if place in seen or place not in definitions:
            continue
        node, imported = definitions[place]
        seen[place] = node
        ahead += _used(node, place[0], imported)
    return tuple(seen.values())


@cache
def _definitions() -> dict[Place, tuple[ast.AST, dict[str, Place]]]:
    """Every function, method and table of the model, with what its module imports from the model."""
    found: dict[Place, tuple[ast.AST, dict[str, Place]]] = {}
    for path in sorted(_PACKAGE.glob("*.py")):
        tree = ast.parse(path.read_text())
        imported = dict(_imports(tree))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                for each in node.body:
                    if isinstance(each, ast.FunctionDef):
                        found[_method(each.name, found)] = each, imported
            elif isinstance(node, ast.FunctionDef):
                found[path.stem, node.name] = node, imported
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        found[path.stem, target.id] = node, imported
    return found


def _method(name: str, found: dict[Place, tuple[ast.AST, dict[str, Place]]]) -> Place:
    """Its place; methods of one name are told apart by a number, and all count as called."""
    number = 0
    while (f".{number}", name) in found:
        number += 1
    return f".{number}", name


def _imports(tree: ast.Module) -> Iterator[tuple[str, Place]]:
    """What a module imports from the model: names of its modules; the name of a whole module's place is empty."""
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        package, _, module = (node.module or "").partition(".")
        if package == "model":
            for alias in node.names:
                place = (module, alias.name) if module else (alias.name, "")
                yield alias.asname or alias.name, place


def _used(node: ast.AST, module: str, imported: dict[str, Place]) -> list[Place]:
    """What a definition uses: functions and tables by name, methods of any class by theirs."""
    places: list[Place] = []
    own = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            places += _INDIRECT.get(each.func.attr, ())
        if isinstance(each, ast.Name) and each.id not in own:
            places.append(imported.get(each.id, (module, each.id)))
        elif isinstance(each, ast.Attribute):
            of = imported.get(each.value.id) if isinstance(each.value, ast.Name) else None
            if of and not of[1]:
                places.append((of[0], each.attr))
            else:
                places += [(f".{number}", each.attr) for number in range(_NAMESAKES)]
    return places


def _made(node: ast.AST, name: str) -> Iterator[ast.expr]:
    """The first arguments of what is made by this name."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == name:
            yield each.args[0]


def _raised(node: ast.AST) -> Iterator[str]:
    for argument in _made(node, "SyscallError"):
        for word in ast.walk(argument):
            if isinstance(word, ast.Name) and hasattr(errno, word.id):
                yield word.id
            elif isinstance(word, ast.Attribute):
                yield from _field_values().get(word.attr, ())


@cache
def _field_values() -> dict[str, set[str]]:
    """The errnos that fields have: those of a table of the model may be raised as `row.field`."""
    found: dict[str, set[str]] = {}
    for path in sorted(_PACKAGE.glob("*.py")):
        for each in ast.walk(ast.parse(path.read_text())):
            value: ast.expr | None
            if isinstance(each, ast.keyword):
                name, value = each.arg or "", each.value
            elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                name, value = each.target.id, each.value
            else:
                continue
            if isinstance(value, ast.Name) and hasattr(errno, value.id):
                found.setdefault(name, set()).add(value.id)
    return found


def _ends(node: ast.AST) -> Iterator[str]:
    for argument in _made(node, "Unmodelled"):
        parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
        yield "".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in parts)
