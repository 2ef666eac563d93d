// needs: base
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
	} bases[] = { ANCHORS };
	const unsigned long starts[] = { ANCHOR_STARTS };

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
