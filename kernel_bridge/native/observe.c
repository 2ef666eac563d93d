/*
 * What a step shows besides its result and the layout: VmFlags, counters, page tables, contents. Knows nothing of
 * calls.
 */
#include <linux/errno.h>

#include "filler.h"
#include "observe.h"

#define PM_PRESENT (1ULL << 63)
#define PM_SWAP (1ULL << 62)
#define PM_FILE (1ULL << 61)
#define PM_GUARD (1ULL << 58)
#define PM_WP (1ULL << 57)
#define PAGEMAP_WORDS (ABI_PAGEMAP_SIZE / sizeof(u64))
#define VALUE_BITS 56

int observe_is_own(const struct abi_record *r)
{
	if (r->ident == ABI_IDENT_IMAGE || r->ident == ABI_IDENT_SHARED)
		return 1;
	for (u64 k = 0; k < CTL(BASE_COUNT); k++)
		if (r->start >= BASE[k].start && r->end <= BASE[k].end)
			return 1;
	return 0;
}

/* Whether a mapping is the executor's own, or of an object whose contents mean nothing. */
static int is_opaque(const struct abi_record *r)
{
	if (r->ident && r->ident <= ABI_LAST_FIXED_IDENT && !(CTL(CONTENTS) >> r->ident & 1))
		return 1;
	return r->name == ABI_NAME_FILLER || observe_is_own(r);
}

/* Whether which of its pages are present follows from the calls. */
static int is_resident(const struct abi_record *r)
{
	return !r->ident || r->ident > ABI_LAST_FIXED_IDENT || CTL(RESIDENT) >> r->ident & 1;
}

int observe_is_telling(const struct abi_record *r, u64 count, u64 page)
{
	u64 *map = SHARED(PAGEMAP);

	for (u64 i = 0; i < count; i++, r++) {
		if (page < r->start / ABI_PAGE || page >= r->end / ABI_PAGE)
			continue;
		if (observe_is_own(r) || is_resident(r))
			return 1;
		if (is_opaque(r) ||
		    sys(pread64, ABI_FD_PAGEMAP, map, sizeof(u64), page * sizeof(u64)) != sizeof(u64))
			return 0;
		return map[0] & PM_PRESENT && !(map[0] & PM_FILE);
	}
	return 0;
}

/* The first word of a page, as an entry's upper bits; the outcome in the lower ones. */
static u64 read_page(const struct abi_record *r, u64 addr)
{
	u64 outcome = ABI_TOUCH_OK;

	CTL(WORD) = 0;
	if (r->perms & ABI_PERM_READ)
		outcome = touch_word(addr, 0, 0);
	else if (sys(pread64, ABI_FD_MEM, &CTL(WORD), sizeof(u64), addr) != sizeof(u64))
		outcome = ABI_TOUCH_SIGSEGV;
	return outcome ? outcome : CTL(WORD) << (64 - VALUE_BITS);
}

static int starts(const char *p, const char *key)
{
	while (*key && *p == *key) {
		p++;
		key++;
	}
	return !*key;
}

s64 observe_counters(struct abi_counters *out)
{
	static const struct {
		char key[8];
		u8 length, place;
	} keys[] = { { "VmLck:", 6, 0 }, { "VmData:", 7, 1 }, { "VmStk:", 6, 2 },
		     { "VmExe:", 6, 3 }, { "VmLib:", 6, 3 } };
	char *text = SHARED(TEXT);
	u64 *words = (u64 *)out, value;
	s64 got = sys(pread64, ABI_FD_STATUS, text, 4095, 0);

	if (got <= 0)
		return got ? got : -EIO;
	text[got] = 0;
	memset(out, 0, sizeof(*out));
	for (const char *p = text; *p; p++) {
		if (*p == 'V' && p[1] == 'm')
			for (u64 i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
				if (starts(p, keys[i].key)) {
					p = layout_number(p + keys[i].length, &value);
					words[keys[i].place] += value / (ABI_PAGE / 1024);
					break;
				}
		while (*p && *p != '\n')
			p++;
		if (!*p)
			break;
	}
	return 0;
}

/* The bits of "VmFlags: rd wr ..." up to the end of the line. */
static u64 parse_flags(const char *p)
{
	static const char codes[] = ABI_CODES;
	u64 flags = 0;

	for (; *p != '\n'; p++) {
		u64 i = 0;

		if (*p == ' ')
			continue;
		while (i < ABI_NR_CODES - 1 && (codes[2 * i] != p[0] || codes[2 * i + 1] != p[1]))
			i++;
		flags |= 1ULL << i;
		p++;
	}
	return flags;
}

s64 observe_flags(u64 *out, const struct abi_record *records, u64 count, int *same, u64 *locked)
{
	char *text = SHARED(TEXT), *from;
	u64 have = 0, at = 0, n = 0;
	static const char codes[] = ABI_CODES;
	struct abi_record last = { 0 };
	u64 lo = 0, pages = 0;
	int ours = 0;

	while (codes[2 * lo] != 'l' || codes[2 * lo + 1] != 'o')
		lo++;
	*same = 1;
	*locked = 0;
	for (;;) {
		s64 got = sys(pread64, ABI_FD_SMAPS, text + have, ABI_TEXT_SIZE - 1 - have, at);

		if (got < 0)
			return got;
		if (!got)
			break;
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
			if (*from >= 'A' && *from <= 'Z') {
				if (ours && n && n <= count && starts(from, "VmFlags:")) {
					u64 flags = parse_flags(from + 8);

					if (flags >> lo & 1)
						*locked += pages;
					/* Those of the filler differ from page to page. */
					out[n - 1] = records[n - 1].name == ABI_NAME_FILLER ? 0 : flags;
				}
			} else {
				struct abi_record r[2] = { { 0 } };

				layout_parse(from, end, r + 1);
				/* [vsyscall] is not part of any address space. */
				ours = !(r[1].start >> 63);
				pages = (r[1].end - r[1].start) / ABI_PAGE;
				*r = last;
				if (ours && !layout_collapse(r + 1, n)) {
					if (n && n <= count && !same_records(r, records + n - 1, 1))
						*same = 0;
					*r = r[1];
					n++;
				}
				if (ours)
					last = *r;
			}
			from = end + 1;
		}
		have = text + have - from;
		for (u64 i = 0; i < have; i++)
			text[i] = from[i];
	}
	if (n != count || (n && n <= count && !same_records(&last, records + n - 1, 1)))
		*same = 0;
	for (; n < count; n++)
		out[n] = 0;
	return 0;
}

s64 observe_pages(struct abi_entry *out, u64 capacity, const struct abi_record *r, u64 count)
{
	u64 *map = SHARED(PAGEMAP), n = 0;

	for (u64 i = 0; i < count; i++, r++) {
		if (is_opaque(r))
			continue;
		for (u64 page = r->start / ABI_PAGE; page < r->end / ABI_PAGE;) {
			u64 left = r->end / ABI_PAGE - page;
			u64 want = (left < PAGEMAP_WORDS ? left : PAGEMAP_WORDS) * sizeof(u64);
			s64 got = sys(pread64, ABI_FD_PAGEMAP, map, want, page * sizeof(u64));

			if (got <= 0)
				return got ? got : -EIO;
			for (u64 k = 0; k < got / sizeof(u64); k++, page++) {
				u64 bits = 0;

				if (!(map[k] & (PM_PRESENT | PM_SWAP | PM_GUARD | PM_WP)))
					continue;
				if (map[k] & PM_PRESENT && map[k] & PM_FILE && !is_resident(r))
					continue;
				if (n == capacity)
					return -ENOSPC;
				bits |= map[k] & PM_PRESENT ? ABI_PAGE_PRESENT : 0;
				bits |= map[k] & PM_GUARD ? ABI_PAGE_GUARD : 0;
				bits |= map[k] & PM_WP ? ABI_PAGE_WP : 0;
				if (!(bits & (ABI_PAGE_PRESENT | ABI_PAGE_GUARD)) && map[k] & PM_SWAP)
					bits |= map[k] & PM_WP ? 0 : ABI_PAGE_SWAPPED;
				if (bits & ABI_PAGE_PRESENT)
					bits |= (map[k] & PM_FILE ? ABI_PAGE_FILE : 0) |
						(read_page(r, page * ABI_PAGE) & ~0xffULL);
				out[n++] = (struct abi_entry){ page, bits };
			}
		}
	}
	return n;
}

s64 observe_contents(struct abi_entry *out, u64 capacity, const struct abi_record *r, u64 count)
{
	u64 budget = ABI_CONTENT_PAGES, n = 0;

	for (u64 i = 0; i < count; i++, r++) {
		if (is_opaque(r))
			continue;
		for (u64 addr = r->start; addr < r->end && budget; addr += ABI_PAGE, budget--) {
			u64 value = read_page(r, addr);

			if (!value)
				continue;
			if (n == capacity)
				return -ENOSPC;
			out[n++] = (struct abi_entry){ addr / ABI_PAGE, value };
		}
	}
	return n;
}
