// needs: mount, memory_file
#include <linux/loop.h>
#include <sys/ioctl.h>

/* A file system on a disk in memory. */
static int new_disk(const char *kind, const char *mkfs, unsigned long mebibytes)
{
	struct loop_config config = { .fd = memory_file(0, mebibytes << 20) };
	int control = need(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "/dev/loop-control"), device = -1;
	char path[32], command[128];

	snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin; %s /proc/%d/fd/%d >/dev/null 2>&1", mkfs,
		 getpid(), config.fd);
	if (system(command))
		cannot("%s failed", mkfs);
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	for (int i = 0; i < 20 && device < 0; i++) {
		snprintf(path, sizeof(path), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		device = need(open(path, O_RDWR | O_CLOEXEC), path);
		if (!ioctl(device, LOOP_CONFIGURE, &config))
			break;
		close(device);
		device = -1;
	}
	need(device, "a loop device");
	return new_root(kind, path, NULL);
}
