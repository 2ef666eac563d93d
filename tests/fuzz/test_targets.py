"""Guests of a target: which is used, which is booted anew, how they are run, and what that says of this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz import targets
from fuzz.status import UsageError
from fuzz.targets import Target
from kernel_bridge import BridgeError

ELF = b"\x7fELF"


class FakeGuest:
    """A guest that boots unless its accelerator is `broken`."""

    broken: frozenset[str] = frozenset()
    reader = "auto"
    made: list["FakeGuest"]

    def __init__(self, launcher: Any, modules: Any, boot: float, attempts: int = 3) -> None:
        self.made.append(self)
        self.launcher = launcher
        self.attempts = attempts
        self.patience = 20.0 * launcher.slow
        self.renewed = 0
        if launcher.accel in self.broken:
            raise BridgeError("the guest does not boot")

    def renew(self) -> None:
        self.renewed += 1

    def close(self) -> None: ...


class FakeExecutor:
    def __init__(self, config: Any, guest: Any) -> None:
        self.config = config
        self.guest = guest
        self.is_closed = False
        self.is_untouched = True

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def no_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it is remembered that KVM does not work; it can be opened."""
    path = tmp_path / "no-kvm"
    monkeypatch.setattr(targets, "_no_kvm", lambda: path)
    monkeypatch.setattr(targets.os, "access", lambda *_: True)
    monkeypatch.setattr(targets, "Guest", FakeGuest)
    monkeypatch.setattr(targets, "KernelExecutor", FakeExecutor)
    monkeypatch.setattr(FakeGuest, "made", [], raising=False)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(b"MZ")
    return path


def test_kvm_that_does_not_work_is_remembered(
    no_kvm: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeGuest, "broken", frozenset({"kvm"}))
    Target(f"qemu:{image}").start(user=False)
    assert no_kvm.exists()
    Target(f"qemu:{image}").start(user=False)
    assert [guest.launcher.accel for guest in FakeGuest.made] == ["kvm", "tcg", "tcg"]


def test_a_broken_image_says_nothing_of_kvm(
    no_kvm: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeGuest, "broken", frozenset({"kvm", "tcg"}))
    with pytest.raises(BridgeError, match="does not boot"):
        Target(f"qemu:{image}").start(user=False)
    assert not no_kvm.exists()


def test_a_guest_that_did_boot_may_fail_to_once(no_kvm: Path, image: Path) -> None:
    executor = Target(f"qemu:{image}").start(user=False)
    assert (executor.guest.launcher.accel, executor.guest.attempts) == ("kvm", 3)


def test_one_is_booted_anew_that_runs_nothing(no_kvm: Path, image: Path) -> None:
    target = Target(f"qemu:{image}")
    busy = target.start(user=False)
    site = target.site(user=True, worker=0)
    fresh = site.renew()  # type: ignore[misc]
    assert fresh.guest.renewed == 0, "it has just been booted"
    assert site.slow() == 1.0
    assert fresh.config.drop_privileges
    fresh.close()
    second = site.renew()  # type: ignore[misc]
    assert second.guest is fresh.guest
    assert second.guest.renewed == 0, "nothing has run there"
    second.is_untouched = False
    second.close()
    again = site.renew()  # type: ignore[misc]
    assert again.guest is fresh.guest
    assert (again.guest.renewed, busy.guest.renewed) == (1, 0)
    again.is_untouched = False
    again.close()
    assert site.start().guest is again.guest
    assert again.guest.renewed == 1, "any will do"


def test_the_running_kernel_is_not_booted() -> None:
    with Target("local", watch=False) as target:
        assert target.site(user=False, worker=0).renew is None


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("vmlinux", "vmlinux"),
        ("bzImage", "bzImage.d/vmlinux"),
        ("tree/arch/x86/boot/bzImage", "tree/vmlinux"),
        ("other/x86/boot/bzImage", None),
    ],
)
def test_symbols_are_looked_for_beside_the_image(
    tmp_path: Path, name: str, symbols: str | None
) -> None:
    image = tmp_path / name
    if name == "bzImage":
        image = tmp_path / "bzImage.d" / name
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(b"MZ")
    for place in (symbols, "other/vmlinux"):
        if place:
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place).write_bytes(ELF)
    assert Target(f"qemu:{image}").vmlinux == (tmp_path / symbols if symbols else None)
    image.with_name("vmlinux").write_text("no ELF file")
    if symbols != "vmlinux":
        assert Target(f"qemu:{image}").vmlinux != image.with_name("vmlinux")


def test_no_image_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such kernel image"):
        Target(f"qemu:{tmp_path / 'none'}")
