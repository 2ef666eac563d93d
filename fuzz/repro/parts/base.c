// needs:
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define at(address) ((void *)(unsigned long)(address))

/* What a call returned, as the kernel did: -errno for an error. */
#define raw(call) raw_value((long)(call))

static inline long raw_value(long value)
{
	return value == -1 ? -errno : value;
}

static void __attribute__((noreturn, format(printf, 1, 2), unused)) cannot(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	dprintf(OUT, "cannot run here: ");
	vdprintf(OUT, format, arguments);
	dprintf(OUT, "\n");
	_exit(CANNOT);
}
