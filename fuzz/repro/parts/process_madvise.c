// needs: base
#include <sys/syscall.h>
#include <sys/uio.h>

static int self_file = -1;

static void open_self(void)
{
	if (self_file < 0)
		self_file = syscall(SYS_pidfd_open, getpid(), 0);
}

/* process_madvise(2) of this process. */
static long advise_self(unsigned long start, unsigned long length, int advice, unsigned long flags)
{
	struct iovec range = { at(start), length };

	open_self();
	return syscall(SYS_process_madvise, self_file, &range, 1L, (long)advice, flags);
}
