// needs: words, wordat
#include <stdint.h>

#define PRESENT 1
#define FILE_PAGE 2
#define GUARD 4
#define PROTECTED 8
#define SWAPPED 16

static void put_bits(unsigned long bits)
{
	static const char *const names[] = { "present", "file", "guard", "write-protected", "swapped" };

	for (int i = 0, some = 0; i < 5; i++)
		if (bits >> i & 1)
			put("%s%s", some++ ? " " : "", names[i]);
	if (bits & PRESENT) {
		put(", ");
		put_word(run.word);
	}
}

/* Page table entries, and the first word of what is present (/proc/self/pagemap). */
static const char *pages(void)
{
	struct reader *r = open_lines("/proc/self/maps");
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	static uint64_t entries[512];
	struct mapping m;

	used = view[0] = 0;
	while (next_mapping(r, &m)) {
		if (is_opaque(&m))
			continue;
		for (unsigned long page = m.start / PAGE, n = 0; page < m.end / PAGE; page += n) {
			unsigned long left = m.end / PAGE - page;
			ssize_t got = pread(pagemap, entries, (left < 512 ? left : 512) * 8, page * 8);

			if (got <= 0)
				cannot("/proc/self/pagemap: %s", strerror(errno));
			n = got / 8;
			for (unsigned long i = 0; i < n; i++) {
				uint64_t e = entries[i];
				int present = e >> 63, file = present && e >> 61 & 1, guard = e >> 58 & 1, wp = e >> 57 & 1;
				unsigned long bits = present | file << 1 | guard << 2 | wp << 3;
				int object = object_of(&m);

				if (!present && !guard && !wp && e >> 62 & 1)
					bits = SWAPPED;
				if (!bits || (file && object && !objects[object].memory))
					continue;
				add_page((page + i) * PAGE, bits, present ? word_at(&m, (page + i) * PAGE) : 0,
					 put_bits);
			}
		}
	}
	put_run(put_bits);
	close(pagemap);
	return view;
}
