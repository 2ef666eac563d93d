"""Kernels that guests boot: fetched from Debian's archive, built from source, kept in a cache. Knows no executors."""

from kernels.cache import Kernel, KernelError, find, installed, remove

__all__ = ["Kernel", "KernelError", "find", "installed", "remove"]
