"""The kernels that are known by name. Others that the archive has can be fetched by their version all the same."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Known:
    """A kernel to compare with: its name, and what it stands for."""

    name: str
    stands_for: str


#: Oldest first: what `vmadiff matrix` and `make matrix` take when nothing else is asked for.
KNOWN: Final = (
    Known("6.1", "long-term"),
    Known("6.12.117", "long-term, with the stable fixes of 2026"),
    Known("6.16.12", "the last without multi-VMA moves"),
    Known("6.17.8", "the first with them"),
    Known("6.17.13", "the last 6.17"),
    Known("6.18.15", "long-term"),
    Known("6.19.14", "the last 6.19"),
    Known("7.0.13", "the last 7.0"),
    Known("7.1.13", "the last 7.1"),
    Known("7.2.6", "before the fixes of 7.2.8"),
    Known("7.2.12", "after them"),
    Known("7.3.4", "the newest"),
)


@dataclass(frozen=True, slots=True)
class Uml:
    """A User-Mode-Linux: its name, whose it is, how its version begins, the suite it is in, and whether it boots where
    the processor has AMX."""

    name: str
    owner: str
    version: str
    suite: str
    amx: bool = True

    @property
    def stands_for(self) -> str:
        """What it is there for, and where it is not."""
        return (
            f"User-Mode-Linux of {self.owner}{'' if self.amx else '; not on processors with AMX'}"
        )


#: Those before 6.16 cannot run by seccomp, and where the processor has AMX the host refuses the registers that they set
#: by ptrace (arch/x86/um/os-Linux/registers.c: put_fp_registers(), EFAULT).
KNOWN_UML: Final = (
    Uml("uml-6.1", "Debian 12", "6.1um", "bookworm", amx=False),
    Uml("uml-6.12", "Debian 13", "6.12um", "trixie", amx=False),
    Uml("uml-7.2", "Debian's next", "7.2um", "sid"),
)
NAMES: Final = tuple(each.name for each in (*KNOWN, *KNOWN_UML))
#: Packages with whole sources, for `vmadiff kernels build`.
SOURCES: Final = ("linux-source-6.1", "linux-source-6.12", "linux-source-7.2", "linux-source-7.3")
