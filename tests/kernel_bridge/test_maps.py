"""Parsing the text of maps and smaps, from recorded text."""

import pytest

from abi.trace import (
    NAME_ANON,
    NAME_FILE,
    NAME_HEAP,
    NAME_NONE,
    NAME_OTHER,
    NAME_STACK,
    NAME_VDSO,
    NAME_VVAR,
    PERM_EXEC,
    PERM_READ,
    PERM_SHARED,
    PERM_WRITE,
    Mapping,
)
from kernel_bridge import maps

SMAPS = """\
10000000-10004000 r-xp 00000000 fe:00 393250                     /a b/executor
Size:                 16 kB
Anonymous:             0 kB
THPeligible:           0
VmFlags: rd ex mr mw me lo sl
20000000-20400000 rw-s 00001000 00:01 1042                       /memfd:x (deleted)
Anonymous:             8 kB
VmFlags: rd wr sh
7ffff7ff0000-7ffff7ff1000 ---p 00000000 00:00 0 
VmFlags: mr
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
VmFlags: ex
"""  # noqa: W291


def test_smaps() -> None:
    image, shared, anonymous = maps.parse(SMAPS)
    assert image.flags == ("rd", "ex", "mr", "mw", "me", "lo", "sl")
    assert (image.name, image.device, image.inode) == ("/a b/executor", (0xFE, 0), 393250)
    assert (shared.anonymous, shared.offset) == (8192, 4096)
    assert anonymous.name == ""


def test_layout() -> None:
    layout = maps.layout(maps.parse(SMAPS), lambda device, inode: {393250: 1, 1042: 2}[inode])
    assert layout == (
        Mapping(0x10000000, 0x10004000, 0, 1, PERM_READ | PERM_EXEC, NAME_FILE),
        Mapping(0x20000000, 0x20400000, 4096, 2, PERM_READ | PERM_WRITE | PERM_SHARED, NAME_FILE),
        Mapping(0x7FFFF7FF0000, 0x7FFFF7FF1000, 0, 0, 0, NAME_NONE),
    )


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("", NAME_NONE),
        ("/dev/zero (deleted)", NAME_FILE),
        ("[heap]", NAME_HEAP),
        ("[stack]", NAME_STACK),
        ("[vdso]", NAME_VDSO),
        ("[vvar_vclock]", NAME_VVAR),
        ("[anon:x]", NAME_ANON),
        ("[uprobes]", NAME_OTHER),
    ],
)
def test_name_classes(name: str, want: int) -> None:
    assert maps.name_class(name) == want


def test_nonsense() -> None:
    assert maps.parse("") == ()
    with pytest.raises(ValueError, match="not a line of maps"):
        maps.parse("nonsense\n")
