// needs: text, layout
#define WRITTEN(call, address) ((unsigned long)(call) << 36 | (unsigned long)(address) / PAGE)

/* Pages in a row that are alike. */
static struct run {
	unsigned long start, count, bits, word;
} run;

static void put_word(unsigned long word)
{
	if (!word) {
		put("zero");
	} else if (word >> 52 == 0xf) {
		put("page %lu of %s", word & 0xffffffff, objects[word >> 32 & 63].name);
	} else if (word >> 36) {
		put("written by call %lu at ", word >> 36);
		put_address((word & ((1UL << 36) - 1)) * PAGE);
	} else {
		put("%#lx", word);
	}
}

static void put_run(void (*describe)(unsigned long bits))
{
	if (!run.count)
		return;
	put_address(run.start);
	put(" .. ");
	put_address(run.start + run.count * PAGE);
	put(" ");
	describe(run.bits);
	put("\n");
	run.count = 0;
}

static void add_page(unsigned long address, unsigned long bits, unsigned long word,
		     void (*describe)(unsigned long bits))
{
	if (!run.count || address != run.start + run.count * PAGE || bits != run.bits ||
	    word != run.word + (run.word >> 36 ? run.count : 0)) {
		put_run(describe);
		run = (struct run){ address, 0, bits, word };
	}
	run.count++;
}

static int is_opaque(const struct mapping *m)
{
	return is_own(m) || is_filler_part(m) || objects[object_of(m)].opaque;
}
