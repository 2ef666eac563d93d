/*
 * mremap[MAYMOVE,FIXED,shrink] layout: extra mapping in model
 *
 * kernel   6.16.12+deb13-cloud-amd64 x86_64
 * model    6.17
 * verdict  they differ at call 3 in its layout
 *
 * layout
 *             W+0 W+2
 *             ' ' ' '
 *   before    a . a
 *   expected  a . a
 *   found     a . .
 *
 *     a rw-p anonymous
 *
 * records that differ (- model only, + kernel only)
 *   - W+2 .. W+3               1p rw-p anonymous
 *
 * cc -O1 -Wall -Wextra -o repro repro.c && ./repro
 * exit status: 0 all is as expected, 1 it is not, 2 it cannot run here
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE_SHIFT 12
#define PAGE (1L << PAGE_SHIFT)
#define W 0x200000000L /* the window that the calls aim at */
#define WINDOW_PAGES 4096L
#define OUT 1
#define CANNOT 2

#define at(address) ((void *)(unsigned long)(address))

/* What a call returned, as the kernel did: -errno for an error. */
#define raw(call) raw_value((long)(call))

static inline long raw_value(long value)
{
	return value == -1 ? -errno : value;
}

static void __attribute__((noreturn, format(printf, 1, 2), unused)) cannot(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	dprintf(OUT, "cannot run here: ");
	vdprintf(OUT, format, arguments);
	dprintf(OUT, "\n");
	_exit(CANNOT);
}

static char view[1 << 16];
static size_t used;

/* Add to the text that is being made. */
static void __attribute__((format(printf, 1, 2))) put(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	used += vsnprintf(view + used, sizeof(view) - used, format, arguments);
	va_end(arguments);
	if (used >= sizeof(view))
		cannot("a text is too long");
}

/* Add an address: as one of the names above, plus pages. */
static void put_address(unsigned long address)
{
	static const struct {
		char name;
		long low, high;
	} bases[] = { { 'W', -262144, 262144 } };
	const unsigned long starts[] = { W };

	for (unsigned int i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		long pages = (long)(address - starts[i]) >> PAGE_SHIFT;

		if (pages < bases[i].low || pages > bases[i].high)
			continue;
		put("%c%+ld", bases[i].name, pages);
		if (address % PAGE)
			put("+%#lx", address % PAGE);
		return;
	}
	put("%#lx", address);
}

static void __attribute__((unused)) put_result(long value)
{
	if (value < 0 && value > -4096)
		put("-1 (%s)", strerror(-value));
	else if (value >= 0 && value < (long)PAGE)
		put("%ld", value);
	else
		put_address(value);
}

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

/* What is outside the window is not looked at. */
static int is_own(const struct mapping *m)
{
	return m->start < W || m->start >= W + WINDOW_PAGES * PAGE;
}

#define is_filler(m) 0
#define is_filler_part(m) 0
#define filler_size 0

#define watch(microseconds)

static int calls_made;
static const char *last_call = "nothing";

/* The result of a call must be `want`. */
#define is(call, want) check_result(#call, raw(call), (long)(want))

static void check_result(const char *call, long found, long want)
{
	calls_made++;
	last_call = call;
	if (found == want)
		return;
	used = 0;
	put_result(want);
	put(", found ");
	put_result(found);
	dprintf(OUT, "diverges in call %d, %s: expected %s\n", calls_made, call, view);
	_exit(1);
}

/* A text about this process must be `want`, line by line. */
#define same(found, want) check_text(#found, found, want)

static void check_text(const char *what, const char *found, const char *want)
{
	int have, should;

	while (*found || *want) {
		have = strcspn(found, "\n");
		should = strcspn(want, "\n");
		if (have != should || memcmp(found, want, have)) {
			dprintf(OUT, "diverges after call %d, %s: %s: expected \"%.*s\", found \"%.*s\"\n",
				calls_made, last_call, what, should, want, have, found);
			_exit(1);
		}
		found += have + (found[have] == '\n');
		want += should + (want[should] == '\n');
	}
}

/* What the program maps, by its number in the model; from FIRST_NEW on what appears while it runs. */
#define FIRST_NEW 64
struct object {
	const char *name;
	unsigned long device, inode;
	int memory, opaque;
};
static struct object objects[FIRST_NEW + 256];
static int new_objects;

static int object_of(const struct mapping *m)
{
	int i;

	if (!m->device && !m->inode)
		return 0;
	for (i = 1; i < FIRST_NEW + new_objects; i++)
		if (objects[i].inode == m->inode && objects[i].device == m->device)
			return i;
	if (new_objects == 256)
		cannot("there are too many objects");
	objects[i].device = m->device;
	objects[i].inode = m->inode;
	objects[i].memory = 1;
	return FIRST_NEW + new_objects++;
}

static void put_object(const struct mapping *m)
{
	static const char *const names[] = { "[heap]", "[stack]", "[vdso]", "[vvar]", "[anon:]" };
	int object = object_of(m);

	if (object >= FIRST_NEW)
		put("shared anonymous #%d", object - FIRST_NEW + 1);
	else if (object)
		put("%s", objects[object].name);
	else if (!m->name[0])
		put("anonymous");
	else if (m->name[0] == '/')
		put("file");
	else
		for (int i = 0; i < 6; i++)
			if (i == 5 || !strncmp(m->name, names[i], strlen(names[i]) - 1)) {
				put("%s", i < 5 ? names[i] : "other");
				break;
			}
	if (object || m->offset)
		put(" offset %lup", m->offset / PAGE);
}

/* The mappings of this process, a line each. */
static const char *layout(void)
{
	struct reader *r = open_lines("/proc/self/maps");
	struct mapping m;

	used = view[0] = 0;
	while (next_mapping(r, &m)) {
		if (is_own(&m) || is_filler(&m))
			continue;
		put_address(m.start);
		put(" .. ");
		put_address(m.end);
		put(" %s ", m.permissions);
		put_object(&m);
		put("\n");
	}
	return view;
}

static void make_calls(void)
{
	const char *want;

	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);

	is(mmap(at(W), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1,
		0), W);
	want = "W+0 .. W+1 rw-p anonymous\n";
	same(layout(), want);

	is(mmap(at(W + 2 * PAGE), PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0), W + 2 * PAGE);
	want = "W+0 .. W+1 rw-p anonymous\n"
	       "W+2 .. W+3 rw-p anonymous\n";
	same(layout(), want);

	/* after this, 6.16.12+deb13-cloud-amd64 differs in: layout */
	is(mremap(at(W), 3 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(W + 4 * PAGE)),
		-EFAULT);
	same(layout(), want);

	dprintf(OUT, "agrees: %d calls\n", calls_made);
	_exit(0);
}

int main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	make_calls();
}
