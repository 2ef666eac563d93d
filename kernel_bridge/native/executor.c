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
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/time.h>
#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/ucontext.h>

#include "child.h"
#include "coverage.h"
#include "events.h"
#include "filler.h"
#include "inject.h"
#include "observe.h"
#include "special.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif
#define ALL_SIGNALS (~0ULL)
#define TRAPS ((1ULL << (SIGSEGV - 1)) | (1ULL << (SIGBUS - 1)) | (1ULL << (SIGILL - 1)) | \
	       (1ULL << (SIGFPE - 1)) | (1ULL << (SIGTRAP - 1)))
/* What the processor's instruction looks like as a word. */
#define SYSCALL 0x050f
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#define SECOND_US 1000000
#define RESULTS ((u8 *)SHARED(RESULTS))
/* What one mincore(2) can be asked about (bytes). */
#define AT_ONCE ((u64)ABI_TEXT_SIZE * ABI_PAGE)

extern const char touch_first[], touch_last[], touch_caught[];
int touch_raw(u64 addr, u64 write, u64 tag, volatile u64 *word);
void signal_return(void);

asm(".text\n"
    /* int touch_raw(addr, write, tag, word): 0, or what on_signal() puts in eax. */
    ".globl touch_raw, touch_first, touch_last, touch_caught\n"
    "touch_raw:\n"
    "	xorl %eax, %eax\n"
    "	testl $1, %esi\n"
    "touch_first:\n"
    "	jnz 1f\n"
    "	movq (%rdi), %rdx\n"
    "	movq %rdx, (%rcx)\n"
    "	ret\n"
    "1:	movq %rdx, (%rdi)\n"
    "touch_last:\n"
    "touch_caught:\n"
    "	ret\n"
    ".globl signal_return\n"
    "signal_return:\n"
    "	movl $15, %eax\n" /* rt_sigreturn */
    "	syscall\n");

/*
 * A page that a touch cannot reach makes touch_raw() return; any other signal is the end. One in here is blocked, and so
 * the end at once: frames of it would go down the stack and over what is below.
 */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct sigcontext *regs = &((struct ucontext *)context)->uc_mcontext;

	if (sig == SIGPROF) {
		/* The kernel goes back to the very instruction: it would begin again for ever. */
		if (regs->rip >= (u64)touch_first && regs->rip < (u64)touch_last) {
			regs->rax = ABI_TOUCH_ENDLESS;
			regs->rip = (u64)touch_caught;
		} else if (CTL(PHASE) == ABI_PHASE_CALL && *(const u16 *)regs->rip == SYSCALL) {
			regs->rip += sizeof(u16);
			regs->rax = -ETIME;
		}
		return;
	}
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
	} action = { on_signal, SA_SIGINFO | SA_RESTORER, signal_return, 0 };
	u64 mask = ALL_SIGNALS & ~TRAPS & ~(1ULL << (SIGPROF - 1));

	sys(rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
	for (int sig = 1; sig < 32; sig++)
		if ((TRAPS | 1ULL << (SIGPROF - 1)) >> (sig - 1) & 1)
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

int touch_word(u64 addr, u64 write, u64 tag)
{
	return touch_raw(addr, write, tag, &CTL(WORD));
}

/* Write to a page of the executor's own what is there. */
static int touch_own(u64 addr)
{
	int outcome = touch_word(addr, 0, 0);

	return outcome ? outcome : touch_word(addr, 1, CTL(WORD));
}

/* The record of the mapping at addr, 0 if there is none. */
static const struct abi_record *record_at(const struct abi_record *r, u64 count, u64 addr)
{
	while (count && r->end <= addr) {
		r++;
		count--;
	}
	return count && r->start <= addr ? r : 0;
}

/* Write to a page what says which call did. */
static int touch_write(u64 addr, const struct abi_record *r)
{
	u64 tag = ((CTL(CLOCK) & 0x7fff) + 1) << 36 | (addr / ABI_PAGE & ((1ULL << 36) - 1));

	if (r && observe_is_own(r))
		return touch_own(addr);
	if (r && r->perms & ABI_PERM_SHARED && r->ident && r->ident <= ABI_LAST_FIXED_IDENT)
		CTL(CHANGED) |= 1ULL << r->ident;
	return touch_word(addr, 1, tag);
}

/* From now on, or no more, SIGPROF every so often (microseconds of processor time). */
static void interrupt_every(s64 microseconds)
{
	struct __kernel_old_timeval often = { microseconds / SECOND_US, microseconds % SECOND_US };
	struct __kernel_old_itimerval timer = { often, often };

	sys(setitimer, ITIMER_PROF, &timer, 0);
}

/* r: the layout before the call. */
static s64 touch(u64 addr, u64 pages, u64 access, const struct abi_record *r, u64 count)
{
	u64 outcome = 0, got;

	if (pages > ABI_TOUCH_PAGES)
		pages = ABI_TOUCH_PAGES;
	addr &= -ABI_PAGE;
	if (CTL(PROTECTED))
		interrupt_every(CTL(ENDLESS_US));
	for (u64 i = 0; i < pages; i++, addr += ABI_PAGE) {
		if (access & 1)
			got = touch_write(addr, record_at(r, count, addr));
		else
			got = touch_word(addr, 0, 0);
		outcome |= got << 2 * i;
	}
	if (CTL(PROTECTED))
		interrupt_every(0);
	return (s64)outcome;
}

/*
 * The residency of the first 62 pages, a bit each, or -errno; what is only in a file's page cache is left out. failed: if
 * not 0, an allocation of the system call is to fail.
 */
static s64 mincore(u64 addr, u64 length, const struct abi_record *r, u64 count, int *failed)
{
	u8 *vec = SHARED(TEXT);
	u64 bits = 0, done = 0;
	s64 err;

	do {
		u64 piece = length - done < AT_ONCE ? length - done : AT_ONCE;

		if (failed)
			inject_arm();
		err = sys(mincore, addr + done, piece, vec);
		if (failed)
			*failed = inject_disarm();
		for (u64 i = 0; !err && !done && i < (piece + ABI_PAGE - 1) / ABI_PAGE && i < 62; i++)
			if (vec[i] & 1 && observe_is_telling(r, count, addr / ABI_PAGE + i))
				bits |= 1ULL << i;
		done += piece;
	} while (!err && done < length);
	return err ? err : (s64)bits;
}

static s64 set_vma_name(u64 addr, u64 length, u64 name)
{
	char *text = SHARED(TEXT);

	memset(text, 0, 100);
	if (name == 4)
		memset(text, 'n', 80);
	else
		memcpy(text, name == 3 ? "bad[" : name == 2 ? "b" : "a", name == 3 ? 4 : 1);
	return sys(prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, length, name ? text : 0);
}

/* failed: if not 0, an allocation of the system call is to fail. */
static s64 process_madvise(u64 addr, u64 length, u64 advice, u64 flags, int *failed)
{
	struct {
		u64 base, length;
	} range = { addr, length };
	s64 pid = sys(getpid), fd = sys(pidfd_open, pid), ret;

	if (fd < 0)
		return fd;
	if (failed)
		inject_arm();
	ret = sys(process_madvise, fd, &range, 1, advice, flags);
	if (failed)
		*failed = inject_disarm();
	sys(close, fd);
	return ret;
}

static s64 set_limit(u64 resource, u64 value)
{
	struct rlimit64 limit;
	s64 err = sys(prlimit64, 0, resource, 0, &limit);

	CTL(LIMITED) = 1;
	limit.rlim_cur = value;
	return err ? err : sys(prlimit64, 0, resource, &limit, 0);
}

/*
 * r: the layout before the call. failed: where calls that take several system calls say whether an allocation of one
 * failed, 0 if none is to.
 */
static s64 run_call(u64 opcode, const u64 *a, const struct abi_record *r, u64 count, int *failed)
{
	struct uffdio_register reg;
	struct uffdio_writeprotect protect;
	u64 v[6] = { 0 };
	s64 ret;

	switch (opcode) {
	case OP_touch:
		return touch(a[0], a[1], a[2], r, count);
	case OP_uffd_register:
		if ((u32)a[0] == ABI_FD_OF_UFFD2)
			CTL(ARMED) = 1;
		reg = (struct uffdio_register){ .range = { a[1], a[2] }, .mode = a[3] };
		return sys(ioctl, a[0], UFFDIO_REGISTER, &reg);
	case OP_uffd_unregister:
		reg = (struct uffdio_register){ .range = { a[1], a[2] } };
		return sys(ioctl, a[0], UFFDIO_UNREGISTER, &reg.range);
	case OP_uffd_writeprotect:
		CTL(PROTECTED) = 1;
		protect = (struct uffdio_writeprotect){ .range = { a[1], a[2] }, .mode = a[3] };
		return sys(ioctl, a[0], UFFDIO_WRITEPROTECT, &protect);
	case OP_mincore:
		return mincore(a[0], a[1], r, count, failed);
	case OP_set_vma_name:
		CTL(NAMED) = 1;
		return set_vma_name(a[0], a[1], a[2]);
	case OP_process_madvise:
		if ((u32)a[2] == MADV_REMOVE)
			CTL(CHANGED) = ~0ULL;
		return process_madvise(a[0], a[1], a[2], a[3], failed);
	case OP_fill:
		return filler_make(a[0], a[1], r, count);
	case OP_setrlimit:
		return set_limit(a[0], a[1]);
	case OP_mbind:
		return sys(mbind, a[0], a[1], a[2], &a[3], 65, a[4]);
	case OP_fork:
		return child_fork();
	case OP_fail:
		return inject_next(a[0]);
	case OP_shmat:
		return sys(shmat, special_segment(a[0]), a[1], a[2]);
	case OP_prctl:
		CTL(SAW_PRCTL) = 1;
		break;
	case OP_madvise:
		if ((u32)a[2] == MADV_REMOVE)
			CTL(CHANGED) = ~0ULL;
		if ((u32)a[2] != MADV_GUARD_INSTALL)
			break;
		interrupt_every(CTL(ENDLESS_US));
		ret = sys(madvise, a[0], a[1], a[2]);
		interrupt_every(0);
		return ret;
	case OP_ftruncate:
		CTL(RESIZED) |= 1ULL << (a[0] & 63);
		break;
	case OP_mmap:
		if (a[3] & MAP_LOCKED)
			CTL(SAW_LOCKED) = 1;
		break;
	case OP_mlock:
	case OP_mlock2:
	case OP_munlock:
		CTL(SAW_LOCKED) = 1;
		CTL(RELOCK) |= a[0] < ABI_SHARED_BASE + ABI_SHARED_SIZE;
		break;
	case OP_mlockall:
	case OP_munlockall:
		CTL(SAW_LOCKED) = 1;
		CTL(RELOCK) = 1;
		break;
	case OP_brk:
		CTL(MOVED_BRK) = 1;
		break;
	}
	for (s64 i = 0; i < calls[opcode].arity; i++)
		v[i] = a[i];
	return sys6(calls[opcode].nr, v[0], v[1], v[2], v[3], v[4], v[5]);
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

/* Drop what lies behind the data of a file. */
static void cut(const struct abi_object *object)
{
	sys(ftruncate, object->fd, object->data);
	sys(ftruncate, object->fd, object->size);
}

/* Give a file its tags and its hole again where they are not as they were. */
static void rewrite(const struct abi_object *object)
{
	u64 end = object->flags & ABI_OBJECT_PUNCH ? object->data : object->size;
	int written = 0;

	for (u64 at = 0; at < end; at += ABI_PAGE) {
		u64 tag = 0xfULL << 52 | (u64)object->ident << 32 | at / ABI_PAGE;

		if (at >= object->data)
			tag = 0;
		sys(pread64, object->fd, &CTL(WORD), sizeof(u64), at);
		if (CTL(WORD) == tag)
			continue;
		CTL(WORD) = tag;
		if (tag)
			sys(pwrite64, object->fd, &CTL(WORD), sizeof(u64), at);
		else
			written = 1;
	}
	if (written)
		cut(object);
}

s64 restore_objects(void)
{
	const struct abi_object *object = SHARED(OBJECTS);
	u64 mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	s64 err;

	for (; object->fd; object++) {
		u64 resized = CTL(RESIZED) >> object->fd & 1 && object->flags & ABI_OBJECT_RESIZE;
		u64 seen = CTL(SEEN) >> object->ident & 1;
		u64 changed = seen & CTL(CHANGED) >> object->ident;

		if (object->flags & ABI_OBJECT_EMPTY && (seen || resized))
			sys(ftruncate, object->fd, 0);
		if (resized || (object->flags & ABI_OBJECT_EMPTY && seen))
			sys(ftruncate, object->fd, object->size);
		/* Pages that were left locked by nobody would never be reclaimed again: make others. */
		if (object->flags & ABI_OBJECT_REWRITE && seen && CTL(SAW_LOCKED) &&
		    CTL(RESIDENT) >> object->ident & 1) {
			sys(fallocate, object->fd, mode, 0, 1ULL << 40);
			changed = 1;
		}
		if (object->flags & ABI_OBJECT_REWRITE && (changed || resized))
			rewrite(object);
		if (object->flags & ABI_OBJECT_PUNCH && (seen || resized) &&
		    sys(fallocate, object->fd, mode, object->data, 1ULL << 40))
			cut(object);
	}
	CTL(RESIZED) = 0;
	err = special_restore();
	CTL(UNRESTORED) = !!err;
	return err;
}

/* Undo what no unmapping undoes: limits, how memory is locked, the break. */
static void restore_process(void)
{
	if (CTL(RELOCK)) {
		/* Forgets MCL_FUTURE, and makes all VMAs that are left locked alike. */
		if (CTL(LOCKED) || sys(mlockall, MCL_CURRENT))
			sys(munlockall);
	}
	/* The break moves down only where something is mapped. */
	if (CTL(MOVED_BRK) && sys(brk, 0) != (s64)CTL(BRK)) {
		sys(mmap, (CTL(BRK) + ABI_PAGE - 1) & -ABI_PAGE, ABI_PAGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		sys(brk, CTL(BRK));
	}
	CTL(RELOCK) = 0;
	CTL(MOVED_BRK) = 0;
	CTL(FILL_START) = 0;
	CTL(FILL_END) = 0;
}

static void restore_limits(void)
{
	set_limit(RLIMIT_AS, CTL(SOFT_AS));
	set_limit(RLIMIT_DATA, CTL(SOFT_DATA));
	set_limit(RLIMIT_MEMLOCK, CTL(SOFT_MEMLOCK));
	set_limit(RLIMIT_STACK, CTL(SOFT_STACK));
	CTL(LIMITED) = 0;
}

/*
 * Bring the address space back to the baseline. last: the layout now, 0 if unknown. Returns
 * ABI_DIRTY_*.
 */
static u32 reset(const struct abi_record *last, u64 count)
{
	u64 base_count = CTL(BASE_COUNT), gap = 0, data;
	struct abi_counters counters;
	s64 n, unrestored;

	if (CTL(LIMITED))
		restore_limits();
	for (u64 i = 0; i <= base_count; i++) {
		u64 end = i < base_count ? BASE[i].start : CTL(TASK_SIZE), used = !last;

		for (u64 k = 0; last && k < count; k++)
			used |= last[k].start < end && last[k].end > gap;
		if (used)
			sys(munmap, gap, end - gap);
		gap = i < base_count ? BASE[i].end : 0;
	}
	if (CTL(ARMED))
		events_drain();
	restore_process();
	unrestored = restore_objects();
	if (CTL(SAW_PRCTL)) {
		sys(prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0);
		sys(prctl, PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
		CTL(SAW_PRCTL) = 0;
	}
	n = layout_read(SCRATCH, SCRATCH_RECORDS, BASE, base_count, 0);
	if (sys(brk, 0) != (s64)CTL(BRK))
		return ABI_DIRTY_LAYOUT;
	if (n != (s64)base_count || !same_records(SCRATCH, BASE, base_count))
		return only_own(SCRATCH, n) ? ABI_DIRTY_OWN : ABI_DIRTY_LAYOUT;
	if (layout_vm_size(&data) != (s64)CTL(BASE_SIZE) || data != CTL(BASE_DATA))
		return ABI_DIRTY_SIZE;
	if (unrestored)
		return ABI_DIRTY_OBJECTS;
	/* Secret memory is locked without having been asked for. */
	if (CTL(SEEN) >> ABI_IDENT_SECRETMEM & 1)
		CTL(SAW_LOCKED) = 1;
	if (CTL(SAW_LOCKED) &&
	    (observe_counters(&counters) || counters.locked != CTL(BASE_LOCKED)))
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

/* VmFlags, counters and page tables of a step, where they are asked for. */
static s64 observe_memory(struct abi_step *step, const struct abi_record *r, u64 count, int last,
			  u8 **to, const u8 *end)
{
	u64 total = 0, data, locked = 0, *word;
	struct abi_counters *counters;
	s64 n;
	int same = 1;

	if (!last && !CTL(FULL))
		return 0;
	n = layout_vm_size(&data);
	if (n < 0)
		return n;
	step->size = n;
	step->data = data;
	for (u64 i = 0; i < count; i++)
		total += (r[i].end - r[i].start) / ABI_PAGE;
	if (total != step->size)
		step->sections |= ABI_INCONSISTENT_SIZE;
	if (CTL(FULL)) {
		if (*to + count * sizeof(u64) + sizeof(*counters) > end)
			return -ENOSPC;
		if (last || !CTL(FILL_END)) {
			n = observe_flags((u64 *)*to, r, count, &same, &locked);
			if (n < 0)
				return n;
			*to += count * sizeof(u64);
			step->sections |= ABI_SECTION_FLAGS;
		}
		counters = (struct abi_counters *)*to;
		n = observe_counters(counters);
		if (n < 0)
			return n;
		*to += sizeof(*counters);
		if (step->sections & ABI_SECTION_FLAGS && !same)
			step->sections |= ABI_INCONSISTENT_VIEWS;
		if (step->sections & ABI_SECTION_FLAGS && counters->locked != locked)
			step->sections |= ABI_INCONSISTENT_LOCKED;
		step->sections |= ABI_SECTION_COUNTERS;
	}
	if (*to + sizeof(u64) > end)
		return -ENOSPC;
	word = (u64 *)*to;
	*to += sizeof(u64);
	n = observe_pages((struct abi_entry *)*to, (end - *to) / sizeof(struct abi_entry), r, count);
	if (n < 0)
		return n;
	*word = n;
	*to += n * sizeof(struct abi_entry);
	step->sections |= ABI_SECTION_PAGES;
	return 0;
}

/* What uffd2 and a fork's child reported of a step. */
static s64 observe_reports(struct abi_step *step, u8 **to, const u8 *end)
{
	if (CTL(EVENTS)) {
		u64 size = CTL(EVENTS) * sizeof(struct abi_event);

		if (CTL(EVENTS) > MAX_EVENTS || *to + sizeof(u64) + size > end)
			return -ENOSPC;
		*(u64 *)*to = CTL(EVENTS);
		memcpy(*to + sizeof(u64), EVENT, size);
		*to += sizeof(u64) + size;
		step->sections |= ABI_SECTION_EVENTS;
	}
	if (CTL(CHILD)) {
		if ((s64)CTL(CHILD) < 0)
			return CTL(CHILD);
		if (*to + CTL(CHILD) > end)
			return -ENOSPC;
		memcpy(*to, SHARED(CHILD), CTL(CHILD));
		*to += CTL(CHILD);
		step->sections |= ABI_SECTION_CHILD;
	}
	return 0;
}

/* What is written after a step's records; *to moves on. Returns 0 or -errno. */
static s64 observe(struct abi_step *step, const struct abi_record *r, u64 count, int last, u8 **to,
		   const u8 *end)
{
	s64 n = observe_memory(step, r, count, last, to, end);
	u64 *word;

	if (!n)
		n = observe_reports(step, to, end);
	if (n)
		return n;
	if (last && CTL(FULL)) {
		if (*to + sizeof(u64) > end)
			return -ENOSPC;
		word = (u64 *)*to;
		*to += sizeof(u64);
		n = observe_contents((struct abi_entry *)*to, (end - *to) / sizeof(struct abi_entry), r,
				     count);
		if (n < 0)
			return n;
		*word = n;
		*to += n * sizeof(struct abi_entry);
		step->sections |= ABI_SECTION_CONTENTS;
	}
	return 0;
}

/* Whether the program at w, n calls, registers memory with uffd2. */
static int wants_reader(const u64 *w, u64 n)
{
	for (; n && *w < ABI_NR_CALLS; n--, w += 1 + calls[*w].arity)
		if (*w == OP_uffd_register && (u32)w[1] == ABI_FD_OF_UFFD2)
			return 1;
	return 0;
}

/* Whether an object is a file on a disk. */
static int on_disk(u64 ident)
{
	switch (ident) {
	case ABI_IDENT_EXT4:
	case ABI_IDENT_XFS:
	case ABI_IDENT_BTRFS:
		return 1;
	case ABI_IDENT_FILE:
		return !(CTL(RESIDENT) >> ident & 1);
	}
	return 0;
}

/* Whether part of the range is a shared mapping of such a file. r: the layout before the call. */
static int shares_disk(const struct abi_record *r, u64 count, u64 addr, u64 length)
{
	for (; count; r++, count--)
		if (r->end > addr && (r->start <= addr || r->start - addr < length) &&
		    r->perms & ABI_PERM_SHARED && on_disk(r->ident))
			return 1;
	return 0;
}

/* Whether a descriptor is of such a file. */
static int opens_disk(u32 fd)
{
	const struct abi_object *object = SHARED(OBJECTS);

	for (; object->fd; object++)
		if (object->fd == fd)
			return on_disk(object->ident);
	return 0;
}

/*
 * Whether an allocation of a call can be made to fail: of one system call of it, or of its faults, and of no file
 * system's work. r: the layout before the call.
 */
static int can_fail(u64 opcode, const u64 *a, const struct abi_record *r, u64 count)
{
	switch (opcode) {
	case OP_fail:
	case OP_fill:
		return 0;
	case OP_mincore:
		return a[1] <= AT_ONCE;
	case OP_madvise:
	case OP_process_madvise:
		return (u32)a[2] != MADV_REMOVE || !shares_disk(r, count, a[0], a[1]);
	case OP_msync:
		return !shares_disk(r, count, a[0], a[1]);
	case OP_ftruncate:
		return !opens_disk(a[0]);
	}
	return 1;
}

/* As run_call(); where an allocation was to fail, *failed says whether one did. */
static s64 run_failing(u64 opcode, const u64 *a, const struct abi_record *r, u64 count, int *failed)
{
	int armed = CTL(FAIL_NTH) && can_fail(opcode, a, r, count);
	int within = opcode == OP_mincore || opcode == OP_process_madvise;
	s64 ret;

	*failed = 0;
	if (armed && !within)
		inject_arm();
	ret = run_call(opcode, a, r, count, armed ? failed : 0);
	if (armed && !within)
		*failed = inject_disarm();
	if (opcode != OP_fail)
		CTL(FAIL_NTH) = 0;
	return ret;
}

/* Run the program at w, n calls; its trace goes to out, up to end. Returns the word after it. */
static const u64 *run_program(const u64 *w, u64 n, u8 *out, const u8 *end,
			      struct abi_result *result)
{
	const struct abi_record *prev = BASE;
	u64 prev_count = CTL(BASE_COUNT), at = 0;

	layout_forget();
	CTL(SAW_LOCKED) = 0;
	CTL(ARMED) = 0;
	CTL(PROTECTED) = 0;
	CTL(FAIL_NTH) = 0;
	CTL(NAMED) = 0;
	if (wants_reader(w, n))
		events_start();
	for (u64 i = 0; i < n; i++) {
		struct abi_step *step = (struct abi_step *)(out + at);
		struct abi_record *records = (struct abi_record *)(step + 1);
		u64 opcode = *w;
		s64 count, err;
		int failed;
		u8 *to;

		if (opcode >= ABI_NR_CALLS)
			fail(START_REQUEST, EINVAL);
		w += 1 + calls[opcode].arity;
		if (result->status || records >= (struct abi_record *)end) {
			result->status = ABI_RESULT_TOO_LARGE;
			continue;
		}
		CTL(CALL) = i;
		CTL(CLOCK) = i;
		CTL(BEATS)++;
		CTL(EVENTS) = 0;
		CTL(CHILD) = 0;
		CTL(PHASE) = ABI_PHASE_CALL;
		coverage_begin();
		step->value = run_failing(opcode, w - calls[opcode].arity, prev, prev_count,
					  &failed);
		coverage_end();
		CTL(PHASE) = ABI_PHASE_LAYOUT;
		if (CTL(ARMED))
			events_drain();
		/* The break renames what stays where it is; names go where they like. */
		count = layout_read(records, (end - (u8 *)records) / sizeof(*records), prev,
				    opcode == OP_brk || CTL(NAMED) ? 0 : prev_count,
				    i + 1 == n);
		if (count == -ENOSPC) {
			result->status = ABI_RESULT_TOO_LARGE;
			continue;
		}
		if (count < 0)
			fail(START_LAYOUT, count);
		if (!shared_intact(records, count))
			fail(START_REPLACED, 0);
		step->sections = failed ? ABI_FAILED : 0;
		step->size = step->data = 0;
		to = (u8 *)(records + count);
		if ((u64)count == prev_count && same_records(records, prev, count)) {
			step->count = ABI_UNCHANGED;
			to = (u8 *)records;
			records = (struct abi_record *)prev;
		} else {
			step->count = count;
		}
		err = observe(step, records, count, i + 1 == n, &to, end);
		if (err == -ENOSPC) {
			result->status = ABI_RESULT_TOO_LARGE;
			continue;
		}
		if (err < 0)
			fail(START_LAYOUT, err);
		prev = records;
		prev_count = count;
		at = to - out;
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
		CTL(FULL) = !!(flags & ABI_FLAG_FULL);
		w = run_program(w + 1, calls_here, RESULTS + out, end, &result);
		coverage_take(&result);
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
