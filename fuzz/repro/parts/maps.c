// needs: base
#include <fcntl.h>

/* A file of /proc, line by line: nothing is allocated, for that would change what is looked at. */
struct reader {
	int fd;
	size_t from, have;
	char text[1 << 14];
};

static char *next_line(struct reader *r)
{
	char *line = r->text + r->from, *end = memchr(line, '\n', r->have - r->from);
	ssize_t got;

	while (!end) {
		r->have -= r->from;
		memmove(r->text, line, r->have);
		r->from = 0;
		line = r->text;
		got = read(r->fd, r->text + r->have, sizeof(r->text) - r->have);
		if (got <= 0)
			return NULL;
		r->have += got;
		end = memchr(line, '\n', r->have);
	}
	*end = 0;
	r->from = end + 1 - r->text;
	return line;
}

static struct reader *open_lines(const char *path)
{
	static struct reader reader;

	reader.from = reader.have = 0;
	reader.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (reader.fd < 0)
		cannot("%s: %s", path, strerror(errno));
	return &reader;
}

struct mapping {
	unsigned long start, end, offset, device, inode;
	char permissions[5], name[16];
};

/* Whether the line is the first one about a mapping. */
static int parse_mapping(const char *line, struct mapping *m)
{
	unsigned int major, minor;

	m->name[0] = 0;
	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %15s", &m->start, &m->end, m->permissions, &m->offset,
		   &major, &minor, &m->inode, m->name) < 7)
		return 0;
	m->device = (unsigned long)major << 32 | minor;
	return 1;
}

static int next_mapping(struct reader *r, struct mapping *m)
{
	char *line;

	while ((line = next_line(r)))
		if (parse_mapping(line, m) && !(m->start >> 63)) /* [vsyscall] is in no address space */
			return 1;
	close(r->fd);
	return 0;
}
