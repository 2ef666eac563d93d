"""User-Mode-Linux: a kernel that is a program, whose processes are processes of another kernel, with their memory.

What a program can see of that is what its own kernel forgets to tell the other: that cannot be predicted, only known.
"""

from typing import Final

from abi.consts import PMD_SIZE
from model.errors import Unmodelled
from model.flags import VM_LOCKED
from model.space import AddressSpace

#: Where addresses end for the other kernel's processes.
_END: Final = 1 << 47


def check_address(space: AddressSpace, addr: int) -> None:
    """An access beyond the address space: the pages with which a process is run are there
    (arch/um/include/shared/as-layout.h: STUB_START).

    Raises:
        Unmodelled: it may be one of them.
    """
    if "HOSTED" in space.environment.config and addr < _END:
        raise Unmodelled("addresses at which the kernel that User-Mode-Linux runs on has memory")


def check_left_behind(space: AddressSpace, *, makes_tables: bool) -> None:
    """After a call: where it freed a page table and made another, what the first mapped stays to be seen unless some
    page is mapped there now. That it has to go is noted in the entry for the table, which the second table's takes the
    place of (arch/um/include/asm/pgalloc.h: pmd_populate()). A call that `makes_tables` moves or populates memory, and
    may make them for nothing, as does one that maps locked memory.

    Raises:
        Unmodelled: something may be left.
    """
    freed, space.left_behind = space.left_behind, {}
    for table, pages in freed.items():
        start = table * PMD_SIZE
        if not space.intersects(start, start + PMD_SIZE):
            continue
        locked = any(vma.flags & VM_LOCKED for vma in space.between(start, start + PMD_SIZE))
        if not makes_tables and not locked and not space.pages_of(start, start + PMD_SIZE):
            continue
        if any(page not in space.ptes for page in pages):
            raise Unmodelled("pages that User-Mode-Linux leaves behind")
