"""The command line: what `vmadiff COMMAND` understands; what it does is in `fuzz.commands`.

What people can get wrong is one line on stderr and an exit status; a traceback is a bug of this program.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias, TypeVar

from abi.program import ProgramError
from fuzz.formats import FORMATS
from fuzz.status import EXPLAINED, INTERRUPTED, UNUSABLE, USAGE, UnusableError, UsageError

_Any = TypeVar("_Any")

_ABOUT = """\
Finds out where the running kernel's handling of memory mappings differs from an exact model of it.

Programs of mmap, munmap, mprotect, madvise, mremap, page accesses and userfaultfd calls run on the kernel and on
the model; after every call the result and the layout of the whole address space are compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = build_parser().parse_args(arguments)
    # Not before the arguments are known to be right: --help works where nothing else does.
    from fuzz import commands

    command: Callable[[argparse.Namespace], int] = getattr(commands, options.command)
    try:
        status = command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    except (UsageError, ProgramError) as error:
        return _complain(str(error), USAGE)
    except UnusableError as error:
        return _complain(str(error), UNUSABLE)
    except OSError as error:
        name = f"{error.filename}: " if error.filename is not None else ""
        return _complain(f"{name}{error.strerror or error}", UNUSABLE)


def build_parser() -> argparse.ArgumentParser:
    """What `vmadiff` understands."""
    parser = argparse.ArgumentParser(
        prog="vmadiff",
        description=_ABOUT,
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vmadiff {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_fuzz,
        _add_soak,
        _add_enumerate,
        _add_run,
        _add_faults,
        _add_minimize,
        _add_repro,
        _add_explain,
        _add_import,
        _add_probe,
        _add_coverage,
        _add_selftest,
        _add_matrix,
        _add_check,
        _add_corpus,
        _add_report,
        _add_bisect,
        _add_patch,
        _add_kernels,
    ):
        add(commands)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(
    commands: Commands,
    name: str,
    summary: str,
    details: str,
    *,
    kernel: bool = True,
    target: bool = True,
    targets: bool = False,
    profile: bool = True,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=details,
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if kernel:
        parser.add_argument(
            "--user",
            action="store_true",
            help="run programs as an ordinary user (nobody) even if this is root, whose rights change many a rule",
        )
    if kernel and target:
        more = " Given again: further kernels that run the same programs" if targets else ""
        parser.add_argument(
            "--target",
            action="append" if targets else "store",
            default=None if targets else "local",
            metavar="KERNEL",
            help="the kernel to run on: local (the running one, default), the name of one that `vmadiff kernels list`"
            f" shows, qemu:IMAGE, or uml:BINARY.{more}",
        )
    if kernel and target and profile:
        parser.add_argument(
            "--profile",
            metavar="RELEASE",
            help="the release whose behaviour is expected, such as 6.16 (default: that of the kernel, as probed)",
        )
    return parser


def _add_fuzz(commands: Commands) -> None:
    parser = _command(
        commands,
        "fuzz",
        "fuzz the running kernel against the model",
        "Make up programs, run each on the kernel and on the model, and write down every new kind of divergence\n"
        "below STATE/findings (report.md, program, finding.json). A divergence never stops the session.",
        targets=True,
    )
    _add_session(parser)
    parser.add_argument(
        "--unguided", action="store_true", help="do without Atheris' coverage guidance"
    )


def _add_soak(commands: Commands) -> None:
    parser = _command(
        commands,
        "soak",
        "the same without guidance, as fast as can be",
        "As `vmadiff fuzz`, without Atheris: programs are made and edited at random, none is kept for the branches of\n"
        "the model that it reaches, and the model is compiled (by mypyc, once; where that cannot be, it runs as it is\n"
        "written). For long runs.",
        targets=True,
    )
    _add_session(parser)
    parser.set_defaults(unguided=True)


def _add_session(parser: argparse.ArgumentParser) -> None:
    """What `fuzz` and `soak` have in common."""
    parser.add_argument(
        "--time",
        type=_seconds,
        metavar="SECONDS",
        help="stop after this long; 0: never (default: 60, or never with --runs)",
    )
    parser.add_argument(
        "--runs", type=_positive, metavar="SEQUENCES", help="stop after this many programs"
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        metavar="N",
        help="with --runs and one worker, which is the default then: the same programs each time (default: a new one)",
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="begin with the programs in DIR and add those that reach new branches of the model"
        " (default: STATE/corpus)",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="processes that share the corpus and write each finding once (default: processors; 1 with --runs and"
        " --seed)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the last session in STATE, however that ended: what is not said anew is as it was, the limits"
        " are those of all of it",
    )
    _add_json(parser, "the summary")
    _add_state(parser, "findings, the corpus and programs under way")
    parser.add_argument(
        "--unseeded", action="store_true", help="do without the programs that come with vmadiff"
    )
    parser.add_argument("--unmask", action="store_true", help="known divergences are new ones, too")


def _add_enumerate(commands: Commands) -> None:
    parser = _command(
        commands,
        "enumerate",
        "compare every program up to a bound",
        "Run every program of a bound on the kernel and on the model: a layout of a few VMAs with gaps, then one\n"
        "mremap with every source range, every target, every set of flags, or another call over every range. What is\n"
        "like another program is left out (fuzz/moves.py says why). Programs have numbers; how far it came is in\n"
        "STATE/enumerate.json, and --resume goes on there. Divergences are written down as those of `vmadiff fuzz`.\n"
        "The default bound takes about five minutes on two processors.",
    )
    parser.set_defaults(command="enumerate_bound")
    parser.add_argument(
        "--call",
        choices=("mremap", "madvise", "mlock", "mprotect", "munlock", "munmap"),
        help="the call that programs end with (default: mremap)",
    )
    parser.add_argument(
        "--vmas",
        type=_positive,
        metavar="N",
        help="VMAs of a layout, at most: up to 4 (default: 3)",
    )
    parser.add_argument(
        "--pages",
        type=_positive,
        metavar="N",
        help="pages that they are in, at most: up to 8 (default: 4)",
    )
    parser.add_argument(
        "--kinds",
        type=_kinds,
        metavar="A,B,...",
        help="kinds of mapping that they are of, as `vmadiff coverage` names them (default: anonymous private, faulted,"
        " inaccessible, memfd shared, file private, devzero private, uffd missing)",
    )
    parser.add_argument(
        "--flags",
        type=_flags,
        metavar="A,B,...",
        help="sets of flags of mremap, such as 0,MAYMOVE,MAYMOVE|FIXED (default: all eight)",
    )
    parser.add_argument(
        "--resize",
        type=_natural,
        metavar="N",
        help="by how many pages the lengths of mremap differ, at most (default: 1)",
    )
    parser.add_argument(
        "--full",
        type=_positive,
        metavar="N",
        help="observe one program in N in full, which takes five times as long (default: 10)",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--from",
        dest="first",
        type=_natural,
        default=0,
        metavar="NUMBER",
        help="begin with this program (default: 0)",
    )
    begin.add_argument(
        "--resume", action="store_true", help="go on where the last one in STATE was stopped"
    )
    begin.add_argument(
        "--show", type=_natural, metavar="NUMBER", help="print this program, and run nothing"
    )
    parser.add_argument(
        "--time", type=_seconds, metavar="SECONDS", help="stop after this long (default: never)"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="processes (default: processors)"
    )
    _add_json(parser, "the summary")
    _add_state(parser, "findings and the state")
    parser.add_argument("--unmask", action="store_true", help="known divergences are new ones, too")


def _add_run(commands: Commands) -> None:
    parser = _command(
        commands,
        "run",
        "replay programs on model and kernel, step by step",
        "Run the programs in FILE... on the model and on the kernel and show both results of every call; where they\n"
        "part, the layouts are drawn. The form of a FILE is that of corpus/seeds/*.prog.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--vma-tests",
        type=Path,
        metavar="TREE",
        help="a kernel's source tree: build its tools/testing/vma, and have its mm/vma.c say which VMAs the call that"
        " diverges merges",
    )
    parser.add_argument("--layouts", action="store_true", help="draw the layout after every call")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="of what is printed: text (default) has every call, the others a result for each program",
    )
    _add_json(parser, "all steps, results and layouts", "OUT")


def _add_faults(commands: Commands) -> None:
    parser = _command(
        commands,
        "faults",
        "repeat each call of programs with its 1st, 2nd ... allocation failing",
        "Run the programs in FILE... on a kernel with fault injection, each call again and again with another of its\n"
        "allocations failing, until none is left, and see that it does what the model allows: nothing, all, or what\n"
        "comes before it. `vmadiff kernels build linux-source-7.3 --fault-injection` makes such a kernel.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    _add_json(parser, "all trials", "OUT")


def _add_minimize(commands: Commands) -> None:
    parser = _command(
        commands,
        "minimize",
        "make a program that diverges as small as shows the same",
        "Run the program in FILE, and while it shows the same divergence, or the kernel makes the same report, take\n"
        "away calls, shorten ranges, drop flags, put plainer mappings in. What is left is written to OUT, or to the\n"
        "terminal; a first Ctrl-C ends it with the smallest so far.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="where to write it")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="N",
        help="how long it may take, on a guest as many times longer as that is slower (default: 20, a crash 180)",
    )


def _add_repro(commands: Commands) -> None:
    parser = _command(
        commands,
        "repro",
        "turn a program into C, a kernel selftest or a syzkaller program",
        "Run the program in FILE, say on stderr how that went, and write it as a reproducer that needs nothing of\n"
        "vmadiff. In C its exit status is 0 where all is as the model says, 1 where it is not, 2 where it cannot run.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    form = parser.add_mutually_exclusive_group(required=True)
    for name, what in (
        ("c", "one C file on libc alone"),
        ("kselftest", "a test for the kernel's tools/testing/selftests/mm"),
        ("syz", "a syzkaller program"),
    ):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=what)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write it (default: the terminal)",
    )


def _add_explain(commands: Commands) -> None:
    parser = _command(
        commands,
        "explain",
        "show the rule behind each result of a program",
        "Run the program in FILE on the model alone and show for every call the rule that decided its result, with\n"
        "the rule's place in the kernel's source.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")


def _add_import(commands: Commands) -> None:
    outer = commands.add_parser(
        "import",
        help="turn what a real program did into programs",
        description="Turn a record of what real programs did into programs for `run` and `fuzz --corpus`.",
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    formats = outer.add_subparsers(dest="format", required=True, metavar="FORMAT")
    parser = _command(
        formats,
        "strace",
        "the output of `strace -f`",
        "Turn the output of `strace -f -o FILE PROGRAM` into programs: the memory calls of each process, addresses\n"
        "moved to where programs may use them in the same order and alignment, descriptors replaced by objects of\n"
        "the same kind, and each long trace cut into programs that begin with the mappings they need. What\n"
        "cannot be said in a program is left out and counted.",
    )
    parser.set_defaults(command="import_strace")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(".vmadiff/imported"),
        metavar="DIR",
        help="write the programs to DIR/*.prog (default: .vmadiff/imported)",
    )
    parser.add_argument(
        "--pid", type=_positive, metavar="N", help="this process only (default: all in the trace)"
    )
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="the first N programs (default: all)"
    )
    parser.add_argument(
        "--run", action="store_true", help="replay the programs at once and say how each went"
    )


def _add_probe(commands: Commands) -> None:
    parser = _command(
        commands,
        "probe",
        "show the kernel, its profile, and what is usable here",
        "Find out which of the model's named changes the running kernel has, by running a witness program for each,\n"
        "and what of the fuzzer's domain this machine and user allow.",
        profile=False,
    )
    _add_json(parser, "the answers")


def _add_coverage(commands: Commands) -> None:
    parser = _command(
        commands,
        "coverage",
        "what a corpus exercises, counted, and what it does not",
        "Run programs on the model, for which no kernel is needed, and count for every call which classes of its\n"
        "arguments, results, kinds of mapping and places they reach; then list what could be reached and was not, and\n"
        "what cannot be, and why. Without FILE, the programs that come with vmadiff. The form of a FILE is that of\n"
        "corpus/seeds/*.prog; of a directory, all *.prog in it.",
        kernel=False,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    _add_json(parser, "all counts")


def _add_selftest(commands: Commands) -> None:
    parser = _command(
        commands,
        "selftest",
        "plant mistakes in the model and see that fuzzing finds them",
        "Fuzz with one planted mistake in the model at a time, each from an empty corpus, until the mistake shows\n"
        "itself as a confirmed divergence. Programs run as an ordinary user, whom the limits bind.",
        target=False,
    )
    parser.set_defaults(user=True)
    _add_json(parser, "the results")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mistakes only")
    parser.add_argument(
        "--sequences",
        type=_positive,
        default=200_000,
        metavar="N",
        help="programs until a mistake counts as missed (default: 200000)",
    )
    parser.add_argument("--seed", type=_seed, default=1, metavar="N", help="(default: 1)")
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="mistakes at a time (default: processors)"
    )
    parser.add_argument("--unguided", action="store_true", help="do without coverage guidance")
    parser.add_argument("--list", action="store_true", help="list the mistakes and stop")


def _add_matrix(commands: Commands) -> None:
    parser = _command(
        commands,
        "matrix",
        "programs on several kernels, as a table",
        "Run the programs in FILE... (default: the corpus that comes with vmadiff) on several kernels, each beside\n"
        "the model of that kernel, and show which agree. The verdicts: agrees, known (an explained divergence),\n"
        "diverges, crashed (the kernel did), unknown (it could not run, or is not modelled).",
        target=False,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument(
        "--kernels",
        type=lambda text: text.split(","),
        metavar="A,B,...",
        help="targets as for --target (default: the known kernels that are at hand)",
    )
    parser.add_argument(
        "--fetch", action="store_true", help="get what is missing from Debian's archive first"
    )
    parser.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="kernels at a time (default: 1)"
    )
    _add_json(parser, "all rows")


def _add_check(commands: Commands) -> None:
    parser = _command(
        commands,
        "check",
        "replay a corpus and see that each program fares as its header states",
        "Run the programs in PATH... (files and directories; default: the corpus that comes with vmadiff) on a kernel\n"
        "and compare each verdict with what the program's header says of that kernel, such as\n"
        "`# expect: diverges on 6.16.*`; where it says nothing, model and kernel have to agree. What is said to\n"
        "diverge and does not has failed, too. corpus/README.md has the form of a header.",
        profile=False,
    )
    parser.set_defaults(command="check_corpus")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument("--format", choices=FORMATS, default="ktap", help="(default: ktap)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write that to FILE (default: the terminal)",
    )
    _add_json(parser, "all results")
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="executors at a time (default: processors, at most 4; one guest)",
    )


def _add_corpus(commands: Commands) -> None:
    outer = commands.add_parser(
        "corpus",
        help="keep findings as regressions; merge, thin out, count and verify corpora",
        description="Directories of programs (*.prog), a file each, named by content. No kernel is needed.",
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    outer.set_defaults(command="corpus_command")
    actions = outer.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add", help="keep programs, of findings with how they fare where they were found"
    )
    add.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a finding's directory, or a program"
    )
    add.add_argument(
        "--fixed", action="store_true", help="it is fixed: model and kernel agree from now on"
    )
    merge = actions.add_parser(
        "merge", help="add what reaches new branches of the model or new classes of input"
    )
    merge.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    least = actions.add_parser(
        "min", help="drop what is not needed to reach the same branches and classes"
    )
    stats = actions.add_parser(
        "stats",
        help="programs, calls, bytes, branches and classes (default: the shipped corpus too)",
    )
    _add_json(stats, "the figures")
    verify = actions.add_parser("verify", help="put damaged files into quarantine")
    for parser in (least, verify):
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    for parser in (add, merge, least, stats, verify):
        parser.add_argument(
            "--corpus", type=Path, metavar="DIR", help="the corpus (default: .vmadiff/corpus)"
        )


def _add_report(commands: Commands) -> None:
    parser = _command(
        commands,
        "report",
        "write the index of what was found, or print it for machines",
        "Write index.html, which lists the findings in the directory STATE and shows how fuzzing went, as sessions do\n"
        "while they run. A line in a file `status` in a finding's directory is shown as its status, and kept.",
        kernel=False,
    )
    parser.add_argument(
        "state",
        nargs="?",
        type=Path,
        default=Path(".vmadiff"),
        metavar="STATE",
        help="(default: .vmadiff)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="write it to DIR, with a copy of all findings (default: STATE)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="of what is printed: text (default) has a line for each finding, the others a result",
    )


def _add_bisect(commands: Commands) -> None:
    parser = _command(
        commands,
        "bisect",
        "since when, and until when, kernels do something",
        "Find out on which kernels the program in FILE diverges from the model, or, where it agrees with the model\n"
        "everywhere, since when kernels do something else. As few kernels as tell are booted, the oldest first.\n"
        "With --tree, minimal kernels are built of the commits between two, as `git bisect` has it; what was stopped\n"
        "goes on where it was. A kernel that does not build or boot, or lacks what the program needs, is skipped.\n"
        "FILE may be the directory of a finding: its reports then say what was found out.",
        target=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--kernels",
        type=lambda text: text.split(","),
        metavar="A,B,...",
        help="targets as for --target, oldest first (default: Debian's kernels that are at hand)",
    )
    parser.add_argument("--all", action="store_true", help="ask every one of the kernels")
    parser.add_argument(
        "--behaviour",
        action="store_true",
        help="compare what kernels do with each other, and not with the model",
    )
    parser.add_argument(
        "--signature",
        metavar="TEXT",
        help="the divergence to look for, as reports have it (default: the first that shows)",
    )
    parser.add_argument("--tree", type=Path, metavar="DIR", help="a git tree; it is only read")
    parser.add_argument("--good", metavar="REV", help="a commit without it, older or newer")
    parser.add_argument("--bad", metavar="REV", help="a commit with it")
    parser.add_argument(
        "--uml", action="store_true", help="build User-Mode-Linux, not x86 kernels for QEMU"
    )
    parser.add_argument(
        "--restart", action="store_true", help="forget which commits were tried before"
    )
    _add_json(parser, "all answers", "OUT")


def _add_patch(commands: Commands) -> None:
    parser = _command(
        commands,
        "patch",
        "what a patch series changes that user space can see",
        "Build the kernel of a tree without and with a series, run the same programs on both, aimed at what the\n"
        "series touches, and hold both to the model of the base. What differs is made smaller and judged; which\n"
        "changed lines were executed is stated. The tree is only read, builds are kept for the next version of the\n"
        "series, and what was stopped goes on when it is given again.\n"
        "Results: STATE/patch-*/report.html and result.json.",
        target=False,
    )
    parser.add_argument(
        "--tree",
        metavar="DIR",
        help="the kernel's source: a git tree, another directory, or one of Debian's packages (linux-source-7.3)",
    )
    parser.add_argument("--base", metavar="REV", help="what the series applies to (default: HEAD)")
    parser.add_argument(
        "--series",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="the patches in order, as mails or plain diffs",
    )
    parser.add_argument("--range", metavar="A..B", help="the commits of the tree after A up to B")
    parser.add_argument(
        "--base-image",
        metavar="KERNEL",
        help="without a tree: the kernel without the series, as for --target elsewhere",
    )
    parser.add_argument("--patched-image", metavar="KERNEL", help="and the kernel with it")
    parser.add_argument(
        "--target",
        dest="arch",
        choices=("x86", "uml"),
        default="x86",
        help="what is built: x86 for QEMU (default), or User-Mode-Linux",
    )
    parser.add_argument(
        "--time",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="of fuzzing in all, builds apart (default: 600)",
    )
    parser.add_argument(
        "--kasan",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="of that time, how much on the patched kernel built with KASAN, from 0 to 1 (default: 0.2)",
    )
    parser.add_argument(
        "--first",
        action="store_true",
        help="stop at the first divergence of the patched kernel that is not known of the base",
    )
    parser.add_argument(
        "--seed", type=_seed, metavar="N", help="the same programs each time (default: a new one)"
    )
    parser.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="processes (default: 1)"
    )
    parser.add_argument(
        "--unguided",
        action="store_true",
        help="without coverage guidance, even if Atheris is there",
    )
    parser.add_argument(
        "--unseeded",
        action="store_true",
        help="begin with no programs, not with the shipped corpus",
    )
    parser.add_argument("--restart", action="store_true", help="forget what was found out before")
    _add_state(parser, "findings")
    _add_json(parser, "the result")


def _add_kernels(commands: Commands) -> None:
    outer = commands.add_parser(
        "kernels",
        help="list, fetch, build and remove kernels to run on",
        description="The kernels that guests can boot, in a cache of vmadiff's own.",
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = outer.add_subparsers(dest="action", required=True, metavar="ACTION")
    outer.set_defaults(command="kernels")
    parser = actions.add_parser("list", help="those at hand and those that are known")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser = actions.add_parser(
        "fetch", help="get prebuilt ones from Debian's archive, by version (6.17.8) or name"
    )
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser = actions.add_parser(
        "build", help="build one from a source tree, or from a package such as linux-source-7.3"
    )
    parser.add_argument("tree", metavar="TREE")
    parser.add_argument("--name", metavar="NAME", help="what to call it")
    arch = parser.add_mutually_exclusive_group()
    arch.add_argument("--x86", action="store_true", help="for QEMU (default)")
    arch.add_argument("--uml", action="store_true", help="User-Mode-Linux")
    parser.add_argument("--kasan", action="store_true", help="with the address sanitizer")
    parser.add_argument("--kcov", action="store_true", help="with coverage of mm/")
    parser.add_argument("--fault-injection", action="store_true", help="with failing allocations")
    parser.add_argument("--debug-vm", action="store_true", help="with the checks of DEBUG_VM")
    parser = actions.add_parser("remove", help="forget kernels")
    parser.add_argument("names", nargs="+", metavar="NAME")


def _add_state(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".vmadiff"),
        metavar="DIR",
        help=f"where {what} are kept (default: .vmadiff)",
    )


def _add_json(parser: argparse.ArgumentParser, what: str, name: str = "FILE") -> None:
    """`name`: of the file, where FILE is another."""
    parser.add_argument("--json", type=Path, metavar=name, help=f"write {what} to {name}")


def _positive(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return number


def _natural(text: str) -> int:
    number = _number(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more")
    return number


def _kinds(text: str) -> tuple[str, ...]:
    from fuzz.enumeration import kinds

    return _parsed(kinds, text)


def _flags(text: str) -> tuple[int, ...]:
    from fuzz.enumeration import flags

    return _parsed(flags, text)


def _parsed(read: Callable[[str], _Any], text: str) -> _Any:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seed(text: str) -> int:
    number = _number(text)
    if not 0 <= number < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 2147483647")
    return number


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more")
    return number


def _share(text: str) -> float:
    number = _seconds(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 1")
    return number


def _complain(text: str, status: int) -> int:
    print(f"vmadiff: {' '.join(text.split())}", file=sys.stderr)
    return status


def _version() -> str:
    try:
        return version("vmadiff")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
