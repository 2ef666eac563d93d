// needs: base
#include <fcntl.h>
#include <stdlib.h>

static unsigned long fail_number;
static int fail_file = -1;

/* Allocation `number` of the next call is to fail. */
static int fail(unsigned long number)
{
	if (fail_file < 0)
		fail_file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_file < 0) {
		errno = ENOENT;
		return -1;
	}
	if (!number || number > 0x7fffffff) {
		errno = EINVAL;
		return -1;
	}
	fail_number = number;
	return 0;
}
