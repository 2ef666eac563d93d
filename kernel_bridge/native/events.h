/* What uffd2 reports, in the shared memory: a process of its own reads it, for its events block who causes them. */
#ifndef EVENTS_H
#define EVENTS_H

#include "executor.h"

#define EVENT ((struct abi_event *)SHARED(EVENTS))
#define MAX_EVENTS (ABI_EVENTS_SIZE / sizeof(struct abi_event))

/*
 * A new process that calls fn on a stack of its own, whose top is at `top` bytes into the stack
 * area; fn does not return. Returns its pid or -errno.
 */
s64 spawn(u64 flags, u64 top, void (*fn)(void));

/* Start the reader unless it runs. The address space is the baseline. */
void events_start(void);

/* Wait until every event so far is in the shared memory. */
void events_drain(void);

/* End the reader, if there is one. */
void events_stop(void);

#endif
