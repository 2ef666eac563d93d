"""ftruncate(2) of a file that may be mapped (fs/open.c, mm/truncate.c)."""

from errno import EBADF, EFBIG, EINVAL

from abi.calls import Ftruncate
from abi.consts import PAGE_SHIFT
from model import hugetlb
from model.errors import SyscallError
from model.mapping import unmap_mapping
from model.space import AddressSpace


def ftruncate(space: AddressSpace, call: Ftruncate) -> int:
    """ftruncate(2). Mappings stay; what they showed beyond the new end is gone, private copies too, and raises SIGBUS
    until the file grows again (mm/truncate.c: truncate_pagecache()).

    Raises:
        SyscallError: with the errno of ftruncate(2).
    """
    if call.size >> 63:
        raise SyscallError(EINVAL)  # ftruncate(2): the length is negative
    file = space.files.get(call.fd)
    if file is None:
        raise SyscallError(EBADF)  # ftruncate(2): no such descriptor
    if not (file.regular and file.writable):
        raise SyscallError(EINVAL)  # ftruncate(2): not a regular file that is open for writing
    if file.kind:
        # ftruncate(2): not a regular file; mm/secretmem.c: secretmem_setattr(): its size is set once
        raise SyscallError(EINVAL)
    inode = file.inode
    if call.size > inode.max_bytes:
        raise SyscallError(EFBIG)  # fs/attr.c: inode_newsize_ok(): beyond the largest file
    if inode.huge:
        hugetlb.truncate(space, inode, call.size)
        return 0
    pages = inode.pages
    inode.resize(call.size)
    if inode.pages < pages:
        unmap_mapping(space, inode, inode.pages, 1 << 64 - PAGE_SHIFT, even_cows=True)
    return 0
