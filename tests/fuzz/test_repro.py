"""Reproducers say what vmadiff says: they are built, run on the running kernel, and their verdict is its."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from errno import ENOMEM
from pathlib import Path

import pytest

from abi.calls import NAMES, Program
from abi.program import parse
from abi.trace import Step, Trace
from fuzz.compare import diverging_step, initial_layout
from fuzz.corpus import PACKAGED, SUFFIX, read_program
from fuzz.probe import examine
from fuzz.replay import Replay, replay
from fuzz.repro import Case, ReproError, c, kselftest, syz
from fuzz.repro.objects import used
from kernel_bridge import ExecutorConfig, KernelExecutor
from kernels.cache import directory
from model.run import Model
from tests.kernels import executor

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("seeds", "witnesses", "classes")
PATHS = [path for name in FOLDERS for path in sorted((PACKAGED / name).glob("*" + SUFFIX))]
WARNINGS = ("-Wall", "-Wextra", "-Werror")
SELFTESTS = "tools/testing/selftests"
#: How many programs are tried each time.
SAMPLE = 40
AGREES, DIVERGES = 0, 1


@dataclass(frozen=True, slots=True)
class Kernel:
    """The running kernel, and the model of it."""

    executor: KernelExecutor
    model: Model

    def read(self, path: Path) -> Program:
        return read_program(path, self.executor.environment.geometry)

    def replay(self, *paths: Path) -> list[Replay]:
        named = [(path.stem, self.read(path)) for path in paths]
        return replay(named, self.executor, self.model)

    def case(self, text: str) -> Case:
        program = parse(text, self.executor.environment.geometry)
        (result,) = replay([("program", program)], self.executor, self.model)
        return Case.of(result, "program", self.model.profile.name)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with executor() as started:
        yield Kernel(started, Model(started.environment, examine(started).profile))


@pytest.fixture(scope="module")
def cc() -> str:
    """A C compiler that can link statically."""
    for name in ("gcc", "cc", "clang"):
        if shutil.which(name):
            return name
    pytest.skip("no C compiler")


def build(cc: str, text: str, where: Path, *options: str) -> Path:
    """The program that a C file becomes; the compiler must have nothing to say."""
    source, program = where.with_suffix(".c"), where.with_suffix("")
    source.write_text(text)
    linking = re.findall(r"-static|-Wl,\S+=0x\w+", text)
    command = [cc, "-O0", *WARNINGS, *options, *dict.fromkeys(linking), "-o", program, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return program


def run(program: Path) -> tuple[int, str]:
    """Exit status, and what it says."""
    done = subprocess.run(
        [program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    return done.returncode, done.stdout


def verdict(cc: str, case: Case, where: Path, *options: str) -> tuple[int, str]:
    """What the C program of a case says."""
    program = build(cc, c.text(case), where, *options)
    try:
        return run(program)
    finally:
        program.unlink()


def disagreeing(kernel: Kernel, cc: str, paths: list[Path], where: Path) -> list[str]:
    """Those of the programs whose C says anything else than vmadiff, and what it says."""

    def check(result: Replay) -> str:
        expected = AGREES if result.divergence is None else DIVERGES
        try:
            case = Case.of(result, result.name, kernel.model.profile.name)
            status, said = verdict(cc, case, where / result.name)
        except ReproError as error:
            return f"{result.name}: {error}"
        except AssertionError as error:
            return f"{result.name}: {error}"
        return "" if status == expected else f"{result.name}: {status}, {said.strip()}"

    results = [r for r in kernel.replay(*paths) if not r.unmodelled]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [text for text in pool.map(check, results) if text]


def features(kernel: Kernel, path: Path) -> set[str]:
    """What is new about a program as a reproducer: its calls, and what it maps."""
    program = kernel.read(path)
    return {
        *(NAMES[type(call)] for call in program),
        *used(program, kernel.executor.environment),
    }


def sample(kernel: Kernel) -> list[Path]:
    """Programs that together make all calls and map all kinds: the first that has most of what is missing. Made up to
    their number by those that are evenly spread."""
    rest = {path: features(kernel, path) for path in PATHS if path.parent.name != "classes"}
    rest |= {
        path: features(kernel, path) for path in PATHS if path.stem in ("mmap-fd", "shmat-segment")
    }
    missing = set().union(*rest.values())
    chosen = []
    while missing:
        best = max(rest, key=lambda path: len(rest[path] & missing))
        missing -= rest.pop(best)
        chosen.append(best)
    return chosen + list(rest)[:: max(1, len(rest) // (SAMPLE - len(chosen)))]


def test_a_sample_of_the_corpus_in_c_says_the_same(kernel: Kernel, cc: str, tmp_path: Path) -> None:
    chosen = sample(kernel)
    assert SAMPLE - 2 <= len(chosen) <= SAMPLE + 2
    assert {name for path in chosen for name in features(kernel, path)} >= set(NAMES.values())
    assert disagreeing(kernel, cc, chosen, tmp_path) == []


@pytest.mark.slow
def test_all_of_the_corpus_in_c_says_the_same(kernel: Kernel, cc: str, tmp_path: Path) -> None:
    assert len(PATHS) >= 1300
    assert disagreeing(kernel, cc, PATHS, tmp_path) == []


@pytest.mark.slow
def test_as_root_too(cc: str, tmp_path: Path) -> None:
    """With root's rights, which change many a rule."""
    if os.geteuid():
        pytest.skip("this is not root")
    with KernelExecutor(ExecutorConfig(drop_privileges=False)) as started:
        kernel = Kernel(started, Model(started.environment, examine(started).profile))
        assert disagreeing(kernel, cc, PATHS[::10], tmp_path) == []


@pytest.mark.parametrize(("compiler", "level"), [("gcc", "-O1"), ("gcc", "-O2"), ("clang", "-O1")])
def test_compilers_have_nothing_to_say(
    kernel: Kernel, compiler: str, level: str, tmp_path: Path
) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    paths = [PACKAGED / "seeds" / f"{name}{SUFFIX}" for name in ("fork-locked", "uffd-events-move")]
    for result in kernel.replay(*paths):
        case = Case.of(result, result.name, "")
        status, said = verdict(compiler, case, tmp_path / result.name, level)
        assert status == AGREES, said


# --- what differs is said


PLAIN = """\
mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
touch(W+1, 2, write)
munmap(W+3, 1p)
"""
FORKS = PLAIN + "fork()\n"
REPORTS = """\
mmap(W+0, 4p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
uffd_register(uffd2, W+0, 4p, UFFDIO_REGISTER_MODE_MISSING)
munmap(W+3, 1p)
"""


def _otherwise(case: Case, change: Callable[[Step], Step]) -> Case:
    """The case if the model expected something else after the last call."""
    ours: Trace = (*case.ours[:-1], change(case.ours[-1]))
    found = diverging_step(ours, case.theirs, initial_layout(case.environment))
    assert found is not None
    return replace(case, ours=ours, divergence=found)


def _shorter(step: Step) -> Step:
    last = step.layout[-1]
    return replace(step, layout=(*step.layout[:-1], replace(last, end=last.end - 0x1000)))


def _child_without(step: Step) -> Step:
    assert step.child is not None
    return replace(step, child=replace(step.child, contents=()))


DIFFERENCES: list[tuple[str, str, Callable[[Step], Step], str]] = [
    (
        "result",
        PLAIN,
        lambda s: replace(s, value=-ENOMEM),
        "expected -1 (Cannot allocate memory), found 0",
    ),
    (
        "layout",
        PLAIN,
        _shorter,
        'layout(): expected "W+0 .. W+2 rw-p anonymous", found "W+0 .. W+3 ',
    ),
    (
        "counters",
        PLAIN,
        lambda s: replace(s, size=s.size + 1),
        'counters(): expected "VmSize 4", found "VmSize 3"',
    ),
    (
        "flags",
        PLAIN,
        lambda s: replace(s, flags=(*(s.flags or ())[:-1], 1)),
        'flags(): expected "W+0 rd", found "W+0 rd wr',
    ),
    (
        "pages",
        PLAIN,
        lambda s: replace(s, pages=()),
        'pages(): expected "", found "W+1 .. W+3 present, written by call 2 at',
    ),
    (
        "contents",
        PLAIN,
        lambda s: replace(s, contents=()),
        'contents(): expected "", found "W+1 .. W+3 written by call 2 at',
    ),
    (
        "child",
        FORKS,
        _child_without,
        'contents(): expected "", found "W+1 .. W+3 written by call 2',
    ),
    (
        "events",
        REPORTS,
        lambda s: replace(s, events=()),
        'events(): expected "", found "UNMAP W+3 .. W+4"',
    ),
]


@pytest.mark.parametrize(
    ("field", "text", "change", "said"), DIFFERENCES, ids=[row[0] for row in DIFFERENCES]
)
def test_what_differs_is_said_in_a_line(
    kernel: Kernel,
    cc: str,
    tmp_path: Path,
    field: str,
    text: str,
    change: Callable[[Step], Step],
    said: str,
) -> None:
    case = kernel.case(text)
    assert verdict(cc, case, tmp_path / "same")[0] == AGREES
    other = _otherwise(case, change)
    assert other.divergence is not None and other.divergence.field == field
    status, line = verdict(cc, other, tmp_path / "other")
    assert status == DIVERGES
    assert said in line
    assert line.count("\n") == 1


def test_a_kernel_that_contradicts_itself(kernel: Kernel, cc: str, tmp_path: Path) -> None:
    case = kernel.case(
        "mmap(W+0, 2p, 3, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED, -1, 0)\n"
        "mremap(W+0, 2p, 2p, MREMAP_MAYMOVE|MREMAP_DONTUNMAP|MREMAP_FIXED, W+8)\n"
    )
    if case.divergence is None:
        pytest.skip(f"{case.environment.release} does not leak VmLck")
    assert case.divergence.field == "consistency"
    status, line = verdict(cc, case, tmp_path / "leak")
    assert status == DIVERGES
    assert re.search(
        r'contradictions\(\): expected "", found "VmLck is \d+ pages, all locked', line
    )


def repro(*arguments: object, mistake: str = "") -> tuple[int, str, str]:
    """`vmadiff repro`, with a mistake in the model."""
    plant = f"m = find({mistake!r}); install({{m.file: [(m.before, m.after)]}})" if mistake else ""
    code = (
        "import sys\nfrom fuzz.mistakes import find\nfrom fuzz.sources import install\n"
        f"{plant}\nfrom fuzz.cli import main\nsys.exit(main(['repro', *sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stdout, done.stderr


def seed(name: str) -> Path:
    return PACKAGED / "seeds" / f"{name}{SUFFIX}"


@pytest.mark.parametrize(
    ("mistake", "name", "said"),
    [
        ("advice-stops-at-hole", "madvise-error-beats-pending-enomem", "diverges in call "),
        ("advice-stops-at-hole", "madvise-gap-applies-then-enomem", "diverges after call "),
    ],
)
def test_a_planted_mistake_shows(
    kernel: Kernel, cc: str, tmp_path: Path, mistake: str, name: str, said: str
) -> None:
    status, text, how = repro(seed(name), "--c", "--user", mistake=mistake)
    assert status == 0
    assert "diverges at call" in how
    status, line = run(build(cc, text, tmp_path / "wrong"))
    assert status == DIVERGES and line.startswith(said), line
    (result,) = kernel.replay(seed(name))
    assert verdict(cc, Case.of(result, name, ""), tmp_path / "right")[0] == AGREES


def test_a_witness_against_a_kernel_that_lacks_the_change(
    kernel: Kernel, cc: str, tmp_path: Path
) -> None:
    names = {change.name for change in kernel.model.profile.changes}
    if "multi_vma_move" not in names:
        pytest.skip("this kernel does not move several VMAs")
    witness = PACKAGED / "witnesses" / f"multi_vma_move{SUFFIX}"
    status, text, _ = repro(witness, "--c", "--user", "--profile", "6.16")
    assert status == 0
    assert "verdict  they differ at call 3 in its result" in text
    assert "/* here " in text
    status, line = run(build(cc, text, tmp_path / "old"))
    assert status == DIVERGES
    assert "expected -1 (Bad address), found W+20" in line


# --- as a selftest


@pytest.fixture(scope="module")
def harness() -> Path:
    """The selftests of a kernel's source."""
    for tree in sorted(directory(".trees").glob("linux-source-*/tree"), reverse=True):
        if (tree / SELFTESTS / "kselftest_harness.h").is_file():
            return tree / SELFTESTS
    pytest.skip("no kernel source at hand: vmadiff kernels build linux-source-7.3")


@pytest.mark.parametrize(
    "name", ["munmap-middle-splits", "mmap-anon-2m-aligned", "fork-locked", "madvise-remove-tmpfs"]
)
def test_selftests_run_on_the_kernel_s_harness(
    kernel: Kernel, cc: str, harness: Path, tmp_path: Path, name: str
) -> None:
    (result,) = kernel.replay(seed(name))
    case = Case.of(result, name, "")
    status, said = run(_selftest(cc, case, harness, tmp_path / "good"))
    assert "TAP version 13" in said
    title = f"ok 1 global.{name.replace('-', '_')}"
    assert status == 0 and title in said.splitlines(), said
    other = _otherwise(case, _shorter if len(case.own(case.ours[-1].layout)) else _other_result)
    status, said = run(_selftest(cc, other, harness, tmp_path / "bad"))
    assert status == 1 and f"not {title}" in said.splitlines(), said


def _other_result(step: Step) -> Step:
    return replace(step, value=-ENOMEM)


def _selftest(cc: str, case: Case, harness: Path, where: Path) -> Path:
    # The harness itself has warnings.
    options = ("-Wno-error", "-w", "-D_GNU_SOURCE=", f"-I{harness / 'mm'}")
    return build(cc, kselftest.text(case), where, *options)


# --- as a program for syzkaller

#: docs/program_syntax.md there, as far as programs are written here.
ARGUMENT = r"(?:0x[0-9a-f]+|r\d+|&\(0x7f0000[0-9a-f]{6}(?:/0x[0-9a-f]+)?\)(?:=.*)?)"
SYZ = re.compile(
    rf"(?:r\d+ = )?[a-z_0-9]+(?:\$\w+)?\((?:{ARGUMENT}(?:, {ARGUMENT})*)?\)(?: \(fail_nth: \d+\))?$"
)


def test_every_program_has_a_text_for_syzkaller(kernel: Kernel) -> None:
    for result in kernel.replay(*PATHS[::13]):
        if result.unmodelled:
            continue
        case = Case.of(result, result.name, "")
        text = syz.text(case)
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert [line for line in lines if not SYZ.match(line)] == []
        names = set(re.findall(r"^(r\d+) = ", text, re.MULTILINE))
        assert set(re.findall(r"\br\d+\b", "\n".join(lines))) <= names
        assert text.count("\n# ") > len(case.calls)


def test_pages_become_pages_of_the_data_area(kernel: Kernel) -> None:
    text = syz.text(kernel.case(
        "mmap(W+4, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, memfd, 1p)\n"
        "touch(W+4, 2, write)\n"
        "mremap(W+4, 2p, 2p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)\n"
        "brk(B+1)\n"
    ))  # fmt: skip
    assert "r0 = memfd_create(" in text
    assert "\nmmap(&(0x7f0000004000/0x2000)=nil, 0x2000, 0x3, 0x12, r0, 0x1000)\n" in text
    assert "\nmadvise(&(0x7f0000004000/0x2000)=nil, 0x2000, 0x17)\n" in text
    assert (
        "mremap(&(0x7f0000004000/0x2000)=nil, 0x2000, 0x2000, 0x3, &(0x7f0000014000/0x2000)=nil)"
        in text
    )
    assert "syzkaller cannot: brk is not described" in text


# --- the command and the text


def test_only_what_is_used_is_there(kernel: Kernel) -> None:
    """A divergence in a mail is short: no helper for what it does not do."""
    case = _otherwise(
        kernel.case("mmap(W+0, 2p, 3, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"), _shorter
    )
    text = c.text(case)
    assert "is(mmap(at(W), 2 * PAGE, PROT_READ | PROT_WRITE," in text
    for helper in ("pagemap", "smaps", "sigsetjmp", "uffd", "personality", "mount", "counters"):
        assert helper not in text
    assert re.search(r"^ \*   expected  a ", text, re.MULTILINE)
    assert re.search(r"^ \*   found     aa?", text, re.MULTILINE)


def test_output_is_written_whole(kernel: Kernel, tmp_path: Path) -> None:
    out = tmp_path / "repro.c"
    status, printed, how = repro(seed("munmap-middle-splits"), "--c", "--user", "-o", out)
    assert (status, printed) == (0, "")
    assert "munmap-middle-splits.prog: agrees (2 calls)" in how
    assert "int main(" in out.read_text()
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_not_modelled_has_no_reproducer(kernel: Kernel, tmp_path: Path) -> None:
    program = tmp_path / "unmodelled.prog"
    program.write_text(
        "mmap(W+0, 1024p, 3, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)\n"
        "madvise(W+0, 1024p, MADV_COLLAPSE)\ntouch(W+0, 1, read)\n"
        "prctl(PR_SET_THP_DISABLE, 0, 0)\nmadvise(W+0, 1024p, MADV_HUGEPAGE)\ntouch(W+0, 1, read)\n"
    )
    status, printed, how = repro(program, "--c", "--user")
    if status == 0:
        pytest.skip("this kernel has no transparent huge pages")
    assert (status, printed) == (4, "")
    assert "has no reproducer: unmodelled from call" in how.splitlines()[-1]


@pytest.mark.parametrize("arguments", [[], ["--c", "--syz"]])
def test_one_form_has_to_be_chosen(arguments: list[str]) -> None:
    assert repro(seed("munmap-middle-splits"), *arguments)[0] == 2


def test_a_file_of_several_programs_is_refused(kernel: Kernel, tmp_path: Path) -> None:
    program = tmp_path / "two.prog"
    program.write_text("munmap(W+0, 1p)\n# next program\nmunmap(W+0, 1p)\n")
    status, _, how = repro(program, "--c", "--user")
    assert status == 2
    assert "2 programs; a reproducer is made of one" in how
