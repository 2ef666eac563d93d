// needs: object
#include <sys/stat.h>

/* A file of 64 pages; of those that have data each begins with its own word. */
static int file_in(int directory, int number, int data)
{
	int fd = need(openat(directory, "file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "creating a file");

	if (fchmod(fd, 0666) || ftruncate(fd, 64 * PAGE) || unlinkat(directory, "file", 0))
		cannot("making a file: %s", strerror(errno));
	for (unsigned long i = 0; i < (unsigned long)data; i++) {
		static char page[1 << 12];
		unsigned long word = 0xfUL << 52 | (unsigned long)number << 32 | i;

		memcpy(page, &word, sizeof(word));
		if (pwrite(fd, page, sizeof(page), i * PAGE) != (ssize_t)sizeof(page))
			cannot("writing a file: %s", strerror(errno));
	}
	close(directory);
	return fd;
}
