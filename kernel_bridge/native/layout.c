/*
 * Reads the executor's own address space, by PROCMAP_QUERY or from the text of /proc/self/maps.
 * Both give the same records; which is used is decided once a start.
 */
#include <linux/errno.h>
#include <linux/fcntl.h>

#include "filler.h"

/* include/uapi/linux/fs.h, Linux 6.11; older headers lack it. */
struct query {
	u64 size, flags, addr;
	u64 start, end, vma_flags, page_size, offset, inode;
	u32 dev_major, dev_minor, name_size, build_id_size;
	u64 name_addr, build_id_addr;
};

_Static_assert(sizeof(struct query) == 104, "struct procmap_query");

#define QUERY_IOCTL 0xc0686611UL
#define QUERY_COVERING_OR_NEXT 0x10
#define QUERY_PERMS 0xf

#define NAME_SIZE 64

static u16 name_class(const char *name, u64 length)
{
	static const struct {
		char text[8];
		u16 length, class;
	} names[] = {
		{ "[heap]", 6, ABI_NAME_HEAP },	  { "[stack]", 7, ABI_NAME_STACK },
		{ "[vdso]", 6, ABI_NAME_VDSO },	  { "[vvar", 5, ABI_NAME_VVAR },
		{ "[anon:", 6, ABI_NAME_ANON },
	};

	if (!length)
		return ABI_NAME_NONE;
	if (name[0] == '/')
		return ABI_NAME_FILE;
	for (u64 i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		u64 same = 0;

		while (same < names[i].length && same < length && name[same] == names[i].text[same])
			same++;
		if (same == names[i].length)
			return names[i].class;
	}
	return ABI_NAME_OTHER;
}

/* The ident of an object; a new object gets the next one. */
static u32 ident_of(u64 dev, u64 ino)
{
	struct ident *table = SHARED(IDENTS);
	u64 count = CTL(IDENTS);

	if (!dev && !ino)
		return 0;
	for (u32 i = 1; i <= ABI_LAST_FIXED_IDENT; i++) {
		if (table[i].ino == ino && table[i].dev == dev) {
			CTL(SEEN) |= 1ULL << i;
			return i;
		}
	}
	for (u64 i = 0; i < count; i++) {
		if (table[ABI_LAST_FIXED_IDENT + 1 + i].ino == ino &&
		    table[ABI_LAST_FIXED_IDENT + 1 + i].dev == dev)
			return ABI_FIRST_NEW_IDENT + i;
	}
	if (count == ABI_MAX_NEW_IDENTS) {
		CTL(IDENT_OVERFLOW) = 1;
		return ~0U;
	}
	table[ABI_LAST_FIXED_IDENT + 1 + count] = (struct ident){ dev, ino };
	CTL(IDENTS) = count + 1;
	return ABI_FIRST_NEW_IDENT + count;
}

static s64 query(struct query *q, u64 addr, char *name)
{
	q->size = sizeof(*q);
	q->flags = QUERY_COVERING_OR_NEXT;
	q->addr = addr;
	q->name_size = name ? NAME_SIZE : 0;
	q->name_addr = (u64)name;
	q->build_id_size = 0;
	q->build_id_addr = 0;
	return sys(ioctl, ABI_FD_MAPS, QUERY_IOCTL, q);
}

/*
 * Where the filler ends whose first mapping q shows, 0 if it is not as it was made: looked at are
 * the last mapping, or all.
 */
static u64 filler_end(struct query *q, int thorough)
{
	u64 at = CTL(FILL_START), end = CTL(FILL_END);

	if (!end || q->start != at || q->end != at + ABI_PAGE || q->vma_flags & QUERY_PERMS)
		return 0;
	for (at = thorough ? q->end : end - ABI_PAGE; at < end; at += ABI_PAGE)
		if (query(q, at, 0) || q->start != at || !filler_holds(q->start, q->end) ||
		    q->vma_flags & QUERY_PERMS || q->inode)
			return 0;
	return end;
}

/*
 * Names of anonymous mappings follow from their place, so one that was there before keeps its
 * name.
 */
static s64 read_query(struct abi_record *out, u64 capacity, const struct abi_record *prev,
		      u64 prev_count, int thorough)
{
	const struct abi_record *prev_end = prev + prev_count;
	u64 n = 0, addr = 0;
	char name[NAME_SIZE];
	struct query q;

	for (;;) {
		struct abi_record *r = out + n;
		s64 err = query(&q, addr, 0);
		u64 filled;

		if (err == -ENOENT)
			return n;
		if (err)
			return err;
		if (n == capacity)
			return -ENOSPC;
		if (CTL(FILL_END) && q.start == CTL(FILL_START)) {
			filled = filler_end(&q, thorough);
			if (filled) {
				*r = (struct abi_record){ CTL(FILL_START), filled, .name = ABI_NAME_FILLER };
				addr = filled;
				n++;
				continue;
			}
			query(&q, addr, 0);
		}
		r->start = q.start;
		r->end = q.end;
		r->offset = q.offset;
		r->perms = q.vma_flags & QUERY_PERMS;
		r->ident = ident_of((u64)q.dev_major << 32 | q.dev_minor, q.inode);
		while (prev < prev_end && prev->start < q.start)
			prev++;
		if (r->ident) {
			r->name = ABI_NAME_FILE;
		} else if (prev < prev_end && prev->start == r->start && prev->end == r->end &&
			   !prev->ident) {
			r->name = prev->name;
		} else {
			err = query(&q, addr, name);
			if (err && err != -ENAMETOOLONG)
				return err;
			r->name = err ? ABI_NAME_OTHER : name_class(name, q.name_size ? q.name_size - 1 : 0);
		}
		addr = q.end;
		n++;
	}
}

static const char *hex(const char *p, u64 *value)
{
	u64 v = 0;

	for (;; p++) {
		if (*p >= '0' && *p <= '9')
			v = v << 4 | (u64)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			v = v << 4 | (u64)(*p - 'a' + 10);
		else
			break;
	}
	*value = v;
	return p;
}

/* One line of maps, without its newline: "start-end rwxp offset major:minor inode   name". */
void layout_parse(const char *p, const char *end, struct abi_record *r)
{
	u64 major, minor, ino = 0;

	p = hex(p, &r->start);
	p = hex(p + 1, &r->end);
	p++;
	r->perms = (p[0] == 'r' ? ABI_PERM_READ : 0) | (p[1] == 'w' ? ABI_PERM_WRITE : 0) |
		   (p[2] == 'x' ? ABI_PERM_EXEC : 0) | (p[3] == 's' ? ABI_PERM_SHARED : 0);
	p = hex(p + 5, &r->offset);
	p = hex(p + 1, &major);
	p = hex(p + 1, &minor);
	for (p++; *p >= '0' && *p <= '9'; p++)
		ino = ino * 10 + (u64)(*p - '0');
	while (p < end && *p == ' ')
		p++;
	r->ident = ident_of(major << 32 | minor, ino);
	r->name = r->ident ? ABI_NAME_FILE : name_class(p, end - p);
}

int layout_collapse(struct abi_record *r, u64 n)
{
	if (!CTL(FILL_END) || !filler_holds(r->start, r->end) || r->perms || r->ident)
		return 0;
	r->name = ABI_NAME_FILLER;
	if (!n || r[-1].name != ABI_NAME_FILLER || r[-1].end != r->start)
		return 0;
	r[-1].end = r->end;
	return 1;
}

static s64 read_maps(struct abi_record *out, u64 capacity)
{
	char *text = SHARED(TEXT), *from;
	u64 n = 0, have = 0, at = 0;

	for (;;) {
		s64 got = sys(pread64, ABI_FD_MAPS, text + have, ABI_TEXT_SIZE - 1 - have, at);

		if (got < 0)
			return got;
		if (!got)
			return have ? -EINVAL : (s64)n;
		at += got;
		have += got;
		text[have] = '\n';
		from = text;
		for (;;) {
			char *end = from;

			while (*end != '\n')
				end++;
			if (end == text + have)
				break;
			if (n == capacity)
				return -ENOSPC;
			layout_parse(from, end, out + n);
			from = end + 1;
			/* [vsyscall] is not part of any address space, and is the last line. */
			if (out[n].start >> 63)
				return n;
			if (!layout_collapse(out + n, n))
				n++;
		}
		have = text + have - from;
		for (u64 i = 0; i < have; i++)
			text[i] = from[i];
	}
}

s64 layout_read(struct abi_record *out, u64 capacity, const struct abi_record *prev, u64 prev_count,
		int thorough)
{
	if (CTL(USED_READER) == ABI_READER_QUERY)
		return read_query(out, capacity, prev, prev_count, thorough);
	return read_maps(out, capacity);
}

/* Open path as the descriptor fd, which is closed. */
static s64 open_as(const char *path, u64 fd)
{
	s64 opened = sys(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);

	if (opened < 0 || (u64)opened == fd)
		return opened < 0 ? opened : 0;
	s64 err = sys(dup3, opened, fd, O_CLOEXEC);

	sys(close, opened);
	return err < 0 ? err : 0;
}

s64 layout_open(void)
{
	struct query q;
	s64 err = open_as("/proc/self/maps", ABI_FD_MAPS);

	if (!err)
		err = open_as("/proc/self/statm", ABI_FD_STATM);
	if (!err)
		err = open_as("/proc/self/status", ABI_FD_STATUS);
	if (!err)
		err = open_as("/proc/self/smaps", ABI_FD_SMAPS);
	if (!err)
		err = open_as("/proc/self/pagemap", ABI_FD_PAGEMAP);
	if (!err)
		err = open_as("/proc/self/mem", ABI_FD_MEM);
	if (err)
		return err;
	CTL(USED_READER) = ABI_READER_MAPS;
	if (CTL(READER) != ABI_READER_MAPS) {
		err = query(&q, 0, 0);
		if (!err)
			CTL(USED_READER) = ABI_READER_QUERY;
		else if (CTL(READER) == ABI_READER_QUERY)
			return err;
	}
	return 0;
}

s64 layout_learn(u64 addr, u32 ident)
{
	struct ident *table = SHARED(IDENTS);
	struct abi_record *records = SCRATCH;
	s64 n;

	layout_forget();
	n = layout_read(records, SCRATCH_RECORDS, 0, 0, 0);
	for (s64 i = 0; i < n; i++) {
		if (records[i].start == addr && records[i].ident >= ABI_FIRST_NEW_IDENT) {
			u64 slot = ABI_LAST_FIXED_IDENT + 1 + records[i].ident - ABI_FIRST_NEW_IDENT;

			table[ident] = table[slot];
			return 0;
		}
	}
	return n < 0 ? n : -ENXIO;
}

void layout_forget(void)
{
	CTL(IDENTS) = 0;
	CTL(SEEN) = 0;
	CTL(CHANGED) = 0;
	CTL(IDENT_OVERFLOW) = 0;
}

const char *layout_number(const char *p, u64 *value)
{
	u64 v = 0;

	while (*p == ' ' || *p == '\t')
		p++;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (u64)(*p - '0');
	*value = v;
	return p;
}

s64 layout_vm_size(u64 *data)
{
	char text[128], *p;
	int spaces = 0;
	u64 size;
	s64 got = sys(pread64, ABI_FD_STATM, text, sizeof(text) - 1, 0);

	if (got <= 0)
		return got ? got : -EIO;
	text[got] = 0;
	/* size resident shared text lib data dt */
	for (p = text; *p && spaces < 5; p++)
		spaces += *p == ' ';
	layout_number(p, data);
	layout_number(text, &size);
	return size;
}
