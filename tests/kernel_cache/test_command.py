"""`vmadiff kernels`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest

from fuzz.cli import main
from kernels import cache, names
from kernels.registry import NAMES, SOURCES
from tests.kernel_cache.conftest import FakeArchive


def add_package(debian: FakeArchive, version: str) -> None:
    release = f"{version}+deb13-cloud-amd64"
    debian.add(f"linux-image-{release}", f"{version}-1", {f"boot/vmlinuz-{release}": b"kernel"})


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["kernels", *words])
    return status, *capsys.readouterr()


def test_a_kernel_comes_and_goes(debian: FakeArchive, capsys: pytest.CaptureFixture[str]) -> None:
    add_package(debian, "6.17.8")
    status, out, err = run(capsys, "fetch", "6.17.8")
    assert (status, err) == (0, "")
    assert "6.17.8: 6.17.8+deb13-cloud-amd64, 0 modules, /" in out
    _, out, _ = run(capsys, "list")
    assert "Debian, linux-image-6.17.8+deb13-cloud-amd64 6.17.8-1" in out
    assert run(capsys, "remove", "6.17.8")[0] == 0
    assert names() == []


def test_the_list_for_programs(
    debian: FakeArchive, kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("6.17.8", "6.17.99", "7.3.4"):
        add_package(debian, version)
    assert run(capsys, "fetch", "6.17.8", "6.17.99", "7.3.4")[0] == 0
    (kernels / "7.3.4" / cache.IMAGE).write_bytes(b"changed")
    status, out, _ = run(capsys, "list", "--json")
    assert status == 0
    data = json.loads(out)
    rows = {row["name"]: row for row in data["kernels"]}
    assert set(rows) == {*NAMES, "6.17.99"}
    assert (rows["6.17.8"]["known"], rows["6.17.8"]["at_hand"]) == (True, True)
    assert rows["6.17.8"]["image"] == str(kernels / "6.17.8" / cache.IMAGE)
    assert (rows["6.17.99"]["known"], rows["6.17.99"]["at_hand"]) == (False, True)
    assert (rows["7.3.4"]["damaged"], rows["7.3.4"]["at_hand"]) == (True, False)
    assert not rows["uml-7.2"]["at_hand"]
    assert [row["name"] for row in data["sources"]] == sorted(SOURCES)
    assert "7.3.4" in run(capsys, "list")[1]


def test_what_is_gone_does_not_keep_others_from_coming(
    debian: FakeArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    add_package(debian, "7.3.4")
    status, out, err = run(capsys, "fetch", "6.17.8", "7.3.4")
    assert status == 3
    assert err == "vmadiff: kernel 6.17.8 is not in Debian's archive, or no longer\n"
    assert "7.3.4: " in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["fetch", "6.17.8", "nonsense"], "'nonsense' is neither a version nor"),
        (["remove", "7.3.4"], "no kernel 7.3.4 at hand"),
        (["remove", "linux-source-7.3"], "no kernel linux-source-7.3 at hand"),
        (["build", "/nonexistent"], "/nonexistent: neither a directory nor a source package"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str],
    complaint: str,
    debian: FakeArchive,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kernels.build._need_tools", lambda _: None)
    status, _, err = run(capsys, *words)
    assert status == 2
    assert err.startswith(f"vmadiff: {complaint}")
    assert err.count("\n") == 1
    assert debian.calls() == []


def test_a_machine_that_cannot_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words in (["fetch", "7.3.4"], ["build", "linux-source-7.3"]):
        status, _, err = run(capsys, *words)
        assert status == 3
        assert "install" in err
        assert err.count("\n") == 1
