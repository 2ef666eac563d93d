"""fail: an allocation of the next call fails. Which of those that the model knows it is, it cannot say: see
`Run.step`."""

from errno import EINVAL, ENOENT
from typing import Final

from abi.calls import Fail
from model.errors import SyscallError
from model.space import AddressSpace

_MOST: Final = (1 << 31) - 1


def fail(space: AddressSpace, call: Fail) -> int:
    """The pseudo-call (see abi.calls.Fail): 0.

    Raises:
        SyscallError: ENOENT, EINVAL.
    """
    if "FAULT_INJECTION" not in space.environment.config:
        raise SyscallError(ENOENT)  # fail: a kernel without fault injection
    if not 1 <= call.nth <= _MOST:
        raise SyscallError(EINVAL)  # fail: no such allocation
    return 0
