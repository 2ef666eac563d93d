/* What the agent of a guest and the host say to each other; kernel_bridge/remote.py has the same. */
#ifndef AGENT_H
#define AGENT_H

#include "sys.h"

enum agent_kind {
	AGENT_HELLO = 1, /* from the agent: it is there; a word, whether it has a store */
	AGENT_CALL, /* make a system call; its result and the first bytes of its data */
	AGENT_WRITE, /* pieces of the shared memory; no answer */
	AGENT_RING, /* the executor's doorbell; the answer comes when it is done */
	AGENT_LOOK, /* what the shared memory says now */
	AGENT_START, /* start an executor; its pid or -errno */
	AGENT_END, /* kill it; its wait status */
	AGENT_ANSWER, /* from the agent: the executor rang back; what the shared memory says */
	AGENT_DIED, /* from the agent: it is gone; likewise */
	AGENT_TAKEN, /* from the agent on a terminal line: it has read another block */
	AGENT_FETCHED, /* from both: the body that lay in the store is read, another may be put there */
};

/* Bytes of a block. */
#define AGENT_BLOCK 1024
/* Beside a kind: the body is in the store. It has two halves, of messages to the agent and of those from it. */
#define AGENT_STORED 0x80000000U
#define AGENT_STORE_HALF (8ULL << 20)
/* Bodies that are smaller go through the line, where there is a store. */
#define AGENT_SMALL 2048

struct agent_header {
	u32 kind, size;
};

struct agent_call {
	u64 number, arguments[6];
	u32 buffers; /* bit n: argument n is an offset into the data */
	u32 reply; /* bytes of data that are sent back */
};

struct agent_start {
	u32 image, count;
	struct {
		u32 there, here;
	} pairs[];
};

#endif
