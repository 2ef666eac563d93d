"""Coverage that costs nothing once it is known: branches that were reached are no longer traced.

The instrumented model calls `atheris._trace_branch(number)` in every basic block; only numbers never seen before
matter here. So from time to time the calls whose numbers were seen are jumped over, in the bytecode of the
functions as they are. What is not recognized stays as it was: slower, never wrong.
"""

import dis
import gc
from collections.abc import Container
from itertools import takewhile
from types import CodeType, FunctionType, ModuleType
from typing import Final

_CALL: Final = "_trace_branch"
#: What a call looks like up to its POP_TOP: in 3.11 and 3.12 after a PUSH_NULL, and in 3.13.
_SHAPES: Final = (
    ["LOAD_CONST", "LOAD_ATTR", "LOAD_CONST", "CALL"],
    ["LOAD_CONST", "LOAD_ATTR", "PUSH_NULL", "LOAD_CONST", "CALL"],
)
_JUMP: Final = dis.opmap["JUMP_FORWARD"]
#: Bytes of an instruction.
_UNIT: Final = 2


def skip_reached(package: str, engine: ModuleType, reached: Container[int]) -> None:
    """In all functions of `package`, jump over the calls of `engine` for the numbers in `reached`."""
    for function in gc.get_objects():
        # isinstance() would run code of proxies.
        if type(function) is FunctionType and _belongs(function.__module__, package):
            code = without_calls(function.__code__, engine, reached)
            if code is not function.__code__:
                function.__code__ = code


def without_calls(code: CodeType, engine: ModuleType, reached: Container[int]) -> CodeType:
    """`code`, and the code inside it, with the calls for the numbers in `reached` jumped over."""
    changed = False
    constants = list(code.co_consts)
    for i, constant in enumerate(constants):
        if isinstance(constant, CodeType):
            constants[i] = without_calls(constant, engine, reached)
            changed = changed or constants[i] is not constant
    raw = bytearray(code.co_code)
    for start, end, number in _calls(code, engine):
        distance = (end - start) // _UNIT - 1
        if number in reached and raw[start] != _JUMP and distance < 256:
            raw[start : start + _UNIT] = bytes((_JUMP, distance))
            changed = True
    if not changed:
        return code
    return code.replace(co_code=bytes(raw), co_consts=tuple(constants))


def _calls(code: CodeType, engine: ModuleType) -> list[tuple[int, int, int]]:
    """Where each call begins and ends (bytes), and its number."""
    if not any(constant is engine for constant in code.co_consts):
        return []
    raw = code.co_code
    calls = []
    instructions = [
        each for each in dis.get_instructions(code) if each.opname not in ("CACHE", "EXTENDED_ARG")
    ]
    for i, each in enumerate(instructions):
        if each.opname != "LOAD_CONST" or each.argval is not engine:
            continue
        inside = list(takewhile(lambda other: other.opname != "POP_TOP", instructions[i : i + 7]))
        names = [other.opname for other in inside if other.opname != "PRECALL"]
        if (
            names not in _SHAPES
            or inside[1].argval != _CALL
            or i + len(inside) >= len(instructions)
        ):
            continue
        start = each.offset
        while raw[start - _UNIT] == dis.EXTENDED_ARG:
            start -= _UNIT
        if "PUSH_NULL" not in names:
            start -= _UNIT
            if raw[start] != dis.opmap["PUSH_NULL"]:
                continue
        number = next(o.argval for o in inside[1:] if o.opname == "LOAD_CONST")
        calls.append((start, instructions[i + len(inside)].offset + _UNIT, number))
    return calls


def _belongs(module: str | None, package: str) -> bool:
    return module is not None and module.partition(".")[0] == package
