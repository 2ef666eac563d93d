// needs: words, wordat
static void put_contents(unsigned long signal)
{
	if (signal)
		put("%s", signal == SIGSEGV ? "SIGSEGV" : signal == SIGBUS ? "SIGBUS" : "endless");
	else
		put_word(run.word);
}

/* What reading every page gives, where that is not zero; of the first 512 pages. */
static const char *contents(void)
{
	struct reader *r = open_lines("/proc/self/maps");
	unsigned long left = 512, word;
	struct mapping m;

	used = view[0] = 0;
	watch(20000);
	while (next_mapping(r, &m)) {
		if (is_opaque(&m))
			continue;
		for (; m.start < m.end && left; m.start += PAGE, left--) {
			word = word_at(&m, m.start);
			if (word || outcome)
				add_page(m.start, outcome, word, put_contents);
		}
	}
	watch(0);
	put_run(put_contents);
	return view;
}
