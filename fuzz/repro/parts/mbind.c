// needs: base
#include <linux/mempolicy.h>
#include <sys/syscall.h>

/* mbind(2) with a mask of 64 nodes. */
static long bind_nodes(unsigned long start, unsigned long length, long mode, unsigned long nodes, long flags)
{
	return syscall(SYS_mbind, start, length, mode, &nodes, 65L, flags);
}
