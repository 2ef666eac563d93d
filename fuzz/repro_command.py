"""`vmadiff repro`: a program as a reproducer that needs nothing of vmadiff."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Final

from abi.program import ProgramError
from fuzz import corpus
from fuzz.output import check_output
from fuzz.profiles import profile_for
from fuzz.replay import Replay, replay
from fuzz.repro import Case, ReproError, c, kselftest, syz
from fuzz.restraint import restrain_program
from fuzz.status import INCOMPLETE, OK, UnusableError, UsageError
from fuzz.storage import write_atomically
from fuzz.targets import Target
from kernel_bridge import BridgeError
from model.run import Model

_FORMS: Final[dict[str, Callable[[Case], str]]] = {
    "c": c.text,
    "kselftest": kselftest.text,
    "syz": syz.text,
}


def repro(options: Namespace) -> int:
    """`vmadiff repro`. That the reproducer is written is success, also where it is one of a divergence."""
    output = options.output
    check_output(output)
    result, profile = _replayed(options)
    print(f"{result.name}: {result.verdict()}", file=sys.stderr)
    try:
        title = result.text or options.file.stem
        text = _FORMS[options.form](Case.of(result, title, profile))
    except ReproError as error:
        print(f"vmadiff: {result.name} has no reproducer: {error}", file=sys.stderr)
        return INCOMPLETE
    if output:
        write_atomically(output, text.encode())
    else:
        print(text, end="")
    return OK


def _replayed(options: Namespace) -> tuple[Replay, str]:
    """What became of the program, and the name of the model's profile."""
    try:
        with Target(options.target) as target, target.start(user=options.user) as executor:
            environment = executor.environment
            named = corpus.read_programs(options.file, environment.geometry)
            if len(named) > 1:
                raise UsageError(
                    f"{options.file}: {len(named)} programs; a reproducer is made of one"
                )
            name, program = named[0]
            harmless = restrain_program(program, not environment.capabilities)
            profile = profile_for(executor, options.profile)
            (result,) = replay([(name, harmless)], executor, Model(environment, profile))
    except BridgeError as error:
        raise UnusableError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{options.file}: {error.strerror}") from None
    except ProgramError as error:
        raise UsageError(str(error)) from None
    return result, profile.name
