"""Reads what the model is told of the machine from a started executor.

Addresses that only the kernel can tell are found by running programs on it; the rest is in /proc and in what the
executor reports. It does not start or feed executors.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from errno import EFAULT, EINVAL, ENOSYS, EPERM
from typing import Final

from abi.calls import (
    Brk,
    Madvise,
    Mbind,
    Mmap,
    Mremap,
    Msync,
    PkeyMprotect,
    Program,
    SetVmaName,
    Touch,
    UffdRegister,
)
from abi.consts import (
    FD_NAMES,
    MADV_HUGEPAGE,
    MADV_HWPOISON,
    MADV_MERGEABLE,
    MAP_32BIT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MPOL_BIND,
    MPOL_DEFAULT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    PAGE,
    PMD_SIZE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    TOUCH_OK,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_WP,
    VMA_NAMES,
)
from abi.environment import Environment, Geometry, InitialVma, Object
from abi.trace import RECORD, unpack_layout
from abi.wire import IDENT_IMAGE, IDENT_SHARED
from kernel_bridge import hugepages, maps
from kernel_bridge.machine import BridgeError, Machine, Memory
from kernel_bridge.objects import Objects, file_system

_CAPABILITIES: Final = {
    "IPC_LOCK": 14,
    "SYS_RAWIO": 17,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
}
_ADVICE: Final = {"KSM": MADV_MERGEABLE, "THP": MADV_HUGEPAGE, "MEMORY_FAILURE": MADV_HWPOISON}
_UFFDS: Final = ("uffd0", "uffd1", "uffd2")
_UNLIMITED: Final = (1 << 64) - 1
_GIB: Final = 1 << 30


def capabilities(machine: Machine, pid: int) -> frozenset[str]:
    """The capabilities the executor holds, of those that matter here.

    Raises:
        OSError: there is no such process.
    """
    bits = int(_status(machine, pid)["CapEff"], 16)
    return frozenset(name for name, bit in _CAPABILITIES.items() if bits >> bit & 1)


def read_environment(
    pid: int,
    memory: Memory,
    objects: Objects,
    geometry: Geometry,
    probe: Callable[..., int],
) -> Environment:
    """The environment of the idle executor `pid`. `probe` runs calls as a program; the raw result of the last.

    Raises:
        BridgeError: /proc does not tell.
    """
    try:
        return _read(pid, memory, objects, geometry, probe)
    except (OSError, KeyError, ValueError) as error:
        raise BridgeError(f"the executor's environment cannot be read: {error}") from None


def _read(
    pid: int,
    memory: Memory,
    objects: Objects,
    geometry: Geometry,
    probe: Callable[..., int],
) -> Environment:
    machine = objects.machine
    stat = machine.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    limits, hard = _limits(machine, pid)
    missing = dict(objects.missing)
    uffds = []
    for name in _UFFDS:
        error = memory.get(name)
        if error:
            missing[name] = f"userfaultfd: {os.strerror(error)}"
        else:
            uffds.append(Object(FD_NAMES[name], name, 0, "uffd", 0, writable=False))
    config = _config(machine, pid, probe, geometry, memory.get("brk")) | _told(memory)
    first = probe(Mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    top = first if "BOTTOM_UP" in config else first + PAGE
    lowest = probe(Mmap(PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    dac_mmap_min_addr = _sysctl(machine, "vm/mmap_min_addr")
    release, hardware = machine.uname()
    return Environment(
        geometry=Geometry(geometry.window, geometry.window_pages, top, int(stat[44])),
        initial=_initial(machine, pid, memory),
        objects=tuple(_with_noexec(o, geometry, probe) for o in (*objects.described, *uffds)),
        missing=missing,
        segments=tuple(objects.segments_described),
        task_size=memory.get("task_size"),
        dac_mmap_min_addr=dac_mmap_min_addr,
        mmap_min_addr=lowest if 0 < lowest < geometry.window else dac_mmap_min_addr,
        rlimit_as=limits["Max address space"],
        rlimit_data=limits["Max data size"],
        rlimit_memlock=limits["Max locked memory"],
        rlimit_stack=limits["Max stack size"],
        rlimit_as_max=hard["Max address space"],
        rlimit_data_max=hard["Max data size"],
        rlimit_memlock_max=hard["Max locked memory"],
        rlimit_stack_max=hard["Max stack size"],
        max_map_count=_sysctl(machine, "vm/max_map_count"),
        memory_pages=_memory_pages(machine),
        total_pages=memory.get("base_size"),
        locked_pages=memory.get("base_locked"),
        node_bits=(node_bits := _node_bits(probe)),
        nodes=_nodes(probe, geometry.window, node_bits),
        start_brk=int(stat[44]),
        brk=memory.get("brk"),
        data_segment=int(stat[43]) - int(stat[42]),
        start_stack=int(stat[25]),
        capabilities=capabilities(machine, pid),
        config=config,
        overcommit=_sysctl(machine, "vm/overcommit_memory"),
        huge_pages=_huge_pages(machine, probe),
        release=release,
        machine=hardware,
    )


def _initial(machine: Machine, pid: int, memory: Memory) -> tuple[InitialVma, ...]:
    records = memory.read("baseline", 0, memory.get("base_count") * RECORD.size)
    entries = maps.parse(machine.text(f"/proc/{pid}/smaps"))
    layout = unpack_layout(records)
    if [(m.start, m.end, m.perms) for m in layout] != [(e.start, e.end, e.perms) for e in entries]:
        raise ValueError("smaps and the executor's report show different layouts")
    image = machine.open(f"/proc/{pid}/exe", os.O_RDONLY)
    try:
        fs = {IDENT_IMAGE: file_system(machine, image), IDENT_SHARED: "tmpfs"}
    finally:
        machine.close_fd(image)
    return tuple(
        InitialVma(
            m.start,
            m.end,
            m.offset,
            m.ident,
            m.perms,
            m.name,
            entry.flags,
            fs.get(m.ident, ""),
            _faulted(entry),
        )
        for m, entry in zip(layout, entries, strict=True)
    )


def _with_noexec(obj: Object, geometry: Geometry, probe: Callable[..., int]) -> Object:
    """The object, with what the kernel says of executable mappings of it: no flag of a mount tells all of it. A socket
    may refuse them itself, but not before what it was to replace is gone."""
    window, anonymous = geometry.window, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    refused = probe(Mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, obj.fd, 0)) == -EPERM
    if refused and obj.fs == "tcp":
        replace_it = Mmap(window, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, obj.fd, 0)
        there = Mmap(window, PAGE, PROT_READ, anonymous, -1, 0)
        refused = probe(there, replace_it, Msync(window, PAGE, MS_ASYNC)) == 0
    return replace(obj, noexec=refused)


def _config(
    machine: Machine, pid: int, probe: Callable[..., int], geometry: Geometry, brk: int
) -> frozenset[str]:
    found = {name for name, advice in _ADVICE.items() if probe(Madvise(0, 0, advice)) != -EINVAL}
    found |= _traits(probe, geometry.window, brk + PAGE - 1 & -PAGE)
    processor = machine.text("/proc/cpuinfo").splitlines()
    if any(line.endswith("User Mode Linux") for line in processor):
        found.add("HOSTED")
    flags = next((line.split() for line in processor if line.startswith("flags")), [])
    # User-Mode-Linux tells the flags of the host's processor.
    if "PKEYS" in found and "ospke" in flags:
        found.add("PKU")
    if probe(SetVmaName(0, 0, VMA_NAMES["a"])) == 0:
        found.add("ANON_VMA_NAME")
    sizes = hugepages.sizes(machine)
    if hugepages.default_size(machine) == PMD_SIZE // 1024 and PMD_SIZE // 1024 in sizes:
        found.add("HUGE_2MB")
    if _GIB // 1024 in sizes:
        found.add("HUGE_1GB")
    if _shmem_huge(machine):
        found.add("SHMEM_HUGE")
    if "sd" in maps.parse(machine.text(f"/proc/{pid}/smaps"))[0].flags:
        found.add("SOFT_DIRTY")
    if machine.exists("/proc/swaps"):
        found.add("SWAP")
    if _meminfo(machine, "SwapTotal"):
        found.add("SWAP_SPACE")
    found.update(
        f"THP_{name.upper()}" for name in ("always", "never") if _anonymous_huge(machine) == name
    )
    return frozenset(found)


def _traits(probe: Callable[..., int], window: int, heap: int) -> frozenset[str]:
    """What architectures do differently, each by a program that shows it. `heap`: where the heap begins to grow."""
    anonymous = MAP_PRIVATE | MAP_ANONYMOUS
    there = Mmap(window, PAGE, PROT_READ, anonymous | MAP_FIXED, -1, 0)
    shared = Mmap(window, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    write_only = Mmap(window, PAGE, PROT_WRITE, anonymous | MAP_FIXED, -1, 0)
    below_4g = Mmap(window, PAGE, PROT_READ, anonymous | MAP_32BIT, -1, 0)
    unhinted = Mmap(0, PAGE, PROT_READ, anonymous, -1, 0)
    executable = Mmap(
        heap + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, anonymous | MAP_FIXED, -1, 0
    )
    uffd = FD_NAMES[_UFFDS[0]]
    shows = {
        # x86 keeps to MAP_32BIT whichever way it places mappings.
        "BOTTOM_UP": probe(below_4g) == window and probe(unhinted, unhinted) > probe(unhinted),
        "STRICT_READ": probe(write_only, Touch(window, 1, 0)) != TOUCH_OK,
        # What merged with the heap is as the heap: only a single mapping grows.
        "EXEC_BRK": probe(Brk(heap + PAGE), executable, Mremap(heap, 2 * PAGE, 3 * PAGE, 0, 0)) == heap,
        "STALE_TABLES": probe(*_remake_a_table(window)) == TOUCH_OK,
        "PKEYS": probe(PkeyMprotect(0, 0, PROT_READ, -1)) != -ENOSYS,
        "UFFD_WP": probe(there, UffdRegister(uffd, window, PAGE, UFFDIO_REGISTER_MODE_WP)) == 0,
        "UFFD_MINOR": not probe(shared, UffdRegister(uffd, window, PAGE, UFFDIO_REGISTER_MODE_MINOR)),
    }  # fmt: skip
    return frozenset(name for name, shown in shows.items() if shown)


def _remake_a_table(window: int) -> Program:
    """A move to where the only page of a page table is, then a read of what may not be read there. The source has a
    page table, so that the target gets one too."""
    target, anonymous = window + PMD_SIZE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    return (
        Mmap(window + PAGE, PAGE, PROT_WRITE, anonymous, -1, 0),
        Touch(window + PAGE, 1, 1),
        Mmap(window, PAGE, PROT_NONE, anonymous, -1, 0),
        Mmap(target, PAGE, PROT_WRITE, anonymous, -1, 0),
        Touch(target, 1, 1),
        Mremap(window, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target),
        Touch(target, 1, 0),
    )


def _huge_pages(machine: Machine, probe: Callable[..., int]) -> int:
    """The huge pages that a program may count on; a control group may keep it from what the machine has."""
    pages = hugepages.share(machine)
    if pages > 0:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
        if probe(Mmap(0, PMD_SIZE, PROT_READ, flags, -1, 0)) < 0:
            return -1
    return pages


def _told(memory: Memory) -> frozenset[str]:
    """What the executor found out at its start."""
    found = {"UFFD_FORK": "uffd2_forks", "BLIND": "blind"}
    told = {name for name, word in found.items() if memory.get(word)}
    return frozenset(told if memory.get("unfailing") else {*told, "FAULT_INJECTION"})


def _anonymous_huge(machine: Machine) -> str:
    """Which anonymous memory may have huge pages: "always", "madvise", "never"."""
    try:
        setting = machine.text("/sys/kernel/mm/transparent_hugepage/enabled")
    except OSError:
        return "never"
    return setting.partition("[")[2].partition("]")[0]


def _shmem_huge(machine: Machine) -> bool:
    """Whether shared memory may have huge pages: the kernel then aligns where it puts it."""
    try:
        setting = machine.text("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    except OSError:
        return False
    return "[never]" not in setting and "[deny]" not in setting


def _node_bits(probe: Callable[..., int]) -> int:
    """How many of 64 nodes mbind(2) takes; 0 if there is no such call."""
    if probe(Mbind(0, 0, MPOL_DEFAULT, 0, 0)) == -ENOSYS:
        return 0
    return sum(probe(Mbind(0, 0, MPOL_DEFAULT, 1 << node, 0)) == 0 for node in range(64))


def _nodes(probe: Callable[..., int], unmapped: int, bits: int) -> int:
    """The nodes that mbind(2) finds usable, before it finds that nothing is mapped there."""
    usable = (
        1 << node
        for node in range(bits)
        if probe(Mbind(unmapped, PAGE, MPOL_BIND, 1 << node, 0)) == -EFAULT
    )
    return sum(usable) or 1


def _memory_pages(machine: Machine) -> int:
    """Memory and swap of the machine (pages)."""
    return _meminfo(machine, "MemTotal", "SwapTotal") * 1024 // PAGE


def _meminfo(machine: Machine, *names: str) -> int:
    """The sum of some lines of /proc/meminfo (KiB)."""
    sizes = machine.meminfo()
    return sum(sizes[name] for name in names)


def _faulted(entry: maps.Entry) -> bool:
    return "sh" not in entry.flags and entry.anonymous > 0


def _status(machine: Machine, pid: int) -> dict[str, str]:
    lines = machine.text(f"/proc/{pid}/status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _limits(machine: Machine, pid: int) -> tuple[dict[str, int], dict[str, int]]:
    """The soft and the hard limits by their names in /proc."""
    soft: dict[str, int] = {}
    hard: dict[str, int] = {}
    for line in machine.text(f"/proc/{pid}/limits").splitlines()[1:]:
        for limits, word in zip((soft, hard), line[26:].split(), strict=False):
            limits[line[:26].strip()] = _UNLIMITED if word == "unlimited" else int(word)
    return soft, hard


def _sysctl(machine: Machine, name: str) -> int:
    return int(machine.text(f"/proc/sys/{name}"))
