// needs: alone
/* setrlimit(2) of a soft limit, with room for what is this program's own. */
static int set_limit(int resource, unsigned long soft)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		return -1;
	limit.rlim_cur = soft >> 62 ? soft : soft + own_bytes(resource);
	return setrlimit(resource, &limit);
}
