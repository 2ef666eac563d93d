// needs: uffd
static int uffd_unregister(int fd, unsigned long start, unsigned long length)
{
	struct uffdio_range argument = { start, length };

	return ioctl(fd, UFFDIO_UNREGISTER, &argument);
}
