// needs: object
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* The root of a new file system, which nobody else sees. */
static int new_root(const char *kind, const char *source, const char *options)
{
	static int is_private;

	if (!is_private && (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)))
		cannot("only root can mount: %s", strerror(errno));
	is_private = 1;
	mkdir("/tmp", 01777);
	if (mount(source, "/tmp", kind, 0, options))
		cannot("mounting %s: %s", kind, strerror(errno));
	return need(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "/tmp");
}
