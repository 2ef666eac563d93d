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

/* The place of a block among those that are watched, or their number. */
static u64 place_of(u64 block, const u64 *watched, u64 count)
{
	u64 low = 0, high = count;

	if (!count || block < watched[0] || block > watched[count - 1])
		return count;
	while (low < high) {
		u64 middle = (low + high) / 2;

		if (watched[middle] < block)
			low = middle + 1;
		else
			high = middle;
	}
	return watched[low] == block ? low : count;
}

void coverage_take(struct abi_result *result)
{
	u64 size = ABI_KCOV_WORDS * sizeof(u64), *words, count, watching = CTL(WATCHED);
	u64 *seen = SHARED(COVERAGE), *watched = SHARED(WATCHED);
	u64 *here = SHARED(REACHED);
	u16 *hits = (u16 *)(here + ABI_MAX_WATCHED / 64);
	s64 at;

	if (!CTL(KCOV))
		return;
	at = sys(mmap, ABI_KCOV_BASE, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 ABI_FD_KCOV, 0);
	if (at != ABI_KCOV_BASE)
		return;
	if (watching)
		memset(here, 0, ABI_MAX_WATCHED / 8);
	words = (u64 *)at;
	count = words[0] < ABI_KCOV_WORDS ? words[0] : ABI_KCOV_WORDS - 1;
	for (u64 i = 1; i <= count; i++) {
		u64 bit = (words[i] * SPREAD) % BITS, place;

		result->fresh += !(seen[bit / 64] >> bit % 64 & 1);
		seen[bit / 64] |= 1ULL << bit % 64;
		place = place_of(words[i], watched, watching);
		if (place == watching || here[place / 64] >> place % 64 & 1)
			continue;
		here[place / 64] |= 1ULL << place % 64;
		if (!result->near++ || hits[place] < result->rarest)
			result->rarest = hits[place];
		hits[place] += hits[place] < ABI_MAX_HITS;
	}
	words[0] = 0;
	sys(munmap, ABI_KCOV_BASE, size);
}
