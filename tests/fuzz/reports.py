"""What kernels print when something is wrong, as 6.1 to 7.3 put it, on x86 and UML; and what only looks like it."""

from dataclasses import dataclass

from fuzz.headlines import CrashKind as K

FRAMES = ("move_vma", "mremap_to", "do_mremap")


@dataclass(frozen=True)
class Report:
    """A console, and the reports in it: kind, title, the first frames."""

    text: str
    kind: K
    title: str
    frames: tuple[str, ...] = FRAMES


MREMAP = """
 move_vma+0x2b1/0x5d0
 mremap_to+0x3f2/0x480
 do_mremap+0x5fd/0x7d0
 __do_sys_mremap+0x97/0xe0
 __x64_sys_mremap+0x26/0x30
 x64_sys_call+0x1a2f/0x2150
 do_syscall_64+0x5c/0x170
 entry_SYSCALL_64_after_hwframe+0x76/0x7e"""
MACHINE = """
CPU: 0 UID: 0 PID: 87 Comm: executor Not tainted 7.3.4 #3 PREEMPT(voluntary)
Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014"""
REGISTERS = """
Code: 0f 0b e9 4a fe ff ff 48 8b 7d d0 e8 15 8c f3 ff 85 c0 0f 84 6e
RSP: 0018:ffffc900004f7d20 EFLAGS: 00010246
RAX: 0000000000000000 RBX: ffff888004a1b4c0 RCX: 0000000000000000
RDX: 0000000000000000 RSI: 00007f0000014000 RDI: ffff888004a1b4c0
FS:  0000000000000000(0000) GS:ffff88803ec00000(0000) knlGS:0000000000000000
CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
CR2: 0000000020001000 CR3: 0000000004b3a000 CR4: 0000000000750ef0"""
USER = """
RIP: 0033:0x10421
Code: Unable to access opcode bytes at 0x103f7.
RSP: 002b:0000000020010f58 EFLAGS: 00000202 ORIG_RAX: 0000000000000019
RAX: ffffffffffffffda RBX: 0000000000000003 RCX: 0000000000010421
 </TASK>"""
TRACE = f"Call Trace:\n <TASK>{MREMAP}{USER}"
END = "---[ end trace 0000000000000000 ]---"
FENCE = "=" * 66
CUT = "------------[ cut here ]------------"
UML_TRACE = """Stack:
 60a3fc40 600b7d12 60a3fc50 6004a2b1
 00000000 6085e2d8 60a3fc80 60033d67
Call Trace:
 [<600b7d12>] ? _printk+0x0/0x94
 [<6004a2b1>] dump_stack_lvl+0x62/0x71
 [<6004a2da>] dump_stack+0x1a/0x1c
 [<60052e9c>] __warn+0xd5/0x12b
 [<60003c59>] warn_slowpath_fmt+0xd3/0xe0
 [<6011c0aa>] move_vma+0x1fa/0x3e0
 [<6011c5ee>] __do_sys_mremap+0x35e/0x3f0
 [<60028c4e>] handle_syscall+0x8e/0xb0
 [<6003e2aa>] userspace+0x39a/0x590
 [<60025d5a>] fork_handler+0x7a/0x80"""


def dumped(*servants: str) -> str:
    """The process, and its stack below functions that only report."""
    frames = "".join(f"\n {name}" for name in ("dump_stack_lvl+0x5d/0x80", *servants))
    return f"{MACHINE}\nCall Trace:\n <TASK>{frames}{MREMAP}{USER}"


def kasan(
    what: str, access: str = "Write of size 8 at addr ffff888004a1b4d8 by task executor/87"
) -> str:
    return f"""{FENCE}
BUG: KASAN: {what}
{access}
{dumped("print_address_description.constprop.0+0x2c/0x3a0", "print_report+0xb4/0x270", "kasan_report+0xbd/0xf0")}

Allocated by task 87:
 kasan_save_stack+0x30/0x50
 kasan_save_track+0x14/0x30
 __kasan_slab_alloc+0x59/0x70
 kmem_cache_alloc_noprof+0x11c/0x2e0
 vm_area_alloc+0x1c/0xd0
 mmap_region+0x4d5/0xc30

Freed by task 87:
 kasan_save_stack+0x30/0x50
 __kasan_slab_free+0x38/0x50
 kmem_cache_free+0x10f/0x3b0
 vms_complete_munmap_vmas+0x22f/0x4a0

The buggy address belongs to the object at ffff888004a1b4c0
 which belongs to the cache vm_area_struct of size 184
The buggy address is located 24 bytes inside of
 freed 184-byte region [ffff888004a1b4c0, ffff888004a1b578)

Memory state around the buggy address:
 ffff888004a1b380: 00 00 00 00 00 00 00 fc fc fc fc fc fc fc fc fc
>ffff888004a1b480: fc fc fc fc fc fc fc fc fa fb fb fb fb fb fb fb
                                                    ^
 ffff888004a1b500: fb fb fb fb fb fb fb fb fb fb fb fb fb fb fb fc
{FENCE}
"""


def oops(first: str, die: str, ip: str = "move_vma+0x2b1/0x5d0") -> str:
    return f"""{first}
{die}{MACHINE}
RIP: 0010:{ip}{REGISTERS}
Call Trace:
 <TASK>
 ? __die+0x1f/0x70
 ? page_fault_oops+0x15a/0x2e0
 ? exc_page_fault+0x7e/0x180
 ? asm_exc_page_fault+0x26/0x30
 mremap_to+0x3f2/0x480
 do_mremap+0x5fd/0x7d0
 __do_sys_mremap+0x97/0xe0{USER}
Modules linked in:
CR2: 0000000000000018
{END}
"""


def warning(line: str) -> str:
    return f"""{CUT}
{line}
Modules linked in:{MACHINE}
RIP: 0010:move_vma+0x2b1/0x5d0{REGISTERS}
{TRACE}
{END}
"""


def lockdep(what: str, middle: str) -> str:
    return f"""
{FENCE}
WARNING: {what}
7.3.4 #3 Not tainted
------------------------------------------------------
executor/87 is trying to acquire lock:
{middle}

other info that might help us debug this:

1 lock held by executor/87:
 #0: ffff888004b0a0a8 (&mm->mmap_lock){{++++}}-{{4:4}}, at: do_mremap+0x9a/0x7d0

stack backtrace:{dumped()}
"""


MOVED = "WARNING: CPU: 0 PID: 87 at mm/mremap.c:1192 move_vma+0x2b1/0x5d0"
BUG_ON = f"{CUT}\nkernel BUG at mm/mremap.c:1192!"


def warned(line: str, before: str = "") -> Report:
    """A warning of move_vma, and what was printed before it."""
    return Report(before + warning(line), K.WARNING, "WARNING in move_vma")


REPORTS: dict[str, Report] = {
    # WARN
    "warn": warned(MOVED),
    "warn since 6.19": warned("WARNING: mm/mremap.c:1192 at move_vma+0x2b1/0x5d0, CPU#0: executor/87"),
    "warn with its condition": warned(
        "WARNING: [vma->vm_start > addr] mm/mremap.c:1192 at move_vma+0x2b1/0x5d0, CPU#0: executor/87"
    ),
    "warn of which only the registers know the place": warned("WARNING: mm/mremap.c:1192 at 0x0, CPU#0: executor/87"),
    "warn with a message": warned(f"vma still attached\n{MOVED}"),
    "warn without file names": warned("WARNING: CPU: 0 PID: 87 at move_vma+0x2b1/0x5d0"),
    "warn after a dump of the vma": warned(
        MOVED,
        "vma ffff888004a1b4c0 start 00007f0000010000 end 00007f0000014000 mm ffff888004b0a000\n"
        "prot 8000000000000025 anon_vma 0000000000000000 vm_ops 0000000000000000\n"
        "pgoff 7f0000010 file 0000000000000000 private_data 0000000000000000\n"
        "flags: 0x8100077(read|write|exec|mayread|maywrite|mayexec|account|softdirty)\n",
    ),
    "refcount": Report(
        f"{CUT}\nrefcount_t: underflow; use-after-free.\n"
        f"WARNING: CPU: 0 PID: 87 at lib/refcount.c:28 refcount_warn_saturate+0xbe/0x110\n"
        f"Modules linked in:{MACHINE}\nRIP: 0010:refcount_warn_saturate+0xbe/0x110{REGISTERS}\n{TRACE}\n{END}\n",
        K.WARNING, "WARNING: refcount bug in move_vma",
    ),
    "warn that becomes a panic before it shows a stack": Report(
        f"{CUT}\n{MOVED}\nKernel panic - not syncing: kernel: panic_on_warn set ..."
        + dumped(
            "panic+0x118/0x2f0", "__warn.cold+0xb/0xb", "report_bug+0xff/0x140", "handle_bug+0x58/0x90",
            "exc_invalid_op+0x17/0x70", "asm_exc_invalid_op+0x1a/0x20",
        ) + "\n",
        K.WARNING, "WARNING in move_vma",
    ),
    "warn of which the first line is lost": Report(
        f"{CUT}\nModules linked in:{MACHINE}\nRIP: 0010:move_vma+0x2b1/0x5d0\n{TRACE}\n{END}\n",
        K.WARNING, "unknown report in move_vma",
    ),
    # BUG and oops
    "bug": Report(
        oops(BUG_ON, "Oops: invalid opcode: 0000 [#1] SMP PTI"),
        K.BUG, "kernel BUG in move_vma",
    ),
    "bug before 6.10": Report(
        oops(BUG_ON, "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI"),
        K.BUG, "kernel BUG in move_vma",
    ),
    "bug of a page": Report(
        "page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x4b3a\n"
        "flags: 0x100000000000000(node=0|zone=1)\n"
        "raw: 0100000000000000 dead000000000100 dead000000000122 0000000000000000\n"
        "page dumped because: VM_BUG_ON_PAGE(PageTail(page))\n"
        + oops(BUG_ON, "Oops: invalid opcode: 0000 [#1] SMP"),
        K.BUG, "kernel BUG in move_vma",
    ),
    "corrupted list": Report(
        oops(
            f"{CUT}\nkernel BUG at lib/list_debug.c:62!", "Oops: invalid opcode: 0000 [#1] SMP",
            "__list_del_entry_valid_or_report+0x8a/0xf0",
        ),
        K.BUG, "BUG: corrupted list in mremap_to", FRAMES[1:],
    ),
    "null pointer": Report(
        oops(
            "BUG: kernel NULL pointer dereference, address: 0000000000000018\n"
            "#PF: supervisor read access in kernel mode\n#PF: error_code(0x0000) - not-present page\nPGD 0 P4D 0 ",
            "Oops: Oops: 0000 [#1] SMP NOPTI",
        ),
        K.OOPS, "BUG: unable to handle kernel NULL pointer dereference in move_vma",
    ),
    "page fault": Report(
        oops(
            "BUG: unable to handle page fault for address: ffffea0000a1b4d8\n"
            "#PF: supervisor write access in kernel mode",
            "Oops: 0002 [#1] PREEMPT SMP",
        ),
        K.OOPS, "BUG: unable to handle kernel paging request in move_vma",
    ),
    "general protection fault": Report(
        oops(
            "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000003: 0000 [#1] KASAN",
            "KASAN: null-ptr-deref in range [0x0000000000000018-0x000000000000001f]",
        ),
        K.OOPS, "general protection fault in move_vma",
    ),
    "general protection fault before 6.10": Report(
        oops(
            "general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] PREEMPT SMP",
            "",
        ),
        K.OOPS, "general protection fault in move_vma",
    ),
    "divide error": Report(
        oops("Oops: divide error: 0000 [#1] SMP", ""), K.OOPS, "divide error in move_vma"
    ),
    "double fault": Report(
        oops("traps: PANIC: double fault, error_code: 0x0", "Oops: double fault: 0000 [#1] SMP"),
        K.OOPS, "PANIC: double fault in move_vma",
    ),
    "stack overflow": Report(
        oops(
            "BUG: TASK stack guard page was hit at 0000000016d3ba6e (stack is 00000000ec0a8ea5..0000000055b6c9a1)",
            "Oops: stack guard page: 0000 [#1] SMP",
        ),
        K.OOPS, "BUG: stack guard page was hit in move_vma",
    ),
    "oops in what others call": Report(
        oops(
            "BUG: kernel NULL pointer dereference, address: 0000000000000000", "Oops: Oops: 0002 [#1] SMP",
            "memcpy+0xc/0x20",
        ),
        K.OOPS, "BUG: unable to handle kernel NULL pointer dereference in mremap_to", FRAMES[1:],
    ),
    "oops on arm64": Report(
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018\nMem abort info:\n"
        "  ESR = 0x0000000096000004\nInternal error: Oops: 0000000096000004 [#1] SMP\nModules linked in:\n"
        "CPU: 0 UID: 0 PID: 87 Comm: executor Not tainted 7.3.4 #3 PREEMPT\n"
        "pc : move_vma+0x2b0/0x5d0\nlr : mremap_to+0x3f0/0x480\nsp : ffff80008009bc20\n"
        "x29: ffff80008009bc20 x28: ffff000004b0a000 x27: 0000000000000000\nCall trace:\n"
        " move_vma+0x2b0/0x5d0 (P)\n mremap_to+0x3f0/0x480\n do_mremap+0x5fc/0x7d0\n"
        f"Code: aa0003e1 f9400c20 (f9400c00) d65f03c0 \n{END}\n",
        K.OOPS, "BUG: unable to handle kernel NULL pointer dereference in move_vma",
    ),
    # sanitizers
    "kasan": Report(
        kasan("slab-use-after-free in move_vma+0x2b1/0x5d0"),
        K.KASAN, "KASAN: slab-use-after-free Write in move_vma",
    ),
    "kasan in what others call": Report(
        kasan("slab-out-of-bounds in memcpy+0x1f/0x50", "Read of size 8 at addr ffff888004a1b4d8 by task executor/87"),
        K.KASAN, "KASAN: slab-out-of-bounds Read in move_vma",
    ),
    "kasan null pointer": Report(
        kasan("null-ptr-deref in move_vma+0x2b1/0x5d0", "Read of size 4 at addr 0000000000000018 by task executor/87"),
        K.KASAN, "KASAN: null-ptr-deref Read in move_vma",
    ),
    "kasan double free": Report(
        kasan("double-free in kmem_cache_free+0x10f/0x3b0", "Free of addr ffff888004a1b4c0 by task executor/87"),
        K.KASAN, "KASAN: invalid-free in move_vma",
    ),
    "kfence": Report(
        f"{FENCE}\nBUG: KFENCE: use-after-free read in move_vma+0x2b1/0x5d0\n\n"
        f"Use-after-free read at 0xffff88803a4fe000 (in kfence-#12):{MREMAP}\n\n"
        "kfence-#12: 0xffff88803a4fe000-0xffff88803a4fe0b7, size=184, cache=vm_area_struct\n\n"
        "allocated by task 87 on cpu 0 at 12.345678s (0.000012s ago):\n vm_area_alloc+0x1c/0xd0\n\n"
        f"freed by task 87 on cpu 0 at 12.345680s (0.000010s ago):\n vm_area_free+0x1a/0x40\n{MACHINE}\n{FENCE}\n",
        K.KFENCE, "KFENCE: use-after-free read in move_vma",
    ),
    "kfence corruption": Report(
        f"{FENCE}\nBUG: KFENCE: memory corruption in move_vma+0x2b1/0x5d0\n\n"
        f"Corrupted memory at 0xffff88803a4feff8 [ 0xac . . . ] (in kfence-#12):{MREMAP}\n{MACHINE}\n{FENCE}\n",
        K.KFENCE, "KFENCE: memory corruption in move_vma",
    ),
    "kmsan": Report(
        f"=====================================================\n"
        f"BUG: KMSAN: uninit-value in move_vma+0x2b1/0x5d0{MREMAP}\n\n"
        "Uninit was created at:\n slab_post_alloc_hook+0x103/0x9e0\n kmem_cache_alloc_noprof+0x5a0/0xb60\n"
        f" vm_area_alloc+0x1c/0xd0\n{MACHINE}\n=====================================================\n",
        K.KMSAN, "KMSAN: uninit-value in move_vma",
    ),
    "kcsan": Report(
        f"{FENCE}\nBUG: KCSAN: data-race in copy_vma / move_vma\n\n"
        f"write to 0xffff888004b0a0c8 of 8 bytes by task 87 on cpu 0:{MREMAP}\n\n"
        "read to 0xffff888004b0a0c8 of 8 bytes by task 88 on cpu 1:\n copy_vma+0x52/0x320\n dup_mmap+0x1e0/0x810\n\n"
        "value changed: 0x0000000000000012 -> 0x0000000000000013\n\n"
        f"Reported by Kernel Concurrency Sanitizer on:{MACHINE}\n{FENCE}\n",
        K.KCSAN, "KCSAN: data-race in copy_vma / move_vma",
    ),
    "ubsan": Report(
        f"{CUT}\nUBSAN: shift-out-of-bounds in mm/mremap.c:1192:17\nshift exponent 64 is too large for 64-bit type "
        "'long unsigned int'" + dumped("ubsan_epilogue+0x5/0x30", "__ubsan_handle_shift_out_of_bounds.cold+0x61/0x16c")
        + "\n---[ end trace ]---\n",
        K.UBSAN, "UBSAN: shift-out-of-bounds in move_vma",
    ),
    # lockdep and its kin
    "circular locking": Report(
        lockdep(
            "possible circular locking dependency detected",
            "ffff888004c0e2f0 (&mapping->i_mmap_rwsem){++++}-{4:4}, at: vma_prepare+0x3a/0x110\n\n"
            "but task is already holding lock:\n"
            "ffff888004b0a0a8 (&mm->mmap_lock){++++}-{4:4}, at: do_mremap+0x9a/0x7d0\n\n"
            "which lock already depends on the new lock.\n\n"
            "the existing dependency chain (in reverse order) is:\n\n"
            "-> #1 (&mm->mmap_lock){++++}-{4:4}:\n       __might_fault+0x5f/0x90\n       filldir64+0xa1/0x1b0\n\n"
            "-> #0 (&mapping->i_mmap_rwsem){++++}-{4:4}:\n       __lock_acquire+0x13a2/0x2250\n"
            "       lock_acquire+0xc5/0x2d0\n       down_write+0x3a/0xc0\n       vma_prepare+0x3a/0x110\n\n"
            " Possible unsafe locking scenario:\n\n       CPU0                    CPU1\n"
            "       ----                    ----\n"
            "  lock(&mm->mmap_lock);\n  lock(&mapping->i_mmap_rwsem);\n\n *** DEADLOCK ***",
        ),
        K.LOCKDEP, "possible deadlock in vma_prepare",
    ),
    "recursive locking": Report(
        lockdep(
            "possible recursive locking detected",
            "ffff888004b0a0a8 (&mm->mmap_lock){++++}-{4:4}, at: move_vma+0x3a/0x5d0\n\n"
            "but task is already holding lock:\n"
            "ffff888004b0a0a8 (&mm->mmap_lock){++++}-{4:4}, at: do_mremap+0x9a/0x7d0",
        ),
        K.LOCKDEP, "possible deadlock in move_vma",
    ),
    "inconsistent lock state": Report(
        lockdep("inconsistent lock state", "inconsistent {SOFTIRQ-ON-W} -> {IN-SOFTIRQ-W} usage."),
        K.LOCKDEP, "inconsistent lock state in move_vma",
    ),
    "suspicious rcu usage": Report(
        f"\n=============================\nWARNING: suspicious RCU usage\n7.3.4 #3 Not tainted\n"
        "-----------------------------\nlib/maple_tree.c:862 suspicious rcu_dereference_check() usage!\n\n"
        "other info that might help us debug this:\n\nrcu_scheduler_active = 2, debug_locks = 1\n"
        f"no locks held by executor/87.\n\nstack backtrace:{dumped('lockdep_rcu_suspicious+0x155/0x1a0')}\n",
        K.LOCKDEP, "WARNING: suspicious RCU usage in move_vma",
    ),
    "invalid wait context": Report(
        f"\n=============================\n[ BUG: Invalid wait context ]\n7.3.4 #3 Not tainted\n"
        f"-----------------------------\nexecutor/87 is trying to lock:\nstack backtrace:{dumped()}\n",
        K.LOCKDEP, "BUG: invalid wait context in move_vma",
    ),
    "sleeping function": Report(
        "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321\n"
        "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 87, name: executor\npreempt_count: 1, expected: 0\n"
        "RCU nest depth: 0, expected: 0"
        + dumped("__might_resched.cold+0xac/0xc0", "kmem_cache_alloc_noprof+0x1f1/0x2e0") + "\n",
        K.LOCKDEP, "BUG: sleeping function called from invalid context in move_vma",
    ),
    "scheduling while atomic": Report(
        "BUG: scheduling while atomic: executor/87/0x00000002\nModules linked in:"
        + dumped("__schedule_bug.cold+0x3b/0x48") + "\n",
        K.LOCKDEP, "BUG: scheduling while atomic in move_vma",
    ),
    # bad state
    "bad page state": Report(
        "BUG: Bad page state in process executor  pfn:04b3a\n"
        "page: refcount:0 mapcount:1 mapping:0000000000000000 index:0x0 pfn:0x4b3a\n"
        "flags: 0x100000000000000(node=0|zone=1)\npage dumped because: nonzero mapcount\nModules linked in:"
        + dumped("bad_page.cold+0x7a/0x91") + "\n",
        K.BAD, "BUG: Bad page state in move_vma",
    ),
    "bad page map": Report(
        "BUG: Bad page map in process executor  pte:8000000004b3a867 pmd:04b1e067\n"
        "addr:00007f0000012000 vm_flags:08100073 anon_vma:ffff888004c0e2f0 mapping:0000000000000000 index:7f0000012\n"
        f"file:(null) fault:0x0 mmap:0x0 read_folio:0x0{dumped()}\n",
        K.BAD, "BUG: Bad page map",
    ),
    "bad rss counter": Report(
        "BUG: Bad rss-counter state mm:ffff888004b0a000 type:MM_ANONPAGES val:2 Comm:executor Pid:87\n",
        K.BAD, "BUG: Bad rss-counter state", (),
    ),
    "page tables left": Report(
        "BUG: non-zero pgtables_bytes on freeing mm: 8192\n",
        K.BAD, "BUG: non-zero pgtables_bytes on freeing mm: NUM", (),
    ),
    "slab poison": Report(
        f"{FENCE}\nBUG vm_area_struct (Not tainted): Poison overwritten\n"
        "-----------------------------------------------------------------------------\n\n"
        f"0xffff888004a1b4d8-0xffff888004a1b4df @offset=1240. First byte 0x0 instead of 0x6b{dumped()}\n",
        K.BAD, "BUG vm_area_struct: Poison overwritten in move_vma",
    ),
    # what stands still
    "hung task": Report(
        "INFO: task executor:87 blocked for more than 122 seconds.\n      Not tainted 7.3.4 #3\n"
        '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.\n'
        "task:executor        state:D stack:13912 pid:87    tgid:87    ppid:1      flags:0x00004002\n"
        "Call Trace:\n <TASK>\n __schedule+0x3d2/0xa60\n schedule+0x27/0xd0\n schedule_preempt_disabled+0x15/0x30\n"
        f" rwsem_down_write_slowpath+0x26f/0x6d0\n down_write_killable+0x5e/0x60{MREMAP}{USER}\n\n"
        "Showing all locks held in the system:\n1 lock held by khungtaskd/28:\n"
        " #0: ffffffff8255ab20 (rcu_read_lock){....}-{1:3}, at: debug_show_all_locks+0x32/0x1c0\n\n"
        "=============================================\n\n",
        K.HANG, "INFO: task hung in move_vma",
    ),
    "soft lockup": Report(
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [executor:87]\n"
        f"Modules linked in:{MACHINE}\nRIP: 0010:move_vma+0x2b1/0x5d0{REGISTERS}\nCall Trace:\n <IRQ>\n"
        f" ? watchdog_timer_fn+0x1de/0x260\n </IRQ>\n <TASK>{MREMAP}{USER}\n",
        K.HANG, "BUG: soft lockup in move_vma",
    ),
    "hard lockup": Report(
        f"watchdog: Watchdog detected hard LOCKUP on cpu 0\nModules linked in:{MACHINE}\n"
        f"RIP: 0010:move_vma+0x2b1/0x5d0{REGISTERS}\n{TRACE}\n",
        K.HANG, "BUG: hard lockup in move_vma",
    ),
    "rcu stall": Report(
        "rcu: INFO: rcu_preempt self-detected stall on CPU\n"
        "rcu: \t0-....: (20999 ticks this GP) idle=a3c4/1/0x4000000000000000 softirq=1201/1201 fqs=5248\n"
        f"rcu: \t(t=21000 jiffies g=1021 q=5 ncpus=1){MACHINE}\nRIP: 0010:move_vma+0x2b1/0x5d0{REGISTERS}\n"
        "Call Trace:\n <IRQ>\n ? rcu_dump_cpu_stacks+0xd0/0x110\n rcu_sched_clock_irq+0x2f2/0xec0\n"
        f" update_process_times+0x6f/0xb0\n tick_nohz_handler+0x8c/0x130\n </IRQ>\n <TASK>{MREMAP}{USER}\n",
        K.HANG, "INFO: rcu detected stall in move_vma",
    ),
    # panic
    "panic": Report(
        f"Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b{MACHINE}\nCall Trace:\n <TASK>\n"
        " dump_stack_lvl+0x5d/0x80\n panic+0x118/0x2f0\n do_exit+0x9a2/0xa90\n do_group_exit+0x2d/0x80\n"
        " get_signal+0x8bf/0x8c0\n </TASK>\nKernel Offset: disabled\n"
        "---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b ]---\n",
        K.PANIC, "kernel panic: Attempted to kill init!", ("do_exit", "do_group_exit", "get_signal"),
    ),
    "no root": Report(
        "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\nRebooting in 1 seconds..\n",
        K.PANIC, "kernel panic: VFS: Unable to mount root fs on unknown-block(NUM,NUM)", (),
    ),
    "stack protector": Report(
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: move_vma+0x5c8/0x5d0"
        + dumped("panic+0x118/0x2f0", "__stack_chk_fail+0x15/0x20") + "\n",
        K.PANIC, "kernel panic: stack is corrupted in move_vma",
    ),
    # what the bridge says
    "lost": Report(
        "[vmadiff: lost connection: it ended with status 1]\n",
        K.SILENCE, "lost connection: it ended with status NUM", (),
    ),
    # UML
    "uml warn": Report(
        f"{CUT}\nWARNING: CPU: 0 PID: 34 at mm/mremap.c:1192 move_vma+0x1fa/0x3e0\nModules linked in:\n"
        f"CPU: 0 PID: 34 Comm: executor Not tainted 6.12.0 #1\n{UML_TRACE}\n{END}\n",
        K.WARNING, "WARNING in move_vma", ("move_vma", "__do_sys_mremap"),
    ),
    "uml fault": Report(
        "\nModules linked in:\nPid: 34, comm: executor Not tainted 6.12.0\n"
        "RIP: 0033:move_vma+0x1fa/0x3e0\nRSP: 0000000060a3fc40  EFLAGS: 00010246\n"
        "RAX: 0000000000000000 RBX: 0000000060c11a80 RCX: 0000000000000000\n"
        "Kernel panic - not syncing: Kernel mode fault at addr 0x18, ip 0x6011c0aa\n"
        f"CPU: 0 PID: 34 Comm: executor Not tainted 6.12.0 #1\n{UML_TRACE}\n",
        K.OOPS, "kernel panic: Kernel mode fault in move_vma", ("move_vma", "__do_sys_mremap"),
    ),
    "uml fault without mm": Report(
        "\nPid: 0, comm: swapper Not tainted 6.12.0\nRIP: 0033:[<000000006011c0aa>]\n"
        "RSP: 0000000060a3fc40  EFLAGS: 00010246\nKernel panic - not syncing: Segfault with no mm\n"
        "CPU: 0 UID: 0 PID: 0 Comm: swapper Not tainted 6.12.0 #1\nCall Trace:\n"
        " [<600b7d12>] ? _printk+0x0/0x94\n [<6011c0aa>] ? move_vma+0x1fa/0x3e0\n"
        " [<6003e2aa>] ? userspace+0x39a/0x590\n",
        K.OOPS, "kernel panic: Segfault with no mm in move_vma", ("move_vma", "userspace"),
    ),
}  # fmt: skip

#: No reports, though they use the words.
INNOCENT: tuple[str, ...] = (
    "WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!",
    "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible!",
    "MDS: Mitigation: Clear CPU buffers",
    "RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!",
    "x86/cpu: SGX disabled or unsupported by BIOS.",
    "mremap of private mapping with old size 0 by executor (87); please fix your program",
    "executor (87): Attempted to mremap a shared mapping with MREMAP_DONTUNMAP",
    "Kernel command line: console=ttyS0 quiet panic=-1 oops=panic kasan_multi_shot panic_on_warn=1",
    "kasan: KernelAddressSanitizer initialized (generic)",
    "kfence: initialized - using 2097152 bytes for 255 objects at 0x(____ptrval____)-0x(____ptrval____)",
    "kcsan: enabled early",
    "Running RCU self tests",
    "rcu: \tRCU lockdep checking is enabled.",
    "rcu: RCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).",
    "INFO: lockdep is turned off.",
    "INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.234 msecs",
    "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
    "ACPI BIOS Error (bug): Failure creating named object [\\_SB.PCI0], AE_ALREADY_EXISTS (20250404/dswload2-326)",
    "[Firmware Bug]: TSC doesn't count with P0 frequency!",
    "mce: [Hardware Error]: Machine check events logged",
    "Modules linked in: BUG WARNING(O) kasan_test",
    "BUG_module: loading out-of-tree module taints kernel.",
    "debug: unmapping init [mem 0xffffffff82600000-0xffffffff827fffff]",
    "traps: executor[87] general protection fault ip:10421 sp:20010f58 error:0 in executor[10000+4000]",
    "executor[87]: segfault at 7f0000012000 ip 0000000000010421 sp 0000000020010f58 error 6 in executor[10000+4000]",
    "__vm_enough_memory: pid: 87, comm: executor, bytes: 70368744169472 not enough memory for the allocation",
    "Out of memory: Killed process 87 (executor) total-vm:262144kB, anon-rss:131072kB, file-rss:0kB, shmem-rss:0kB",
    "EXT4-fs (loop0): warning: mounting unchecked fs, running e2fsck is recommended",
    "process 'executor' started with executable stack",
    "init: saw WARNING: CPU: 0 PID: 1 at mm/mremap.c:1 move_vma+0x1/0x2 and went on",
    "init: the kernel BUG at mm/mremap.c:1192! did not come back",
    "hung_task: khungtaskd looks every 10 seconds for what is blocked for more than 120 seconds",
    FENCE,
    "**   NOTICE NOTICE NOTICE NOTICE NOTICE NOTICE NOTICE   **",
)
