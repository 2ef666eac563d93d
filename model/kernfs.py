"""Files of the kernel's own, under /proc and /sys: what mapping one of them makes of the mapping."""

from errno import EACCES, EINVAL, EIO

from model.errors import SyscallError
from model.flags import (
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_EXEC,
    VM_IO,
    VM_MAYEXEC,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_PFNMAP,
    VM_WRITE,
)
from model.vma import File


def kernel_flags(file: File, vm_flags: int, pages: int, pgoff: int) -> int:
    """The VM_* of a new mapping of `file`; what it replaces is gone already.

    Raises:
        SyscallError: this file cannot be mapped so.
    """
    if file.kernel == "proc":
        # fs/proc/inode.c: pde_mmap(): no file of /proc but a device's; the hole remains
        raise SyscallError(EIO)
    if pgoff:
        # kernel/bpf/sysfs_btf.c: btf_sysfs_vmlinux_mmap(): from its start only; the hole remains
        raise SyscallError(EINVAL)
    if vm_flags & (VM_WRITE | VM_EXEC | VM_MAYSHARE):
        # kernel/bpf/sysfs_btf.c: btf_sysfs_vmlinux_mmap(): shared or not for reading; the hole remains
        raise SyscallError(EACCES)
    if pages > file.inode.pages:
        # kernel/bpf/sysfs_btf.c: btf_sysfs_vmlinux_mmap(): beyond its end; the hole remains
        raise SyscallError(EINVAL)
    special = VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP
    return vm_flags & ~(VM_MAYEXEC | VM_MAYWRITE) | special
