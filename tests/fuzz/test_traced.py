"""Following the processes of a trace: which address space a call is about, and what its descriptors are."""

import pytest

from abi.calls import (
    Brk,
    Call,
    Fork,
    Ftruncate,
    Mbind,
    Mmap,
    Mprotect,
    Mseal,
    Munmap,
    Prctl,
    ProcessMadvise,
    Setrlimit,
    SetVmaName,
    Shmat,
    Shmdt,
    UffdRegister,
    UffdUnregister,
)
from abi.consts import (
    FD_NAMES,
    MADV_COLD,
    MAP_ANONYMOUS,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MPOL_BIND,
    PR_SET_THP_DISABLE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_STACK,
)
from fuzz.strace import read
from fuzz.traced import (
    HARMFUL,
    NO_HUGE_PAGES,
    OTHER_DEVICE,
    OTHER_PROCESS,
    OUTSIDE,
    UNMAPPED_FILE,
    UNREADABLE,
    Traced,
    follow,
)

A = 0x7F0000000000
RW = PROT_READ | PROT_WRITE
MAPPED = f"1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, {{}}, 0) = {A:#x}"


def traced(*lines: str) -> Traced:
    return follow(read(lines)[0])


def steps(*lines: str) -> list[Call]:
    """The calls of the only address space."""
    (space,) = traced(*lines).spaces
    return [step.call for step in space.steps]


@pytest.mark.parametrize(
    ("opened", "fd"),
    [
        ('openat(AT_FDCWD, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3', "file_ro"),
        ('openat(AT_FDCWD, "data", O_RDWR|O_CREAT, 0600) = 3', "file"),
        ('open("/dev/zero", O_RDWR) = 3', "devzero"),
        ('openat(AT_FDCWD, "/dev/shm/x", O_RDWR|O_CREAT|O_EXCL, 0600) = 3', "tmpfs"),
        ('openat(AT_FDCWD, "/dev/shm/x", O_RDONLY) = 3', "tmpfs_ro"),
        ('openat(AT_FDCWD, "/proc/self/maps", O_RDONLY) = 3', "proc"),
        ('openat(AT_FDCWD, "x", O_RDONLY) = 3</sys/kernel/x>', "sysfs"),
        ('openat(-100, "/x", 0x2) = 3', "file"),
        ('openat2(AT_FDCWD, "/x", {flags=O_RDWR, resolve=0}, 24) = 3', "file"),
        ('memfd_create("x", MFD_CLOEXEC) = 3', "memfd"),
        ('memfd_create("x", MFD_HUGETLB|21<<MFD_HUGE_SHIFT) = 3', "hugetlb"),
        ("memfd_secret(0) = 3", "secretmem"),
        ("socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 3", "pipe"),
        ("socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)) = 3", "packet"),
        ("pipe2([3, 4], O_CLOEXEC) = 0", "pipe"),
        ("socketpair(AF_UNIX, SOCK_STREAM, 0, [4, 3]) = 0", "pipe"),
        ("io_uring_setup(8, {flags=0}) = 3", "iouring"),
        ("perf_event_open({type=0}, 0, -1, -1, 0) = 3", "perf"),
        ("bpf(BPF_MAP_CREATE, {map_type=27}, 72) = 3", "bpf"),
        ("userfaultfd(O_CLOEXEC) = 3", "uffd0"),
        ("eventfd2(0, 0) = 3", "pipe"),
    ],
)
def test_what_a_descriptor_is(opened: str, fd: str) -> None:
    assert steps(f"1 {opened}", MAPPED.format(3)) == [
        Mmap(0, 4096, PROT_READ, MAP_PRIVATE, FD_NAMES[fd], 0)
    ]


@pytest.mark.parametrize(
    ("text", "fd"),
    [
        ("3", "file_ro"),
        ("3</lib/libc.so.6>", "file_ro"),
        ("3</memfd:x>(deleted)", "memfd_ro"),
        ("3</dev/zero<char 1:5>>", "devzero"),
        ("3<pipe:[17]>", "pipe"),
        ("3<anon_inode:[io_uring]>", "iouring"),
    ],
)
def test_what_a_descriptor_from_before_the_trace_is(text: str, fd: str) -> None:
    (call,) = steps(MAPPED.format(text))
    assert isinstance(call, Mmap) and call.fd == FD_NAMES[fd]


def test_what_it_is_mapped_for_tells_that_it_may_be_written_to() -> None:
    line = f"1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = {A:#x}"
    assert steps(line) == [Mmap(0, 4096, RW, MAP_SHARED, FD_NAMES["file"], 0)]


def test_descriptors_are_duplicated_and_closed() -> None:
    calls = steps(
        '1 memfd_create("x", 0) = 3',
        "1 dup2(3, 5) = 5",
        "1 fcntl(5, F_DUPFD_CLOEXEC, 9) = 9",
        "1 close(3) = 0",
        MAPPED.format(9),
        "1 close_range(4, 4294967295, 0) = 0",
        "1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 9, 0) = -1 EBADF (Bad file descriptor)",
        MAPPED.format("0xffffffff").replace("MAP_PRIVATE", "0x22"),
    )
    fds = [call.fd for call in calls if isinstance(call, Mmap)]
    assert fds == [FD_NAMES["memfd"], 999, -1]


def test_a_new_process_goes_on_with_a_copy() -> None:
    parent, child = traced(
        '1 memfd_create("x", 0) = 3',
        MAPPED.format(3),
        "1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>",
        f"2 munmap({A:#x}, 4096) = 0",
        "1 <... clone resumed>, child_tidptr=0x1) = 2",
        "2 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000001000",
        f"1 mprotect({A:#x}, 4096, PROT_NONE) = 0",
    ).spaces
    assert [type(step.call) for step in parent.steps] == [Mmap, Fork, Mprotect]
    assert [(r.start, r.end) for r in child.start.regions] == [(A, A + 4096)]
    assert [type(step.call) for step in child.steps] == [Munmap, Mmap]
    assert child.steps[1].call == parent.steps[0].call
    assert (parent.pid, child.pid) == (1, 2)


@pytest.mark.parametrize(
    "clone",
    [
        "clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 2",
        "clone(0x10500, 0x1) = 2",
        "clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, exit_signal=0}, 88) = 2",
        "clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD} => {parent_tid=[0]}, 88) = 2",
        "vfork() = 2",
    ],
)
def test_what_shares_memory_is_one_address_space(clone: str) -> None:
    assert steps(f"1 {clone}", f"2 munmap({A:#x}, 4096) = 0") == [Munmap(A, 4096)]


def test_threads_share_descriptors_and_processes_do_not() -> None:
    for flags, fd in (("CLONE_VM|CLONE_FILES", "memfd"), ("CLONE_VM", "file_ro")):
        (call,) = steps(
            f"1 clone(child_stack=0x1, flags={flags}) = 2",
            '2 memfd_create("x", 0) = 3',
            MAPPED.format(3),
        )
        assert isinstance(call, Mmap) and call.fd == FD_NAMES[fd]


def test_execve_begins_anew() -> None:
    first, second = traced(
        '1 memfd_create("x", MFD_CLOEXEC) = 3',
        '1 memfd_create("x", 0) = 4',
        MAPPED.format(3),
        '1 execve("/nowhere/ls", ["ls"], 0x1 /* 2 vars */) = -1 ENOENT (No such file or directory)',
        '1 execve("/usr/bin/ls", ["ls"], 0x1 /* 2 vars */) = 0',
        MAPPED.format(3),
        MAPPED.format(4),
    ).spaces
    assert (first.program, second.program) == ("", "ls")
    assert second.start.regions == []
    fds = [step.call.fd for step in second.steps if isinstance(step.call, Mmap)]
    assert fds == [FD_NAMES["file_ro"], FD_NAMES["memfd"]]


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("brk(NULL) = 0x555555559000", Brk(0)),
        (
            f"mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, -1, 0) = {A:#x}",
            Mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0),
        ),
        ("syscall_0x1ce(0x7f0000000000, 0x1000, 0, 0, 0, 0) = 0", Mseal(A, 4096, 0)),
        ("mseal(0x7f0000000000, 4096, 0) = 0", Mseal(A, 4096, 0)),
        (
            'prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x7f0000000000, 4096, "heap") = 0',
            SetVmaName(A, 4096, 1),
        ),
        ("prctl(PR_SET_VMA, 0, 0x7f0000000000, 4096, NULL) = 0", SetVmaName(A, 4096, 0)),
        ("prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) = 0", Prctl(PR_SET_THP_DISABLE, 1, 0)),
        (
            "prlimit64(0, RLIMIT_STACK, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}, NULL) = 0",
            Setrlimit(RLIMIT_STACK, 8 << 20),
        ),
        (
            "mbind(0x7f0000000000, 4096, MPOL_BIND, [0x00000000000003], 65, 0) = 0",
            Mbind(A, 4096, MPOL_BIND, 3, 0),
        ),
    ],
)
def test_calls_in_our_words(line: str, call: Call) -> None:
    assert steps(f"1 {line}") == [call]


def test_userfaultfd() -> None:
    assert steps(
        "1 userfaultfd(0) = 3",
        "1 ioctl(3, UFFDIO_REGISTER, {range={start=0x7f0000000000, len=0x2000},"
        " mode=UFFDIO_REGISTER_MODE_MISSING|UFFDIO_REGISTER_MODE_WP, ioctls=1<<_UFFDIO_COPY}) = 0",
        "1 ioctl(3, UFFDIO_UNREGISTER, {start=0x7f0000000000, len=0x1000}) = 0",
    ) == [UffdRegister(FD_NAMES["uffd0"], A, 0x2000, 3), UffdUnregister(FD_NAMES["uffd0"], A, 4096)]


def test_segments() -> None:
    (space,) = traced(
        "1 shmget(IPC_PRIVATE, 8192, IPC_CREAT|0600) = 131077",
        f"1 shmat(131077, NULL, 0) = {A:#x}",
        f"1 shmdt({A:#x}) = 0",
    ).spaces
    assert [step.call for step in space.steps] == [Shmat(0, 0, 0), Shmdt(A)]
    assert space.steps[0].size == 8192


def test_process_madvise_of_itself_alone() -> None:
    made = traced(
        "1 pidfd_open(1, 0) = 3",
        "1 pidfd_open(2, 0) = 4",
        *(
            f"1 process_madvise({fd}, [{{iov_base=0x7f0000000000, iov_len=4096}}], 1, MADV_COLD, 0) = 4096"
            for fd in (3, 4)
        ),
    )
    (space,) = made.spaces
    assert [step.call for step in space.steps] == [ProcessMadvise(A, 4096, MADV_COLD, 0)]
    assert made.dropped["process_madvise", OTHER_PROCESS] == 1


def test_the_size_of_a_file_counts_if_it_is_mapped() -> None:
    made = traced(
        '1 memfd_create("x", 0) = 3',
        '1 memfd_create("x", 0) = 4',
        "1 ftruncate(3, 8192) = 0",
        "1 ftruncate(4, 8192) = 0",
        MAPPED.format(4),
    )
    (space,) = made.spaces
    assert [type(step.call) for step in space.steps] == [Ftruncate, Mmap]
    assert made.dropped == {("ftruncate", UNMAPPED_FILE): 1}


def test_what_is_dropped_is_counted_with_its_reason() -> None:
    assert traced(
        "1 read(3, 0x1, 5) = 5",
        "1 read(3, 0x1, 5) = 5",
        "1 munmap(nonsense, 4096) = 0",
        '1 openat(AT_FDCWD, "/dev/dri/card0", O_RDWR) = 3',
        MAPPED.format(3),
        "1 prctl(PR_SET_NAME, 0x1) = 0",
        "1 madvise(0x7f0000000000, 4096, MADV_SOFT_OFFLINE) = 0",
        "1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, -1, 0)"
        " = -1 ENOMEM (Cannot allocate memory)",
    ).dropped == {
        ("madvise", HARMFUL): 1,
        ("mmap", NO_HUGE_PAGES): 1,
        ("read", OUTSIDE): 2,
        ("munmap", UNREADABLE): 1,
        ("mmap", OTHER_DEVICE): 1,
        ("prctl", OUTSIDE): 1,
    }
