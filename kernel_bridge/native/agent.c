/*
 * The first process of a guest: makes system calls for the bridge on the host, and starts, feeds and ends executors.
 * It has no policy and knows no calls, objects or programs; what it is told comes through a stream of messages, each
 * a header and a body (kernel_bridge/remote.py). When the host is gone it turns the guest off. As another process than
 * the first, which tests start, it has its channel as descriptor 3, and just ends.
 *
 * The channel is a port of virtio-serial, or a terminal line, which the kernel's command line names and init finds in
 * its environment. A line holds but one page that was not read: for every block that is taken from it the host is told,
 * and does not send more before. It is slow too, so that what is large goes through a store beside it: a block device
 * whose blocks are memory that the host has.
 */
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/reboot.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/termbits.h>
#include <asm/ioctls.h>

#include "agent.h"
#include "layout.h"

#define MESSAGE_SIZE (8ULL << 20)
#define FIRST_PARKED 100
#define MOST_DESCRIPTORS 128
#define PATIENCE_MS 10
#define ATTEMPTS 1000
#define CHANNEL 3

struct watched {
	int fd;
	short events, revents;
};

static struct {
	s64 channel, bell, done, pid;
	int status, reaped;
	int line; /* the channel is a terminal line */
	u64 taken; /* bytes read from it that the host was not told of */
	s64 store;
	int stored; /* a body is in our half of the store that the host has not read */
	u8 *in, *out;
} state = { .channel = -1, .bell = -1, .done = -1, .pid = -1, .store = -1 };

asm(".text\n"
    ".globl _start\n"
    "_start:\n"
    "	xorl %ebp, %ebp\n"
    "	movq %rsp, %rdi\n"
    "	andq $-16, %rsp\n"
    "	call agent\n"
    "	ud2\n");

static void say(const char *text)
{
	u64 n = 0;

	while (text[n])
		n++;
	sys(write, 2, text, n);
}

static void __attribute__((noreturn)) turn_off(void)
{
	if (sys(getpid) != 1)
		sys(exit_group, 0);
	for (;;) {
		sys(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0);
		sys(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0);
	}
}

static void wait_a_little(void)
{
	sys(poll, 0, 0, PATIENCE_MS);
}

static void tell_taken(u64 size);

static u8 *body(void)
{
	return state.out + sizeof(struct agent_header);
}

/* Read or write all of it; the host's end may be gone. */
static void transfer(int writing, u8 *data, u64 size)
{
	while (size) {
		s64 n = writing ? sys(write, state.channel, data, size) :
				  sys(read, state.channel, data, size);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			turn_off();
		data += n;
		size -= n;
		if (!writing && state.line)
			tell_taken(n);
	}
}

static void tell_taken(u64 size)
{
	struct agent_header header = { AGENT_TAKEN, 0 };

	for (state.taken += size; state.taken >= AGENT_BLOCK; state.taken -= AGENT_BLOCK)
		transfer(1, (u8 *)&header, sizeof(header));
}

/* Read or write a body, in whole sectors. */
static void use_store(int writing, u8 *data, u64 size)
{
	size = (size + ABI_PAGE - 1) & -ABI_PAGE;
	while (size) {
		u64 half = writing ? AGENT_STORE_HALF : 0, at = half + (data - (writing ? body() : state.in));
		s64 n = writing ? sys(pwrite64, state.store, data, size, at) :
				  sys(pread64, state.store, data, size, at);

		if (n <= 0)
			turn_off();
		data += n;
		size -= n;
	}
}

/* Send what was put behind the header in state.out. */
static void send(u32 kind, u64 size)
{
	struct agent_header *header = (struct agent_header *)state.out;
	int stored = state.store >= 0 && !state.stored && size >= AGENT_SMALL;

	header->kind = kind | (stored ? AGENT_STORED : 0);
	header->size = size;
	if (stored) {
		use_store(1, body(), size);
		state.stored = 1;
		size = 0;
	}
	transfer(1, state.out, sizeof(*header) + size);
}

static void receive(struct agent_header *header)
{
	struct agent_header fetched = { AGENT_FETCHED, 0 };

	transfer(0, (u8 *)header, sizeof(*header));
	if (header->size > MESSAGE_SIZE)
		turn_off();
	if (!(header->kind & AGENT_STORED)) {
		transfer(0, state.in, header->size);
		return;
	}
	header->kind &= ~AGENT_STORED;
	use_store(0, state.in, header->size);
	transfer(1, (u8 *)&fetched, sizeof(fetched));
}

static u8 *append(u8 *to, const void *from, u64 size)
{
	memcpy(to, from, size);
	return to + size;
}

static u64 at_most(u64 value, u64 most)
{
	return value < most ? value : most;
}

/*
 * What the shared memory says of the executor: sizes of four parts, the control page, the
 * index, the results, the baseline and which watched blocks the last program reached.
 */
static void send_snapshot(u32 kind)
{
	const struct abi_result *index = SHARED(INDEX);
	u64 finished = at_most(CTL(FINISHED), ABI_MAX_PROGRAMS), results = 0;
	u64 *sizes = (u64 *)body();
	u8 *to = (u8 *)(sizes + 4);

	if (finished)
		results = (u64)index[finished - 1].offset + index[finished - 1].length;
	if (kind != AGENT_ANSWER)
		results = CTL(OUT) + CTL(PARTIAL);
	sizes[0] = finished * sizeof(*index);
	sizes[1] = at_most(results, ABI_RESULTS_SIZE);
	sizes[2] = at_most(CTL(BASE_COUNT) * sizeof(struct abi_record), ABI_BASELINE_SIZE);
	sizes[3] = CTL(WATCHED) ? ABI_MAX_WATCHED / 8 : 0;
	to = append(to, SHARED(CONTROL), ABI_CONTROL_SIZE);
	to = append(to, SHARED(INDEX), sizes[0]);
	to = append(to, SHARED(RESULTS), sizes[1]);
	to = append(to, SHARED(BASELINE), sizes[2]);
	to = append(to, SHARED(REACHED), sizes[3]);
	send(kind, to - body());
}

/* A system call whose arguments may point into the data behind it. */
static void system_call(const struct agent_call *call)
{
	u8 *data = (u8 *)(call + 1);
	s64 *value = (s64 *)body();
	u64 v[6];

	for (u64 i = 0; i < 6; i++)
		v[i] = call->arguments[i] + (call->buffers >> i & 1 ? (u64)data : 0);
	*value = sys6(call->number, v[0], v[1], v[2], v[3], v[4], v[5]);
	memcpy(value + 1, data, call->reply);
	send(AGENT_CALL, sizeof(*value) + call->reply);
}

/* Pieces of the shared memory: offset, size, data. */
static void write_shared(u8 *at, const u8 *end)
{
	while (at < end) {
		u32 *piece = (u32 *)at;

		memcpy((u8 *)ABI_SHARED_BASE + piece[0], piece + 2, piece[1]);
		at += 2 * sizeof(u32) + ((piece[1] + 7) & ~7U);
	}
}

static void __attribute__((noreturn)) become(const struct agent_start *start, int *bell, int *done)
{
	const char *argv[] = { "vmadiff", 0 }, *envp[] = { 0 };
	s64 parked[MOST_DESCRIPTORS + 2], image;
	u64 none = 0;

	sys(setpgid, 0, 0);
	sys(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof(none));
	image = sys(fcntl, start->image, F_DUPFD_CLOEXEC, FIRST_PARKED);
	parked[0] = sys(fcntl, bell[0], F_DUPFD_CLOEXEC, FIRST_PARKED);
	parked[1] = sys(fcntl, done[1], F_DUPFD_CLOEXEC, FIRST_PARKED);
	for (u64 i = 0; i < start->count; i++)
		parked[i + 2] = sys(fcntl, start->pairs[i].here, F_DUPFD_CLOEXEC, FIRST_PARKED);
	sys(dup2, parked[0], ABI_FD_DOORBELL);
	sys(dup2, parked[1], ABI_FD_DONE);
	for (u64 i = 0; i < start->count; i++)
		sys(dup2, parked[i + 2], start->pairs[i].there);
	sys(execveat, image, "", argv, envp, AT_EMPTY_PATH);
	sys(exit_group, ABI_EXIT_SHARED);
	__builtin_unreachable();
}

static void start_executor(const struct agent_start *start)
{
	s64 *pid = (s64 *)body();
	int bell[2], done[2];
	s64 err = start->count > MOST_DESCRIPTORS ? -EINVAL : sys(pipe2, bell, O_CLOEXEC);

	if (!err) {
		err = sys(pipe2, done, O_CLOEXEC);
		if (err < 0) {
			sys(close, bell[0]);
			sys(close, bell[1]);
		}
	}
	*pid = err;
	if (!err) {
		*pid = sys(fork);
		if (!*pid)
			become(start, bell, done);
		sys(close, bell[0]);
		sys(close, done[1]);
		state.bell = bell[1];
		state.done = done[0];
		state.pid = *pid;
		state.reaped = 0;
	}
	send(AGENT_START, sizeof(*pid));
}

static void end_executor(void)
{
	s64 *status = (s64 *)body();

	if (state.pid > 0 && !state.reaped) {
		sys(kill, state.pid, SIGKILL);
		sys(wait4, state.pid, &state.status, 0, 0);
	}
	if (state.done >= 0)
		sys(close, state.done);
	if (state.bell >= 0)
		sys(close, state.bell);
	state.pid = state.done = state.bell = -1;
	*status = state.status;
	send(AGENT_END, sizeof(*status));
}

static void obey(void)
{
	struct agent_header header;
	char byte = 'g';

	receive(&header);
	switch (header.kind) {
	case AGENT_CALL:
		system_call((struct agent_call *)state.in);
		break;
	case AGENT_WRITE:
		write_shared(state.in, state.in + header.size);
		break;
	case AGENT_RING:
		sys(write, state.bell, &byte, 1);
		break;
	case AGENT_LOOK:
		send_snapshot(AGENT_LOOK);
		break;
	case AGENT_START:
		start_executor((struct agent_start *)state.in);
		break;
	case AGENT_END:
		end_executor();
		break;
	case AGENT_FETCHED:
		state.stored = 0;
		break;
	}
}

/* The executor has answered, or is no more. */
static void listen(void)
{
	char byte;

	if (sys(read, state.done, &byte, 1) == 1) {
		send_snapshot(AGENT_ANSWER);
		return;
	}
	sys(close, state.done);
	state.done = -1;
	send_snapshot(AGENT_DIED);
}

/* The first process inherits the children of those that are gone. */
static void reap(void)
{
	int status;
	s64 pid;

	while ((pid = sys(wait4, -1, &status, 1 /* WNOHANG */, 0)) > 0) {
		if (pid != state.pid)
			continue;
		state.status = status;
		state.reaped = 1;
	}
}

static u8 *memory(u64 size)
{
	return (u8 *)sys(mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* The host's end is announced to the driver after the port is. */
static int is_connected(void)
{
	struct watched watched = { state.channel, POLLIN | POLLOUT, 0 };

	for (u64 i = 0; i < 100; i++) {
		watched.revents = 0;
		sys(poll, &watched, 1, 0);
		if (watched.revents & POLLOUT && !(watched.revents & POLLHUP))
			return 1;
		wait_a_little();
	}
	return 0;
}

/* What the channel needs: /module0, /module1 ... */
static void insert_modules(void)
{
	char path[] = "/module0";
	s64 fd;

	while ((fd = sys(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC)) >= 0) {
		sys(finit_module, fd, "", 0);
		sys(close, fd);
		path[sizeof(path) - 2]++;
	}
}

/* What a name has in the environment, which ends with 0; 0 if it is not there. */
static const char *find(char *const *envp, const char *name)
{
	for (; *envp; envp++) {
		const char *p = *envp, *n = name;

		while (*n && *p == *n) {
			p++;
			n++;
		}
		if (!*n && *p == '=')
			return p + 1;
	}
	return 0;
}

/* A terminal line passes on all bytes as they are; anything else is no line. */
static void make_raw(void)
{
	struct termios mode;

	if (sys(ioctl, state.channel, TCGETS, &mode))
		return;
	mode.c_iflag = mode.c_oflag = mode.c_lflag = 0;
	mode.c_cflag = (mode.c_cflag & ~CSIZE & ~PARENB) | CS8 | CREAD | CLOCAL;
	mode.c_cc[VMIN] = 1;
	mode.c_cc[VTIME] = 0;
	sys(ioctl, state.channel, TCSETS, &mode);
	state.line = 1;
}

static void open_channel(const char *named)
{
	const char *const ports[] = { named ? named : "/dev/vport0p1", "/dev/vport1p1" };

	sys(mkdir, "/dev", 0755);
	sys(mkdir, "/proc", 0755);
	sys(mkdir, "/sys", 0755);
	sys(mount, "devtmpfs", "/dev", "devtmpfs", 0, 0);
	insert_modules();
	for (u64 i = 0; i < ATTEMPTS; i++) {
		state.channel = sys(openat, AT_FDCWD, ports[named ? 0 : i % 2],
				    O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (state.channel >= 0 && is_connected())
			return;
		if (state.channel >= 0)
			sys(close, state.channel);
		wait_a_little();
	}
	say("vmadiff: no channel to the host\n");
	turn_off();
}

static void prepare(char *const *envp)
{
	const char *store = find(envp, "vmadiff_store");
	s64 console;

	open_channel(find(envp, "vmadiff_channel"));
	if (store)
		state.store = sys(openat, AT_FDCWD, store, O_RDWR | O_DIRECT | O_CLOEXEC);
	console = sys(openat, AT_FDCWD, "/dev/console", O_RDWR);
	if (console >= 0)
		for (int fd = 0; fd < 3; fd++)
			if (console != fd)
				sys(dup2, console, fd);
	sys(mount, "proc", "/proc", "proc", 0, 0);
	sys(mount, "sysfs", "/sys", "sysfs", 0, 0);
}

/* stack: the number of arguments, the arguments, 0, the environment, 0. */
void __attribute__((noreturn, used)) agent(u64 *stack)
{
	struct watched watched[2];

	if (sys(getpid) == 1)
		prepare((char *const *)stack + stack[0] + 2);
	else
		state.channel = CHANNEL;
	make_raw();
	/* Bodies begin where pages do. */
	state.in = memory(MESSAGE_SIZE);
	state.out = memory(MESSAGE_SIZE + ABI_PAGE) + ABI_PAGE - sizeof(struct agent_header);
	*(u64 *)body() = state.store >= 0;
	send(AGENT_HELLO, sizeof(u64));
	for (;;) {
		watched[0] = (struct watched){ state.channel, POLLIN, 0 };
		watched[1] = (struct watched){ state.done, POLLIN, 0 };
		if (sys(poll, watched, state.done >= 0 ? 2 : 1, -1) < 0)
			continue;
		if (watched[0].revents & POLLHUP && !(watched[0].revents & POLLIN))
			turn_off();
		/* Answers first: who looks then must find it. */
		if (state.done >= 0 && watched[1].revents)
			listen();
		if (watched[0].revents & POLLIN)
			obey();
		reap();
	}
}
