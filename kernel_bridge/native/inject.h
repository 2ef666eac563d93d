/* Allocations that are made to fail (/proc/self/fail-nth). Knows nothing of calls. */
#ifndef INJECT_H
#define INJECT_H

#include "layout.h"

/* Open the file that says which fails, if this kernel has it. */
void inject_open(void);

/* Which allocation of the next call is to fail, counted from 1. Returns 0 or -errno. */
s64 inject_next(u64 nth);

/* From here on allocations are counted. */
void inject_arm(void);

/* No more. Returns whether one failed. */
int inject_disarm(void);

#endif
