"""Fetching: which packages, what is kept of them, and who is to blame when it does not work.

The archive is a directory and its programs are stand-ins; the slow tests ask the real one.
"""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

import kernels as package
from kernels import Kernel, KernelError, UnknownKernelError, cache
from kernels.archive import GoneError, open_archive
from kernels.fetch import fetch, fetch_source, remove_source, sources
from kernels.registry import KNOWN_UML
from tests.kernel_cache.conftest import FakeArchive

MODULE = b"..\0depends=\0.."


def get(name: str, said: list[str] | None = None) -> Kernel:
    with open_archive((said if said is not None else []).append) as archive:
        return fetch(name, archive)


def test_an_image_with_its_modules(debian: FakeArchive) -> None:
    tree = "usr/lib/modules/6.17.8+deb13-cloud-amd64"
    debian.add(
        "linux-image-6.17.8+deb13-cloud-amd64",
        "6.17.8-1",
        {
            "boot/vmlinuz-6.17.8+deb13-cloud-amd64": b"kernel",
            "boot/config-6.17.8+deb13-cloud-amd64": b"CONFIG_64BIT=y\n",
            f"{tree}/kernel/fs/xfs/xfs.ko": MODULE,
        },
    )
    kernel = get("6.17.8")
    assert kernel == package.find("6.17.8")
    assert kernel.image.read_bytes() == b"kernel"
    assert kernel.release == "6.17.8+deb13-cloud-amd64"
    assert kernel.origin == "Debian, linux-image-6.17.8+deb13-cloud-amd64 6.17.8-1"
    assert kernel.load_modules() == [("xfs", MODULE)]
    assert kernel.config is not None
    assert kernel.config.read_text() == "CONFIG_64BIT=y\n"


def test_an_image_and_modules_in_two_packages(debian: FakeArchive) -> None:
    tree = "usr/lib/modules/7.3.4+deb13-cloud-amd64"
    debian.add("linux-image-7.3.4+deb13-cloud-amd64", "1", {"usr/share/empty": b""})
    debian.add("linux-binary-7.3.4+deb13-cloud-amd64", "1", {f"{tree}/vmlinuz": b"kernel"})
    debian.add("linux-modules-7.3.4+deb13-cloud-amd64", "1", {f"{tree}/kernel/xfs.ko": MODULE})
    said: list[str] = []
    assert get("7.3.4", said).load_modules() == [("xfs", MODULE)]
    assert not any("modules of" in line for line in said)


def test_modules_that_are_gone_are_said(debian: FakeArchive) -> None:
    tree = "usr/lib/modules/7.0.13+deb13-cloud-amd64"
    debian.add("linux-binary-7.0.13+deb13-cloud-amd64", "1", {f"{tree}/vmlinuz": b"kernel"})
    said: list[str] = []
    kernel = get("7.0.13", said)
    assert kernel.modules == ()
    assert kernel.origin.endswith("without its modules")
    assert any("the modules of 7.0.13 no longer" in line for line in said)


def test_one_named_by_an_abi_is_the_newest(debian: FakeArchive) -> None:
    for abi in ("9", "10"):
        release = f"6.1.0-{abi}-cloud-amd64"
        debian.add(f"linux-image-{release}", "6.1.176-1", {f"boot/vmlinuz-{release}": abi.encode()})
    assert get("6.1").image.read_bytes() == b"10"


def test_user_mode_linux_comes_with_its_c_library(debian: FakeArchive, kernels: Path) -> None:
    uml = next(each for each in KNOWN_UML if each.name == "uml-7.2")
    debian.add(
        "user-mode-linux",
        f"{uml.version}1",
        {"usr/bin/linux.uml": b"\x7fELF", "usr/lib/uml/modules/7.2.7/kernel/overlay.ko": MODULE},
    )
    libraries = "usr/lib/x86_64-linux-gnu"
    debian.add(
        "libc6", "2.43", {f"{libraries}/ld-linux-x86-64.so.2": b"", f"{libraries}/libc.so.6": b""}
    )
    kernel = get("uml-7.2")
    assert (kernel.arch, kernel.release) == ("uml", "7.2.7")
    assert kernel.origin == "Debian, user-mode-linux 7.2um1"
    assert kernel.load_modules() == [("overlay", MODULE)]
    assert (kernels / "uml-7.2" / "lib" / "libc.so.6").is_file()
    (patched,) = (call for call in debian.calls() if call.startswith("patchelf"))
    loader = kernels / "uml-7.2" / "lib" / "ld-linux-x86-64.so.2"
    assert f"--set-interpreter {loader} --set-rpath $ORIGIN/lib" in patched
    assert any(f"libc6/{uml.suite}" in call for call in debian.calls())


def test_what_the_archive_does_not_have_is_gone(debian: FakeArchive) -> None:
    for name in ("6.17.8", "uml-7.2"):
        with pytest.raises(GoneError, match=r"is not in Debian's archive, or no longer$"):
            get(name)
    assert package.names() == []


def test_a_newer_user_mode_linux_is_not_the_one(debian: FakeArchive) -> None:
    debian.add("user-mode-linux", "7.9um1", {"usr/bin/linux.uml": b""})
    with pytest.raises(GoneError):
        get("uml-7.2")


def test_a_download_that_breaks_off_is_not_gone(
    debian: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE", "cut off")
    debian.add("linux-image-6.17.8+deb13-cloud-amd64", "1", {})
    with pytest.raises(KernelError, match=r"cannot be fetched: .*timed out") as caught:
        get("6.17.8")
    assert not isinstance(caught.value, GoneError)


def test_lists_that_were_read_in_part_do_not_say_what_is_gone(
    debian: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE", "no route")
    with pytest.raises(KernelError, match=r"could be read .*no route") as caught:
        get("6.17.8")
    assert not isinstance(caught.value, GoneError)


def test_no_lists(debian: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROUBLE", "no lists")
    with pytest.raises(KernelError, match="archive cannot be read: Failed to fetch"):
        get("6.17.8")


def test_a_package_without_a_kernel(debian: FakeArchive) -> None:
    debian.add("linux-image-6.17.8+deb13-cloud-amd64", "1", {"boot/other": b""})
    with pytest.raises(KernelError, match="no kernel image in it"):
        get("6.17.8")
    assert package.names() == []


@pytest.mark.parametrize("name", ["", "x", "6", "6.1.2.3", "uml-9", "6.1 ", "../6.1", "6.1-rc1"])
def test_names_that_mean_nothing(debian: FakeArchive, name: str) -> None:
    with pytest.raises(UnknownKernelError, match="kernels list"):
        get(name)
    assert debian.calls() == []


def test_the_state_of_apt_is_ours(
    debian: FakeArchive, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMADIFF_DEBIAN_MIRROR", "http://mirror.example")
    with pytest.raises(GoneError):
        get("6.17.8")
    base = kernels / cache.APT
    settings = (base / "apt.conf").read_text()
    for name in ("State::Lists", "State::status", "Cache", "Etc::SourceList"):
        assert f'Dir::{name} "{base}/' in settings
    for name in ("SourceParts", "Preferences", "PreferencesParts"):
        assert f'Dir::Etc::{name} "/dev/null"' in settings
    assert "#clear APT::Update::Post-Invoke;" in settings
    lines = (base / "sources.list").read_text().splitlines()
    assert all("signed-by=" in line and "http://mirror.example/debian" in line for line in lines)
    assert all(f"-c {base}/apt.conf" in call for call in debian.calls())


def test_lists_are_read_once_for_several(debian: FakeArchive) -> None:
    with open_archive(lambda _: None) as archive:
        for name in ("6.17.8", "7.3.4"):
            with pytest.raises(GoneError):
                fetch(name, archive)
    assert sum(call.endswith(" update") for call in debian.calls()) == 1


def test_what_a_killed_fetch_left_is_cleared_away(debian: FakeArchive, kernels: Path) -> None:
    left = kernels / cache.APT / "fetch-killed"
    left.mkdir(parents=True)
    with open_archive(lambda _: None):
        assert not left.exists()


def test_a_machine_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match="apt-get is not installed") as caught:
        get("6.17.8")
    assert "\n" not in str(caught.value)


def test_a_machine_without_debians_keys(
    debian: FakeArchive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kernels.archive._KEYRING", tmp_path / "none")
    with pytest.raises(KernelError, match="install the package debian-archive-keyring"):
        get("6.17.8")


def packed_tree() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as packed:
        for name in ("linux-source-7.3/Makefile", "linux-source-7.3/mm/mmap.c"):
            packed.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def test_sources_are_unpacked_once(debian: FakeArchive) -> None:
    file = "usr/src/linux-source-7.3.tar.xz"
    debian.add("linux-source-7.3", "7.3.4-1", {file: packed_tree(), "usr/share/doc/x": b""})
    tree, origin = fetch_source("linux-source-7.3", lambda _: None)
    assert origin == "linux-source-7.3 7.3.4-1"
    assert (tree / "mm" / "mmap.c").is_file()
    assert sorted(path.name for path in tree.parent.iterdir()) == ["tree", "version"]
    asked = len(debian.calls())
    assert fetch_source("linux-source-7.3", lambda _: None) == (tree, origin)
    assert len(debian.calls()) == asked
    assert sources() == {"linux-source-7.3": origin}
    assert remove_source("linux-source-7.3")
    assert not remove_source("linux-source-7.3")
    assert sources() == {}


@pytest.mark.parametrize(
    "name", ["x", "linux-source-7", "linux-image-7.3", "linux-source-7.3=../x"]
)
def test_no_source_packages(debian: FakeArchive, name: str) -> None:
    with pytest.raises(UnknownKernelError, match="neither a directory nor a source package"):
        fetch_source(name, lambda _: None)
    assert debian.calls() == []


@pytest.fixture
def real() -> None:
    """Debian's archive; skips the test where it cannot be reached."""
    try:
        with open_archive(lambda _: None) as archive:
            archive.names("^linux-source-")
    except KernelError as error:
        pytest.skip(f"no archive here: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["7.3.4", "uml-7.2"])
def test_the_real_archive(real: None, name: str) -> None:
    try:
        kernel = get(name)
    except GoneError as error:
        pytest.skip(str(error))
    assert kernel.release.startswith(name.removeprefix("uml-"))
    assert {"overlay"} <= {module for module, _ in kernel.load_modules()}
    if kernel.arch == "uml":
        done = subprocess.run([kernel.image, "--version"], capture_output=True, text=True)
        assert done.stdout.strip() == kernel.release
