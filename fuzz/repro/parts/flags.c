// needs: text, maps
/* The VmFlags of each mapping (/proc/self/smaps), in one order. */
static const char *flags(void)
{
	static const char codes[] = CODES;
	struct reader *r = open_lines("/proc/self/smaps");
	struct mapping m, here = { 0 };
	char *line, word[5] = " xx ";

	used = view[0] = 0;
	while ((line = next_line(r))) {
		size_t known = 8;

		if (parse_mapping(line, &m)) {
			here = m;
			continue;
		}
		if (strncmp(line, "VmFlags:", 8) || is_own(&here) || is_filler_part(&here))
			continue;
		put_address(here.start);
		for (const char *code = codes; *code; code += 2) {
			memcpy(word + 1, code, 2);
			if (strstr(line, word)) {
				put(" %.2s", code);
				known += 3;
			}
		}
		put("%s\n", known + 1 < strlen(line) ? " ??" : "");
	}
	close(r->fd);
	return view;
}
