/*
 * Reads what uffd2 reports. A call that causes an event waits until it was read, so a process of
 * its own reads: a copy of the executor, with an address space of its own and the shared memory.
 */
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/socket.h>
#include <asm/poll.h>
#include <asm/signal.h>

#include "events.h"

#define READER_STACK 0x2000
#define AF_UNIX 1
#define SOCK_STREAM 1
#define WAIT_ALL 0x40000000 /* __WALL */

asm(".text\n"
    ".globl clone_onto\n"
    "clone_onto:\n" /* clone_onto(flags, stack, fn) */
    "	movq %rdx, %r9\n"
    "	xorl %edx, %edx\n"
    "	xorl %r10d, %r10d\n"
    "	xorl %r8d, %r8d\n"
    "	movl $56, %eax\n"
    "	syscall\n"
    "	testq %rax, %rax\n"
    "	jnz 1f\n"
    "	xorl %ebp, %ebp\n"
    "	call *%r9\n"
    "	ud2\n"
    "1:	ret\n");

s64 clone_onto(u64 flags, u64 stack, void (*fn)(void));

s64 spawn(u64 flags, u64 top, void (*fn)(void))
{
	return clone_onto(flags, ABI_SHARED_BASE + ABI_STACK_OFFSET + top, fn);
}

/* Append what there is. Returns the descriptor of a forked userfaultfd, or `held`. */
static s64 read_events(s64 held)
{
	struct uffd_msg msg;

	while (sys(read, ABI_FD_OF_UFFD2, &msg, sizeof(msg)) == sizeof(msg)) {
		struct abi_event event = { .kind = msg.event, .fd = ABI_FD_OF_UFFD2 };

		switch (msg.event) {
		case UFFD_EVENT_REMAP:
			event.a = msg.arg.remap.from;
			event.b = msg.arg.remap.to;
			event.c = msg.arg.remap.len;
			break;
		case UFFD_EVENT_REMOVE:
		case UFFD_EVENT_UNMAP:
			event.a = msg.arg.remove.start;
			event.b = msg.arg.remove.end;
			break;
		case UFFD_EVENT_FORK:
			held = msg.arg.fork.ufd;
			break;
		}
		if (CTL(EVENTS) < MAX_EVENTS)
			EVENT[CTL(EVENTS)] = event;
		CTL(EVENTS)++;
	}
	return held;
}

static void read_all(void)
{
	struct {
		int fd;
		short events, revents;
	} watched[] = { { ABI_FD_OF_UFFD2, POLLIN, 0 }, { ABI_FD_READER_END, POLLIN, 0 } };
	s64 held = -1;
	char byte;

	sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	sys(close_range, 0, ABI_FD_OF_UFFD2 - 1, 0);
	sys(close_range, ABI_FD_OF_UFFD2 + 1, ABI_FD_READER_END - 1, 0);
	for (;;) {
		sys(poll, watched, 2, -1);
		held = read_events(held);
		if (!watched[1].revents)
			continue;
		if (sys(read, ABI_FD_READER_END, &byte, 1) != 1)
			quit(0);
		held = read_events(held);
		/* Until now the child of the fork had it, whose memory it would change. */
		if (held >= 0)
			sys(close, held);
		held = -1;
		sys(write, ABI_FD_READER_END, &byte, 1);
	}
}

void events_start(void)
{
	int ends[2];
	s64 err;

	if (CTL(READER_PID) || CTL(UFFD2))
		return;
	err = sys(socketpair, AF_UNIX, SOCK_STREAM, 0, ends);
	if (!err) {
		sys(dup3, ends[0], ABI_FD_READER, O_CLOEXEC);
		sys(dup3, ends[1], ABI_FD_READER_END, O_CLOEXEC);
		sys(close, ends[0]);
		sys(close, ends[1]);
		err = spawn(SIGCHLD, READER_STACK, read_all);
		sys(close, ABI_FD_READER_END);
	}
	if (err < 0)
		fail(START_READER, err);
	CTL(READER_PID) = err;
	CTL(EVENTS) = 0;
}

void events_drain(void)
{
	char byte = 'e';

	if (!CTL(READER_PID))
		return;
	if (sys(write, ABI_FD_READER, &byte, 1) != 1 || sys(read, ABI_FD_READER, &byte, 1) != 1)
		fail(START_READER, 0);
}

void events_stop(void)
{
	if (!CTL(READER_PID))
		return;
	sys(kill, CTL(READER_PID), SIGKILL);
	sys(wait4, CTL(READER_PID), 0, WAIT_ALL, 0);
	CTL(READER_PID) = 0;
}
