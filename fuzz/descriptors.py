"""The descriptors of a traced process, and which of `abi.consts.FD_NAMES` stands for each."""

from dataclasses import dataclass, replace
from typing import Final

from abi.consts import FD_NAMES

#: Kinds by the beginning of a path, as openat(2) names it or `strace -y` shows it; the first that fits counts. None: a
#: device, of which nothing is known.
_PATHS: Final[tuple[tuple[str, str | None], ...]] = (
    ("/dev/zero", "devzero"),
    ("/dev/shm/", "tmpfs"),
    ("/run/", "tmpfs"),
    ("/memfd:", "memfd"),
    ("/secretmem", "secretmem"),
    ("/anon_hugepage", "hugetlb"),
    ("/dev/hugepages/", "hugetlb"),
    ("/proc/", "proc"),
    ("/sys/", "sysfs"),
    ("/dev/", None),
    ("/", "file"),
    ("anon_inode:[userfaultfd]", "uffd"),
    ("anon_inode:[io_uring]", "iouring"),
    ("anon_inode:[perf_event]", "perf"),
    ("anon_inode:bpf", "bpf"),
    ("anon_inode:", "pipe"),
    ("pipe:", "pipe"),
    ("socket:", "pipe"),
)
#: What a call that makes a descriptor makes.
MADE_BY: Final = {
    "memfd_secret": "secretmem",
    "io_uring_setup": "iouring",
    "perf_event_open": "perf",
    "bpf": "bpf",
    "userfaultfd": "uffd",
    "pidfd_open": "pidfd",
    **dict.fromkeys(
        (
            "socket", "accept", "accept4", "eventfd", "eventfd2", "epoll_create", "epoll_create1", "timerfd_create",
            "signalfd", "signalfd4", "inotify_init", "inotify_init1", "fanotify_init",
        ),
        "pipe",
    ),
}  # fmt: skip
UFFDS: Final = ("uffd0", "uffd1", "uffd2")


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file: its kind (a name of FD_NAMES, "uffd", "pidfd", or "" for what has none), whether it may be written
    to, and a number that duplicates share; cloexec is the descriptor's."""

    kind: str
    writable: bool = True
    serial: int = 0
    cloexec: bool = False
    #: Of a pidfd: the process.
    pid: int = 0

    @property
    def fd(self) -> int | None:
        """The descriptor of the object table that stands for it, or None."""
        if not self.writable and f"{self.kind}_ro" in FD_NAMES:
            return FD_NAMES[f"{self.kind}_ro"]
        if self.kind == "uffd":
            return FD_NAMES[UFFDS[self.serial % len(UFFDS)]]
        return FD_NAMES.get(self.kind)


def kind_of(path: str) -> str:
    """The kind of what is at a path, "" where nothing stands for it."""
    for beginning, kind in _PATHS:
        if path.startswith(beginning):
            return kind or ""
    # A relative path is a file; a protocol of `-yy` ("TCP:[...]") a socket.
    return "pipe" if ":[" in path else "file"


class Descriptors:
    """Descriptor numbers of a process, or of several that share them."""

    __slots__ = ("opened",)

    def __init__(self, opened: dict[int, Opened] | None = None) -> None:
        self.opened: dict[int, Opened] = dict(opened or {})

    def copy(self) -> "Descriptors":
        """A table of its own, as after fork(2)."""
        return Descriptors(self.opened)

    def executed(self) -> "Descriptors":
        """What is open after execve(2)."""
        return Descriptors({n: o for n, o in self.opened.items() if not o.cloexec})

    def duplicate(self, old: int, new: int, cloexec: bool) -> None:
        """dup(2), or fcntl(2) with F_DUPFD. What is not known stays so."""
        self.opened.pop(new, None)
        if old in self.opened:
            self.opened[new] = replace(self.opened[old], cloexec=cloexec)

    def close(self, first: int, last: int) -> None:
        """close(2) or close_range(2)."""
        for number in [n for n in self.opened if first <= n <= last]:
            del self.opened[number]
