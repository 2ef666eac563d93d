"""A real guest that is made to crash or to complain: what it says is found, tied to its program, made smaller.

Slow: each trial is a boot. Needs QEMU and a kernel (`vmadiff kernels fetch 7.3.4`, package qemu-system-x86).
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import kernels
from abi.calls import Call, Munmap, Program
from abi.consts import PAGE
from abi.environment import Geometry
from abi.program import parse_all
from fuzz import corpus
from fuzz.assemble import join
from fuzz.probe import examine
from fuzz.settings import Settings
from fuzz.targets import Target
from kernel_bridge import KernelExecutor
from kernel_bridge.guest import Guest
from kernel_bridge.machine import MachineLost
from tests.fuzz.machine import Told
from tests.fuzz.test_cli import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_usable")]
KERNEL = "7.3.4"
#: A call that no recipe makes, for a kernel that is to fall over it.
MINE = Munmap(0x1234 * PAGE, 77 * PAGE)
PANIC = "the kernel reported: kernel panic: sysrq triggered crash < sysrq_handle_crash < "
REPORT = """------------[ cut here ]------------
WARNING: CPU: 0 PID: 7 at mm/mremap.c:712 move_vma+0x123/0x456
RIP: 0010:move_vma+0x123/0x456
Call Trace:
 move_vma+0x123/0x456
 do_mremap+0x5fd/0x7d0
---[ end trace 0000000000000000 ]---
"""


@pytest.fixture(scope="module")
def _usable() -> None:
    if which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (Debian: qemu-system-x86)")
    try:
        kernels.find(KERNEL)
    except kernels.KernelError as error:
        pytest.skip(str(error))


def panic(machine: Guest) -> None:
    """Have the kernel crash. It does not come back to say so."""
    with contextlib.suppress(MachineLost):
        machine.put("/proc/sysrq-trigger", "c")


def warn(machine: Guest) -> None:
    """Have its console show what a warning would."""
    fd = machine.open("/dev/kmsg", os.O_WRONLY)
    for line in REPORT.splitlines():
        machine.syscall("write", fd, line, len(line))
    machine.close_fd(fd)


@dataclass
class Planted:
    """An executor under which something becomes of the kernel while a batch runs with a program that `is_it`."""

    real: KernelExecutor
    befall: Callable[[Guest], None]
    is_it: Callable[[Program], bool]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def submit(self, programs: Sequence[Program], full: Iterable[int] = ()) -> None:
        self.real.submit(programs, full)
        if any(map(self.is_it, programs)):
            assert isinstance(self.real.machine, Guest)
            self.befall(self.real.machine)

    def run(self, programs: Sequence[Program], *, full: bool = False) -> Any:
        self.submit(programs, range(len(programs)) if full else ())
        return self.real.collect()


@dataclass
class Campaign:
    """What came of one: what was told, the executor that led, where findings are."""

    told: Told
    executor: KernelExecutor
    state: Path

    def finding(self) -> Path:
        (message,) = self.told.of("finding")
        return Path(message["path"])

    def programs(self, name: str) -> list[Program]:
        text = (self.finding() / name).read_text()
        return parse_all(text, self.executor.environment.geometry)


def campaign(
    state: Path,
    befall: Callable[[Guest], None],
    is_it: Callable[[Program], bool],
    programs: Sequence[Program],
    *,
    again: bool,
) -> Campaign:
    """Fuzz with these programs and no others; `again`: it befalls the kernels of trials, too."""
    told = Told()
    with contextlib.closing(Target(KERNEL)) as target:
        site = target.site(user=False, worker=0)
        assert site.renew is not None
        start, renew = site.start, site.renew
        first = Planted(start(), befall, is_it)  # type: ignore[arg-type]
        planted: list[Any] = [first]
        settings = Settings(
            worker=0, session=1, pipe=-1, seed=1, state=str(state), corpus=str(state), profile="",
            changes=tuple(sorted(c.name for c in examine(first.real).profile.changes)), batch=4, seeds=False,
        )  # fmt: skip
        site = replace(
            site,
            start=lambda: planted.pop() if planted else start(),
            renew=lambda: Planted(renew(), befall, is_it) if again else renew(),  # type: ignore[arg-type]
        )
        worker, producer = join(settings, site, told, set())
        worker.listen()
        with contextlib.closing(worker):
            for program in programs:
                worker.accept(producer.predict(program))
            worker.finish()
    return Campaign(told, first.real, state)


def harmless(geometry: Geometry, count: int) -> list[Program]:
    paths = sorted((corpus.PACKAGED / "seeds").glob("mremap-multi-vma-*.prog"))
    read = [corpus.read_program(path, geometry) for path in paths]
    return [read[number % len(read)] for number in range(count)]


def having(*calls: Call) -> Callable[[Program], bool]:
    return lambda program: set(calls) <= set(program)


def test_a_panic_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """Of no program's doing, so that none brings it about again: it is a finding all the same, and all goes on."""
    programs = harmless(Geometry(), 24)
    programs[10] = (*programs[10], MINE)
    left = [1]

    def once(machine: Guest) -> None:
        if left:
            left.pop()
            panic(machine)

    seen = campaign(tmp_path, once, having(MINE), programs, again=False)
    (finding,) = seen.told.of("finding")
    assert finding["signature"].startswith(PANIC)
    assert seen.told.of("stats")[-1]["sequences"] == 24
    assert isinstance(seen.executor.machine, Guest)
    assert seen.executor.machine.boots == 2
    report = (seen.finding() / "report.md").read_text()
    assert "Kernel panic - not syncing: sysrq triggered crash" in report
    assert "again    it did not come again: see before\n" in report
    assert seen.programs("before") == programs[:11]
    assert "\n[vmadiff: lost connection: " in (seen.finding() / "console.log").read_text()
    assert not (seen.finding() / "reduced").exists()


def test_a_panic_that_a_program_brings_about(tmp_path: Path) -> None:
    """It is tried on kernels booted for it until nothing can be left out."""
    programs = harmless(Geometry(), 16)
    programs[10] = (programs[0][0], MINE, programs[0][1])
    seen = campaign(tmp_path, panic, having(MINE), programs, again=True)
    report = (seen.finding() / "report.md").read_text()
    assert "again    it came again alone, on a freshly booted kernel\n" in report
    (finding,) = seen.told.of("finding")
    assert finding["signature"].startswith(PANIC)
    assert seen.programs("program") == [programs[10]]
    assert seen.programs("reduced") == [(MINE,)], report
    assert seen.told.of("stats")[-1]["sequences"] == 16


def test_a_warning_leaves_the_guest_alive(tmp_path: Path) -> None:
    programs = harmless(Geometry(), 16)
    programs[9] = (programs[0][0], MINE, programs[0][1])
    seen = campaign(tmp_path, warn, having(MINE), programs, again=True)
    (finding,) = seen.told.of("finding")
    assert finding["signature"] == "the kernel reported: WARNING in move_vma < do_mremap"
    report = (seen.finding() / "report.md").read_text()
    assert "again    it came again alone, on a freshly booted kernel\n" in report, report
    assert seen.programs("program") == [programs[9]]
    assert seen.programs("reduced") == [(MINE,)]
    assert isinstance(seen.executor.machine, Guest)
    assert seen.executor.machine.boots == 1
    assert seen.told.of("stats")[-1]["sequences"] == 16


@pytest.mark.parametrize("command", [("probe",), ("fuzz", "--runs", "10")])
def test_an_image_that_does_not_boot_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(b"this is no kernel" * 1000)
    status, _, err = run(*command, "--target", f"qemu:{image}", cwd=tmp_path)
    assert status == 3
    assert err.startswith("vmadiff: the guest does not boot (")
    assert err.count("\n") == 1
