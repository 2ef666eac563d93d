// SPDX-License-Identifier: Apache-2.0
/*
 * Asks a kernel's mm/vma.c, built for user space by its own tools/testing/vma, what it merges (see fuzz/third.py).
 * It takes the place of main.c there.
 *
 * Lines of standard input, numbers in hexadecimal, files and anon_vmas by number, 0 for none:
 *
 *   vma START END PGOFF ANON_PGOFF FLAGS FILE ANON_VMA ANONYMOUS      is there
 *   new START END PGOFF ANON_PGOFF FLAGS FILE ANON_VMA COPIED_FROM    is mapped; copied from the VMA at an address, or 0
 *   set START END FLAGS                                               gets other flags
 *
 * `new` and `set` are answered by the START and END of the VMA that the range is part of then, and end a question.
 */
#include "shared.h"
#include "../../../mm/vma_init.c"
#include "../../../mm/vma_exec.c"
#include "../../../mm/vma.c"

#define MOST 64

int sysctl_max_map_count __read_mostly = DEFAULT_MAX_MAP_COUNT;

static struct address_space mappings[MOST];
static struct file files[MOST];
static struct anon_vma anon_vmas[MOST];
static struct anon_vma_chain chains[MOST];

int attach_vma(struct mm_struct *mm, struct vm_area_struct *vma)
{
	return vma_link(mm, vma);
}

struct vm_area_struct *merge_existing(struct vma_merge_struct *vmg)
{
	return vma_merge_existing_range(vmg);
}

static void refuse(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(2);
}

static struct file *file_of(unsigned long number)
{
	if (number >= MOST)
		refuse("too many files");
	files[number].f_mapping = &mappings[number];
	return number ? &files[number] : NULL;
}

static struct anon_vma *anon_vma_of(unsigned long number)
{
	if (number >= MOST)
		refuse("too many anon_vmas");
	return number ? &anon_vmas[number] : NULL;
}

static void put(struct mm_struct *mm, int place, const unsigned long *w)
{
	struct vm_area_struct *vma = alloc_vma(mm, w[0], w[1], w[2], legacy_to_vma_flags(w[4]));

	if (!vma || place >= MOST)
		refuse("no room");
	vma_set_anon_pgoff(vma, w[3]);
	vma->vm_file = file_of(w[5]);
	if (!w[7])
		vma->vm_ops = &vma_dummy_vm_ops;
	INIT_LIST_HEAD(&vma->anon_vma_chain);
	if (w[6])
		__vma_set_dummy_anon_vma(vma, &chains[place], anon_vma_of(w[6]));
	if (attach_vma(mm, vma))
		refuse("a VMA overlaps another");
}

static void answer(const struct vm_area_struct *vma, const unsigned long *w)
{
	printf("%lx %lx\n", vma ? vma->vm_start : w[0], vma ? vma->vm_end : w[1]);
}

static void map(struct mm_struct *mm, const unsigned long *w)
{
	VMA_ITERATOR(vmi, mm, w[0]);
	struct vma_merge_struct vmg = {
		.mm = mm,
		.vmi = &vmi,
		.start = w[0],
		.end = w[1],
		.pgoff = w[2],
		.anon_pgoff = w[3],
		.vma_flags = legacy_to_vma_flags(w[4]),
		.file = file_of(w[5]),
		.anon_vma = anon_vma_of(w[6]),
	};

	if (w[7]) {
		VMA_ITERATOR(from, mm, w[7]);

		vmg.copied_from = vma_next(&from);
	}
	vmg.next = vma_next(&vmi);
	vmg.prev = vma_prev(&vmi);
	vma_iter_set(&vmi, w[0]);
	answer(vma_merge_new_range(&vmg), w);
}

static void set(struct mm_struct *mm, const unsigned long *w)
{
	VMA_ITERATOR(vmi, mm, w[0]);
	vma_flags_t flags = legacy_to_vma_flags(w[2]);
	struct vm_area_struct *vma = vma_next(&vmi);
	struct vm_area_struct *prev = vma_prev(&vmi), *done;

	vma_iter_set(&vmi, w[0]);
	if (vma->vm_start < w[0])
		prev = vma;
	vma_next(&vmi);
	done = vma_modify_flags(&vmi, prev, vma, w[0], w[1], &flags);
	if (IS_ERR(done))
		refuse("it cannot be changed");
	answer(done, w);
}

int main(void)
{
	char word[8];
	struct mm_struct mm = {};
	int place = 0;

	maple_tree_init();
	vma_state_init();
	while (scanf("%7s", word) == 1) {
		unsigned long w[8] = {};
		int most = strcmp(word, "set") ? 8 : 3;

		for (int i = 0; i < most; i++)
			if (scanf("%lx", &w[i]) != 1)
				refuse("a line is cut short");
		if (!strcmp(word, "vma")) {
			put(&mm, place++, w);
			continue;
		}
		if (!strcmp(word, "new"))
			map(&mm, w);
		else
			set(&mm, w);
		/* The next question has VMAs of its own; what this one leaves goes with the process. */
		mm = (struct mm_struct){};
		place = 0;
	}
	return 0;
}
