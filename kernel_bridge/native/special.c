/*
 * SysV segments and secret memory: how they are told in a layout, and made as they were.
 */
#include <linux/mman.h>

#include "special.h"

#define IS_ERROR(value) ((value) < 0 && (value) > -4096)

s64 special_segment(u64 number)
{
	return number >= ABI_SEGMENTS ? -1 : (s64)(number ? CTL(SHM1) : CTL(SHM0)) - 1;
}

s64 special_learn(void)
{
	for (u64 i = 0; i < ABI_SEGMENTS; i++) {
		s64 at, err;

		if (special_segment(i) < 0)
			continue;
		at = sys(shmat, special_segment(i), 0, 0);
		if (IS_ERROR(at))
			return at;
		err = layout_learn(at, ABI_IDENT_SHM0 + i);
		sys(shmdt, at);
		if (err)
			return err;
	}
	return 0;
}

/* Secret memory has no write(), nor holes. */
static s64 rewrite(const struct abi_object *object)
{
	s64 at = sys(mmap, 0, object->size, PROT_READ | PROT_WRITE, MAP_SHARED, object->fd, 0);

	if (IS_ERROR(at))
		return at;
	for (u64 offset = 0; offset < object->size; offset += ABI_PAGE)
		*(volatile u64 *)(at + offset) = 0;
	return sys(munmap, at, object->size);
}

/* Make a segment one that nobody has written to. */
static s64 empty(u64 number)
{
	s64 at = sys(shmat, special_segment(number), 0, 0), err;

	if (IS_ERROR(at))
		return at;
	err = sys(munlock, at, ABI_SEGMENT_SIZE);
	if (!err)
		err = sys(madvise, at, ABI_SEGMENT_SIZE, MADV_REMOVE);
	sys(shmdt, at);
	return err;
}

s64 special_restore(void)
{
	const struct abi_object *object = SHARED(OBJECTS);
	u64 changed = CTL(SEEN) & CTL(CHANGED);
	s64 err = 0, failed = 0;

	for (; object->fd; object++)
		if (object->flags & ABI_OBJECT_UNWRITTEN && changed >> object->ident & 1 &&
		    (err = rewrite(object)))
			failed = err;
	for (u64 i = 0; i < ABI_SEGMENTS; i++)
		if (special_segment(i) >= 0 && CTL(SEEN) >> (ABI_IDENT_SHM0 + i) & 1 &&
		    (err = empty(i)))
			failed = err;
	return failed;
}
