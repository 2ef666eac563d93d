// needs: counts
/* How much of what is this program's own is locked (pages). */
static long own_locked(void)
{
	struct reader *r = open_lines("/proc/self/smaps");
	struct mapping m, here = { 0 };
	long pages = 0;
	char *line;

	while ((line = next_line(r))) {
		if (parse_mapping(line, &m))
			here = m;
		else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " lo ") && is_own(&here))
			pages += (here.end - here.start) / PAGE;
	}
	close(r->fd);
	return pages;
}

/* The kernel's counters, without what is this program's own (pages). */
static const char *counters(void)
{
	long now[6], locked = own_locked();

	count(now);
	for (int i = 0; i < 6; i++)
		now[i] -= i == 1 ? locked : own_pages[i];
	used = view[0] = 0;
	put("VmSize %ld\nVmLck %ld\nVmData %ld\nVmStk %ld\nVmExe + VmLib %ld\n",
	    now[0] - (long)(filler_size / PAGE), now[1], now[2], now[3], now[4] + now[5]);
	return view;
}
