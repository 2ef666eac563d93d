"""How a command ends: its exit statuses, and the errors that lead to them."""

from typing import Final

OK: Final = 0
DIVERGES: Final = 1
USAGE: Final = 2
UNUSABLE: Final = 3
INCOMPLETE: Final = 4
INTERRUPTED: Final = 130

EXPLAINED: Final = """\
exit status:
  0    nothing new was found; model and kernel agree; every planted mistake was found;
       everything that can be is exercised; every program fares as its header states (check)
  1    new divergences (fuzz, enumerate), a divergence (run, import --run), a missed mistake
       (selftest), something not exercised (coverage), something not as stated (check), damaged
       files (corpus verify), a series that changes what user space can see, or crashes (patch)
  2    wrong usage, or a file that is not what it should be; a series that does not apply or build
  3    this machine cannot: no compiler, the executor does not start, a kernel cannot be
       had or built, or does not boot, a directory cannot be read or written, the disk is
       full
  4    not compared to the end: unmodelled, or the executor was lost (run, repro, explain,
       check, import --run), or one of several kernels for good, or a worker when the time
       was up (fuzz), or programs of a bound are left (enumerate), or no kernel could be
       asked (bisect)
  130  interrupted, everything is written (fuzz, enumerate: 1 if there were new divergences)
"""


class UsageError(Exception):
    """The command line, or a file named on it, is wrong; the message is one line."""


class UnusableError(Exception):
    """This machine cannot do what was asked; the message is one line."""
