// needs: maps
#include <stdlib.h>

/* Huge pages come from a pool: there must be as many as the calls count on, or none at all. */
static void need_huge_pages(long pages)
{
	struct reader *r;
	char *line;
	long there;

	if (access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK)) {
		if (!pages)
			return;
		cannot("no huge pages of 2 MiB");
	}
	r = open_lines("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
	line = next_line(r);
	there = line ? strtol(line, NULL, 10) : 0;
	close(r->fd);
	if (!pages != !there || there < pages)
		cannot("%ld huge pages are free, %ld are needed: vm.nr_hugepages", there, pages);
}
