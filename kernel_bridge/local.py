"""The running machine: system calls of this process, executors as its children."""

import os
from collections.abc import Mapping

from kernel_bridge import process
from kernel_bridge.build import BuildError, build
from kernel_bridge.kmsg import Kmsg
from kernel_bridge.machine import Argument, BridgeError, Machine, Memory, local_call


class Local(Machine):
    """The machine this runs on. log: where what its kernel prints is read, if it is.

    Raises:
        BridgeError: there is no executor for it.
    """

    local = True

    def __init__(self, log: Kmsg | None = None) -> None:
        self._log = log
        try:
            self._binary = build()
        except BuildError as error:
            raise BridgeError(str(error)) from None

    def call(self, number: int, *arguments: Argument) -> int:
        return local_call(number, *arguments)

    def console(self) -> bytes:
        return self._log.read() if self._log else b""

    def share(self) -> process.Memory:
        return process.Memory()

    def start(
        self, memory: Memory, descriptors: Mapping[int, int], cpu: int | None
    ) -> process.Process:
        assert isinstance(memory, process.Memory), "memory of another machine"
        started = process.start(self._binary, memory, descriptors)
        if cpu is not None:
            try:
                os.sched_setaffinity(started.pid, {cpu})
            except OSError as error:
                started.end()
                raise BridgeError(f"cannot run on CPU {cpu}: {error.strerror}") from None
        return started

    def close(self) -> None:
        pass
