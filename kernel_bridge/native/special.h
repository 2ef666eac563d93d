/*
 * SysV segments, which have no descriptor, and memory that can be written to only where it is mapped.
 */
#ifndef SPECIAL_H
#define SPECIAL_H

#include "layout.h"

/* The identifier of a segment, -1 if there is none. */
s64 special_segment(u64 number);
/* Learn which inodes the segments are. Returns 0 or -errno. */
s64 special_learn(void);
/* Make what a program may have written to zero again. Returns 0 or -errno of the last that cannot be. */
s64 special_restore(void);

#endif
