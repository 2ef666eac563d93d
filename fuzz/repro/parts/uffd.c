// needs: base
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
