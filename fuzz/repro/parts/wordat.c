// needs: words, access
#include <stdint.h>
static int outcome;

/* The first word of a page, also where it may not be read; `outcome`: the signal that says it cannot be. */
static unsigned long word_at(const struct mapping *m, unsigned long address)
{
	int memory;
	uint64_t word = 0;

	outcome = 0;
	if (m->permissions[0] == 'r') {
		outcome = reach(address, 0, 0);
		word = last_word;
	} else {
		memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
		if (pread(memory, &word, sizeof(word), address) != sizeof(word))
			outcome = SIGSEGV;
		close(memory);
	}
	return outcome ? 0 : word << 8 >> 8;
}
