// needs: fail
#define failing(call) (arm(), disarm((long)(call)))
#define failing_touch(call) (touch(0, 0, 0, 0), (const char *)failing(call))

static void arm(void)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%lu", fail_number);

	if (fail_file >= 0 && pwrite(fail_file, text, length, 0) != length)
		cannot("fail-nth: %s", strerror(errno));
}

static long disarm(long value)
{
	int error = errno;

	while (fail_file >= 0 && pwrite(fail_file, "0", 1, 0) < 0 && errno == EFAULT)
		;
	errno = error;
	return value;
}
