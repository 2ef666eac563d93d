// needs: base
#include <sys/syscall.h>
#include <sys/uio.h>

/* process_madvise(2) of this process. */
static long advise_self(unsigned long start, unsigned long length, int advice, unsigned long flags)
{
	struct iovec range = { at(start), length };
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	long value = syscall(SYS_process_madvise, pidfd, &range, 1L, (long)advice, flags);
	int error = errno;

	close(pidfd);
	errno = error;
	return value;
}
