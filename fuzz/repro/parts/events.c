// needs: open_uffd, text
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static int reader_end;

/* Add what there is to the text; the userfaultfd of a fork, or `held`. */
static int read_events(int uffd, int held)
{
	struct uffd_msg event;

	while (read(uffd, &event, sizeof(event)) == sizeof(event)) {
		switch (event.event) {
		case UFFD_EVENT_REMAP:
			put("REMAP ");
			put_address(event.arg.remap.from);
			put(" to ");
			put_address(event.arg.remap.to);
			put(" %lu pages\n", (unsigned long)event.arg.remap.len / PAGE);
			break;
		case UFFD_EVENT_REMOVE:
		case UFFD_EVENT_UNMAP:
			put(event.event == UFFD_EVENT_UNMAP ? "UNMAP " : "REMOVE ");
			put_address(event.arg.remove.start);
			put(" .. ");
			put_address(event.arg.remove.end);
			put("\n");
			break;
		case UFFD_EVENT_FORK:
			held = event.arg.fork.ufd;
			put("FORK\n");
			break;
		default:
			put("event %#x\n", event.event);
		}
	}
	return held;
}

/* A call that causes an event waits until it was read: so another process reads. */
static void read_events_of(int uffd)
{
	int ends[2], held = -1;
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		cannot("socketpair: %s", strerror(errno));
	reader_end = ends[0];
	switch (fork()) {
	case -1:
		cannot("fork: %s", strerror(errno));
	case 0:
		break;
	default:
		close(ends[1]);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(ends[0]);
	used = 0;
	for (;;) {
		struct pollfd watched[] = { { uffd, POLLIN, 0 }, { ends[1], POLLIN, 0 } };

		poll(watched, 2, -1);
		held = read_events(uffd, held);
		if (!watched[1].revents)
			continue;
		if (read(ends[1], &byte, 1) != 1)
			_exit(0);
		held = read_events(uffd, held);
		if (held >= 0)
			close(held);
		held = -1;
		if (write(ends[1], &used, sizeof(used)) < 0 || write(ends[1], view, used) < 0)
			_exit(0);
		used = 0;
	}
}

/* What the userfaultfd has reported since this was last asked. */
static const char *events(void)
{
	size_t size, have = 0;
	ssize_t got;

	if (write(reader_end, "e", 1) != 1 || read(reader_end, &size, sizeof(size)) != sizeof(size))
		cannot("the process that reads events is gone");
	while (have < size && (got = read(reader_end, view + have, size - have)) > 0)
		have += got;
	view[have] = 0;
	return view;
}
