// needs: object
#include <linux/perf_event.h>
#include <sys/syscall.h>

/* An event that counts nothing. */
static int new_event(void)
{
	struct perf_event_attr event = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(event), .config = PERF_COUNT_SW_DUMMY,
		.disabled = 1, .exclude_kernel = 1, .exclude_hv = 1,
	};

	return need(syscall(SYS_perf_event_open, &event, 0L, -1L, -1L, PERF_FLAG_FD_CLOEXEC), "perf_event_open");
}
