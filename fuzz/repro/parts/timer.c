// needs: access
#include <sys/time.h>

/* From now on SIGPROF every so often (processor time); 0: no more. */
static void watch(long microseconds)
{
	struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };

	catch(SIGPROF);
	setitimer(ITIMER_PROF, &timer, NULL);
}
