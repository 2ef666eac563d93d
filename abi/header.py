"""Writes `kernel_bridge/native/abi.gen.h`: the vocabulary and the shared memory, for the C compiler.

    python -m abi.header            write it
    python -m abi.header --check    fail if the committed file is stale

The executor reports ABI_HASH, a hash of this text, and Python compares it: both were built from one vocabulary.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from abi import consts, trace, wire
from abi.calls import (
    CALLS,
    NAMES,
    OPCODES,
    SIGNATURES,
    Brk,
    Ftruncate,
    Madvise,
    Mlock,
    Mlock2,
    Mlockall,
    Mmap,
    Mprotect,
    Mremap,
    Mseal,
    Msync,
    Munlock,
    Munlockall,
    Munmap,
    PkeyMprotect,
    Prctl,
    RemapFilePages,
    Shmdt,
)

PATH: Final = Path(__file__).parent.parent / "kernel_bridge" / "native" / "abi.gen.h"

#: Calls that are a system call of the same name; the others are pseudo-calls with a handler each.
SYSCALLS: Final = (
    Mmap, Munmap, Mprotect, Madvise, Mremap, Mlock, Mlock2, Munlock, Mlockall, Munlockall, Mseal,
    Msync, RemapFilePages, Brk, Prctl, PkeyMprotect, Ftruncate, Shmdt,
)  # fmt: skip
_UAPI_PREFIXES: Final = (
    "PROT_", "MAP_", "MREMAP_", "MADV_", "UFFDIO_REGISTER_MODE_", "UFFDIO_WRITEPROTECT_MODE_",
    "UFFD_EVENT_",
    "MLOCK_", "MCL_", "MS_", "PR_SET_", "RLIMIT_", "MPOL_", "SHM_",
)  # fmt: skip
_WIRE_PREFIXES: Final = (
    "REQUEST_", "READER_", "PHASE_", "RESULT_", "DIRTY_", "FLAG_", "IDENT_", "FD_",
    "EXIT_", "OBJECT_",
)  # fmt: skip
_WIRE_NAMES: Final = (
    "IMAGE_BASE", "SHARED_BASE", "SHARED_SIZE", "MAX_PROGRAMS", "MAX_NEW_IDENTS", "LAST_FIXED_IDENT",
    "SEGMENTS", "SEGMENT_SIZE", "KCOV_BASE", "KCOV_WORDS", "MAX_WATCHED", "MAX_HITS",
)  # fmt: skip
_TRACE_PREFIXES: Final = ("PERM_", "NAME_", "SECTION_", "INCONSISTENT_", "PAGE_")
#: What both sides read in memory: struct, packed form in Python, C type of each member in order.
_STRUCTS: Final = (
    (
        "abi_step",
        trace.STEP,
        (
            ("s64", "value"),
            ("u32", "count"),
            ("u32", "sections"),
            ("u64", "size"),
            ("u64", "data"),
        ),
    ),
    (
        "abi_counters",
        trace.COUNTERS,
        (("u64", "locked"), ("u64", "data"), ("u64", "stack"), ("u64", "exec")),
    ),
    ("abi_entry", trace.ENTRY, (("u64", "page"), ("u64", "value"))),
    (
        "abi_event",
        trace.EVENT,
        (("u32", "kind"), ("u32", "fd"), ("u64", "a"), ("u64", "b"), ("u64", "c")),
    ),
    (
        "abi_object",
        wire.OBJECT,
        (("u32", "fd"), ("u32", "ident"), ("u64", "size"), ("u64", "data"), ("u64", "flags")),
    ),
    (
        "abi_record",
        trace.RECORD,
        (
            ("u64", "start"),
            ("u64", "end"),
            ("u64", "offset"),
            ("u32", "ident"),
            ("u16", "perms"),
            ("u16", "name"),
        ),
    ),
    (
        "abi_result",
        wire.RESULT,
        (
            ("u32", "offset"),
            ("u32", "length"),
            ("u32", "status"),
            ("u32", "dirty"),
            ("u32", "fresh"),
            ("u32", "near"),
            ("u32", "rarest"),
        ),
    ),
)
_CODES: Final = {"s64": "q", "u64": "Q", "u32": "I", "u16": "H"}


def _integers(module: object, prefixes: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for name, value in vars(module).items():
        if name.startswith(prefixes) and type(value) is int:
            yield name, value


def _define(name: str, value: int) -> str:
    return f"#define ABI_{name} {value:#x}{'ULL' if value > 0x7FFFFFFF else ''}"


def _lines() -> Iterator[str]:
    yield "/* The calls: opcode, name, arguments. Those of the first list are system calls. */"
    for title, wanted in (("SYSCALLS", True), ("PSEUDO_CALLS", False)):
        rows = [
            f"\tX({OPCODES[cls]}, {NAMES[cls]}, {len(SIGNATURES[cls])})"
            for cls in CALLS
            if (cls in SYSCALLS) is wanted
        ]
        yield f"#define ABI_{title}(X) \\\n" + " \\\n".join(rows)
    yield _define("NR_CALLS", len(CALLS))
    yield ""
    yield "/* The shared memory. */"
    for name, (offset, size) in wire.AREAS.items():
        yield _define(f"{name.upper()}_OFFSET", offset)
        yield _define(f"{name.upper()}_SIZE", size)
    yield "enum abi_control {"
    yield from (f"\tCTL_{name.upper()} = {place}," for place, name in enumerate(wire.CONTROL))
    yield "};"
    yield "enum abi_start {"
    yield from (f"\tSTART_{name} = {place}," for place, name in enumerate(wire.START_NAMES))
    yield "};"
    yield ""
    yield "/* Numbers. */"
    for name in _WIRE_NAMES:
        yield _define(name, getattr(wire, name))
    for name, value in _integers(wire, _WIRE_PREFIXES):
        yield _define(name, value)
    for name, value in _integers(trace, _TRACE_PREFIXES):
        yield _define(name, value)
    for name in ("UNCHANGED", "FIRST_NEW_IDENT", "CONTENT_PAGES", "FAILED"):
        yield _define(name, getattr(trace, name))
    for name in (
        "PAGE",
        "TOUCH_PAGES",
        "TOUCH_OK",
        "TOUCH_SIGSEGV",
        "TOUCH_SIGBUS",
        "TOUCH_ENDLESS",
    ):
        yield _define(name, getattr(consts, name))
    for name, fd in consts.FD_NAMES.items():
        yield _define(f"FD_OF_{name.upper()}", fd)
    yield _define("FIRST_OBJECT_FD", consts.FIRST_OBJECT_FD)
    yield _define("LAST_OBJECT_FD", max(consts.FD_NAMES.values()))
    yield ""
    yield "/* VmFlags codes by their bit. */"
    yield f'#define ABI_CODES "{"".join(trace.CODES)}"'
    yield _define("NR_CODES", len(trace.CODES))


def _checks() -> Iterator[str]:
    yield "/* Our numbers of the kernel's interface against the system's headers. */"
    for name, value in _integers(consts, _UAPI_PREFIXES):
        yield f'#ifdef {name}\n_Static_assert(({name}) == {value:#x}, "{name}");\n#endif'
    yield ""
    yield "/* What both sides read in memory. */"
    for name, packed, members in _STRUCTS:
        assert packed.format == "<" + "".join(_CODES[ctype] for ctype, _ in members)
        lines = "".join(f"\t__{ctype} {member};\n" for ctype, member in members)
        yield f"struct {name} {{\n{lines}}};"
        yield f'_Static_assert(sizeof(struct {name}) == {packed.size}, "{name}");'


def _body() -> str:
    return "\n".join([*_lines(), "", *_checks()])


@cache
def abi_hash() -> int:
    """A 63-bit hash of everything both sides must agree on."""
    return int.from_bytes(hashlib.sha256(_body().encode()).digest()[:8], "little") >> 1


def text() -> str:
    """The whole header file."""
    return (
        "/* Generated by abi/header.py from the tables in abi/. Do not edit. */\n"
        "#ifndef ABI_GEN_H\n#define ABI_GEN_H\n\n"
        "#include <linux/ioctl.h>\n#include <linux/mman.h>\n#include <linux/prctl.h>\n"
        "#include <linux/resource.h>\n#include <linux/types.h>\n#include <linux/userfaultfd.h>\n\n"
        f"{_define('HASH', abi_hash())}\n\n{_body()}\n\n#endif\n"
    )


def main(arguments: list[str]) -> int:
    """The command line; returns its exit status."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m abi.header [--check]", file=sys.stderr)
        return 2
    if arguments:
        stale = not PATH.exists() or PATH.read_text() != text()
        if stale:
            print(f"{PATH.name} is stale: run `python -m abi.header`", file=sys.stderr)
        return int(stale)
    PATH.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
