/* The address space as records, and the counters that go with it. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "abi.gen.h"
#include "sys.h"

struct ident {
	u64 dev, ino;
};

/* All state lives in the shared memory: the executor has no memory of its own. */
#define CTL(name) (((volatile u64 *)ABI_SHARED_BASE)[CTL_##name])
#define SHARED(area) ((void *)(ABI_SHARED_BASE + ABI_##area##_OFFSET))
#define SCRATCH ((struct abi_record *)SHARED(SCRATCH))
#define SCRATCH_RECORDS (ABI_SCRATCH_SIZE / sizeof(struct abi_record))

/*
 * Read the whole layout into out[0..capacity). prev is the layout before, for names that need no
 * look-up. The filler is one record; only with `thorough` is each of its mappings looked at.
 * Returns the number of records, or -errno; -ENOSPC if they do not fit.
 */
s64 layout_read(struct abi_record *out, u64 capacity, const struct abi_record *prev,
		u64 prev_count, int thorough);

/* Parse one line of maps, without its newline. */
void layout_parse(const char *p, const char *end, struct abi_record *r);

/*
 * Whether *r is a mapping of the filler that continues the record before it, which it then joins;
 * n: how many records are before it.
 */
int layout_collapse(struct abi_record *r, u64 n);

/* Open what layout_read() and the counters read, and choose the reader. Returns 0 or -errno. */
s64 layout_open(void);

/* Give ident to the object of the one mapping that starts at addr. Returns 0 or -errno. */
s64 layout_learn(u64 addr, u32 ident);

/* Forget the objects that the last program made. */
void layout_forget(void);

/* VmSize, and VmData + VmStk in *data, in pages; -errno if they cannot be read. */
s64 layout_vm_size(u64 *data);

/* The decimal number behind blanks at p; returns what follows it. */
const char *layout_number(const char *p, u64 *value);

#endif
