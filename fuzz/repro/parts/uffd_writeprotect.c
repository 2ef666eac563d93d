// needs: uffd
static int uffd_writeprotect(int fd, unsigned long start, unsigned long length, unsigned long mode)
{
	struct uffdio_writeprotect argument = { .range = { start, length }, .mode = mode };

	return ioctl(fd, UFFDIO_WRITEPROTECT, &argument);
}
