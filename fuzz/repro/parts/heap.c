// needs: alone
#include <linux/prctl.h>

/* Let the heap begin at B, and data be as long as where limits of it are counted in pages of the calls alone. */
static void place_heap(void)
{
	struct reader *r = open_lines("/proc/self/stat");
	char *word = strrchr(next_line(r), ')'), *rest;
	unsigned long fields[52] = { 0 };
	struct prctl_mm_map map;

	word = strtok_r(word + 2, " ", &rest);
	for (int i = 3; word && i < 52; i++, word = strtok_r(NULL, " ", &rest))
		fields[i] = strtoul(word, NULL, 10);
	close(r->fd);
	map = (struct prctl_mm_map){
		.start_code = fields[26], .end_code = fields[27], .start_stack = fields[28],
		.start_data = fields[45], .end_data = fields[45] + DATA_SEGMENT + own_data,
		.start_brk = B, .brk = B,
		.arg_start = fields[48], .arg_end = fields[49], .env_start = fields[50], .env_end = fields[51],
		.exe_fd = -1,
	};
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0))
		cannot("PR_SET_MM_MAP: %s", strerror(errno));
}
