/*
 * The filler: so many mappings of one page that few are left below vm.max_map_count. Layouts show
 * it as one record.
 */
#ifndef FILLER_H
#define FILLER_H

#include "layout.h"

/*
 * Map the filler from addr on, without access, until `spare` mappings are left; r: the layout
 * before. RLIMIT_AS is raised by its size. Returns 0 or -errno.
 */
s64 filler_make(u64 addr, u64 spare, const struct abi_record *r, u64 count);

/* Whether [start, end) is one of its mappings, as it was made. */
static inline int filler_holds(u64 start, u64 end)
{
	return start >= CTL(FILL_START) && end <= CTL(FILL_END) && end - start == ABI_PAGE;
}

#endif
