"""The process: whose it is, what it may, and that it never outlives its parent."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abi.consts import FD_NAMES, FIRST_OBJECT_FD
from abi.environment import Environment
from kernel_bridge import BridgeError, ExecutorConfig, KernelExecutor, objects
from kernel_bridge.process import Memory
from tests.processes import state_of

ROOT = Path(__file__).parents[2]
STAY = """
import sys, time
from kernel_bridge import KernelExecutor
kernel = KernelExecutor()
print(kernel.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds. A zombie has ended."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if state_of(pid) in ("", "Z", "X"):
            return True
        time.sleep(0.01)
    return False


def test_close_ends_the_process_and_closes_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    kernel = KernelExecutor()
    pid = kernel.pid
    kernel.close()
    kernel.close()
    assert gone(pid)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(BridgeError):
        _ = kernel.pid


def test_a_forgotten_executor_ends() -> None:
    pid = KernelExecutor().pid
    gc.collect()
    assert gone(pid)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_executor_dies_with_python(ending: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STAY],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # What the shell starts in the background ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as python:
        assert python.stdout is not None
        pid = int(python.stdout.readline())
        assert not Path(f"/proc/{pid}/stat").read_text().endswith("Z")
        python.send_signal(ending)
        assert gone(pid)


def test_a_forked_child_does_not_take_the_executor_along(kernel: KernelExecutor) -> None:
    child = os.fork()
    if not child:
        kernel.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert kernel.run([()])[0].loss is None


def test_its_mappings_and_descriptors(kernel: KernelExecutor) -> None:
    entries = Path(f"/proc/{kernel.pid}/maps").read_text().splitlines()
    ours = [line for line in entries if "[vsyscall]" not in line]
    if len(ours) != 2:
        pytest.skip(f"this kernel keeps {len(ours) - 2} mappings more: {ours}")
    numbers = {int(name) for name in os.listdir(f"/proc/{kernel.pid}/fd")}
    assert numbers == {*range(FIRST_OBJECT_FD), *(o.fd for o in kernel.environment.objects)}


def test_privileges_are_dropped(kernel: KernelExecutor) -> None:
    status = Path(f"/proc/{kernel.pid}/status").read_text()
    assert kernel.environment.capabilities == frozenset()
    if os.geteuid() != 0:
        pytest.skip("nothing to drop: not run as root")
    assert "CapEff:\t0000000000000000" in status
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "Groups:\t \n" in status


def test_privileges_are_kept_on_demand() -> None:
    if os.geteuid() != 0:
        pytest.skip("nothing to keep: not run as root")
    with KernelExecutor(ExecutorConfig(drop_privileges=False)) as kernel:
        assert f"Uid:\t{os.geteuid()}" in Path(f"/proc/{kernel.pid}/status").read_text()


def test_the_environment(kernel: KernelExecutor) -> None:
    env = kernel.environment
    assert Environment.from_json(env.to_json()) == env
    assert env.total_pages == sum(v.end - v.start for v in env.initial) // 4096
    assert env.task_size in ((1 << 47) - 4096, (1 << 56) - 4096)
    assert 0 < env.start_stack < 1 << 47
    assert env.brk == env.start_brk > 0
    assert env.geometry.top < env.start_stack
    assert env.rlimit_as == ExecutorConfig().rlimit_as
    assert env.dac_mmap_min_addr <= env.mmap_min_addr <= 1 << 20
    assert not any(v.faulted for v in env.initial)
    known = {o.name for o in env.objects} | set(env.missing)
    assert known <= set(FD_NAMES)
    assert known >= {
        "memfd", "memfd_ro", "file", "file_ro", "devzero", "pipe", "uffd0", "uffd1", "uffd2",
        "tmpfs", "tmpfs_ro", "ext4", "ext4_ro", "xfs", "xfs_ro", "btrfs", "btrfs_ro",
        "overlay", "overlay_ro", "ramfs", "proc", "sysfs",
    }  # fmt: skip
    assert [(v.ident, v.perms) for v in env.initial[:2]] == [(1, 5), (2, 11)]


def test_every_start_gives_the_same_environment(kernel: KernelExecutor) -> None:
    for _ in range(3):
        with KernelExecutor() as other:
            assert other.environment == kernel.environment


def test_configuration() -> None:
    (cpu, *_) = os.sched_getaffinity(0)
    config = ExecutorConfig(window=0x3_0000_0000, window_pages=64, rlimit_as=64 << 20, cpu=cpu)
    with KernelExecutor(config) as kernel:
        assert os.sched_getaffinity(kernel.pid) == {cpu}
        assert kernel.environment.geometry.window == 0x3_0000_0000
        assert kernel.environment.geometry.window_pages == 64
        assert kernel.environment.rlimit_as == 64 << 20


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (ExecutorConfig(reader="smaps"), "no layout reader 'smaps'"),
        (ExecutorConfig(cpu=100_000), "cannot run on CPU 100000"),
        (ExecutorConfig(rlimit_as=1 << 20), "executor does not start"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(config: ExecutorConfig, text: str) -> None:
    with pytest.raises(BridgeError, match=text) as caught:
        KernelExecutor(config)
    assert "\n" not in str(caught.value)


def test_another_abi_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_bridge.process.abi_hash", lambda: 1)
    with pytest.raises(BridgeError, match="its ABI differs from Python's"):
        KernelExecutor()


def test_another_baseline_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor started later must find what the first one found, or it is not used."""
    with KernelExecutor() as kernel:
        wanted = kernel._base
        monkeypatch.setitem(wanted, "base_size", wanted["base_size"] + 1)
        os.kill(kernel.pid, signal.SIGKILL)
        with pytest.raises(BridgeError, match="another VmSize, VmData or VmLck"):
            kernel.run([()])


def test_the_file_leaves_nothing_behind(tmp_path: Path) -> None:
    with KernelExecutor(ExecutorConfig(state=tmp_path)) as kernel:
        assert "file" not in kernel.environment.missing
        assert list(tmp_path.iterdir()) == []


def test_file_on_another_file_system_is_made_in_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "FILE_SYSTEMS", ("tmpfs",))
    with KernelExecutor(ExecutorConfig(state=tmp_path)) as kernel:
        file = kernel.environment.object(FD_NAMES["file"])
        assert file is None or file.fs == "tmpfs"


def test_no_place_for_the_file_is_a_missing_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    monkeypatch.setattr(objects, "SHARED_MEMORY", blocker / "shm")
    with KernelExecutor(ExecutorConfig(state=blocker / "state")) as kernel:
        assert set(kernel.environment.missing) >= {"file", "file_ro"}
        assert "\n" not in kernel.environment.missing["file"]
        assert kernel.run([()])[0].loss is None


def test_control_words() -> None:
    memory = Memory()
    memory.set("brk", (1 << 64) - 1)
    assert memory.get("brk") == (1 << 64) - 1
    assert memory.get("task_size") == 0
    memory.close()
