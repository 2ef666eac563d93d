// needs: layout
/* Remember how mappings of an object look; opaque: what is in it is not compared; memory: nor is what is present,
 * where it is not memory. */
static void __attribute__((unused)) remember(int number, const char *name, unsigned long address, int memory, int opaque)
{
	struct reader *r = open_lines("/proc/self/maps");
	struct mapping m;

	while (next_mapping(r, &m))
		if (m.start == address)
			objects[number] = (struct object){ name, m.device, m.inode, memory, opaque };
}

static void __attribute__((unused)) learn(int number, const char *name, int fd, unsigned long length, int type,
					  int memory, int opaque)
{
	void *address = mmap(NULL, length, PROT_READ, type | MAP_NORESERVE, fd, 0);

	if (address == MAP_FAILED) {
		if (errno == EAGAIN)	/* secret memory is locked, and nothing may be */
			return;
		cannot("mapping %s: %s", name, strerror(errno));
	}
	remember(number, name, (unsigned long)address, memory, opaque);
	munmap(address, length);
}

static int need(int fd, const char *what)
{
	if (fd < 0)
		cannot("%s: %s", what, strerror(errno));
	return fd;
}

/* The same file, for reading only. */
static int __attribute__((unused)) reopen(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return need(open(path, O_RDONLY | O_CLOEXEC), path);
}
