/*
 * Runs programs against the kernel and reports every result with the whole layout after it.
 *
 * It has no policy: calls go to the kernel as they come. It owns two VMAs, its image (r-x) and the
 * shared memory, where its stack and its state are; everything else is unmapped at the start and
 * after each program. When a program leaves a trace that unmapping cannot undo, it executes itself
 * anew and goes on with the next program.
 */
#include <linux/errno.h>
#include <linux/falloc.h>
#include <linux/time.h>
#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/ucontext.h>

#include "executor.h"

#define ALL_SIGNALS (~0ULL)
#define TRAPS ((1ULL << (SIGSEGV - 1)) | (1ULL << (SIGBUS - 1)) | (1ULL << (SIGILL - 1)) | \
	       (1ULL << (SIGFPE - 1)) | (1ULL << (SIGTRAP - 1)))
#define RESULTS ((u8 *)SHARED(RESULTS))

extern const char touch_first[], touch_last[], touch_caught[];
int touch_byte(u64 addr, u64 write);
void signal_return(void);

asm(".text\n"
    /* int touch_byte(addr, write): 0, or what on_signal() puts in eax. */
    ".globl touch_byte, touch_first, touch_last, touch_caught\n"
    "touch_byte:\n"
    "	xorl %eax, %eax\n"
    "	testl $1, %esi\n"
    "touch_first:\n"
    "	jnz 1f\n"
    "	movb (%rdi), %cl\n"
    "	ret\n"
    "1:	lock orb $0, (%rdi)\n"
    "touch_last:\n"
    "touch_caught:\n"
    "	ret\n"
    ".globl signal_return\n"
    "signal_return:\n"
    "	movl $15, %eax\n" /* rt_sigreturn */
    "	syscall\n");

/* A page that a touch cannot reach makes touch_byte() return; any other signal is the end. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct sigcontext *regs = &((struct ucontext *)context)->uc_mcontext;

	if (regs->rip >= (u64)touch_first && regs->rip < (u64)touch_last &&
	    (sig == SIGSEGV || sig == SIGBUS)) {
		regs->rax = sig == SIGSEGV ? ABI_TOUCH_SIGSEGV : ABI_TOUCH_SIGBUS;
		regs->rip = (u64)touch_caught;
		return;
	}
	CTL(LOST_ADDR) = (u64)info->si_addr;
	CTL(LOST_IP) = regs->rip;
	CTL(LOST_SIGNAL) = sig;
	quit(ABI_EXIT_SIGNAL);
}

void catch_signals(void)
{
	struct {
		void (*handler)(int, siginfo_t *, void *);
		u64 flags;
		void (*restorer)(void);
		u64 mask;
	} action = { on_signal, SA_SIGINFO | SA_NODEFER | SA_RESTORER, signal_return, 0 };
	u64 mask = ALL_SIGNALS & ~TRAPS;

	sys(rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
	for (int sig = 1; sig < 32; sig++)
		if (TRAPS >> (sig - 1) & 1)
			sys(rt_sigaction, sig, &action, 0, sizeof(mask));
}

static const struct {
	short nr, arity;
} calls[ABI_NR_CALLS] = {
#define X(opcode, name, arity) [opcode] = { __NR_##name, arity },
	ABI_SYSCALLS(X)
#undef X
#define X(opcode, name, arity) [opcode] = { -1, arity },
	ABI_PSEUDO_CALLS(X)
#undef X
};

enum {
#define X(opcode, name, arity) OP_##name = opcode,
	ABI_SYSCALLS(X) ABI_PSEUDO_CALLS(X)
#undef X
};

static s64 touch(u64 addr, u64 pages, u64 access)
{
	u64 outcome = 0;

	if (pages > ABI_TOUCH_PAGES)
		pages = ABI_TOUCH_PAGES;
	for (u64 i = 0; i < pages; i++)
		outcome |= (u64)touch_byte(addr + i * ABI_PAGE, access & 1) << 2 * i;
	return (s64)outcome;
}

static s64 run_call(u64 opcode, const u64 *a)
{
	struct uffdio_register reg;

	switch (opcode) {
	case OP_touch:
		return touch(a[0], a[1], a[2]);
	case OP_uffd_register:
		reg = (struct uffdio_register){ .range = { a[1], a[2] }, .mode = a[3] };
		return sys(ioctl, a[0], UFFDIO_REGISTER, &reg);
	case OP_uffd_unregister:
		reg = (struct uffdio_register){ .range = { a[1], a[2] } };
		return sys(ioctl, a[0], UFFDIO_UNREGISTER, &reg.range);
	case OP_mmap:
		if (a[3] & MAP_LOCKED)
			CTL(SAW_LOCKED) = 1;
		return sys6(__NR_mmap, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	switch (calls[opcode].arity) {
	case 2:
		return sys6(calls[opcode].nr, a[0], a[1], 0, 0, 0, 0);
	case 3:
		return sys6(calls[opcode].nr, a[0], a[1], a[2], 0, 0, 0);
	default:
		return sys6(calls[opcode].nr, a[0], a[1], a[2], a[3], a[4], 0);
	}
}

/*
 * Whether all of these lie where a mapping of the baseline was: it was changed, but nothing is
 * left elsewhere.
 */
static int only_own(const struct abi_record *r, s64 count)
{
	u64 k = 0;

	for (s64 i = 0; i < count; i++) {
		while (k < CTL(BASE_COUNT) && BASE[k].end <= r[i].start)
			k++;
		if (k == CTL(BASE_COUNT) || r[i].start < BASE[k].start || r[i].end > BASE[k].end)
			return 0;
	}
	return count >= 0;
}

/*
 * Bring the address space back to the baseline. last: the layout now, 0 if unknown. Returns
 * ABI_DIRTY_*.
 */
static u32 reset(const struct abi_record *last, u64 count)
{
	u64 base_count = CTL(BASE_COUNT), gap = 0;
	s64 n;

	for (u64 i = 0; i <= base_count; i++) {
		u64 end = i < base_count ? BASE[i].start : CTL(TASK_SIZE), used = !last;

		for (u64 k = 0; last && k < count; k++)
			used |= last[k].start < end && last[k].end > gap;
		if (used)
			sys(munmap, gap, end - gap);
		gap = i < base_count ? BASE[i].end : 0;
	}
	for (u64 fd = ABI_OBJECT_MEMFD; fd <= ABI_OBJECT_FILE; fd += ABI_OBJECT_FILE - ABI_OBJECT_MEMFD) {
		u64 ident = fd == ABI_OBJECT_MEMFD ? ABI_IDENT_MEMFD : ABI_IDENT_FILE;

		if (CTL(PUNCH) >> fd & CTL(SEEN) >> ident & 1)
			sys(fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1ULL << 40);
	}
	n = layout_read(SCRATCH, SCRATCH_RECORDS, BASE, base_count);
	if (n != (s64)base_count || !same_records(SCRATCH, BASE, base_count))
		return only_own(SCRATCH, n) ? ABI_DIRTY_OWN : ABI_DIRTY_LAYOUT;
	if (layout_vm_size() != (s64)CTL(BASE_SIZE))
		return ABI_DIRTY_SIZE;
	if (CTL(SAW_LOCKED) && layout_vm_locked() != (s64)CTL(BASE_LOCKED))
		return ABI_DIRTY_LOCKED;
	return ABI_DIRTY_NO;
}

/* Whether what we write is still what the parent reads. */
static int shared_intact(const struct abi_record *r, u64 count)
{
	u64 at = ABI_SHARED_BASE;

	for (u64 i = 0; i < count && r[i].start < ABI_SHARED_BASE + ABI_SHARED_SIZE; i++) {
		if (r[i].end <= ABI_SHARED_BASE)
			continue;
		if (r[i].start != at || r[i].ident != ABI_IDENT_SHARED ||
		    r[i].offset != at - ABI_SHARED_BASE)
			return 0;
		at = r[i].end;
	}
	return at >= ABI_SHARED_BASE + ABI_SHARED_SIZE;
}

/* Run the program at w, n calls; its trace goes to out, up to end. Returns the word after it. */
static const u64 *run_program(const u64 *w, u64 n, u8 *out, const u8 *end,
			      struct abi_result *result)
{
	const struct abi_record *prev = BASE;
	u64 prev_count = CTL(BASE_COUNT), at = 0;

	layout_forget();
	CTL(SAW_LOCKED) = 0;
	for (u64 i = 0; i < n; i++) {
		struct abi_step *step = (struct abi_step *)(out + at);
		struct abi_record *records = (struct abi_record *)(step + 1);
		u64 opcode = *w;
		s64 count;

		if (opcode >= ABI_NR_CALLS)
			fail(START_REQUEST, EINVAL);
		w += 1 + calls[opcode].arity;
		if (result->status || records >= (struct abi_record *)end) {
			result->status = ABI_RESULT_TOO_LARGE;
			continue;
		}
		CTL(CALL) = i;
		CTL(BEATS)++;
		CTL(PHASE) = ABI_PHASE_CALL;
		step->value = run_call(opcode, w - calls[opcode].arity);
		CTL(PHASE) = ABI_PHASE_LAYOUT;
		step->pad = 0;
		count = layout_read(records, (end - (u8 *)records) / sizeof(*records), prev, prev_count);
		if (count == -ENOSPC) {
			result->status = ABI_RESULT_TOO_LARGE;
			continue;
		}
		if (count < 0)
			fail(START_LAYOUT, count);
		if (!shared_intact(records, count))
			fail(START_REPLACED, 0);
		at += sizeof(*step);
		if ((u64)count == prev_count && same_records(records, prev, count)) {
			step->count = ABI_UNCHANGED;
		} else {
			step->count = count;
			prev = records;
			prev_count = count;
			at += count * sizeof(*records);
		}
		CTL(PARTIAL) = at;
	}
	if (CTL(IDENT_OVERFLOW))
		result->status = ABI_RESULT_IDENTS;
	CTL(PHASE) = ABI_PHASE_RESET;
	result->length = at;
	result->dirty = reset(result->status ? 0 : prev, prev_count);
	return w;
}

static u64 clock(void)
{
	struct __kernel_timespec now;

	sys(clock_gettime, 1 /* CLOCK_MONOTONIC */, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Run what is left of the batch. */
static void run_batch(void)
{
	struct abi_result *index = SHARED(INDEX);
	const u64 *programs = SHARED(PROGRAMS);
	/* Room for the header of a step that does not fit. */
	const u8 *end = RESULTS + ABI_RESULTS_SIZE - ABI_PAGE;

	for (u64 i = CTL(FINISHED); i < CTL(COUNT); i++) {
		const u64 *w = programs + CTL(CURSOR);
		u64 calls_here = (u32)*w, flags = *w >> 32, out = CTL(OUT);
		struct abi_result result = { .offset = out };

		CTL(PARTIAL) = 0;
		w = run_program(w + 1, calls_here, RESULTS + out, end, &result);
		if (result.status == ABI_RESULT_TOO_LARGE && out) {
			CTL(STOPPED) = 1;
			if (result.dirty)
				CTL(COUNT) = i;
		} else {
			if (flags & ABI_FLAG_RECYCLE && !result.dirty)
				result.dirty = ABI_DIRTY_ASKED;
			index[i] = result;
			CTL(CURSOR) = w - programs;
			CTL(OUT) = out + result.length;
			CTL(PROGRAMS)++;
			/* In this order: who dies now has lost no program. */
			CTL(PHASE) = ABI_PHASE_IDLE;
			CTL(FINISHED) = i + 1;
		}
		if (result.dirty) {
			CTL(PHASE) = ABI_PHASE_START;
			CTL(RECYCLES)++;
			exec_self();
		}
		if (CTL(STOPPED))
			break;
	}
	CTL(PHASE) = ABI_PHASE_IDLE;
}

void serve(void)
{
	char byte = 'r';

	if (CTL(REQUEST))
		goto resume;
	for (;;) {
		CTL(PHASE) = ABI_PHASE_IDLE;
		sys(write, ABI_FD_DONE, &byte, 1);
		if (sys(read, ABI_FD_DOORBELL, &byte, 1) != 1)
			quit(0);
		CTL(STARTED_NS) = clock();
resume:
		run_batch();
		CTL(ELAPSED_NS) = clock() - CTL(STARTED_NS);
		if (CTL(REQUEST) == ABI_REQUEST_RATE && CTL(ELAPSED_NS) < CTL(RATE_NS) &&
		    !CTL(STOPPED)) {
			CTL(FINISHED) = 0;
			CTL(CURSOR) = 0;
			CTL(OUT) = 0;
			goto resume;
		}
		CTL(REQUEST) = 0;
		byte = 'd';
	}
}
