// needs: maps
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <ucontext.h>

/*
 * What calls give depends on all that is mapped. So there is nothing but this program, which has to be linked
 * statically, at low addresses and on a stack of its own; and no address is random.
 */
#define LOW 0x10000000UL

static struct mapping own[32];
static int owns;
static unsigned long own_size, own_data;

static int is_own(const struct mapping *m)
{
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
	if ((unsigned long)begin_again >= LOW)
		cannot("build it with -static");
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
	struct mapping m;
	int all = 0;

	while (all < 32 && next_mapping(r, &m))
		own[all++] = m;
	for (int i = 0; i < all; i++) {
		if (own[i].start >= LOW && !munmap(at(own[i].start), own[i].end - own[i].start))
			continue;
		own[owns] = own[i];
		own_size += own[owns].end - own[owns].start;
		if (own[owns].permissions[1] == 'w')
			own_data += own[owns].end - own[owns].start;
		owns++;
	}
	if (mlockall(MCL_CURRENT))
		cannot("mlockall: %s", strerror(errno));
}

static unsigned long __attribute__((unused)) own_bytes(int resource)
{
	return resource == RLIMIT_DATA ? own_data : resource == RLIMIT_STACK ? 0 : own_size;
}

/* What the limit leaves to the calls. */
static void leave(int resource, unsigned long soft, unsigned long hard)
{
	struct rlimit limit = { soft, hard };

	if (soft != RLIM_INFINITY)
		limit.rlim_cur += own_bytes(resource);
	if (hard != RLIM_INFINITY)
		limit.rlim_max += own_bytes(resource);
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
