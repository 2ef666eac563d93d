"""The cache: kernels are whole or not there, and a changed image is no kernel."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import cachedir
import kernels as package
from kernels import KernelError, UnknownKernelError, cache


def add(name: str, image: bytes = b"image", **modules: bytes) -> None:
    with cache.adding(name, "x86", "7.3.4-test", "a test", ["kcov"]) as made:
        (made / cache.IMAGE).write_bytes(image)
        for module, content in modules.items():
            (made / cache.MODULES / f"{len(content):02}-{module}.ko").write_bytes(content)


def test_a_kernel_is_found_as_it_was_added() -> None:
    add("7.3.4", loop=b"l", xfs=b"xx")
    kernel = package.find("7.3.4")
    assert (kernel.name, kernel.arch, kernel.release) == ("7.3.4", "x86", "7.3.4-test")
    assert (kernel.origin, kernel.features) == ("a test", ("kcov",))
    assert kernel.image.read_bytes() == b"image"
    assert kernel.load_modules() == [("loop", b"l"), ("xfs", b"xx")]
    assert kernel.config is None
    assert kernel.vmlinux is None
    assert package.installed() == [kernel]
    assert kernel.to_json()["modules"] == ["loop", "xfs"]


def test_an_elf_image_has_symbols() -> None:
    add("a", b"\x7fELF...")
    kernel = package.find("a")
    assert kernel.vmlinux == kernel.image


def test_one_that_is_added_again_replaces_the_first(kernels: Path) -> None:
    add("a", b"old", loop=b"l")
    add("a", b"new")
    kernel = package.find("a")
    assert kernel.image.read_bytes() == b"new"
    assert kernel.modules == ()
    assert [path.name for path in kernels.iterdir()] == ["a"]


def test_what_fails_half_way_leaves_nothing_and_keeps_the_old(kernels: Path) -> None:
    add("a", b"old")
    with suppress(OSError), cache.adding("a", "x86", "", "") as made:
        (made / cache.IMAGE).write_bytes(b"ne")
        raise OSError("disk full")
    assert package.find("a").image.read_bytes() == b"old"
    assert [path.name for path in kernels.iterdir()] == ["a"]


def test_what_was_killed_half_way_is_cleared_away(kernels: Path) -> None:
    add("a")
    (kernels / ".new-killed").mkdir()
    assert package.names() == ["a"]
    add("b")
    assert sorted(path.name for path in kernels.iterdir()) == ["a", "b"]


def test_a_changed_image_is_damage(kernels: Path) -> None:
    add("a")
    add("b")
    (kernels / "a" / cache.IMAGE).write_bytes(b"imagE")
    with pytest.raises(KernelError, match=r"kernel a is damaged .its image has changed.*remove a"):
        package.find("a")
    assert [kernel.name for kernel in package.installed()] == ["b"]
    assert package.names() == ["a", "b"]


@pytest.mark.parametrize("facts", ["", "{}", "[]", '{"sha256": 1'])
def test_damaged_facts(kernels: Path, facts: str) -> None:
    add("a")
    (kernels / "a" / "kernel.json").write_text(facts)
    with pytest.raises(KernelError, match="kernel a is damaged"):
        package.find("a")


def test_removal(kernels: Path) -> None:
    add("a")
    cache.directory(cache.BUILDS)
    (kernels / cache.BUILDS / "a").mkdir()
    package.remove("a")
    assert package.names() == []
    assert list((kernels / cache.BUILDS).iterdir()) == []


def test_a_lock_that_another_has_is_waited_for(kernels: Path) -> None:
    place = cache.directory()
    waited: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with cachedir.locked(place):
            started = threading.Event()

            def take() -> None:
                def note() -> None:
                    waited.append("waiting")
                    started.set()

                with cachedir.locked(place, note):
                    waited.append("in")

            other = pool.submit(take)
            assert started.wait(30)
            waited.append("out")
        other.result(30)
    assert waited == ["waiting", "out", "in"]


@pytest.mark.parametrize("name", ["7.9", "", ".", "..", ".apt", "../x", "a/b", "-x"])
def test_names_of_no_kernel(name: str) -> None:
    cache.directory(cache.APT)
    for asked in (package.find, package.remove):
        with pytest.raises(UnknownKernelError, match="no kernel") as caught:
            asked(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".x", "x\n", "a b"])
def test_names_that_no_kernel_can_have(name: str) -> None:
    with pytest.raises(UnknownKernelError, match="names of kernels"):
        add(name)


def test_no_place_for_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(blocker))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocker))
    with pytest.raises(KernelError, match="set XDG_CACHE_HOME"):
        package.installed()
