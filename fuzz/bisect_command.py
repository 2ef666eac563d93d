"""`vmadiff bisect`: since when, until when, over kernels of the cache or over the commits of a git tree."""

import json
import re
from argparse import Namespace
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

from abi.environment import Geometry
from abi.program import ProgramError, parse_all
from fuzz.bisect import History, has, of_behaviour, of_signature, search
from fuzz.blame import blame
from fuzz.commit_search import CommitSearch, Question
from fuzz.findings import Finding, load, rewrite
from fuzz.kernels_command import Shown
from fuzz.output import check_output, write_json
from fuzz.profiles import profile_of
from fuzz.sighting import Sighting, look
from fuzz.status import INCOMPLETE, OK, UsageError
from kernels import Kernel, installed
from kernels.build import build
from model.run import Model

#: Names of kernels of Debian's for any machine; no other kernel can have one.
_PREBUILT = re.compile(r"\d+\.\d+(\.\d+)?")
_NUMBERS = re.compile(r"\d+")


def bisect(options: Namespace) -> int:
    """`vmadiff bisect`"""
    check_output(options.json)
    finding = _finding(options.file) if options.file.is_dir() else None
    text = _read(options.file / "program" if finding else options.file)
    revisions = (options.good, options.bad)
    if options.tree is None:
        if any(revisions) or options.restart or options.uml:
            raise UsageError("--good, --bad, --uml and --restart go with --tree DIR")
        return _over_kernels(text, options, finding)
    if not all(revisions) or options.kernels or options.all:
        raise UsageError(
            "--tree goes with --good REV and --bad REV, and without --kernels and --all"
        )
    return _over_commits(text, options)


def prebuilt() -> list[str]:
    """The prebuilt x86 kernels at hand, by name, oldest first."""
    kernels = [each for each in installed() if _PREBUILT.fullmatch(each.name)]
    return [each.name for each in sorted(kernels, key=_version)]


def _version(kernel: Kernel) -> tuple[list[int], str]:
    """What comes before the flavour: 6.12.117 of 6.12.117+deb13-cloud-amd64."""
    plain = re.split(r"[^\d.]", kernel.release)[0]
    return [int(number) for number in _NUMBERS.findall(plain)], kernel.name


def _finding(directory: Path) -> Finding:
    try:
        return load(directory)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _over_kernels(text: str, options: Namespace, finding: Finding | None) -> int:
    names = options.kernels or prebuilt()
    if not names:
        raise UsageError("no prebuilt kernel at hand; `vmadiff kernels fetch 6.17.8` gets one")
    signature = options.signature or (finding.signature if finding else "")
    wanted = [signature] if signature and not options.behaviour else []

    def ask(index: int) -> Sighting:
        signature = None if options.behaviour else wanted[0] if wanted else ""
        seen = look(names[index], text, user=options.user, wanted=signature)
        if seen.signatures and not wanted and not options.behaviour:
            wanted.append(seen.signatures[0])
        _say(_sighted(seen, options.behaviour))
        return seen

    def answer(seen: Sighting) -> Hashable | None:
        if options.behaviour:
            return json.dumps(seen.behaviour) if seen.behaviour else None
        return has(seen, wanted[0] if wanted else "")

    seen = search(len(names), ask, answer, everything=options.all)
    found = of_signature(wanted[0], names, seen) if wanted else None
    if found is None or (finding and not found.spans):
        # Kernels do as their own models say: it was held to another's.
        found = of_behaviour(parse_all(text, Geometry()), names, seen)
    _tell(found, options.behaviour)
    if finding is not None and found.is_known:
        model = Model(finding.environment, profile_of(finding.profile, finding.changes))
        whose = blame(finding.replay, model, finding.blame.stability, found)
        rewrite(options.file, replace(finding, blame=whose))
        _say(f"\nwritten to {options.file / 'report.md'}")
    if options.json:
        write_json(options.json, found.to_json())
    return OK if found.is_known else INCOMPLETE


def _sighted(seen: Sighting, behaviour: bool) -> str:
    what = seen.unseen or ("" if behaviour else ", ".join(seen.signatures) or seen.undecided)
    return f"{seen.kernel}: {what or ('asked' if behaviour else 'agrees')} ({seen.seconds:.1f} s)"


def _tell(found: History, behaviour: bool) -> None:
    if not found.signature and not behaviour:
        _say("the model agrees with all that could be asked: what they do is compared")
    _say("")
    for line in found.table():
        _say(line)
    if found.untried:
        _say(f"not asked, between two that say the same: {', '.join(found.untried)}")
    _say("")
    _say(found.signature or "what kernels do")
    for line in found.lines():
        _say(f"  {line}")


def _over_commits(text: str, options: Namespace) -> int:
    arch = "uml" if options.uml else "x86"
    question = Question(
        options.tree,
        options.good,
        options.bad,
        text,
        arch,
        options.signature or "",
        options.behaviour,
    )

    def make(tree: Path, name: str) -> None:
        shown = Shown()
        try:
            build(str(tree), arch, [], name, _say, shown.progress)
        finally:
            shown.end()

    search: CommitSearch = CommitSearch(
        question,
        make,
        lambda name, wanted: look(name, text, user=options.user, wanted=wanted),
        _say,
    )
    if options.restart:
        search.restart()
    found = search.run()
    for line in ("", *found.lines()):
        _say(line)
    if options.json:
        write_json(options.json, found.to_json())
    return OK


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
        parse_all(text, Geometry(), str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not text: {error.reason} at byte {error.start}") from None
    except ProgramError as error:
        raise UsageError(str(error)) from None
    return text


def _say(text: str) -> None:
    print(text, flush=True)
