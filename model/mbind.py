"""mbind(2) (mm/mempolicy.c)."""

from errno import EFAULT, EINVAL, EIO, ENOMEM, ENOSYS, EPERM
from typing import Final

from abi.calls import Mbind, signed32
from abi.consts import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_NUMA_BALANCING,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_LOCAL,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
    MPOL_PREFERRED,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
    PAGE,
    PAGE_SHIFT,
    WORD,
)
from model.errors import SyscallError, Unmodelled
from model.flags import VM_HUGETLB, VM_IO, VM_LOCKED, VM_PFNMAP
from model.profile import NUMA_BALANCING_PREFERRED, WEIGHTED_INTERLEAVE
from model.space import (
    PTE_FILE,
    PTE_GUARD,
    PTE_KIND,
    PTE_WP,
    PTE_WRITABLE,
    PTE_ZERO,
    AddressSpace,
)
from model.vma import Policy, Vma

_MODE_FLAGS: Final = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING
_BIND_FLAGS: Final = MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL
_MOVING: Final = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL


def mbind(space: AddressSpace, call: Mbind) -> int:
    """mbind(2) with a node mask of one word. A policy is part of what makes neighbours alike; where pages are follows
    from it only on machines with several nodes.

    Raises:
        SyscallError: ENOSYS, EINVAL, EPERM, EFAULT, EIO, ENOMEM.
        Unmodelled: which pages are on which node, or mapped at all, is not known.
    """
    environment = space.environment
    if not environment.node_bits:
        raise SyscallError(ENOSYS)  # mbind(2): a kernel without CONFIG_NUMA
    mode, mode_flags = _mode(space, call.policy)
    if call.nodes >> environment.node_bits:
        raise SyscallError(EINVAL)  # mbind(2): nodes beyond those the kernel was built for
    flags = call.bind_flags & 0xFFFFFFFF
    if flags & ~_BIND_FLAGS:
        raise SyscallError(EINVAL)  # mbind(2): unknown flags
    if flags & MPOL_MF_MOVE_ALL and "SYS_NICE" not in environment.capabilities:
        raise SyscallError(EPERM)  # mbind(2): MPOL_MF_MOVE_ALL needs CAP_SYS_NICE
    if call.addr & PAGE - 1:
        raise SyscallError(EINVAL)  # mbind(2): the address is not page-aligned
    length = call.length + PAGE - 1 & WORD & -PAGE
    if call.addr + length > WORD:
        raise SyscallError(EINVAL)  # mm/mempolicy.c: do_mbind(): the range wraps
    if not length:
        return 0
    policy = _policy(mode, mode_flags, call.nodes, environment.nodes)
    space.allocate()
    if mode == MPOL_DEFAULT:
        flags &= ~MPOL_MF_STRICT
    start, end = call.addr, call.addr + length
    failed = _look_at_pages(space, start, end, policy, call.nodes, flags)
    for vma in space.between(start, end):
        if vma.policy != policy and space.lookup(vma.start) is vma:
            like = vma.copy()
            like.policy = policy
            part, old = (max(start, vma.start), min(end, vma.end)), vma.policy
            became = space.become(vma, *part, like)
            if space.fails():
                if (became.start, became.end) == part:
                    became.policy = old
                # mm/mempolicy.c: vma_replace_policy(): no memory for its policy; what was cut stays cut
                raise SyscallError(ENOMEM)
    if failed and flags & MPOL_MF_STRICT:
        # mbind(2): pages could not be moved; the policy is set
        raise SyscallError(EIO)
    return 0


def _mode(space: AddressSpace, word: int) -> tuple[int, int]:
    """Mode and flags (mm/mempolicy.c: sanitize_mpol_flags())."""
    value = signed32(word)
    mode, flags = value & ~_MODE_FLAGS, value & _MODE_FLAGS
    weighted = WEIGHTED_INTERLEAVE in space.changes
    if not MPOL_DEFAULT <= mode <= (MPOL_WEIGHTED_INTERLEAVE if weighted else MPOL_PREFERRED_MANY):
        raise SyscallError(EINVAL)  # mbind(2): an unknown mode
    if flags & MPOL_F_STATIC_NODES and flags & MPOL_F_RELATIVE_NODES:
        # set_mempolicy(2): MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES together
        raise SyscallError(EINVAL)
    many = mode == MPOL_PREFERRED_MANY and NUMA_BALANCING_PREFERRED in space.changes
    if flags & MPOL_F_NUMA_BALANCING and mode != MPOL_BIND and not many:
        # set_mempolicy(2): MPOL_F_NUMA_BALANCING with a mode other than MPOL_BIND
        raise SyscallError(EINVAL)
    return mode, flags


def _policy(mode: int, flags: int, nodes: int, usable: int) -> Policy | None:
    """The policy that is asked for (mm/mempolicy.c: mpol_new(), mpol_set_nodemask())."""
    if mode == MPOL_DEFAULT:
        if nodes:
            raise SyscallError(EINVAL)  # mbind(2): MPOL_DEFAULT and a node
        return None
    if mode == MPOL_PREFERRED and not nodes:
        if flags:
            raise SyscallError(EINVAL)  # mbind(2): MPOL_PREFERRED without a node, but with flags
        mode = MPOL_LOCAL
    elif mode == MPOL_LOCAL:
        if nodes or flags:
            raise SyscallError(EINVAL)  # mbind(2): MPOL_LOCAL and a node or flags
    elif not nodes:
        raise SyscallError(EINVAL)  # mbind(2): no node
    if mode == MPOL_LOCAL:
        return mode, 0, 0, 0
    allowed = _relative(nodes, usable) if flags & MPOL_F_RELATIVE_NODES else nodes & usable
    if not allowed:
        raise SyscallError(EINVAL)  # mbind(2): none of the nodes has memory or is allowed
    if mode == MPOL_PREFERRED:
        allowed &= -allowed
    kept = nodes if flags & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES) else 0
    return mode, flags, allowed, kept


def _relative(nodes: int, usable: int) -> int:
    """`nodes` as places in the usable nodes, counted round (mm/mempolicy.c: mpol_relative_nodemask())."""
    places = [node for node in range(64) if usable >> node & 1]
    wanted = {node % len(places) for node in range(64) if nodes >> node & 1}
    return sum(1 << places[place] for place in wanted)


def _look_at_pages(
    space: AddressSpace, start: int, end: int, policy: Policy | None, nodes: int, flags: int
) -> bool:
    """Look for holes and for pages that are not where they should be; whether one cannot be moved
    (mm/mempolicy.c: queue_pages_range()). Where pages are only looked at, the first ends the call."""
    vmas = space.between(start, end)
    if not vmas:
        raise SyscallError(EFAULT)  # mbind(2): nothing is mapped in the range
    failed = False
    at = start
    seen: set[tuple[int, int]] = set()
    for vma in vmas:
        if policy and vma.start > at:
            raise SyscallError(EFAULT)  # mbind(2): a hole in the range
        at = vma.end
        if policy and at < end and space.lookup(at) is None:
            raise SyscallError(EFAULT)  # mbind(2): a hole in the range, or at its end
        unmovable = bool(vma.flags & (VM_IO | VM_PFNMAP))
        if not flags or (unmovable and not flags & MPOL_MF_STRICT):
            continue
        if _is_misplaced(space, vma, max(start, vma.start), min(end, vma.end), nodes, seen, flags):
            if flags & _BIND_FLAGS == MPOL_MF_STRICT:
                # mbind(2): MPOL_MF_STRICT and a page that does not follow the policy
                raise SyscallError(EIO)
            failed = True
    return failed


def _is_misplaced(
    space: AddressSpace,
    vma: Vma,
    start: int,
    end: int,
    nodes: int,
    seen: set[tuple[int, int]],
    flags: int,
) -> bool:
    """A present page of the range is on no node of `nodes`, and cannot be moved away (mm/mempolicy.c:
    queue_folios_pte_range()). A page that is mapped twice cannot be taken twice."""
    usable = space.environment.nodes
    if nodes & usable == usable:
        return False
    if usable & usable - 1:
        raise Unmodelled("on which of several nodes a page is")
    if vma.flags & VM_HUGETLB:
        raise Unmodelled("mbind() with MPOL_MF_* of huge pages")
    movable = flags & _MOVING and not vma.flags & (VM_IO | VM_PFNMAP)
    if vma.name is not None:
        if space.own_dropped or not vma.flags & VM_LOCKED:
            raise Unmodelled("which pages of the executor's own are present")
        return not movable
    failed = False
    for page in space.pages_of(start, end):
        held = space.ptes[page]
        kind = held & PTE_KIND
        if kind in (0, PTE_GUARD) or held & PTE_ZERO:
            continue
        if kind == PTE_FILE and vma.flags & VM_PFNMAP:
            continue  # no page that has a place (mm/memory.c: vm_normal_folio())
        if kind == PTE_FILE and vma.file:
            if vma.file.inode.reclaimed:
                raise Unmodelled("which pages of a file are mapped after MADV_PAGEOUT")
            if flags & MPOL_MF_STRICT and movable and not vma.file.inode.shmem:
                raise Unmodelled("whether a page of a file system can be moved")
            key = vma.file.inode.ident, vma.page_offset(page << PAGE_SHIFT)
            if flags & MPOL_MF_MOVE_ALL and key in seen:
                failed = True
            seen.add(key)
        failed |= not movable
        if movable and held & PTE_WP and held & PTE_WRITABLE:
            if kind == PTE_FILE:
                raise Unmodelled("whether a page of a file system can be moved")
            # mm/migrate.c: remove_migration_pte(): what is writable is not marked as write-protected
            space.ptes[page] = held & ~(PTE_WP | PTE_WRITABLE)
    if not failed and flags & MPOL_MF_STRICT and vma.file and vma.file.regular and not vma.is_shmem:
        raise Unmodelled("which pages of a file are mapped around those that were used")
    return failed
