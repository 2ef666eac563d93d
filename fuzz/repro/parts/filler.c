// needs: maps, text
#include <stdlib.h>
#include <sys/resource.h>

static unsigned long filler_start, filler_end;

#define filler_size (filler_end - filler_start)

static int is_filler_part(const struct mapping *m)
{
	return m->start >= filler_start && m->end <= filler_end && !m->inode &&
	       !strcmp(m->permissions, "---p");
}

/* One line stands for all mappings of fill(). */
static int is_filler(const struct mapping *m)
{
	if (!is_filler_part(m))
		return 0;
	if (m->start == filler_start) {
		put_address(m->start);
		put(" .. filler\n");
	}
	return 1;
}

static long no(int error)
{
	errno = error;
	return -1;
}

/* Map single pages, a mapping each, until so many are left below vm.max_map_count. */
static long fill(unsigned long address, unsigned long spare)
{
	struct reader *r = open_lines("/proc/sys/vm/max_map_count");
	char *line = next_line(r);
	unsigned long most = line ? strtoul(line, NULL, 10) : 0, count = 0, length;
	struct rlimit before, limit;
	struct mapping m;
	int in_the_way = 0;

	close(r->fd);
	if (filler_end)
		return no(EEXIST);
	r = open_lines("/proc/self/maps");
	while (next_mapping(r, &m))
		count++;
	if (spare > most || spare + count + 2 > most || address % PAGE)
		return no(EINVAL);
	length = (most - spare - count) * PAGE;
	if (address > TASK_SIZE - length)
		return no(EINVAL);
	r = open_lines("/proc/self/maps");
	while (next_mapping(r, &m))
		in_the_way |= m.start <= address + length && m.end >= address;
	if (in_the_way)
		return no(EEXIST);
	getrlimit(RLIMIT_AS, &before);
	limit = before;
	if (limit.rlim_max - limit.rlim_cur < length)
		limit.rlim_cur = limit.rlim_max;
	else
		limit.rlim_cur += length;
	setrlimit(RLIMIT_AS, &limit);
	if (mmap(at(address), length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
		 -1, 0) == MAP_FAILED) {
		int error = errno;

		setrlimit(RLIMIT_AS, &before);
		return no(error);
	}
	madvise(at(address), length, MADV_DONTDUMP);
	madvise(at(address), length, MADV_DONTFORK);
	for (unsigned long page = address + PAGE; page < address + length; page += 2 * PAGE)
		if (madvise(at(page), PAGE, MADV_RANDOM))
			return -1;
	filler_start = address;
	filler_end = address + length;
	return 0;
}
