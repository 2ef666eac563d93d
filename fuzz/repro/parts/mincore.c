// needs: words
#include <stdint.h>

/* Whether a page is present follows from the calls: it is memory, or a private copy. */
static int is_telling(unsigned long page)
{
	struct reader *r = open_lines("/proc/self/maps");
	uint64_t entry = 0;
	struct mapping m;
	int object, pagemap;

	do {
		if (!next_mapping(r, &m))
			return 0;
	} while (page < m.start / PAGE || page >= m.end / PAGE);
	close(r->fd);
	object = object_of(&m);
	if (!object || objects[object].memory)
		return 1;
	if (objects[object].opaque)
		return 0;
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pread(pagemap, &entry, 8, page * 8) != 8)
		entry = 0;
	close(pagemap);
	return entry >> 63 && !(entry >> 61 & 1);
}

static unsigned char resident_first[62];

/* mincore(2) of all pages. */
static long look(unsigned long address, unsigned long length)
{
	static unsigned char vector[1 << 16];
	const unsigned long most = sizeof(vector) * PAGE;
	unsigned long done = 0, piece;

	do {
		piece = length - done < most ? length - done : most;
		if (mincore(at(address + done), piece, vector))
			return -1;
		if (!done)
			memcpy(resident_first, vector, sizeof(resident_first));
		done += piece;
	} while (done < length);
	return 0;
}

/* What it said of the first 62 pages, as bits. */
static long resident_after(long looked, unsigned long address, unsigned long length)
{
	unsigned long pages = (length + PAGE - 1) / PAGE;
	long bits = 0;

	if (looked)
		return -1;
	for (unsigned long i = 0; i < pages && i < 62; i++)
		if (resident_first[i] & 1 && is_telling(address / PAGE + i))
			bits |= 1L << i;
	return bits;
}

#define resident(address, length) resident_after(look(address, length), address, length)
