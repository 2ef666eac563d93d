// needs: alone
/* setrlimit(2) of a soft limit; that of data with room for this program's own. */
static int set_limit(int resource, unsigned long soft)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		return -1;
	limit.rlim_cur = resource == RLIMIT_DATA && soft && !(soft >> 62) ? soft + own_data : soft;
	return setrlimit(resource, &limit);
}
