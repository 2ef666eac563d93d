/*
 * Makes the filler: one mapping, of which every second page then gets a flag, so that each page is
 * a mapping. It has flags that nothing else has, so that no neighbour merges with it.
 */
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/resource.h>

#include "filler.h"

/* vm.max_map_count, or -errno. */
static s64 max_map_count(void)
{
	char text[32], *p = text;
	s64 fd = sys(openat, AT_FDCWD, "/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC), got;
	s64 value = 0;

	if (fd < 0)
		return fd;
	got = sys(pread64, fd, text, sizeof(text) - 1, 0);
	sys(close, fd);
	if (got <= 0)
		return got ? got : -EIO;
	for (text[got] = 0; *p >= '0' && *p <= '9'; p++)
		value = value * 10 + (*p - '0');
	return value;
}

/* Let RLIMIT_AS leave room for `more` bytes, as far as the hard limit does; what it was. */
static s64 raise_limit(u64 more, struct rlimit64 *before)
{
	struct rlimit64 limit;
	s64 err = sys(prlimit64, 0, RLIMIT_AS, 0, before);

	if (err)
		return err;
	limit = *before;
	if (limit.rlim_max - limit.rlim_cur < more)
		limit.rlim_cur = limit.rlim_max;
	else
		limit.rlim_cur += more;
	CTL(LIMITED) = 1;
	return sys(prlimit64, 0, RLIMIT_AS, &limit, 0);
}

s64 filler_make(u64 addr, u64 spare, const struct abi_record *r, u64 count)
{
	u64 flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
	struct rlimit64 before;
	s64 most = max_map_count(), err;
	u64 length, end;

	if (most < 0)
		return most;
	if (CTL(FILL_END))
		return -EEXIST;
	if (spare > (u64)most || spare + count + 2 > (u64)most || addr % ABI_PAGE)
		return -EINVAL;
	length = (most - spare - count) * ABI_PAGE;
	end = addr + length;
	if (length > CTL(TASK_SIZE) || addr > CTL(TASK_SIZE) - length)
		return -EINVAL;
	for (u64 i = 0; i < count; i++)
		if (r[i].start <= end && r[i].end >= addr)
			return -EEXIST;
	err = raise_limit(length, &before);
	if (err)
		return err;
	err = sys(mmap, addr, length, PROT_NONE, flags, -1, 0);
	if (err != (s64)addr) {
		sys(prlimit64, 0, RLIMIT_AS, &before, 0);
		return err;
	}
	err = sys(madvise, addr, length, MADV_DONTDUMP);
	if (!err)
		err = sys(madvise, addr, length, MADV_DONTFORK);
	for (u64 at = addr + ABI_PAGE; !err && at < end; at += 2 * ABI_PAGE)
		err = sys(madvise, at, ABI_PAGE, MADV_RANDOM);
	CTL(FILL_START) = addr;
	CTL(FILL_END) = end;
	return err;
}
