"""Reports of kernels: recognised, cut out whole, named; and what looks like one and is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.console import Console, reports, worst

TRACE = """\
Call Trace:
 <TASK>
 ? show_regs+0x60/0x70
 dump_stack_lvl+0x5d/0x80
 move_vma+0x123/0x456
 remap_move.isra.0+0x20/0x90
 __do_sys_mremap+0x5d/0x120
 do_syscall_64+0x5d/0x170
 entry_SYSCALL_64_after_hwframe+0x76/0x7e
 </TASK>
"""
WARNING = f"""\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 97 at mm/mremap.c:712 move_vma+0x123/0x456
Modules linked in:
CPU: 0 UID: 0 PID: 97 Comm: vmadiff Not tainted 6.18.15 #1
RIP: 0010:move_vma+0x123/0x456
{TRACE}---[ end trace 0000000000000000 ]---
"""
NEW_WARNING = WARNING.replace(
    "WARNING: CPU: 0 PID: 97 at mm/mremap.c:712 move_vma+0x123/0x456",
    "WARNING: mm/mremap.c:712 at move_vma+0x123/0x456, CPU#0: vmadiff/97",
)
OOPS = f"""\
BUG: kernel NULL pointer dereference, address: 0000000000000010
#PF: supervisor read access in kernel mode
Oops: Oops: 0000 [#1] SMP
RIP: 0010:vma_merge_new_range+0x45/0x300
{TRACE}---[ end trace 0000000000000000 ]---
RIP: 0010:vma_merge_new_range+0x45/0x300
Kernel panic - not syncing: Fatal exception
Kernel Offset: disabled
---[ end Kernel panic - not syncing: Fatal exception ]---
"""
KASAN = f"""\
==================================================================
BUG: KASAN: slab-use-after-free in vma_merge_extend+0x5d/0x120
Read of size 8 at addr ffff888003c5a000 by task vmadiff/97

{TRACE}
Allocated by task 97:
 kasan_save_stack+0x22/0x40
==================================================================
"""
BUG_AT = f"""\
------------[ cut here ]------------
kernel BUG at mm/vma.c:512!
Oops: invalid opcode: 0000 [#1] SMP
RIP: 0010:__split_vma+0x2f/0x100
{TRACE}---[ end trace 0000000000000000 ]---
"""
LOCKDEP = f"""\
======================================================
WARNING: possible circular locking dependency detected
7.3.4 #1 Not tainted
------------------------------------------------------
vmadiff/97 is trying to acquire lock:

stack backtrace:
{TRACE.partition(chr(10))[2]}
"""
TITLES = [
    (WARNING, "warning", "WARNING in move_vma"),
    (NEW_WARNING, "warning", "WARNING in move_vma"),
    (OOPS, "oops", "BUG: kernel NULL pointer dereference in vma_merge_new_range"),
    (KASAN, "kasan", "KASAN: slab-use-after-free Read in vma_merge_extend"),
    (BUG_AT, "bug", "kernel BUG in __split_vma"),
    (LOCKDEP, "lockdep", "possible deadlock in move_vma"),
    (f"BUG: Bad page map in process x  pte:1 pmd:2\n{TRACE}", "bug", "BUG: Bad page map in move_vma"),
    ("BUG: Bad rss-counter state mm:00000000 type:MM_ANONPAGES val:1\n", "bug",
     "BUG: Bad rss-counter state"),
    (f"BUG: sleeping function called from invalid context at mm/x.c:1\n{TRACE}", "bug",
     "BUG: sleeping function called from invalid context in move_vma"),
    (f"watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [vmadiff:97]\n{TRACE}", "lockup",
     "BUG: soft lockup in move_vma"),
    (f"rcu: INFO: rcu_preempt self-detected stall on CPU\n{TRACE}", "stall",
     "INFO: rcu detected stall in move_vma"),
    (f"INFO: task vmadiff:97 blocked for more than 120 seconds.\n{TRACE}", "hung",
     "INFO: task hung in move_vma"),
    (f"UBSAN: array-index-out-of-bounds in mm/vma.c:12:3\nindex 9\n{TRACE}", "ubsan",
     "UBSAN: array-index-out-of-bounds in move_vma"),
    ("BUG: KCSAN: data-race in vma_start_read / vma_start_write\n", "kcsan",
     "KCSAN: data-race in vma_start_read / vma_start_write"),
    (f"Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP\n{TRACE}",
     "oops", "general protection fault in move_vma"),
    (f"BUG: unable to handle page fault for address: ffffc90000000000\n{TRACE}", "oops",
     "BUG: unable to handle kernel paging request in move_vma"),
    (f"WARNING: suspicious RCU usage\n{TRACE}", "lockdep", "WARNING: suspicious RCU usage in move_vma"),
    ("Kernel panic - not syncing: VFS: Unable to mount root fs\n", "panic",
     "kernel panic: VFS: Unable to mount root fs"),
    (f"list_del corruption. prev->next should be x\n{TRACE}", "bug",
     "BUG: corrupted list in move_vma"),
]  # fmt: skip
NO_REPORTS = [
    "vmadiff (121): attempted to duplicate a private mapping with mremap.  This is not supported.",
    "mmap: vmadiff (121) uses deprecated remap_file_pages() syscall.",
    "mmap: vmadiff (165): VmData 36864 exceed data ulimit 32768.",
    "__vm_enough_memory: pid: 97, comm: vmadiff, bytes: 70368744169472 not enough memory",
    "tsc: Unable to calibrate against PIT",
    "APIC calibration not consistent with PM-Timer: 98ms instead of 100ms",
    "traps: vmadiff[97] general protection ip:1000 sp:2000 error:0",
    "vmadiff[97]: segfault at 0 ip 0000000010001234 sp 0000000020010000 error 4",
    "Spectre V2 : Mitigation: Retpolines; WARNING: not all of it",
    "x86/cpu: BUG workaround enabled",
    "systemd[1]: WARNING: something failed",
    "debug: BUG_ON is compiled in",
    "==================================================================",
    "------------[ cut here ]------------",
    "reboot: Power down",
    "Warning: unable to open an initial console.",
]


@pytest.mark.parametrize(("text", "kind", "title"), TITLES, ids=[t[2] for t in TITLES])
def test_reports_are_named(text: str, kind: str, title: str) -> None:
    (crash,) = reports(text.encode())
    assert (crash.kind, crash.title) == (kind, title)


@pytest.mark.parametrize("text", NO_REPORTS)
def test_other_lines_are_no_reports(text: str) -> None:
    assert reports(f"boot\n{text}\nmore\nand more\n".encode()) == []


@pytest.mark.parametrize(
    "prefix", ["[   12.345678] ", "[   12.345678][  T97] ", "<4>[    1.0] ", "4,123,456789,-;"]
)
def test_prefixes_are_taken_off(prefix: str) -> None:
    lines = "".join(prefix + line + "\r\n" for line in WARNING.splitlines())
    (crash,) = reports(lines.encode())
    assert crash.title == "WARNING in move_vma"
    assert crash.frames == (
        "move_vma", "remap_move", "__do_sys_mremap", "do_syscall_64", "entry_SYSCALL_64_after_hwframe",
    )  # fmt: skip


def test_a_report_is_cut_out_whole() -> None:
    (crash,) = reports(f"before\n{WARNING}after\n".encode())
    assert crash.text == WARNING


def test_a_panic_belongs_to_the_oops_that_caused_it() -> None:
    (crash,) = reports(OOPS.encode())
    assert crash.fatal
    assert "Fatal exception" in crash.text


def test_a_warning_does_not_hide_the_oops_behind_it() -> None:
    found = reports((WARNING + OOPS).encode())
    assert [crash.kind for crash in found] == ["warning", "oops"]
    named = worst(found)
    assert named is not None and named.kind == "oops"


def test_the_same_fault_has_the_same_key() -> None:
    other = WARNING.replace("+0x123/0x456", "+0x125/0x456").replace("PID: 97", "PID: 11")
    (first,), (second,) = reports(WARNING.encode()), reports(other.encode())
    assert first.key == second.key
    assert first.key != reports(BUG_AT.encode())[0].key


def test_what_is_cut_off_is_still_a_report() -> None:
    (crash,) = reports(OOPS.partition("Call Trace")[0].encode())
    assert crash.title == "BUG: kernel NULL pointer dereference in vma_merge_new_range"


@given(st.lists(st.integers(0, 3000), max_size=6))
def test_how_bytes_are_split_does_not_matter(cuts: list[int]) -> None:
    data = (KASAN + "noise\n" + WARNING + OOPS).encode()
    console, found, at = Console(), [], 0
    for cut in sorted(cuts):
        found += console.feed(data[at:cut])
        at = max(at, cut)
    found += console.feed(data[at:]) + console.flush()
    assert found == reports(data)
