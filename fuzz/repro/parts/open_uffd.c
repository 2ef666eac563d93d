// needs: uffd
#include <sys/syscall.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define WP_UNPOPULATED (1 << 13)
#define EVENT_FEATURES (UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

/* A userfaultfd that makes accesses fail with SIGBUS. */
static int open_uffd(unsigned long features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS | features };
	int fd = syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && !ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	if (features & WP_UNPOPULATED)
		return open_uffd(features & ~WP_UNPOPULATED);
	cannot("userfaultfd: %s", strerror(errno));
}
