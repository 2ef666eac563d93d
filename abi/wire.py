"""The binary form in which programs reach the executor, and the shared memory they travel through.

It knows the words, the places of the areas and of the control words; `abi.header` gives the same numbers to the C
compiler. It does not know how memory is shared or when anything is sent. In private use: it may change any day.

A program is one header word, `calls | flags << 32`, and for each call its opcode and its arguments, all
little-endian u64. A result is an index entry (RESULT) and packed trace bytes (`abi.trace`).
"""

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from abi.calls import CALLS, OPCODES, SIGNATURES, Call, Kind, Program, arguments
from abi.consts import PAGE

#: Where the executor's image and its shared memory lie in its address space (bytes).
IMAGE_BASE: Final = 0x1000_0000
SHARED_BASE: Final = 0x2000_0000
SHARED_SIZE: Final = 4 << 20

#: The areas of the shared memory: offset and size (bytes), disjoint, in order.
AREAS: Final[dict[str, tuple[int, int]]] = {
    "control": (0x0, PAGE),
    "stack": (0x1000, 0x10000),
    "baseline": (0x11000, PAGE),
    "text": (0x12000, 0x10000),
    "idents": (0x22000, 0x4000),
    "index": (0x26000, 0x10000),
    "scratch": (0x36000, PAGE),
    "objects": (0x37000, PAGE),
    "pagemap": (0x38000, 0x8000),
    "programs": (0x40000, 0x100000),
    "events": (0x140000, 0x8000),
    "child": (0x148000, 0x18000),
    "coverage": (0x160000, 0x4000),
    "watched": (0x164000, 0x8000),
    "reached": (0x16C000, 0x3000),
    "results": (0x16F000, SHARED_SIZE - 0x16F000),
}

#: The words of the control page, in order. What the parent writes before a start comes first.
CONTROL: Final = (
    "parent_hash",  # ABI hash as Python computed it
    "parent_pid",
    "stage",  # 0: a new process, 1: prepared, may start
    "reader",  # layout reader asked for: READER_*
    "rlimit_as",  # bytes
    "user",  # uid and gid to become, 0: stay
    "endless_us",  # processor time after which a call does not end (microseconds)
    "protect",  # 1: lock and seal its own VMAs
    "objects",  # bit n: descriptor n is open
    "shm0",  # identifier + 1 of the SysV segment, 0 for none
    "shm1",
    # what a start reports
    "abi_hash",
    "error",  # errno of a failed start
    "error_at",  # START_* step that failed
    "used_reader",
    "locked",  # errno of mlock on its own VMAs, 0 if they are locked
    "sealed",  # errno of mseal on its own VMAs, 0 if they are sealed
    "uffd0",  # errno that kept userfaultfd 16 from being, 0 if it is there
    "uffd1",
    "uffd2",
    "kcov",  # 1: it has a descriptor that writes down which blocks of the kernel are reached
    "watched",  # how many blocks are in the watched area
    "unfailing",  # errno of opening /proc/self/fail-nth, 0 if allocations can be made to fail
    "blind",  # errno of reading memory without access through /proc/self/mem, 0 if that can be done
    "uffd2_forks",  # 1: it reports forks, which needs CAP_SYS_PTRACE
    "task_size",
    "brk",
    "base_count",  # records in the baseline area; 0: the next start sets it
    "base_size",  # VmSize in pages
    "base_data",  # VmData + VmStk in pages
    "base_locked",  # VmLck in pages
    "base_uffd",
    # a request
    "request",  # REQUEST_*
    "count",  # programs submitted
    "rate_ns",  # how long a REQUEST_RATE repeats the batch
    # progress, valid at any moment
    "phase",  # PHASE_*
    "finished",  # programs whose index entry and results are complete
    "call",  # index of the call that runs
    "partial",  # bytes of whole steps of the program that runs
    "beats",  # counts calls, never goes back
    "programs",  # counts programs, never goes back
    "cursor",  # word offset of the next program
    "out",  # byte offset of the next result
    "stopped",  # 1: the results area is full, the rest must be sent again
    "started_ns",
    "elapsed_ns",
    "recycles",
    # a signal outside a touch
    "lost_signal",
    "lost_addr",
    "lost_ip",
    # scratch of the executor: it has no memory of its own
    "idents",
    "seen",  # bit n: the object with ident n was mapped
    "changed",  # bit n: the object with ident n may have been written to
    "resized",  # bit n: descriptor n was
    "unrestored",  # 1: not all of them are as they were
    "contents",  # bit n: contents of the object with ident n are compared
    "resident",  # bit n: so is which of its pages are present
    "full",  # 1: the program is observed in full
    "clock",  # index of the call that runs, for its tags
    "word",  # what was read last
    "saw_locked",
    "relock",  # 1: the program may have changed how the executor's own VMAs and later mappings are locked
    "limited",  # 1: it has set a limit
    "moved_brk",  # 1: it has moved the break
    "fill_start",  # the filler's addresses, 0 without one
    "fill_end",
    "soft_as",  # soft limits (bytes) before any program
    "soft_data",
    "soft_memlock",
    "soft_stack",
    "named",  # 1: the program has given names, which do not follow from places
    "fail_nth",  # which allocation of the next call is to fail, 0 for none
    "saw_prctl",  # 1: the program may have changed what applies to all of the process
    "ident_overflow",
    "events",  # events of the call that runs, in the events area
    "armed",  # 1: the program has registered memory with uffd2
    "protected",  # 1: the program has write-protected memory
    "reader_pid",  # the process that reads uffd2, 0 for none
    "child",  # bytes in the child area; -errno if the child could not report
)

REQUEST_RUN: Final = 1
REQUEST_RATE: Final = 2

READER_AUTO: Final = 0
READER_QUERY: Final = 1
READER_MAPS: Final = 2

PHASE_IDLE: Final = 0
PHASE_START: Final = 1
PHASE_CALL: Final = 2
PHASE_LAYOUT: Final = 3
PHASE_RESET: Final = 4

#: Steps of a start that can fail, in order; the text completes "executor start: ".
START_STEPS: Final = (
    "none",
    "its ABI differs from Python's",
    "setting resource limits",
    "becoming an ordinary user (drop_privileges)",
    "personality(ADDR_NO_RANDOMIZE), which a container's seccomp profile may forbid",
    "executing itself again",
    "its parent is gone",
    "opening /proc/self",
    "reading its own layout",
    "its own mappings are not where they belong",
    "a restart found another layout than the first start",
    "a restart found another VmSize, VmData or VmLck than the first start",
    "a malformed request",
    "its shared memory was replaced",
    "the reader of its userfaultfd's events is gone",
    "emptying SysV segments and secret memory",
)
START_NAMES: Final = (
    "NONE",
    "ABI",
    "LIMITS",
    "USER",
    "PERSONALITY",
    "EXEC",
    "PARENT",
    "PROC",
    "LAYOUT",
    "PLACES",
    "BASELINE",
    "COUNTERS",
    "REQUEST",
    "REPLACED",
    "READER",
    "RESTORE",
)

#: A result: offset and length of its trace in the results area (bytes), RESULT_* status, DIRTY_* reason, how many
#: blocks of the kernel it reached that none before it did, how many of those that are watched, and by how many programs
#: before it the rarest of these was reached (at most MAX_HITS).
RESULT: Final = struct.Struct("<IIIIIII")
RESULT_DONE: Final = 0
RESULT_TOO_LARGE: Final = 1
RESULT_IDENTS: Final = 2

DIRTY_NO: Final = 0
DIRTY_LAYOUT: Final = 1
DIRTY_SIZE: Final = 2
DIRTY_LOCKED: Final = 3
DIRTY_ASKED: Final = 4
DIRTY_OWN: Final = 5
DIRTY_OBJECTS: Final = 6
DIRTY_TEXTS: Final = (
    "",
    "mappings were left after unmapping everything",
    "VmSize or VmData did not return to its initial value",
    "VmLck did not return to its initial value",
    "",
    "the executor's own mappings were changed",
    "SysV segments or secret memory could not be emptied",
)

#: Program flags: start the executor anew afterwards, the program may have left invisible traces; observe it in full.
FLAG_RECYCLE: Final = 1
FLAG_FULL: Final = 2

#: An object of the "objects" area: descriptor, ident, size and how much of it has data (bytes), OBJECT_* flags; the
#: list ends with descriptor 0.
OBJECT: Final = struct.Struct("<IIQQQ")
#: It can be mapped shared only; its contents are compared; its pages are dropped, or its data rewritten, after a
#: program that mapped it; its size is set again after a program that changed it.
OBJECT_SHARED: Final = 1
OBJECT_CONTENTS: Final = 2
OBJECT_PUNCH: Final = 4
OBJECT_REWRITE: Final = 8
OBJECT_RESIZE: Final = 16
#: Which of its pages are present is compared too: it is memory, not the cache of a file.
OBJECT_RESIDENT: Final = 32
#: It is emptied after a program that mapped it, which also gives up what was reserved for it.
OBJECT_EMPTY: Final = 64
#: It is written to through mappings only, so that is how it is rewritten.
OBJECT_UNWRITTEN: Final = 128

#: Idents of the objects in layout records (`abi.trace`).
IDENT_IMAGE: Final = 1
IDENT_SHARED: Final = 2
IDENT_MEMFD: Final = 3
IDENT_FILE: Final = 4
IDENT_DEVZERO: Final = 5
IDENT_TMPFS: Final = 6
IDENT_EXT4: Final = 7
IDENT_XFS: Final = 8
IDENT_BTRFS: Final = 9
IDENT_OVERLAY: Final = 10
IDENT_RAMFS: Final = 11
IDENT_PROC: Final = 12
IDENT_SYSFS: Final = 13
IDENT_HUGETLB: Final = 14
IDENT_SECRETMEM: Final = 15
IDENT_IOURING: Final = 16
#: What has no inode of its own shares one: perf events, bpf maps.
IDENT_ANON_INODE: Final = 17
IDENT_TCP: Final = 18
IDENT_PACKET: Final = 19
IDENT_SHM0: Final = 20
IDENT_SHM1: Final = 21
IDENT_XDP: Final = 22
LAST_FIXED_IDENT: Final = IDENT_XDP
#: The SysV segments: how many, and their size (bytes).
SEGMENTS: Final = 2
SEGMENT_SIZE: Final = 16 * PAGE
#: Objects a program may create before its observation is given up.
MAX_NEW_IDENTS: Final = 1000

#: The executor's own descriptors.
FD_DOORBELL: Final = 0
FD_DONE: Final = 1
FD_MEM: Final = 2
FD_SHARED: Final = 3
FD_IMAGE: Final = 4
FD_MAPS: Final = 5
FD_STATM: Final = 6
FD_STATUS: Final = 7
FD_SMAPS: Final = 8
FD_PAGEMAP: Final = 9
#: What writes down which blocks of the kernel are reached; /proc/self/fail-nth; its end, and its reader's, of the
#: socket between them.
FD_KCOV: Final = 60
FD_FAIL: Final = 61
FD_READER: Final = 62
FD_READER_END: Final = 63

#: Exit statuses: after a signal outside a touch; without shared memory; otherwise EXIT_START + START_*.
EXIT_SHARED: Final = 98
EXIT_SIGNAL: Final = 99
EXIT_START: Final = 100

MAX_PROGRAMS: Final = AREAS["index"][1] // RESULT.size

#: Blocks that can be watched: the watched area has their addresses in order. The reached area has a bit for each that
#: the last program reached, and behind them 16 bits for each: how many programs have, at most MAX_HITS.
MAX_WATCHED: Final = AREAS["watched"][1] // 8
MAX_HITS: Final = 0xFFFF

#: Where that is mapped between programs (bytes), and its size (words): the first is how many follow.
KCOV_BASE: Final = SHARED_BASE + 2 * SHARED_SIZE
KCOV_WORDS: Final = 1 << 14

_HEADER: Final = struct.Struct("<Q")


def _packer(cls: type[Call]) -> tuple[Callable[..., bytes], Callable[[Call], tuple[int, ...]], int]:
    signature = SIGNATURES[cls]
    codes = "".join("q" if kind is Kind.FD else "Q" for _, kind in signature)
    names = tuple(name for name, _ in signature)
    fields: Callable[[Call], tuple[int, ...]]
    if len(names) > 1:
        fields = attrgetter(*names)
    else:  # attrgetter gives a bare value for one name, and takes at least one

        def fields(call: Call) -> tuple[int, ...]:
            return tuple(getattr(call, name) for name in names)

    return struct.Struct("<Q" + codes).pack, fields, OPCODES[cls]


_PACKERS: Final = {cls: _packer(cls) for cls in CALLS}


def encode_call(call: Call) -> bytes:
    """A call's words: its opcode and its arguments."""
    pack, fields, opcode = _PACKERS[type(call)]
    try:
        return pack(opcode, *fields(call))
    except struct.error:
        words = arguments(call)
        return struct.pack(f"<{len(words) + 1}Q", opcode, *words)


def encode(program: Program, flags: int = 0) -> bytes:
    """A program's words. `flags`: FLAG_* bits."""
    return _HEADER.pack(len(program) | flags << 32) + b"".join(map(encode_call, program))
