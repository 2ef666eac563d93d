#include "coverage.h"

/* include/uapi/linux/kcov.h */
#define KCOV_ENABLE 0x6364
#define KCOV_DISABLE 0x6365
#define KCOV_TRACE_PC 0

#define BITS (ABI_COVERAGE_SIZE * 8)
/* 2^64 over the golden ratio: what is near each other goes far apart. */
#define SPREAD 0x9e3779b97f4a7c15ULL

void coverage_begin(void)
{
	if (CTL(KCOV))
		sys(ioctl, ABI_FD_KCOV, KCOV_ENABLE, KCOV_TRACE_PC);
}

void coverage_end(void)
{
	if (CTL(KCOV))
		sys(ioctl, ABI_FD_KCOV, KCOV_DISABLE, 0);
}

u32 coverage_take(void)
{
	u64 size = ABI_KCOV_WORDS * sizeof(u64), *words, count;
	u64 *seen = SHARED(COVERAGE);
	u32 fresh = 0;
	s64 at;

	if (!CTL(KCOV))
		return 0;
	at = sys(mmap, ABI_KCOV_BASE, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 ABI_FD_KCOV, 0);
	if (at != ABI_KCOV_BASE)
		return 0;
	words = (u64 *)at;
	count = words[0] < ABI_KCOV_WORDS ? words[0] : ABI_KCOV_WORDS - 1;
	for (u64 i = 1; i <= count; i++) {
		u64 bit = (words[i] * SPREAD) % BITS;

		fresh += !(seen[bit / 64] >> bit % 64 & 1);
		seen[bit / 64] |= 1ULL << bit % 64;
	}
	words[0] = 0;
	sys(munmap, ABI_KCOV_BASE, size);
	return fresh;
}
