// needs: uffd
static int uffd_register(int fd, unsigned long start, unsigned long length, unsigned long mode)
{
	struct uffdio_register argument = { .range = { start, length }, .mode = mode };

	return ioctl(fd, UFFDIO_REGISTER, &argument);
}
