"""Modules: in the order in which a kernel takes them, as it takes them."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels import KernelError
from kernels.modules import load_order


def plain(data: bytes) -> bytes:
    return data


def module(
    directory: Path,
    name: str,
    depends: str = "",
    suffix: str = "",
    pack: Callable[[bytes], bytes] = plain,
) -> bytes:
    content = b"\x7fELF..\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.ko{suffix}").write_bytes(pack(content))
    return content


def test_what_is_depended_on_comes_first_and_once(tmp_path: Path) -> None:
    module(tmp_path / "fs", "btrfs", "raid6_pq,xor,libcrc32c")
    module(tmp_path / "fs", "xfs", "libcrc32c")
    module(tmp_path / "lib", "raid6-pq")
    module(tmp_path / "crypto", "xor", "raid6_pq")
    module(tmp_path / "lib", "libcrc32c")
    order = [name for name, _ in load_order(tmp_path, ["xfs", "btrfs"])]
    assert order == ["libcrc32c", "xfs", "raid6_pq", "xor", "btrfs"]


def test_they_are_unpacked(tmp_path: Path) -> None:
    wanted = [
        ("a", module(tmp_path, "a")),
        ("b", module(tmp_path, "b", "", ".xz", lzma.compress)),
        ("c", module(tmp_path, "c", "", ".gz", gzip.compress)),
    ]
    assert load_order(tmp_path, ["a", "b", "c"]) == wanted


def test_what_is_built_in_or_not_there_is_passed_by(tmp_path: Path) -> None:
    module(tmp_path, "overlay", "gone")
    assert [name for name, _ in load_order(tmp_path, ["ext4", "overlay"])] == ["overlay"]


def test_an_unknown_compression_is_an_error(tmp_path: Path) -> None:
    module(tmp_path, "a", "", ".zst")
    module(tmp_path, "b")
    assert [name for name, _ in load_order(tmp_path, ["b"])] == ["b"]
    with pytest.raises(KernelError, match=r"a\.ko\.zst"):
        load_order(tmp_path, ["a"])
