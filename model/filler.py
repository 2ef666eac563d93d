"""fill: so many mappings that few are left below vm.max_map_count. The space keeps them as one VMA.

Their flags are such that no neighbour merges with them. What would change one of them is `Unmodelled`.
"""

from errno import EEXIST, EINVAL

from abi.calls import Fill, Mmap
from abi.consts import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PAGE,
    PAGE_SHIFT,
    PROT_NONE,
    RLIMIT_AS,
)
from model.errors import SyscallError
from model.flags import VM_DONTCOPY, VM_DONTDUMP, VM_FILLER
from model.mmap import mmap
from model.space import AddressSpace

_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE


def fill(space: AddressSpace, call: Fill) -> int:
    """The pseudo-call (see abi.calls.Fill): 0.

    Raises:
        SyscallError: EINVAL, EEXIST; as mmap(2).
    """
    environment = space.environment
    if space.filled:
        raise SyscallError(EEXIST)  # fill: it is filled already
    pages = environment.max_map_count - call.spare - space.map_count()
    length = pages << PAGE_SHIFT
    if pages < 2 or call.addr & PAGE - 1:
        raise SyscallError(EINVAL)  # fill: fewer than two mappings, or an address within a page
    if call.addr + length > environment.task_size:
        raise SyscallError(EINVAL)  # fill: it would end beyond the address space
    if space.intersects(call.addr - 1, call.addr + length + 1):
        raise SyscallError(EEXIST)  # fill: something is there or next to it
    before = space.limits
    limit = min(before[RLIMIT_AS] + length, environment.rlimit_as_max)
    space.limits = {**before, RLIMIT_AS: limit}
    try:
        mmap(space, Mmap(call.addr, length, PROT_NONE, _FLAGS, -1, 0))
    except SyscallError:
        space.limits = before
        raise
    filler = space.lookup(call.addr)
    assert filler is not None
    filler.flags |= VM_DONTDUMP | VM_DONTCOPY | VM_FILLER
    filler.record = None
    space.fillers = pages
    space.filled = True
    return 0
