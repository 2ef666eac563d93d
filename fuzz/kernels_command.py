"""`vmadiff kernels`: what is in the cache, and how it gets there."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable

from fuzz.status import INCOMPLETE, OK, UnusableError
from kernels import KernelError, find, installed, remove
from kernels.archive import Gone, open_archive
from kernels.build import Options, build
from kernels.registry import KNOWN, KNOWN_UML

Say = Callable[[str], None]


def kernels(options: Namespace) -> int:
    """`vmadiff kernels list | fetch | build | remove`"""
    try:
        return {"list": _list, "fetch": _fetch, "build": _build, "remove": _remove}[options.action](
            options
        )
    except KernelError as error:
        raise UnusableError(str(error)) from None


def default_kernels(fetching: bool) -> list[str]:
    """Those that are known, as far as they are at hand or may be fetched; if there is none, the running one."""
    at_hand = {kernel.name for kernel in installed()}
    names = [known.name for known in KNOWN if fetching or known.name in at_hand]
    return names or ["local"]


def fetch_missing(names: Iterable[str], say: Say) -> None:
    """Get what is not at hand; what the archive no longer has is said."""
    at_hand = {kernel.name for kernel in installed()}
    missing = [name for name in names if name[0].isdigit() and name not in at_hand]
    if not missing:
        return
    try:
        archive = open_archive(say)
        for name in missing:
            _fetch_one(archive.fetch_kernel, name, say)
    except KernelError as error:
        say(str(error))


def _fetch_one(fetch: Callable[[str], object], name: str, say: Say) -> bool:
    try:
        fetch(name)
        return True
    except Gone as error:
        say(str(error))
        return False


def _list(options: Namespace) -> int:
    at_hand = {kernel.name: kernel for kernel in installed()}
    known = {each.name: each.stands_for for each in (*KNOWN, *KNOWN_UML)}
    names = [*known, *(name for name in at_hand if name not in known)]
    if options.json:
        rows = [
            {
                "name": name,
                "known": name in known,
                "at_hand": name in at_hand,
                "stands_for": known.get(name, ""),
                **(at_hand[name].to_json() if name in at_hand else {}),
            }
            for name in names
        ]
        print(json.dumps({"kernels": rows}, indent=1))
        return OK
    width = max(map(len, names))
    for name in names:
        kernel = at_hand.get(name)
        what = f"{kernel.release} ({kernel.origin})" if kernel else "not fetched"
        print(f"{name:<{width}}  {what}{'; ' if name in known else ''}{known.get(name, '')}")
    return OK


def _fetch(options: Namespace) -> int:
    archive = open_archive(lambda text: print(text, flush=True))
    done = [_fetch_one(archive.fetch_kernel, name, _complain) for name in options.names]
    for name, good in zip(options.names, done, strict=True):
        if good:
            kernel = find(name)
            print(f"{name}: {kernel.release}, {len(kernel.modules)} modules, {kernel.image}")
    return OK if all(done) else INCOMPLETE


def _build(options: Namespace) -> int:
    kernel = build(
        options.tree,
        Options(
            arch="uml" if options.uml else "x86",
            features=tuple(f for f in FEATURES if getattr(options, f.replace("-", "_"))),
            name=options.name,
        ),
        lambda text: print(text, flush=True),
    )
    print(f"{kernel.name}: {kernel.release}, {kernel.image}")
    return OK


def _remove(options: Namespace) -> int:
    for name in options.names:
        remove(name)
    return OK


def _complain(text: str) -> None:
    print(f"vmadiff: {text}", file=sys.stderr)


#: What a build may have more than the least.
FEATURES = ("kasan", "kcov", "fault-injection", "debug-vm")
