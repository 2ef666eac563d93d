"""Which kernel's behaviour a program is held to: that of the kernel it runs on, or of a release that was named."""

from collections.abc import Iterable

from fuzz.probe import probe
from fuzz.site import Executor
from fuzz.status import UsageError
from model.profile import BY_NAME, PROFILES, Profile


def profile_for(executor: Executor, release: str | None) -> Profile:
    """The profile of the named release; None: of the kernel that `executor` runs on, found by its witnesses.

    Raises:
        UsageError: no such release is known.
    """
    if release is None:
        return probe(executor)
    if release not in PROFILES:
        raise UsageError(f"no profile is called {release}; there are {', '.join(PROFILES)}")
    return PROFILES[release]


def profile_of(name: str, changes: Iterable[str]) -> Profile:
    """The profile with these changes, by name.

    Raises:
        KeyError: there is no such change.
    """
    return Profile(name, frozenset(BY_NAME[change] for change in changes))
