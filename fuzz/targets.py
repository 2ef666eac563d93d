"""Kernels to run programs on, by the names that users give them: `local`, `qemu:IMAGE`, `uml:BINARY`, or a kernel of
the cache. What follows runs on an executor and does not know which.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import kernels
from fuzz.status import UsageError
from kernel_bridge import BridgeError, ExecutorConfig, Guest, KernelExecutor
from kernel_bridge.build import BuildError, writable_directory
from kernel_bridge.guest import Qemu, Uml
from kernel_bridge.kmsg import Kmsg, KmsgError
from kernels import KernelError

LOCAL: Final = "local"
_QEMU: Final = "qemu:"
_UML: Final = "uml:"
#: Limits of an executor on the running kernel (seconds): a call, a program, a start, a boot.
_CALL: Final = 10.0
_PROGRAM: Final = 60.0
_START: Final = 15.0
_BOOT: Final = 30.0
#: Programs in a batch: round trips to a guest cost more.
_BATCH: Final = 128
#: What a kernel's sanitizers slow down beyond its launcher, and the memory that such a guest needs (MiB).
_SANITIZED: Final = 4.0
_SANITIZED_MEMORY: Final = 3072
_MEMORY: Final = 1024
#: How the names of modules begin that a guest's channel needs.
_CHANNEL: Final = "virtio"


class Target:
    """A kernel, and the guests that were started of it. Use from one thread; `close` ends them.

    Raises:
        UsageError: there is no such kernel.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._launch: Callable[[], Guest] | None = None
        self._slow = 1.0
        self._guests: list[tuple[Guest, KernelExecutor | None]] = []
        self._kmsg: Kmsg | None = None
        #: Why what the kernel prints cannot be seen, in one line; "" if it can.
        self.unwatched = ""
        if name != LOCAL:
            self._launch = self._launcher(name)
        else:
            try:
                self._kmsg = Kmsg()
            except KmsgError as error:
                self.unwatched = str(error)

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_local(self) -> bool:
        """It is the running kernel."""
        return self._launch is None

    @property
    def batch(self) -> int:
        """How many programs are best sent at once; 0: as usual."""
        return 0 if self.is_local else _BATCH

    def start(self, *, user: bool, worker: int = 0) -> KernelExecutor:
        """A fresh executor, without root's rights if `user`.

        On the running kernel it stays on one processor: pages that wait in another's queues would escape MADV_PAGEOUT.

        Raises:
            BridgeError: it cannot be started.
        """
        if self._launch is None:
            usable = sorted(os.sched_getaffinity(0), reverse=True)
            return KernelExecutor(
                ExecutorConfig(drop_privileges=user, cpu=usable[worker % len(usable)])
            )
        place = next((i for i, (_, e) in enumerate(self._guests) if e is None or e.is_closed), -1)
        if place < 0:
            self._guests.append((self._launch(), None))
        guest = self._guests[place][0]
        config = ExecutorConfig(
            drop_privileges=user,
            reader=guest.reader,
            call_seconds=_CALL * self._slow,
            program_seconds=_PROGRAM * self._slow,
            start_seconds=_START * self._slow,
        )
        executor = KernelExecutor(config, guest)
        self._guests[place] = guest, executor
        return executor

    def printed(self) -> bytes:
        """What the kernel printed since this was last asked: guests, or what this user may see of this machine's."""
        if self.is_local:
            return self._kmsg.read() if self._kmsg else b""
        return b"".join(guest.console() for guest, _ in self._guests)

    def describe(self) -> str:
        """What runs it, in a few words."""
        if self.is_local:
            return "this machine"
        return self._guests[0][0].name if self._guests else self.name

    def close(self) -> None:
        """End its guests."""
        for guest, executor in self._guests:
            if executor is not None:
                executor.close()
            guest.close()
        self._guests.clear()
        if self._kmsg is not None:
            self._kmsg.close()
        self._kmsg = None

    def _launcher(self, name: str) -> Callable[[], Guest]:
        modules: list[tuple[str, bytes]] = []
        features: tuple[str, ...] = ()
        if name.startswith(_QEMU):
            image, arch = Path(name.removeprefix(_QEMU)), "x86"
        elif name.startswith(_UML):
            image, arch = Path(name.removeprefix(_UML)), "uml"
        else:
            try:
                kernel = kernels.find(name)
            except KernelError as error:
                raise UsageError(str(error)) from None
            image, features, arch = kernel.image, kernel.features, kernel.arch
            modules = kernel.load_modules()
        if not image.is_file():
            raise UsageError(f"{image}: no such kernel image")
        sanitized = "kasan" in features
        memory = _SANITIZED_MEMORY if sanitized else _MEMORY
        more = _SANITIZED if sanitized else 1.0

        if arch == "uml":
            return lambda: self._boot_uml(Uml(image, memory), modules, more)

        early = tuple(content for name, content in modules if name.startswith(_CHANNEL))
        modules = [each for each in modules if not each[0].startswith(_CHANNEL)]

        def launch() -> Guest:
            kvm, tcg = Qemu(image, "kvm", memory, early), Qemu(image, "tcg", memory, early)
            if _may_have_kvm():
                self._slow = kvm.slow * more
                try:
                    return Guest(kvm, modules, _BOOT * self._slow, attempts=1)
                except BridgeError:
                    _remember_no_kvm()
            self._slow = tcg.slow * more
            return Guest(tcg, modules, _BOOT * self._slow)

        return launch

    def _boot_uml(self, uml: Uml, modules: list[tuple[str, bytes]], more: float) -> Guest:
        self._slow = uml.slow * more
        return Guest(uml, modules, _BOOT * self._slow)


def _no_kvm() -> Path:
    """A file that is there when KVM was found not to work, since this machine was booted."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return writable_directory("build") / f"no-kvm-{boot}"


def _may_have_kvm() -> bool:
    """That /dev/kvm can be opened does not say that it boots a kernel: that is tried out, once."""
    try:
        return os.access("/dev/kvm", os.R_OK | os.W_OK) and not _no_kvm().exists()
    except (OSError, BuildError):
        return False


def _remember_no_kvm() -> None:
    with suppress(OSError, BuildError):
        _no_kvm().touch()
