/*
 * Raw system calls and the few helpers a program without libc needs. Knows nothing of programs
 * or layouts.
 */
#ifndef SYS_H
#define SYS_H

#include <asm/unistd.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;

/* Newer than some headers. */
#ifndef __NR_close_range
#define __NR_close_range 436
#endif
#ifndef __NR_mseal
#define __NR_mseal 462
#endif
#ifndef __NR_process_madvise
#define __NR_process_madvise 440
#endif

static inline s64 sys6(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 r10 asm("r10") = d;
	register u64 r8 asm("r8") = e;
	register u64 r9 asm("r9") = f;
	s64 ret;

	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

#define SYS_ARGS(nr, a, b, c, d, e, f, ...) \
	sys6(nr, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))
/* A raw system call; arguments left out are 0. */
#define sys(name, ...) SYS_ARGS(__NR_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* memory.c */
void *memset(void *to, int c, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n);

#endif
