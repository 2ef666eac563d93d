"""setrlimit(2) of soft limits (kernel/sys.c: do_prlimit()). What a limit limits stands where it does."""

from errno import EINVAL

from abi.calls import Setrlimit
from abi.consts import RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK
from abi.environment import Environment
from model.errors import SyscallError, Unmodelled
from model.space import AddressSpace


def setrlimit(space: AddressSpace, call: Setrlimit) -> int:
    """setrlimit(2) with the hard limit as it is.

    Raises:
        SyscallError: EINVAL.
        Unmodelled: another resource than those of address spaces.
    """
    resource = call.resource & 0xFFFFFFFF
    if resource not in space.limits:
        raise Unmodelled(f"setrlimit of resource {resource}")
    if call.limit > hard_limit(space.environment, resource):
        raise SyscallError(EINVAL)  # setrlimit(2): the soft limit would be above the hard one
    space.limits = {**space.limits, resource: call.limit}
    return 0


def hard_limit(environment: Environment, resource: int) -> int:
    """How far a soft limit goes (bytes)."""
    return {
        RLIMIT_AS: environment.rlimit_as_max,
        RLIMIT_DATA: environment.rlimit_data_max,
        RLIMIT_MEMLOCK: environment.rlimit_memlock_max,
        RLIMIT_STACK: environment.rlimit_stack_max,
    }[resource]
