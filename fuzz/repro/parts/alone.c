// needs: maps
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

/*
 * What calls give depends on all that is mapped. So there is nothing but this program, linked statically to one place,
 * on a stack of its own; and no address is random.
 */
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define PLACE 0x20000000UL
#define PLACE_END 0x20600000UL

static struct mapping own[32];
static int owns;
static unsigned long own_data;

static int is_own(const struct mapping *m)
{
	/* [vsyscall] is nobody's */
	if (m->start >> 63)
		return 1;
	for (int i = 0; i < owns; i++)
		if (m->start >= own[i].start && m->start < own[i].end)
			return 1;
	return 0;
}

static void begin_again(char **arguments)
{
	static char *const again[] = { (char *)"alone", NULL }, *const environment[] = { NULL };
	struct rlimit stack = { 8 << 20, 8 << 20 };
	int old = personality(0xffffffff);

	if (!strcmp(arguments[0], again[0]))
		return;
	if ((unsigned long)begin_again < PLACE || (unsigned long)begin_again >= PLACE_END)
		cannot("build it with -static -Wl,-Ttext-segment=%#lx", PLACE);
	/* decides where mappings are placed */
	if (setrlimit(RLIMIT_STACK, &stack))
		cannot("setrlimit: %s", strerror(errno));
	if (old < 0 || personality(old | ADDR_NO_RANDOMIZE) < 0)
		cannot("personality: %s", strerror(errno));
	execve("/proc/self/exe", again, environment);
	cannot("execve: %s", strerror(errno));
}

static void run_on_own_stack(void (*function)(void))
{
	static char stack[1 << 16] __attribute__((aligned(1 << 12)));
	static ucontext_t context;

	getcontext(&context);
	context.uc_stack.ss_sp = stack;
	context.uc_stack.ss_size = sizeof(stack);
	makecontext(&context, function, 0);
	setcontext(&context);
}

static void unmap_others(void)
{
	struct reader *r = open_lines("/proc/self/maps");
	unsigned long size = 0;
	struct mapping m;
	int all = 0;

	while (all < 30 && next_mapping(r, &m))
		own[all++] = m;
	for (int i = 0; i < all; i++) {
		if ((own[i].start < PLACE || own[i].start >= PLACE_END) &&
		    !munmap(at(own[i].start), own[i].end - own[i].start))
			continue;
		own[owns] = own[i];
		size += own[owns].end - own[owns].start;
		if (own[owns].permissions[1] == 'w')
			own_data += own[owns].end - own[owns].start;
		owns++;
	}
	/* limits count what is this program's own: let it be always as much */
	own[owns].start = PLACE_END;
	own[owns].end = PLACE_END + OWN_PAGES * PAGE - size;
	if (size >= OWN_PAGES * PAGE ||
	    mmap(at(PLACE_END), OWN_PAGES * PAGE - size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED)
		cannot("this program is too large");
	owns++;
	if (mlockall(MCL_CURRENT))
		cannot("mlockall: %s", strerror(errno));
	for (int i = 0; i < owns; i++)
		syscall(SYS_mseal, own[i].start, own[i].end - own[i].start, 0UL);
}

static void limit_to(int resource, unsigned long soft, unsigned long hard)
{
	struct rlimit limit = { soft, hard };

	if (setrlimit(resource, &limit))
		cannot("setrlimit: %s", strerror(errno));
}

/* Where the kernel begins to look for a free place. */
static unsigned long find_top(void)
{
	unsigned long address = (unsigned long)mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(at(address), PAGE);
	return BOTTOM_UP ? address : address + PAGE;
}
