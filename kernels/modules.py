"""Kernel modules as packages have them: found by name, with what they depend on, in the order of insertion."""

import gzip
import lzma
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from kernels.cache import KernelError

#: What a channel needs, then what programs and their objects do. Checksums come before file systems: no modprobe
#: answers the kernel's requests for them.
WANTED: Final = (
    "virtio_pci", "virtio_console",
    "crc32c_generic", "crc32c_cryptoapi", "xxhash_generic", "blake2b_generic", "sha256_generic",
    "loop", "ext4", "xfs", "btrfs", "overlay", "af_packet",
)  # fmt: skip
_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")
_READERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".ko": bytes,
    ".ko.xz": lzma.decompress,
    ".ko.gz": gzip.decompress,
}


def load_order(directory: Path, wanted: Iterable[str] = WANTED) -> list[tuple[str, bytes]]:
    """Names and contents of the wanted modules below `directory` and of all they depend on. What is not there is built
    into the kernel, or the kernel does not have it.

    Raises:
        KernelError: one is compressed in a way that is not known.
    """
    files = {_name(path): path for path in sorted(directory.rglob("*.ko*"))}
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in order or name not in files:
            return
        content = _read(files[name])
        found = _DEPENDS.search(content)
        for needed in found.group(1).decode().split(",") if found else ():
            add(needed.replace("-", "_"))
        order[name] = content

    for name in wanted:
        add(name)
    return list(order.items())


def _name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _read(path: Path) -> bytes:
    suffix = path.name[path.name.index(".ko") :]
    reader = _READERS.get(suffix)
    if reader is None:
        raise KernelError(f"{path.name}: modules compressed as {suffix} cannot be read")
    return reader(path.read_bytes())
