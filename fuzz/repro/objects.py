"""How a reproducer makes what a program maps by descriptor."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from abi.calls import (
    Call,
    Ftruncate,
    Mmap,
    Shmat,
    UffdRegister,
    UffdUnregister,
    UffdWriteprotect,
    signed32,
)
from abi.consts import FD_NAMES, PAGE
from abi.environment import Environment, Object
from fuzz.report import object_names
from fuzz.repro.case import Case, ReproError
from fuzz.repro.spelling import size

#: A descriptor that is closed.
CLOSED: Final = "CLOSED"
_UFFDS: Final = ("uffd0", "uffd1", "uffd2")
_DISKS: Final = {
    "ext4": ("mkfs.ext4 -q -F -b 4096 -O ^has_journal", 64),
    "xfs": ("mkfs.xfs -q -f", 320),
    "btrfs": ("mkfs.btrfs -q -f -d single -m single", 256),
}
#: How objects that need nothing but a call are made, and the parts that they need.
_SIMPLE: Final = {
    "memfd": ("memory_file(0, 64 * PAGE)", "memory_file"),
    "hugetlb": ("memory_file(MFD_HUGETLB | 21 << 26, 4 * 512 * PAGE)", "memory_file"),
    "devzero": ('need(open("/dev/zero", O_RDWR | O_CLOEXEC), "/dev/zero")', "object"),
    "proc": ('need(open("/proc/version", O_RDONLY | O_CLOEXEC), "/proc/version")', "object"),
    "sysfs": (
        'need(open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC), "/sys/kernel/btf/vmlinux")',
        "object",
    ),
    "secretmem": ("new_secret()", "secretmem"),
    "iouring": ("new_ring()", "iouring"),
    "perf": ("new_event()", "perf"),
    "bpf": ("new_map(BPF_MAP_TYPE_ARRAY, 4, PAGE, 8, BPF_F_MMAPABLE)", "bpf"),
    "bpf_ring": ("new_map(BPF_MAP_TYPE_RINGBUF, 0, 0, 4 * PAGE, 0)", "bpf"),
    "packet": ("new_packet_ring()", "packet"),
    "xdp": ("new_xdp_ring()", "xdp"),
    "tcp": ('need(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "a TCP socket")', "socket"),
    "unix": ('need(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "a Unix socket")', "socket"),
}


#: Variables whose names are not those of what they hold: a compiler or libc has these.
_VARIABLES: Final = {"pipe": "pipe_end", "unix": "unix_socket", "tcp": "tcp_socket"}


@dataclass(frozen=True, slots=True)
class Made:
    """Variables, and the statements that set them: before rights are given up, and after; and the parts they need."""

    variables: tuple[str, ...]
    privileged: tuple[str, ...]
    ordinary: tuple[str, ...]
    parts: frozenset[str]


def variable_of(name: str) -> str:
    """The variable that has an object's descriptor, or a segment's number."""
    return _VARIABLES.get(name, name)


def descriptor(fd: int, environment: Environment) -> str:
    """A descriptor as the variable that has it, or as one that is closed."""
    known = environment.object(signed32(fd))
    if known is not None:
        return variable_of(known.name)
    return str(signed32(fd)) if signed32(fd) < 0 else CLOSED


def used(calls: Iterable[Call], environment: Environment) -> list[str]:
    """The names of the objects and segments that calls name."""
    names: dict[str, None] = {}
    for call in calls:
        if isinstance(call, Mmap | Ftruncate | UffdRegister | UffdUnregister | UffdWriteprotect):
            known = environment.object(signed32(call.fd))
            if known is not None:
                names[known.name] = None
        elif isinstance(call, Shmat) and call.segment < len(environment.segments):
            names[environment.segments[call.segment].name] = None
    return list(names)


def make(case: Case) -> Made:
    """All that the program needs.

    Raises:
        ReproError: it uses what a reproducer cannot make.
    """
    environment = case.environment
    names = used(case.calls, environment)
    bases = list(dict.fromkeys(name.removesuffix("_ro") for name in names))
    privileged: list[str] = []
    ordinary: list[str] = []
    parts: set[str] = set()
    for name in bases:
        if name in _UFFDS:
            ordinary += _uffd(name, environment)
            parts.add("open_uffd")
            if name == "uffd2" and reports(case):
                ordinary.append("read_events_of(uffd2);")
                parts.add("events")
        elif name == "pipe":
            privileged += ["int ends[2];", 'need(pipe(ends), "pipe");', "pipe_end = ends[0];"]
            parts.add("object")
        elif name.startswith("shm") and name not in FD_NAMES:
            ident = next(s.ident for s in environment.segments if s.name == name)
            privileged.append(f'{name} = new_segment({ident}, "{name}");')
            parts.add("segment")
        else:
            made, needed = _made(_object(name, environment))
            parts |= needed
            privileged += made
            if f"{name}_ro" in names:
                privileged.append(f"{name}_ro = reopen({name});")
            privileged += _learnt(_object(name, environment), environment)
    variables = dict.fromkeys([*bases, *(name for name in names if name.endswith("_ro"))])
    return Made(
        tuple(map(variable_of, variables)),
        tuple(privileged),
        tuple(ordinary),
        frozenset(parts),
    )


def _object(name: str, environment: Environment) -> Object:
    known = environment.object(FD_NAMES[name]) or environment.object(FD_NAMES.get(f"{name}_ro", -1))
    assert known is not None
    return known


def _made(known: Object) -> tuple[list[str], set[str]]:
    name = known.name.removesuffix("_ro")
    if name in _SIMPLE:
        expression, part = _SIMPLE[name]
        return [f"{variable_of(name)} = {expression};"], {part, "object"}
    data = known.data // PAGE
    kind = known.fs if name == "file" else name
    if name == "file" and kind == "tmpfs":
        return [f"{name} = memory_file(0, 64 * PAGE);"], {"memory_file"}
    if kind in _DISKS:
        mkfs, mebibytes = _DISKS[kind]
        root, part = f'new_disk("{kind}", "{mkfs}", {mebibytes})', "disk"
    elif kind == "overlay":
        root, part = "new_overlay()", "overlay"
    elif kind in ("tmpfs", "ramfs"):
        root, part = f'new_root("{kind}", "{kind}", NULL)', "mount"
    else:
        raise ReproError(f"no reproducer can make {name} on {kind}")
    return [f"{name} = file_in({root}, {known.ident}, {data});"], {"file", part}


def _learnt(known: Object, environment: Environment) -> list[str]:
    """How its mappings are told in a layout."""
    if not known.ident:
        return []
    variable = variable_of(known.name.removesuffix("_ro"))
    name = object_names(environment)[known.ident]
    length = size(known.size or PAGE)
    how = "MAP_SHARED" if known.shared_only else "MAP_PRIVATE"
    facts = f"{int(known.resident)}, {int(not known.contents)}"
    return [f'learn({known.ident}, "{name}", {variable}, {length}, {how}, {facts});']


def _uffd(name: str, environment: Environment) -> list[str]:
    if name != "uffd2":
        return [f"{name} = open_uffd(0);"]
    fork = " | UFFD_FEATURE_EVENT_FORK" if "UFFD_FORK" in environment.config else ""
    return [f"{name} = open_uffd(EVENT_FEATURES{fork} | WP_UNPOPULATED);"]


def reports(case: Case) -> bool:
    """Whether the userfaultfd that reports events has anything to report on."""
    uffd2 = FD_NAMES["uffd2"]
    return any(isinstance(call, UffdRegister) and signed32(call.fd) == uffd2 for call in case.calls)
