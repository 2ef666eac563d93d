"""The real kernel behind the vocabulary of `abi`. Imports abi and the standard library, never the model."""

from kernel_bridge.executor import ExecutorConfig, KernelExecutor, Loss, Observation
from kernel_bridge.process import BridgeError

__all__ = ["BridgeError", "ExecutorConfig", "KernelExecutor", "Loss", "Observation"]
