// needs: base
#include <sys/wait.h>

/* The child that has looked at its memory found it as it should be. */
static void child_agrees(int child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		cannot("the child is gone");
	if (WEXITSTATUS(status))
		_exit(WEXITSTATUS(status));
}
