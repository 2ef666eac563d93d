"""Stack traces in the kernel's reports: whose functions they name, without those that every report has.

Works on lines without printk's prefix. Knows nothing of what kinds of report there are.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

#: ` ? move_vma+0x12/0x340 mm/mremap.c:1 [module]`, ` [<ffffffff81234567>] move_vma+0x12/0x340`
_FRAME: Final = re.compile(
    r"\s*(?:\[<\S+>\]\s*)?(?P<guess>\? )?(?P<name>[A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
    r"(?: \S+:\d+)?(?: \[\w[^\]]*\])?(?: \(\w+\))?\s*"
)
#: ` vma_merge mm/vma.c:12 [inline]`, as symbolising adds them.
_INLINED: Final = re.compile(r"\s*(?P<guess>)(?P<name>[A-Za-z_][\w.$]*) \S+:\d+ \[inline\]\s*")
#: `RIP: 0010:move_vma+0x12/0x340`, `pc : move_vma+0x12/0x340`. Of user space they give a number.
_POINTER: Final = re.compile(
    r"(?:R?IP|EIP|pc ?):(?: [0-9a-f]{4}:)?\s*(?:\[<\S+>\]\s*)*(?P<name>[A-Za-z_][\w.$]*)\+0x"
)
#: What a compiler adds to the name of a part or copy of a function.
_SUFFIX: Final = re.compile(r"(?:\.(?:isra|part|constprop|cold|llvm|lto_priv|cfi|pfx)(?:\.\d+)*)+$")
_TRACE: Final = re.compile(r"\s*(?:Call [Tt]race|Backtrace):\s*")
#: Between these frames an interrupt ran, not what it interrupted.
_ENTER: Final = re.compile(r"\s*<(?:IRQ|NMI|SOFTIRQ|#\w+\d*)>\s*")
_LEAVE: Final = re.compile(r"\s*</(?:IRQ|NMI|SOFTIRQ|#\w+\d*)>\s*|\s*<EOI>\s*")

#: Functions that report, check or serve whoever called them.
_SERVANTS: Final = re.compile(
    "|".join(
        (
            # dumping, dying, faulting
            r"v?_?printk\w*|(?:__)?dump_stack\w*|show_(?:stack|regs|trace)\w*|(?:__)?die\w*|oops_\w+|panic|vpanic|nmi_panic",
            r"check_panic_on_warn|__warn\w*|warn_(?:slowpath|bogus)\w*|report_bug\w*|(?:__)?handle_bug\w*|fixup_bug\S*",
            r"asm_\w+|exc_(?!nmi_noist)\w+|do_error_trap|do_trap\w*|do_invalid_op|invalid_op|general_protection",
            r"do_general_protection|page_fault\w*|(?:__)?bad_area\w*|no_context|kernelmode_fixup_or_oops|error_entry",
            r"do_(?:user|kern)_addr_fault|(?:__)?do_page_fault|do_kern\w+fault|segv\w*|sig_handler\w*|hard_handler",
            r"ret_from_\w+|common_interrupt|nmi_\w+|arch_trigger_\w+|entry_\w+|do_syscall_\w+|x64_sys_call|handle_syscall",
            r"arch_stack_walk|stack_trace_\w+|save_stack\w*|__stack_chk_fail|__fortify_\w+|fortify_panic|dump_backtrace",
            r"walk_stackframe|sched_show_task|trace_(?:hard|soft)irqs_\w+|__x86_(?:indirect|return)_\w+",
            # checkers
            r"(?:__)?(?:kasan|kmsan|kcsan|kfence|asan|hwasan)_\w+|__(?:asan|hwasan|msan|tsan|kasan|ubsan|kcsan)_\w+",
            r"ubsan_\w+|print_(?:report|address)\w*|check_memory_region\w*|kcsan_\w+|__sanitizer_\w+|set_report_\w+",
            r"end_report|handle_overflow|val_to_string|memory_is_\w+|check_region_inline",
            r"lock_acquire\S*|__lock_acquire|lock_release|check_(?:prev|noncirc|deadlock|irq|wait)\w*|validate_chain",
            r"mark_(?:lock|usage|held)\w*|print_\w*(?:bug|circular|deadlock|inversion|imbalance|warning)\w*|valid_state",
            r"lockdep_\w+|__might_\w+|___might_\w+|might_\w+|__cant_\w+|debug_(?:print|object|check|smp)\w*",
            r"register_lock_class|look_up_lock_class|hlock_class|lock_downgrade|__this_cpu_preempt_check",
            r"check_preemption_disabled|__schedule_bug|bad_(?:page|pte)\w*|print_bad_\w+|spin_(?:bug|dump)|rwlock_bug",
            r"__list_(?:add|del)\w*|_*refcount_\w+|usercopy_abort|__check_object_size\w*",
            r"__object_\w+|object_err|slab_err|check_(?:bytes|object|slab)\w*|alloc_debug_\w+|free_debug_\w+",
            # allocators
            r"_*k[vmz]*(?:alloc|free)\w*|vfree\w*|kmem_cache_(?:alloc|free)\w*|_*slab_\w+|_*kmalloc\w*|_*do_kmalloc\w*|__cache_\w+",
            # memory and strings, locks, instrumented accesses
            r"_*mem(?:cpy|set|move|cmp|chr|scan)\w*|_*str(?:n?cpy|n?cmp|n?len|scpy|lcpy)\w*|_*copy_(?:to|from)_\w+|rep_\w+",
            r"_*clear_page\w*|copy_page\w*|csum_partial\w*|_*(?:get|put)_user\w*|_*raw_(?:spin|read|write)_\w+",
            r"queued_\w+lock\w*|native_queued_\w+|do_raw_\w+|pv_\w*lock\w*|smp_call_function\w*|csd_lock\w*|arch_atomic\w*",
            r"atomic\w*|instrument_\w+|arch_(?:test|set|clear)_\w+|_?(?:test|set|clear)_bit|_*(?:READ|WRITE)_ONCE",
            r"rcu_read_\w+|preempt_schedule\w*|pvclock_\w+|native_\w+halt|cpu_relax",
        )
    )
)
#: Who waits, which is not what it waits for; who interrupts a processor to see what it does.
_WAITERS: Final = re.compile(
    "|".join(
        (
            r"_*schedule\w*|context_switch|io_schedule\w*|preempt_schedule\w*|_*cond_resched\w*|_*switch_to\w*",
            r"rwsem_\w+|_*(?:down|up)(?:_\w+)?|_*mutex_\w+|_*rt_mutex\w*|rwbase_\w+|_*percpu_rwsem\w*|_*wait_\w+",
            r"do_wait_\w+|_*bit_wait\w*|out_of_line_\w+|prepare_to_\w+|autoremove_\w+|percpu_ref_\w+|_*folio_(?:wait|lock)\w*",
            r"mmap_(?:read|write)_lock\w*|lock_(?:mm|vma|page|sock)\w*|synchronize_\w+|_*(?:mmap|vma)_start_\w+",
            r"rcu_\w+|tick_\w+|_*hrtimer_\w+|update_process_times|watchdog_\w+|_*sysvec_\w+|_*irq_\w+|handle_irq\w*",
            r"trigger_\w+backtrace\w*|(?:print|check)_cpu_stall\w*|apic_timer_\w+|smp_apic_\w+|_*do_softirq\w*",
            r"_*run_timers?\w*|sched_tick|scheduler_tick|__handle_irq\w*|timer_\w+|do_idle|cpu_startup_entry|default_idle\w*",
        )
    )
)


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack trace. called: it stands below `Call Trace:`; frames: innermost first."""

    called: bool
    frames: tuple[str, ...]


def plain_name(name: str) -> str:
    """The function's name without what the compiler added."""
    return _SUFFIX.sub("", name)


def serves(name: str, waiting: bool = False) -> bool:
    """Whether a report names this function whatever is wrong; `waiting`: in a report of what stands still."""
    return bool(_SERVANTS.fullmatch(name) or (waiting and _WAITERS.fullmatch(name)))


def pointer(lines: Iterable[str]) -> str:
    """The kernel's function that the registers say was running, "" if they say none."""
    for line in lines:
        match = _POINTER.match(line)
        if match:
            return plain_name(match["name"])
    return ""


def is_frame(line: str) -> bool:
    """Whether the line is one entry of a stack trace."""
    return bool(_FRAME.fullmatch(line) or _INLINED.fullmatch(line))


def stacks(lines: Sequence[str], interrupts: bool = True) -> Iterator[Stack]:
    """The stack traces in `lines`, each below a line that ends in a colon; what is printed in between does no harm.

    `interrupts`: with the frames of interrupts. Entries that the unwinder only guessed count where it has no others.
    """
    sure: list[str] = []
    guessed: list[str] = []
    called = inside = False
    for line in [*lines, ":"]:
        match = _FRAME.fullmatch(line) or _INLINED.fullmatch(line)
        if match:
            if interrupts or not inside:
                (guessed if match["guess"] else sure).append(plain_name(match["name"]))
        elif _ENTER.fullmatch(line):
            inside = True
        elif _LEAVE.fullmatch(line):
            inside = False
        elif line.rstrip().endswith(":"):
            if sure or guessed:
                yield Stack(called, tuple(sure or guessed))
            sure, guessed = [], []
            called, inside = bool(_TRACE.fullmatch(line)), False


def telling(names: Iterable[str], waiting: bool = False) -> tuple[str, ...]:
    """The names without servants and repetitions; all of them if there are no others."""
    every = list(names)
    kept: list[str] = []
    for name in every:
        if not serves(name, waiting) and name not in kept[-1:]:
            kept.append(name)
    return tuple(kept or every)
