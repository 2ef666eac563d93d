"""Programs as reproducers that need nothing of ours: C, a kernel selftest, a syzkaller program.

It turns a program and what is expected of it into text. It runs nothing.
"""

from fuzz.repro.case import Case, ReproError

__all__ = ["Case", "ReproError"]
