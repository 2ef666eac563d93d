// needs: counts
/* How the kernel contradicts itself: nothing, if it does not. */
static const char *contradictions(void)
{
	struct reader *r = open_lines("/proc/self/smaps");
	struct mapping m, here = { 0 };
	long size = 0, locked = 0, now[6];
	char *line;

	while ((line = next_line(r))) {
		if (parse_mapping(line, &m)) {
			here = m;
			size += m.start >> 63 ? 0 : (m.end - m.start) / (unsigned long)PAGE;
		} else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " lo ")) {
			locked += (here.end - here.start) / PAGE;
		}
	}
	close(r->fd);
	count(now);
	used = view[0] = 0;
	if (now[0] != size)
		put("VmSize is %ld pages, all mappings together %ld\n", now[0], size);
	if (now[1] != locked)
		put("VmLck is %ld pages, all locked mappings together %ld\n", now[1], locked);
	return view;
}
