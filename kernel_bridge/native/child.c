/*
 * A fork's child. It has a stack of its own in the shared memory, while its parent waits for its
 * end; it changes nothing but its report.
 */
#include <linux/errno.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <asm/signal.h>

#include "child.h"
#include "events.h"

#define CHILD_STACK 0x9000
#define WAIT_ALL 0x40000000 /* __WALL */

/* The report: SECTION_CHILD. Returns its length or -errno. */
static s64 report(u8 *out, u64 capacity)
{
	const u8 *end = out + capacity;
	u64 *word = (u64 *)out, locked;
	struct abi_record *records = (struct abi_record *)(word + 1);
	u8 *to = (u8 *)records;
	s64 count, n;
	int same;

	n = layout_open();
	if (n)
		return n;
	count = layout_read(records, (end - to) / sizeof(*records), 0, 0, 0);
	if (count < 0)
		return count;
	*word = count;
	to += count * sizeof(*records);
	if (to + count * sizeof(u64) + sizeof(struct abi_counters) + 2 * sizeof(u64) > end)
		return -ENOSPC;
	if (CTL(FULL)) {
		n = observe_flags((u64 *)to, records, count, &same, &locked);
		if (n < 0)
			return n;
		to += count * sizeof(u64);
	}
	n = observe_counters((struct abi_counters *)to);
	if (n < 0)
		return n;
	to += sizeof(struct abi_counters);
	word = (u64 *)to;
	to += sizeof(u64);
	n = observe_contents((struct abi_entry *)to, (end - to) / sizeof(struct abi_entry), records,
			     count);
	if (n < 0)
		return n;
	*word = n;
	return to + n * sizeof(struct abi_entry) - out;
}

static void child(void)
{
	sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	CTL(CHILD) = report(SHARED(CHILD), ABI_CHILD_SIZE);
	quit(0);
}

s64 child_fork(void)
{
	s64 pid;

	CTL(CHILD) = -EIO;
	pid = spawn(CLONE_VFORK | SIGCHLD, CHILD_STACK, child);
	if (pid < 0) {
		CTL(CHILD) = 0;
		return pid;
	}
	sys(wait4, pid, 0, WAIT_ALL, 0);
	return 0;
}
