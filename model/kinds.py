"""Kinds of files whose mappings are special: a row for each, of what its mmap() checks and sets, and what other calls
then find of its VMAs. What an ordinary file system maps has no row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from errno import EAGAIN, EFAULT, EINVAL, ENODEV, ENOMEM, EPERM
from typing import Final

from abi.consts import PAGE_SHIFT, RLIMIT_MEMLOCK, WORD
from model.errors import SyscallError, Unmodelled
from model.flags import (
    VM_ARCH_1,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_EXEC,
    VM_IO,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_SHARED,
    VM_WRITE,
)
from model.profile import (
    BPF_ARRAY_FAULTS,
    IOURING_AREA_EINVAL,
    IOURING_OFFSET_MASK,
    PERF_PFNMAP,
    SECRETMEM_LOCKED,
    XDP_MIXEDMAP,
)
from model.space import AddressSpace
from model.vma import Vma

#: Offsets of the parts of an io_uring, and the bits that choose one (include/uapi/linux/io_uring.h: IORING_OFF_*).
_RINGS: Final = (0, 0x800_0000)
_SQES: Final = 0x1000_0000
#: Offsets at which an io_uring has something to map.
_OFFSETS: Final = (*_RINGS, _SQES)
_PARTS: Final = 0xF800_0000


@dataclass(frozen=True, slots=True)
class Kind:
    """What is special of the VMAs of one kind of file.

    mmap: what its mmap() checks and sets in a new VMA, whose place is already empty; how many of its pages are there
    from then on. area: what its get_unmapped_area() checks of an address and a page offset; own_area: whether it has
    one that mremap() does not know. has_close: a merge removes no VMA of it (vm_ops->close). whole: none is cut
    (vm_ops->may_split). faults: a page that is not there comes when it is used. secret: the kernel gets at its pages
    for nobody (get_user_pages()), be it for populating or ptrace. read_only_data: of a shared mapping only the
    first page can be written to. regular: it is a regular file. no_ioctl: it knows no ioctl(2) at all.
    """

    mmap: Callable[[AddressSpace, Vma], int] | None = None
    area: Callable[[AddressSpace, int, int], None] | None = None
    own_area: bool = False
    has_close: bool = False
    whole: bool = False
    faults: Callable[[AddressSpace], bool] = lambda space: False
    secret: bool = False
    read_only_data: bool = False
    regular: bool = False
    no_ioctl: bool = False


def _pages(vma: Vma) -> int:
    return vma.end - vma.start >> PAGE_SHIFT


def _secretmem(space: AddressSpace, vma: Vma) -> int:
    """mm/secretmem.c: secretmem_mmap_prepare()"""
    if not vma.flags & (VM_SHARED | VM_MAYSHARE):
        raise SyscallError(EINVAL)  # memfd_secret(2): a private mapping
    vma.flags |= VM_DONTDUMP
    if SECRETMEM_LOCKED in space.changes:
        if not space.may_lock(vma.end - vma.start):
            raise SyscallError(EAGAIN)  # memfd_secret(2): more locked memory than RLIMIT_MEMLOCK
        vma.flags |= VM_LOCKED
    return 0


def _iouring_area(space: AddressSpace, addr: int, pgoff: int) -> None:
    """io_uring/memmap.c: io_uring_get_unmapped_area()"""
    if addr:
        raise SyscallError(EINVAL)  # io_uring/memmap.c: the address is the kernel's to choose
    parts = _PARTS if IOURING_OFFSET_MASK in space.changes else WORD
    if pgoff << PAGE_SHIFT & parts not in _OFFSETS:
        # io_uring_setup(2): nothing of an io_uring is at this offset
        raise SyscallError(EINVAL if IOURING_AREA_EINVAL in space.changes else ENOMEM)


def _iouring(space: AddressSpace, vma: Vma) -> int:
    """io_uring/memmap.c: io_uring_mmap()"""
    assert vma.file is not None
    vma.flags |= VM_DONTEXPAND
    if vma.pgoff << PAGE_SHIFT & _PARTS == _SQES and _pages(vma) < vma.file.pages:
        raise SyscallError(EFAULT)  # mm/memory.c: vm_insert_pages(): more pages than are mapped
    space.allocate(EFAULT)  # mm/memory.c: insert_pages(): no page table
    vma.flags |= VM_MIXEDMAP
    return min(_pages(vma), vma.file.pages)


def _perf(space: AddressSpace, vma: Vma) -> int:
    """kernel/events/core.c: perf_mmap()"""
    data = _pages(vma) - 1
    if not vma.flags & VM_SHARED:
        raise SyscallError(EINVAL)  # perf_event_open(2): a private mapping
    if vma.pgoff:
        raise SyscallError(EINVAL)  # kernel/events/core.c: perf_mmap_aux(): it has no AUX area
    if data & data - 1:
        raise SyscallError(EINVAL)  # perf_event_open(2): not 1 + 2^n pages
    buffers = [other for other in space.vmas if other.file is vma.file]
    if any(_pages(other) != data + 1 for other in buffers):
        raise SyscallError(
            EINVAL
        )  # kernel/events/core.c: perf_mmap_rb(): the buffer has another size
    if not buffers:
        _check_perf_limit(space, data + 1)
    vma.flags |= VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP
    if PERF_PFNMAP not in space.changes:
        return 0
    vma.flags |= VM_IO | VM_PFNMAP
    return data + 1


def _check_perf_limit(space: AddressSpace, pages: int) -> None:
    """What may be pinned: RLIMIT_MEMLOCK beyond an allowance that all processes of a user share
    (kernel/events/core.c: perf_mmap_calc_limits())."""
    if "IPC_LOCK" in space.environment.capabilities:
        return
    if pages > space.limits[RLIMIT_MEMLOCK] >> PAGE_SHIFT:
        raise Unmodelled("the user's other processes share the allowance for perf buffers")


def _check_map(vma: Vma) -> None:
    """kernel/bpf/syscall.c: bpf_map_mmap()"""
    if not vma.flags & VM_SHARED:
        raise SyscallError(EINVAL)  # kernel/bpf/syscall.c: bpf_map_mmap(): a private mapping
    vma.flags &= ~VM_MAYEXEC
    if not vma.flags & VM_WRITE:
        vma.flags &= ~VM_MAYWRITE


def _insert_map(vma: Vma) -> int:
    """mm/vmalloc.c: remap_vmalloc_range()"""
    assert vma.file is not None
    if vma.pgoff + _pages(vma) > vma.file.pages:
        raise SyscallError(EINVAL)  # kernel/bpf/arraymap.c, ringbuf.c: beyond its end
    vma.flags |= VM_DONTEXPAND | VM_DONTDUMP | VM_MIXEDMAP
    return _pages(vma)


def _bpf(space: AddressSpace, vma: Vma) -> int:
    """kernel/bpf/arraymap.c: array_map_mmap()"""
    _check_map(vma)
    pages = _insert_map(vma)
    return 0 if BPF_ARRAY_FAULTS in space.changes else pages


def _bpf_ring(space: AddressSpace, vma: Vma) -> int:
    """kernel/bpf/ringbuf.c: ringbuf_map_mmap_kern()"""
    _check_map(vma)
    if vma.flags & VM_WRITE and (vma.pgoff or _pages(vma) != 1):
        raise SyscallError(EPERM)  # kernel/bpf/ringbuf.c: only the consumer's page is writable
    return _insert_map(vma)


def _packet(space: AddressSpace, vma: Vma) -> int:
    """net/packet/af_packet.c: packet_mmap()"""
    assert vma.file is not None
    if vma.pgoff or _pages(vma) != vma.file.pages:
        raise SyscallError(EINVAL)  # packet(7): not the whole ring
    vma.flags |= VM_MIXEDMAP
    return _pages(vma)


def _xdp(space: AddressSpace, vma: Vma) -> int:
    """net/xdp/xsk.c: xsk_mmap()"""
    assert vma.file is not None
    if vma.pgoff or _pages(vma) > vma.file.pages:
        raise SyscallError(EINVAL)  # net/xdp/xsk.c: xsk_mmap(): no such ring, or beyond its end
    vma.flags |= VM_DONTEXPAND | VM_DONTDUMP
    if XDP_MIXEDMAP in space.changes:
        vma.flags |= VM_MIXEDMAP
    elif vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE:
        raise Unmodelled("where in memory the kernel has a ring")
    else:
        vma.flags |= VM_IO | VM_PFNMAP | VM_ARCH_1
    return _pages(vma)


def _tcp(space: AddressSpace, vma: Vma) -> int:
    """net/ipv4/tcp.c: tcp_mmap(), for TCP_ZEROCOPY_RECEIVE"""
    if vma.flags & (VM_WRITE | VM_EXEC):
        raise SyscallError(EPERM)  # net/ipv4/tcp.c: tcp_mmap(): what is received is read only
    vma.flags = vma.flags & ~(VM_MAYWRITE | VM_MAYEXEC) | VM_MIXEDMAP
    return 0


def _socket(space: AddressSpace, vma: Vma) -> int:
    """net/core/sock.c: sock_no_mmap()"""
    raise SyscallError(ENODEV)  # mmap(2): such a socket cannot be mapped; the hole remains


#: By `abi.environment.Object.fs`.
KINDS: Final[dict[str, Kind]] = {
    "secretmem": Kind(_secretmem, faults=lambda space: True, secret=True, regular=True),
    "iouring": Kind(_iouring, _iouring_area, own_area=True),
    "perf": Kind(
        _perf,
        has_close=True,
        whole=True,
        faults=lambda space: PERF_PFNMAP not in space.changes,
        read_only_data=True,
    ),
    "bpf": Kind(
        _bpf,
        own_area=True,
        has_close=True,
        faults=lambda space: BPF_ARRAY_FAULTS in space.changes,
    ),
    "bpf_ring": Kind(_bpf_ring, own_area=True, has_close=True),
    "packet": Kind(_packet, has_close=True),
    "xdp": Kind(_xdp, no_ioctl=True),
    "tcp": Kind(_tcp),
    "socket": Kind(_socket),
    "sysv": Kind(own_area=True, has_close=True, faults=lambda space: True, regular=True),
}
