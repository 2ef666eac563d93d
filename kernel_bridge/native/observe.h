/* What a step shows besides its result and the layout. All but observe_contents() change nothing. */
#ifndef OBSERVE_H
#define OBSERVE_H

#include "executor.h"

/* Whether a mapping is one of the executor's own, or another of what they map. */
int observe_is_own(const struct abi_record *r);

/*
 * Whether mincore() of a page says what follows from the calls: the residency of its mapping does,
 * or it is a private copy.
 */
int observe_is_telling(const struct abi_record *r, u64 count, u64 page);

/* VmLck, VmData, VmStk, VmExe + VmLib in pages. Returns 0 or -errno. */
s64 observe_counters(struct abi_counters *out);

/*
 * VmFlags of each of the records, from smaps. same: whether smaps shows these very records; locked:
 * pages of those that are locked. Returns 0 or -errno.
 */
s64 observe_flags(u64 *out, const struct abi_record *records, u64 count, int *same, u64 *locked);

/*
 * The page table entries of the mappings whose contents are compared. Returns how many, -ENOSPC if
 * they do not fit, or -errno.
 */
s64 observe_pages(struct abi_entry *out, u64 capacity, const struct abi_record *r, u64 count);

/*
 * What reading them gives, page by page: the pages that cannot be read and those that are not zero.
 * It faults pages in.
 */
s64 observe_contents(struct abi_entry *out, u64 capacity, const struct abi_record *r, u64 count);

#endif
