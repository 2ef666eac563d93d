// needs: object
#include <linux/io_uring.h>
#include <sys/syscall.h>

static int new_ring(void)
{
	struct io_uring_params parameters = { 0 };

	return need(syscall(SYS_io_uring_setup, 128L, &parameters), "io_uring_setup");
}
