"""Kernels to run programs on, by the names that users give them: `local`, `qemu:IMAGE`, `uml:BINARY`, or a kernel of
the cache. What follows runs on an executor and does not know which.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import kernels
from abi.environment import Geometry
from fuzz.site import Site
from fuzz.status import UnusableError, UsageError
from kernel_bridge import BridgeError, ExecutorConfig, Guest, KernelExecutor
from kernel_bridge.build import BuildError, writable_directory
from kernel_bridge.guest import Qemu, Uml
from kernel_bridge.kmsg import Kmsg, KmsgError
from kernel_bridge.local import Local
from kernels import KernelError
from model.space import OVERCOMMIT_NEVER

LOCAL: Final = "local"
#: Another window for programs (bytes).
_ELSEWHERE: Final = 0x12_4000_0000
_QEMU: Final = "qemu:"
_UML: Final = "uml:"
#: Limits of an executor on the running kernel (seconds): a call, a program, a start, a boot.
_CALL: Final = 10.0
_PROGRAM: Final = 60.0
_START: Final = 15.0
#: Processor time of a call that does not end.
_ENDLESS: Final = 0.02
_BOOT: Final = 30.0
#: What a guest's agent may take to notice that an executor is not to be ended (seconds).
_AGENT: Final = 20.0
#: How often in a row a guest that did boot may fail to.
_ATTEMPTS: Final = 3
#: Programs in a batch: round trips to a guest cost more.
_BATCH: Final = 128
#: What a kernel's sanitizers slow down beyond its launcher, and the memory that such a guest needs (MiB).
_SANITIZED: Final = 4.0
_SANITIZED_MEMORY: Final = 3072
_MEMORY: Final = 1024
#: How the names of modules begin that a guest's channel needs.
_CHANNEL: Final = "virtio"
#: Where Debian's packages put the running kernel's image with its symbols.
_SYMBOLS: Final = "/usr/lib/debug/boot/vmlinux-{}"


class Target:
    """A kernel, and the guests that were started of it. Use from one thread; `close` ends them. watch: what the running
    kernel prints is read, if it may be.

    Raises:
        UsageError: there is no such kernel.
    """

    def __init__(self, name: str, *, watch: bool = True) -> None:
        self.name = name
        self._launch: Callable[[], Guest] | None = None
        self._slow = 1.0
        self._guests: list[tuple[Guest, KernelExecutor | None]] = []
        self._kmsg: Kmsg | None = None
        #: Why what the kernel prints cannot be seen, in one line; "" if it can.
        self.unwatched = ""
        #: The kernel's image with its symbols, if it is at hand.
        self.vmlinux: Path | None = None
        if name != LOCAL:
            self._launch = self._launcher(name)
            return
        symbols = Path(_SYMBOLS.format(os.uname().release))
        self.vmlinux = symbols if symbols.is_file() else None
        try:
            self._kmsg = Kmsg() if watch else None
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

    def site(self, *, user: bool, worker: int) -> Site:
        """What a worker is given of it."""

        def start() -> KernelExecutor:
            return self.start(user=user, worker=worker)

        def elsewhere() -> KernelExecutor:
            return self.start(user=user, worker=worker, window=_ELSEWHERE)

        def renew() -> KernelExecutor:
            return self.start(user=user, worker=worker, booted=True)

        return Site(
            start,
            elsewhere,
            None if self.is_local else renew,
            self.vmlinux,
            lambda: self._slow,
            lambda: 0.0 if self.is_local else (_CALL + _AGENT + _BOOT) * self._slow,
            self.close,
        )

    def start(
        self, *, user: bool, worker: int = 0, booted: bool = False, window: int = Geometry().window
    ) -> KernelExecutor:
        """A fresh executor, without root's rights if `user`; `booted`: on a guest that has run nothing since its boot;
        window: where its programs aim (bytes).

        On the running kernel it stays on one processor: pages that wait in another's queues would escape MADV_PAGEOUT.

        Raises:
            BridgeError: it cannot be started.
        """
        if self._launch is None:
            assert not booted, "the running kernel is not ours to boot"
            usable = sorted(os.sched_getaffinity(0), reverse=True)
            return KernelExecutor(
                ExecutorConfig(
                    window=window, drop_privileges=user, cpu=usable[worker % len(usable)]
                ),
                Local(self._kmsg),
            )
        place = next((i for i, (_, e) in enumerate(self._guests) if e is None or e.is_closed), -1)
        if place < 0:
            self._guests.append((self._launch(), None))
            guest = self._guests[place][0]
        else:
            guest, last = self._guests[place]
            if booted and not (last and last.is_untouched):
                guest.renew()
        config = ExecutorConfig(
            window=window,
            drop_privileges=user,
            reader=guest.reader,
            call_seconds=_CALL * self._slow,
            program_seconds=_PROGRAM * self._slow,
            start_seconds=_START * self._slow,
            # A guest's clock counts the time in which the host does something else, too.
            endless_seconds=_ENDLESS * self._slow**2,
        )
        executor = KernelExecutor(config, guest)
        self._guests[place] = guest, executor
        return executor

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
        self.vmlinux = kernels.vmlinux_of(image)
        sanitized = "kasan" in features
        memory = _SANITIZED_MEMORY if sanitized else _MEMORY
        more = _SANITIZED if sanitized else 1.0

        if arch == "uml":
            return lambda: self._boot_uml(Uml(image, memory), modules, more)

        early = tuple(content for name, content in modules if name.startswith(_CHANNEL))
        modules = [each for each in modules if not each[0].startswith(_CHANNEL)]

        def launch() -> Guest:
            kvm, tcg = Qemu(image, "kvm", memory, early), Qemu(image, "tcg", memory, early)
            failed = False
            if _may_have_kvm():
                self._slow = kvm.slow * more
                try:
                    guest = Guest(kvm, modules, _BOOT * self._slow, attempts=1)
                    return _settled(guest, more)
                except BridgeError:
                    failed = True
            self._slow = tcg.slow * more
            guest = Guest(tcg, modules, _BOOT * self._slow)
            if failed:
                # It was not the image.
                _remember_no_kvm()
            return _settled(guest, more)

        return launch

    def _boot_uml(self, uml: Uml, modules: list[tuple[str, bytes]], more: float) -> Guest:
        self._slow = uml.slow * more
        return _settled(Guest(uml, modules, _BOOT * self._slow), more)


def refuse_strict_commit(target: Target, executor: KernelExecutor) -> None:
    """Nothing is run where the machine's commit limit would be used up.

    Raises:
        UnusableError: it would.
    """
    if target.is_local and executor.environment.overcommit == OVERCOMMIT_NEVER:
        raise UnusableError(
            "vm.overcommit_memory is 2, and kernels before 7.3.4 lose promised memory when a moved mapping"
            " shrinks: fuzzing would use up the commit limit of this machine; set it to 0 or 1"
        )


def _settled(guest: Guest, more: float) -> Guest:
    """The guest, which has been seen to boot; its agent is waited for so many times longer than its launcher knows."""
    guest.attempts = _ATTEMPTS
    guest.patience *= more
    return guest


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
