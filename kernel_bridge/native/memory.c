/*
 * What C expects of memory, for programs without libc: the compiler may call these too.
 */
#include "sys.h"

void *memcpy(void *to, const void *from, unsigned long n)
{
	void *ret = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return ret;
}

void *memset(void *to, int c, unsigned long n)
{
	void *ret = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return ret;
}

void *memmove(void *to, const void *from, unsigned long n)
{
	u8 *d = (u8 *)to + n - 1;
	const u8 *s = (const u8 *)from + n - 1;

	if ((u64)to <= (u64)from)
		return memcpy(to, from, n);
	asm volatile("std; rep movsb; cld" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	return to;
}
