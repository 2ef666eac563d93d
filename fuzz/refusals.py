"""Which errnos each call can give: read from the model's source, by following what each call's function uses.

Nothing is run. A name that is used counts as called, so the answer may have an errno too many, never one too few.
"""

import ast
import errno
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import model
from abi.calls import CALLS, Call
from model.run import SEMANTICS

_PACKAGE: Final = Path(model.__file__ or "").parent
#: More methods of one name than there are.
_NAMESAKES: Final = 8
#: A definition of the model: its module, and its name there; methods have their own name alone.
Place = tuple[str, str]


def errnos(call: type[Call]) -> tuple[str, ...]:
    """The errnos that the call's function, or anything it uses, raises; none if the call is not modelled."""
    if not is_modelled(call):
        return ()
    function = SEMANTICS[call]
    return _errnos(function.__module__.removeprefix("model."), function.__name__)


@cache
def _errnos(module: str, name: str) -> tuple[str, ...]:
    found: set[str] = set()
    seen: set[Place] = set()
    ahead = [(module, name)]
    definitions = _definitions()
    while ahead:
        place = ahead.pop()
        if place in seen or place not in definitions:
            continue
        seen.add(place)
        node, imported = definitions[place]
        found.update(_raised(node))
        ahead += _used(node, place[0], imported)
    return tuple(sorted(found))


def is_modelled(call: type[Call]) -> bool:
    """The model has semantics for it."""
    return SEMANTICS[call].__name__ != "_unmodelled"


def unmodelled() -> tuple[type[Call], ...]:
    """The calls that the model has no semantics for."""
    return tuple(call for call in CALLS if not is_modelled(call))


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
        if isinstance(each, ast.Name) and each.id not in own:
            places.append(imported.get(each.id, (module, each.id)))
        elif isinstance(each, ast.Attribute):
            of = imported.get(each.value.id) if isinstance(each.value, ast.Name) else None
            if of and not of[1]:
                places.append((of[0], each.attr))
            else:
                places += [(f".{number}", each.attr) for number in range(_NAMESAKES)]
    return places


def _raised(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if not isinstance(each, ast.Call) or not isinstance(each.func, ast.Name):
            continue
        if each.func.id == "SyscallError":
            for argument in each.args:
                for word in ast.walk(argument):
                    if isinstance(word, ast.Name) and hasattr(errno, word.id):
                        yield word.id
