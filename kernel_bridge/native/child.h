/* fork(2) as a call of a program: its child reports what it sees, and ends. */
#ifndef CHILD_H
#define CHILD_H

#include "observe.h"

/* Fork, and wait for the child to end. Its report is in the child area. Returns 0 or -errno. */
s64 child_fork(void);

#endif
