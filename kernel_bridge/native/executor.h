/*
 * The executor's two halves: start.c makes the process what it has to be, executor.c runs
 * programs in it.
 */
#ifndef EXECUTOR_H
#define EXECUTOR_H

#include "layout.h"

#define BASE ((struct abi_record *)SHARED(BASELINE))

void quit(int status) __attribute__((noreturn));
/* Report START_* and an errno of either sign, and end. */
void fail(u64 step, s64 err) __attribute__((noreturn));
/* Execute this program anew: the address space is gone, the process and the batch go on. */
void exec_self(void) __attribute__((noreturn));
int same_records(const struct abi_record *a, const struct abi_record *b, u64 count);

/*
 * Access a word: write `tag` to it, or read it into CTL(WORD). Returns ABI_TOUCH_*.
 */
int touch_word(u64 addr, u64 write, u64 tag);
/* Catch what a touch may raise. */
void catch_signals(void);
/*
 * Give the objects that a program may have changed their size and their data again. Returns 0 or -errno: some are
 * written to through mappings, for which what was left mapped may leave no room.
 */
s64 restore_objects(void);
/* Go on with a batch, or wait for one. */
void serve(void) __attribute__((noreturn));

#endif
