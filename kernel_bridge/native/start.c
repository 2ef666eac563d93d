/*
 * Makes the process what it has to be: limits, privileges, descriptors, two VMAs and nothing else.
 * Runs once a process as far as it lasts, and again whenever the executor executes itself.
 */
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/personality.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <asm/signal.h>

#include "events.h"
#include "inject.h"
#include "observe.h"
#include "special.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#define UFFD2_FEATURES (UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | \
			UFFD_FEATURE_EVENT_UNMAP)
#define STACK_LIMIT (8ULL << 20)

extern const char image_end[];

asm(".text\n"
    ".globl _start\n"
    "_start:\n"
    "	xorl %ebp, %ebp\n"
    "	andq $-16, %rsp\n"
    "	call start\n"
    "	ud2\n");

void quit(int status)
{
	for (;;)
		sys(exit_group, status);
}

void fail(u64 step, s64 err)
{
	CTL(ERROR) = err < 0 ? -err : err;
	CTL(ERROR_AT) = step;
	quit(ABI_EXIT_START + step);
}

void exec_self(void)
{
	const char *argv[] = { "vmadiff", 0 }, *envp[] = { 0 };

	events_stop();
	fail(START_EXEC, sys(execveat, ABI_FD_IMAGE, "", argv, envp, AT_EMPTY_PATH));
}

int same_records(const struct abi_record *a, const struct abi_record *b, u64 count)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	for (u64 i = 0; i < count * (sizeof(*a) / sizeof(*x)); i++)
		if (x[i] != y[i])
			return 0;
	return 1;
}

/* Set a soft and a hard limit, or as much of them as the hard limit allows. */
static void limit(u64 resource, u64 soft, u64 hard)
{
	struct rlimit64 want = { soft, hard }, now;
	s64 err = sys(prlimit64, 0, resource, 0, &now);

	if (!err && now.rlim_max < hard)
		want.rlim_max = now.rlim_max;
	if (want.rlim_cur > want.rlim_max)
		want.rlim_cur = want.rlim_max;
	if (!err)
		err = sys(prlimit64, 0, resource, &want, 0);
	if (err)
		fail(START_LIMITS, err);
}

static u64 soft_limit(u64 resource)
{
	struct rlimit64 now = { 0 };

	sys(prlimit64, 0, resource, 0, &now);
	return now.rlim_cur;
}

/* What survives an exec, so is done once a process. */
static void __attribute__((noreturn)) prepare(void)
{
	u64 user = CTL(USER);
	s64 err, fd;

	/* The stack's limit decides where mmap_base is. */
	limit(RLIMIT_STACK, STACK_LIMIT, STACK_LIMIT);
	limit(RLIMIT_CORE, 0, 0);
	/* What a program may raise it to leaves room for as many mappings as there may be. */
	limit(RLIMIT_AS, CTL(RLIMIT_AS), 2 * CTL(RLIMIT_AS));
	fd = sys(openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		sys(write, fd, "1000", 4);
		sys(close, fd);
	}
	if (user) {
		err = sys(setgroups, 0, 0);
		if (!err)
			err = sys(setresgid, user, user, user);
		if (!err)
			err = sys(setresuid, user, user, user);
		if (err)
			fail(START_USER, err);
	}
	err = sys(personality, 0xffffffff);
	if (err >= 0 && !(err & ADDR_NO_RANDOMIZE))
		err = sys(personality, (u64)err | ADDR_NO_RANDOMIZE);
	if (err < 0)
		fail(START_PERSONALITY, err);
	CTL(RELOCK) = CTL(LIMITED) = CTL(MOVED_BRK) = CTL(FILL_START) = CTL(FILL_END) = 0;
	CTL(STAGE) = 1;
	exec_self();
}

static s64 open_uffd(u64 target, u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS | features };
	s64 fd, err;

	sys(close, target);
	fd = sys(userfaultfd, UFFD_USER_MODE_ONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	err = sys(ioctl, fd, UFFDIO_API, &api);
	if (!err && (u64)fd != target)
		err = sys(dup3, fd, target, 0);
	if ((u64)fd != target || err < 0)
		sys(close, fd);
	return err < 0 ? err : 0;
}

/* With forks, which need CAP_SYS_PTRACE, or without them: whether it reports them. */
static int open_uffd2(u64 features)
{
	features |= UFFD2_FEATURES;
	CTL(UFFD2) = -open_uffd(ABI_FD_OF_UFFD2, features | UFFD_FEATURE_EVENT_FORK);
	if (!CTL(UFFD2))
		return 1;
	CTL(UFFD2) = -open_uffd(ABI_FD_OF_UFFD2, features);
	return 0;
}

static void open_descriptors(void)
{
	for (u64 fd = ABI_FD_MAPS; fd <= ABI_LAST_OBJECT_FD; fd++)
		if (!(CTL(OBJECTS) >> fd & 1))
			sys(close, fd);
	sys(close_range, ABI_LAST_OBJECT_FD + 1, ABI_FD_KCOV - 1, 0);
	sys(close_range, ABI_FD_KCOV + !!CTL(KCOV), ~0U, 0);
	s64 err = layout_open();

	if (err)
		fail(START_PROC, err);
	inject_open();
	CTL(UFFD0) = -open_uffd(ABI_FD_OF_UFFD0, 0);
	CTL(UFFD1) = -open_uffd(ABI_FD_OF_UFFD1, 0);
	CTL(UFFD2_FORKS) = open_uffd2(UFFD_FEATURE_WP_UNPOPULATED);
	if (CTL(UFFD2))	/* as before 2bad466cc9d9 */
		CTL(UFFD2_FORKS) = open_uffd2(0);
}

/*
 * Unmap whatever is not ours. What the kernel has sealed stays, and is reported as part of the
 * baseline.
 */
static void unmap_others(void)
{
	struct abi_record *r = SCRATCH;
	s64 n = layout_read(r, SCRATCH_RECORDS, 0, 0, 0);

	for (s64 i = 0; i < n; i++)
		if (r[i].start != ABI_IMAGE_BASE && r[i].start != ABI_SHARED_BASE)
			sys(munmap, r[i].start, r[i].end - r[i].start);
	if (n < 0)
		fail(START_LAYOUT, n);
}

static void protect(void)
{
	u64 image = ((u64)image_end - ABI_IMAGE_BASE + ABI_PAGE - 1) & -ABI_PAGE;
	/* This also makes every page present: what a userfaultfd says of them is then known. */
	s64 locked = sys(mlock, ABI_SHARED_BASE, ABI_SHARED_SIZE), sealed;

	if (!locked)
		locked = sys(mlock, ABI_IMAGE_BASE, image);
	CTL(LOCKED) = -locked;
	sealed = sys(mseal, ABI_SHARED_BASE, ABI_SHARED_SIZE, 0);
	if (!sealed)
		sealed = sys(mseal, ABI_IMAGE_BASE, image, 0);
	CTL(SEALED) = -sealed;
}

/* Whether /proc/self/mem shows memory without access: the kernel can be told not to. */
static void learn_blindness(void)
{
	s64 at = sys(mmap, 0, ABI_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s64 got = sys(pread64, ABI_FD_MEM, &CTL(WORD), sizeof(u64), at);

	CTL(BLIND) = got < 0 ? -got : 0;
	sys(munmap, at, ABI_PAGE);
}

/* The objects' device and inode numbers, as layouts show them. */
static void learn_idents(void)
{
	const struct abi_object *object = SHARED(OBJECTS);
	const struct ident *table = SHARED(IDENTS);
	s64 err, at;

	memset(SHARED(IDENTS), 0, ABI_IDENTS_SIZE);
	err = layout_learn(ABI_IMAGE_BASE, ABI_IDENT_IMAGE);
	if (!err)
		err = layout_learn(ABI_SHARED_BASE, ABI_IDENT_SHARED);
	if (err)
		fail(START_PLACES, err);
	for (; object->fd; object++) {
		u64 length = object->size ? object->size : ABI_PAGE;
		u64 type = object->flags & ABI_OBJECT_SHARED ? MAP_SHARED : MAP_PRIVATE;

		if (!object->ident || table[object->ident].ino)
			continue;
		/* Huge pages are not reserved just for that. */
		at = sys(mmap, 0, length, PROT_READ, type | MAP_NORESERVE, object->fd, 0);
		if (at == -EAGAIN)
			continue; /* secret memory is locked, and nothing may be */
		if (at < 0 && at > -4096)
			fail(START_PLACES, at);
		err = layout_learn(at, object->ident);
		sys(munmap, at, length);
		if (err)
			fail(START_PLACES, err);
	}
	err = special_learn();
	if (err)
		fail(START_PLACES, err);
	layout_forget();
}

/* The first start's state is what every later start and every reset must come back to. */
static void settle(void)
{
	struct abi_record *now = SCRATCH;
	s64 n = layout_read(now, SCRATCH_RECORDS, 0, 0, 0);
	u64 data;
	struct abi_counters counters;
	s64 size = layout_vm_size(&data), err = observe_counters(&counters);
	u64 uffd = CTL(UFFD0) | CTL(UFFD1) << 16 | CTL(UFFD2) << 32 | CTL(UFFD2_FORKS) << 48;

	if (n <= 0)
		fail(START_LAYOUT, n);
	if (size < 0 || err)
		fail(START_PROC, EIO);
	if (!CTL(BASE_COUNT)) {
		CTL(SOFT_AS) = soft_limit(RLIMIT_AS);
		CTL(SOFT_DATA) = soft_limit(RLIMIT_DATA);
		CTL(SOFT_MEMLOCK) = soft_limit(RLIMIT_MEMLOCK);
		CTL(SOFT_STACK) = soft_limit(RLIMIT_STACK);
		memcpy(BASE, now, n * sizeof(*now));
		CTL(BASE_COUNT) = n;
		CTL(BASE_SIZE) = size;
		CTL(BASE_DATA) = data;
		CTL(BASE_LOCKED) = counters.locked;
		CTL(BASE_UFFD) = uffd;
	}
	if (CTL(BASE_COUNT) != (u64)n || !same_records(BASE, now, n))
		fail(START_BASELINE, 0);
	if (CTL(BASE_SIZE) != (u64)size || CTL(BASE_DATA) != data ||
	    CTL(BASE_LOCKED) != counters.locked || CTL(BASE_UFFD) != uffd)
		fail(START_COUNTERS, 0);
	layout_forget();
}

/* Where addresses end: beyond, munmap() is refused. What it finds below is to go anyway. */
static u64 task_size(void)
{
	u64 low = ABI_SHARED_BASE + ABI_SHARED_SIZE, high = 1ULL << 63;

	while (high - low > ABI_PAGE) {
		u64 middle = (low + (high - low) / 2) & -ABI_PAGE;

		if (sys(munmap, middle, ABI_PAGE) == -EINVAL)
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* Of the first start of a process: another may have died with them changed. */
static void restore_all(void)
{
	CTL(SEEN) = CTL(CHANGED) = CTL(RESIZED) = ~0ULL;
	CTL(UNRESTORED) = 1;
}

/* What could not be restored while a program's mappings were in the way. */
static void restore_rest(void)
{
	s64 err = CTL(UNRESTORED) ? restore_objects() : 0;

	/* Nobody has written to secret memory where nothing may be locked. */
	if (err && err != -EAGAIN)
		fail(START_RESTORE, err);
}

static void __attribute__((noreturn, used)) on_own_stack(void)
{
	CTL(TASK_SIZE) = task_size();
	CTL(BRK) = sys(brk, 0);
	if (!CTL(RECYCLES))
		restore_all();
	restore_rest();
	unmap_others();
	if (CTL(PROTECT))
		protect();
	learn_blindness();
	learn_idents();
	settle();
	serve();
}

void __attribute__((noreturn, used)) start(void)
{
	s64 at = sys(mmap, ABI_SHARED_BASE, ABI_SHARED_SIZE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED_NOREPLACE, ABI_FD_SHARED, 0);

	if (at != ABI_SHARED_BASE)
		quit(ABI_EXIT_SHARED);
	/* It says that a call runs: what said otherwise was another mapping in its place. */
	if (CTL(STAGE) && CTL(PHASE) != ABI_PHASE_START)
		fail(START_REPLACED, 0);
	CTL(PHASE) = ABI_PHASE_START;
	CTL(ABI_HASH) = ABI_HASH;
	if (CTL(PARENT_HASH) != ABI_HASH)
		fail(START_ABI, 0);
	if (!CTL(STAGE))
		prepare();
	sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if ((u64)sys(getppid) != CTL(PARENT_PID))
		fail(START_PARENT, 0);
	sys(prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0);
	sys(prctl, PR_SET_NAME, "vmadiff");
	catch_signals();
	open_descriptors();
	asm volatile("movq %0, %%rsp\n\txorl %%ebp, %%ebp\n\tcall on_own_stack\n\tud2"
		     :
		     : "r"((u64)ABI_SHARED_BASE + ABI_STACK_OFFSET + ABI_STACK_SIZE)
		     : "memory");
	__builtin_unreachable();
}
