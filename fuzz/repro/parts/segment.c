// needs: object
#include <sys/shm.h>

/* A SysV segment of 16 pages, which a child keeps while this process lives. */
static int new_segment(int number, const char *name)
{
	int id = need(shmget(IPC_PRIVATE, 16 * PAGE, 0777), "shmget"), ends[2];
	void *address = shmat(id, NULL, 0);
	char byte;

	remember(number, name, (unsigned long)address, 1, 0);
	need(pipe2(ends, O_CLOEXEC), "pipe2");
	if (!need(fork(), "fork")) {
		close(ends[1]);
		_exit(read(ends[0], &byte, 1));
	}
	close(ends[0]);
	shmdt(address);
	shmctl(id, IPC_RMID, NULL);
	return id;
}
