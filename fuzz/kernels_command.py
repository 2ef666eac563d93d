"""`vmadiff kernels`: what is in the cache, and how it gets there."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable

from fuzz.status import OK, UNUSABLE, UnusableError, UsageError
from kernels import KernelError, UnknownKernelError, installed, names, remove
from kernels.archive import open_archive
from kernels.build import FEATURES, BuildFailed, build
from kernels.fetch import check_name, fetch, remove_source, sources
from kernels.registry import KNOWN, KNOWN_UML, SOURCES

Say = Callable[[str], None]
#: Seconds between lines about a build where there is no terminal.
_LINE = 30.0
#: Lines of a compiler that are shown.
_ERRORS = 20


def kernels(options: Namespace) -> int:
    """`vmadiff kernels list | fetch | build | remove`"""
    try:
        return {"list": _list, "fetch": _fetch, "build": _build, "remove": _remove}[options.action](
            options
        )
    except UnknownKernelError as error:
        raise UsageError(str(error)) from None
    except KernelError as error:
        raise UnusableError(str(error)) from None


def default_kernels(fetching: bool) -> list[str]:
    """Those that are known, as far as they are at hand or may be fetched; if there is none, the running one."""
    at_hand = {kernel.name for kernel in installed()}
    chosen = [known.name for known in KNOWN if fetching or known.name in at_hand]
    return chosen or ["local"]


def fetch_missing(wanted: Iterable[str], say: Say) -> None:
    """Get what is not at hand; what cannot be had is said."""
    at_hand = {kernel.name for kernel in installed()}
    missing = [name for name in wanted if name not in at_hand and _is_fetchable(name)]
    if missing:
        _fetch_all(missing, say, say)


def _is_fetchable(name: str) -> bool:
    try:
        check_name(name)
    except UnknownKernelError:
        return False
    return True


def _fetch_all(wanted: Iterable[str], say: Say, complain: Say) -> bool:
    """Whether all could be had."""
    good = True
    try:
        with open_archive(say) as archive:
            for name in wanted:
                try:
                    kernel = fetch(name, archive)
                    say(f"{name}: {kernel.release}, {len(kernel.modules)} modules, {kernel.image}")
                except KernelError as error:
                    complain(str(error))
                    good = False
    except KernelError as error:
        complain(str(error))
        return False
    return good


def _list(options: Namespace) -> int:
    at_hand = {kernel.name: kernel for kernel in installed()}
    known = {each.name: each.stands_for for each in (*KNOWN, *KNOWN_UML)}
    taken = names()
    rows = [*known, *(name for name in taken if name not in known)]
    at_hand_sources = sources()
    if options.json:
        data = {
            "kernels": [
                {
                    "name": name,
                    "known": name in known,
                    "at_hand": name in at_hand,
                    "damaged": name in taken and name not in at_hand,
                    "stands_for": known.get(name, ""),
                    **(at_hand[name].to_json() if name in at_hand else {}),
                }
                for name in rows
            ],
            "sources": [
                {"name": name, "known": name in SOURCES, "at_hand": name in at_hand_sources}
                for name in sorted({*SOURCES, *at_hand_sources})
            ],
        }
        print(json.dumps(data, indent=1))
        return OK
    width = max(map(len, (*rows, *SOURCES, *at_hand_sources)))
    for name in rows:
        if name in at_hand:
            what = f"{at_hand[name].release} ({at_hand[name].origin})"
        else:
            what = "damaged" if name in taken else "not fetched"
        print(f"{name:<{width}}  {what}{'; ' if name in known else ''}{known.get(name, '')}")
    for name in sorted({*SOURCES, *at_hand_sources}):
        what = at_hand_sources.get(name, "not fetched")
        print(f"{name:<{width}}  {what}; source, for `vmadiff kernels build`")
    return OK


def _fetch(options: Namespace) -> int:
    for name in options.names:
        check_name(name)
    return OK if _fetch_all(options.names, _say, _complain) else UNUSABLE


def _build(options: Namespace) -> int:
    shown = Shown()
    try:
        kernel = build(
            options.tree,
            "uml" if options.uml else "x86",
            [each for each in FEATURES if getattr(options, each.replace("-", "_"))],
            options.name,
            _say,
            shown.progress,
        )
    except BuildFailed as error:
        shown.end()
        print("\n".join(error.lines[:_ERRORS]), file=sys.stderr)
        raise
    shown.end()
    print(f"{kernel.name}: {kernel.release}, {kernel.image}")
    return OK


class Shown:
    """How far a build is: a line that is written again on a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._due = time.monotonic() + (0.0 if self._terminal else _LINE)
        self._drawn = False

    def progress(self, compiled: int, latest: str) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        text = f"compiled {compiled} files, {latest}"
        if self._terminal:
            print(f"\r\x1b[K{text[:78]}", end="", flush=True)
            self._drawn = True
        else:
            _say(text)
        self._due = now + (0.2 if self._terminal else _LINE)

    def end(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", flush=True)
        self._drawn = False


def _remove(options: Namespace) -> int:
    for name in options.names:
        if not remove_source(name):
            remove(name)
    return OK


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(text: str) -> None:
    print(f"vmadiff: {text}", file=sys.stderr)
