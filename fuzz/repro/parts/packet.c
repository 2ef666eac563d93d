// needs: object
#include <linux/if_packet.h>
#include <sys/socket.h>

/* A packet socket that no packet reaches, with a ring for those. */
static int new_packet_ring(void)
{
	struct tpacket_req ring = { PAGE, 4, PAGE / 2, 8 };
	int fd = need(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "a packet socket");

	if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
		cannot("PACKET_RX_RING: %s", strerror(errno));
	return fd;
}
