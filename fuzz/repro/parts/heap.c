// needs: alone
/* Let the heap begin at B; libc has what was before. */
static void place_heap(void)
{
	extern char __data_start[];

	if (prctl(PR_SET_MM, PR_SET_MM_BRK, B, 0, 0) || prctl(PR_SET_MM, PR_SET_MM_START_BRK, B, 0, 0) ||
	    prctl(PR_SET_MM, PR_SET_MM_START_DATA, __data_start, 0, 0) ||
	    prctl(PR_SET_MM, PR_SET_MM_END_DATA, __data_start + DATA_SEGMENT + own_data, 0, 0))
		cannot("PR_SET_MM, which needs CAP_SYS_RESOURCE: %s", strerror(errno));
}
