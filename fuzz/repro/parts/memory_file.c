// needs: object
#include <stdlib.h>

static int memory_file(unsigned int flags, unsigned long size)
{
	int fd = memfd_create("repro", flags | MFD_CLOEXEC | 0x10 /* MFD_EXEC */);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("repro", flags | MFD_CLOEXEC);
	if (ftruncate(need(fd, "memfd_create"), size))
		cannot("ftruncate: %s", strerror(errno));
	return fd;
}
