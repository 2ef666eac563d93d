// needs: object
#include <sys/socket.h>

/* An XDP socket that is bound to no device, with a ring for what it receives. */
static int new_xdp_ring(void)
{
	int entries = 256, fd = need(socket(44 /* AF_XDP */, SOCK_RAW | SOCK_CLOEXEC, 0), "an XDP socket");

	if (setsockopt(fd, 283 /* SOL_XDP */, 2 /* XDP_RX_RING */, &entries, sizeof(entries)))
		cannot("XDP_RX_RING: %s", strerror(errno));
	return fd;
}
