"""Frames with file and line: what binutils say is read right, and what cannot be found stays as it is."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import symbols
from fuzz.console import reports
from fuzz.symbols import read_places, read_symbols, symbolise
from tests.fuzz.reports import REPORTS

NM = """\
ffffffff81000000 0000000000000040 T start_kernel
ffffffff81234000 00000000000005d0 t move_vma
ffffffff81239000 0000000000000480 t twice
ffffffff8123a000 0000000000000200 t twice
ffffffff8123b000 T sizeless
ffffffff82000000 0000000000000008 D init_mm
"""
MOVES = "ffffffff81235000 0000000000001288 T move_page_tables\n"
PLACES = {
    0xFFFFFFFF81235000: [("move_page_tables", "/build/linux/mm/mremap.c:700")],
    0xFFFFFFFF81000000: [("start_kernel", "/build/linux/init/main.c:900")],
    0xFFFFFFFF812342B0: [
        ("vma_is_sealed", "/build/linux/./include/linux/mm.h:12"),
        ("move_vma", "/build/linux/mm/mremap.c:1192"),
    ],
    0xFFFFFFFF812342B1: [("move_vma", "/build/linux/mm/mremap.c:1193")],
    0xFFFFFFFF81239011: [("twice", "/build/linux/mm/a.c:1")],
    0xFFFFFFFF8123A011: [("twice", "/build/linux/mm/b.c:2")],
    0xFFFFFFFF8123B000: [("sizeless", "??:0")],
}


@pytest.fixture
def vmlinux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An image of which binutils, played here, know the above."""

    def run(*command: str, input_: str = "") -> list[str]:
        if command[0] == "nm":
            return NM.splitlines()
        lines = []
        for line in input_.splitlines():
            lines.append(line)
            for name, place in PLACES.get(int(line, 16), [("??", "??:0")]):
                lines += [name, place]
        return lines

    monkeypatch.setattr(symbols, "_run", run)
    path = tmp_path / "vmlinux"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            " move_vma+0x2b1/0x5d0",
            " vma_is_sealed include/linux/mm.h:12 [inline]\n move_vma+0x2b1/0x5d0 mm/mremap.c:1192",
        ),
        (
            "[    1.234567] RIP: 0010:move_vma+0x2b1/0x5d0",
            "[    1.234567] RIP: 0010:move_vma+0x2b1/0x5d0 mm/mremap.c:1193",
        ),
        (" twice+0x12/0x200", " twice+0x12/0x200 mm/b.c:2"),
        (" move_vma+0x2b1/0x5d0 [xfs]", " move_vma+0x2b1/0x5d0 [xfs]"),
        (" move_vma+0x2b1/0x5d0 mm/x.c:1", " move_vma+0x2b1/0x5d0 mm/x.c:1"),
        (" sizeless+0x0/0x10", " sizeless+0x0/0x10"),
        (" unknown+0x1/0x10", " unknown+0x1/0x10"),
        ("no frame", "no frame"),
    ],
)
def test_lines(vmlinux: Path, before: str, after: str) -> None:
    assert symbolise(f"first\n{before}\n", vmlinux) == f"first\n{after}\n"


def test_name_that_is_not_unique_is_left(vmlinux: Path) -> None:
    assert symbolise(" twice+0x12/0x480\n", vmlinux) == " twice+0x12/0x480\n"


def test_root_is_found_where_only_mm_has_lines(
    vmlinux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLACES, 0xFFFFFFFF81000000, [("??", "??:0")])
    text = "RIP: 0010:move_vma+0x2b1/0x5d0\n"
    assert "/build/linux/mm/mremap.c:1193" in symbolise(text, vmlinux)
    monkeypatch.setattr(sys.modules[__name__], "NM", NM + MOVES)
    assert symbolise(text, vmlinux) == "RIP: 0010:move_vma+0x2b1/0x5d0 mm/mremap.c:1193\n"


def test_report_stays_the_same_report(vmlinux: Path) -> None:
    report = REPORTS["kasan"]
    text = symbolise(report.text, vmlinux)
    assert text.count(" mm/mremap.c:1192") > 0
    (crash,) = reports(text.encode())
    assert crash.title == report.title


@pytest.mark.parametrize("program", ["nm", "addr2line"])
def test_without_binutils_all_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    text = " move_vma+0x2b1/0x5d0\n"
    assert symbolise(text, tmp_path / "none") == text
    (tmp_path / "vmlinux").write_text("no image")
    assert symbolise(text, tmp_path / "vmlinux") == text
    monkeypatch.setenv("PATH", str(tmp_path))
    assert symbolise(text, tmp_path / "vmlinux") == text


def test_what_nm_says() -> None:
    read = read_symbols(NM.splitlines())
    assert read["move_vma"] == [(0xFFFFFFFF81234000, 0x5D0)]
    assert len(read["twice"]) == 2
    assert read["sizeless"] == [(0xFFFFFFFF8123B000, 0)]
    assert "init_mm" not in read


def test_what_addr2line_says() -> None:
    lines = [
        "0x10",
        "f",
        "/b/../src/mm/x.c:12 (discriminator 3)",
        "0x20",
        "??",
        "??:0",
        "0x30",
        "g",
        "mm/y.c:?",
    ]
    assert read_places(lines) == {0x10: [("f", "/src/mm/x.c:12")]}


SOURCE = """\
static inline __attribute__((always_inline)) int inner(volatile int *p) {
    return *p + 1;
}
__attribute__((noinline)) int outer(volatile int *p) {
    return inner(p) * 2;
}
int start_kernel(void) { volatile int x = 1; return outer(&x); }
int main(void) { return start_kernel(); }
"""


@pytest.mark.skipif(
    not all(map(shutil.which, ("cc", "nm", "addr2line"))), reason="needs cc and binutils"
)
@pytest.mark.parametrize("debug", ["-g", "-g0"])
def test_real_binutils(tmp_path: Path, debug: str) -> None:
    (tmp_path / "init").mkdir()
    source = tmp_path / "init" / "main.c"
    source.write_text(SOURCE)
    image = tmp_path / "vmlinux"
    subprocess.run(["cc", "-O1", debug, "-o", str(image), str(source)], check=True)
    text = " outer+0x1/0x100\nRIP: 0010:outer+0x0/0x100\n"
    if debug == "-g0":
        assert symbolise(text, image) == text
        return
    last = symbolise(text, image).splitlines()[-1]
    assert last.startswith("RIP: 0010:outer+0x0/0x100 init/main.c:") or last.endswith(
        "init/main.c:4"
    )
