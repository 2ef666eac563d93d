"""The real kernel behind the vocabulary of `abi`. Imports abi and the standard library, never the model."""

from kernel_bridge.executor import ExecutorConfig, KernelExecutor, Loss, Observation
from kernel_bridge.guest import Guest, Qemu
from kernel_bridge.machine import BridgeError, Machine

__all__ = [
    "BridgeError",
    "ExecutorConfig",
    "Guest",
    "KernelExecutor",
    "Loss",
    "Machine",
    "Observation",
    "Qemu",
]
