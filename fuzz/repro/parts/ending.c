// needs: access, timer
/* Give up a call after a while: it would go on for ever. */
#define ending(call) (watch(20000), ended(sigsetjmp(faulted, 0) ? (errno = ETIME, -1) : (long)(call)))

static long ended(long value)
{
	watch(0);
	return value;
}
