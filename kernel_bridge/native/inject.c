#include <linux/errno.h>
#include <linux/fcntl.h>

#include "inject.h"

#define MOST 0x7fffffffULL

void inject_open(void)
{
	s64 fd = sys(openat, AT_FDCWD, "/proc/self/fail-nth", O_RDWR | O_CLOEXEC), err = fd;

	if (fd >= 0) {
		err = sys(dup3, fd, ABI_FD_FAIL, O_CLOEXEC);
		sys(close, fd);
	}
	CTL(UNFAILING) = err < 0 ? -err : 0;
}

s64 inject_next(u64 nth)
{
	if (CTL(UNFAILING))
		return -ENOENT;
	if (!nth || nth > MOST)
		return -EINVAL;
	CTL(FAIL_NTH) = nth;
	return 0;
}

void inject_arm(void)
{
	char text[16], *p = text + sizeof(text);

	for (u64 nth = CTL(FAIL_NTH); nth; nth /= 10)
		*--p = '0' + nth % 10;
	sys(pwrite64, ABI_FD_FAIL, p, text + sizeof(text) - p, 0);
}

int inject_disarm(void)
{
	char text[16] = { 0 };
	s64 got = sys(pread64, ABI_FD_FAIL, text, sizeof(text), 0);

	/* A kernel that counts copies to user space too may let these fail: the call had none failing then. */
	while (sys(pwrite64, ABI_FD_FAIL, "0", 1, 0) == -EFAULT)
		;
	return got > 0 && text[0] == '0';
}
