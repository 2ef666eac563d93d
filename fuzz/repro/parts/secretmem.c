// needs: object
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

/* Secret memory, all of it there. */
static int new_secret(void)
{
	int fd = need(syscall(SYS_memfd_secret, O_CLOEXEC), "memfd_secret");
	char *memory;

	if (ftruncate(fd, 64 * PAGE) || fchmod(fd, 0666))
		cannot("secret memory: %s", strerror(errno));
	memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		cannot("secret memory: %s", strerror(errno));
	memset(memory, 0, 64 * PAGE);
	munmap(memory, 64 * PAGE);
	return fd;
}
