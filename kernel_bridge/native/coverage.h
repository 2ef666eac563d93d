/* Which blocks of the kernel programs reach (Documentation/dev-tools/kcov.rst). Knows nothing of calls. */
#ifndef COVERAGE_H
#define COVERAGE_H

#include "layout.h"

/* From here on blocks are written down, and no more. */
void coverage_begin(void);
void coverage_end(void);

/*
 * Say in a result how many of those written down since this was last asked nobody had reached before, and how many are
 * watched. Maps memory for a while, so that nothing of a program may be left.
 */
void coverage_take(struct abi_result *result);

#endif
