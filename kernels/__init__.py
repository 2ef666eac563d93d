"""Kernels that guests boot: fetched from Debian's archive, built from source, kept in a cache. Knows no executors."""

from kernels.cache import (
    Kernel,
    KernelError,
    UnknownKernelError,
    find,
    installed,
    names,
    remove,
    vmlinux_of,
)

__all__ = [
    "Kernel",
    "KernelError",
    "UnknownKernelError",
    "find",
    "installed",
    "names",
    "remove",
    "vmlinux_of",
]
