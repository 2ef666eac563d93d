// needs: mount
static int new_overlay(void)
{
	close(new_root("tmpfs", "tmpfs", NULL));
	if (mkdir("/tmp/lower", 0700) || mkdir("/tmp/upper", 0700) || mkdir("/tmp/work", 0700))
		cannot("mkdir: %s", strerror(errno));
	return new_root("overlay", "overlay", "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work");
}
