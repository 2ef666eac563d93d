"""Reports as mails: what a stranger on a mailing list reads."""

from dataclasses import replace

import pytest

from fuzz.mail import mail, subject, title
from fuzz.replay import Replay
from tests.fuzz.replays import CROWDED, WITNESSES, Judged, diverging, witnessed

MOVE = witnessed("multi_vma_move")


def test_the_whole_mail() -> None:
    text = mail(MOVE, "7.3", Judged(history=("since 6.17.1",)), (), ("program", "repro.c"))
    assert text == (
        "Subject: mm/mremap: mremap(MAYMOVE, FIXED, same) fails with EFAULT\n"
        "\n"
        "Call 3 of 3 of the program below gives another result than the model of the\n"
        "kernel's rules says, on 6.16.12.\n"
        "\n"
        "    kernel   6.16.12 x86_64\n"
        "    config   HUGE_1GB, HUGE_2MB, KSM, PKEYS, SWAP, THP, UFFD_FORK,\n"
        "             UFFD_MINOR, UFFD_WP\n"
        "    rights   CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_PTRACE,\n"
        "             CAP_SYS_RAWIO\n"
        "    model    that of 7.3\n"
        "    kind     mremap[MAYMOVE,FIXED,same] result: model address, kernel EFAULT\n"
        "\n"
        "Program\n"
        "-------\n"
        "\n"
        "`p` is a page of 4096 bytes; W+2 is two pages above W, where W =\n"
        "0x200000000.\n"
        "\n"
        "        1  mmap(W+0, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED\n"
        "               |MAP_ANONYMOUS, -1, 0) = W+0\n"
        "        2  mmap(W+2, 2p, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1,\n"
        "               0) = W+2\n"
        "    >>  3  mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20)\n"
        "\n"
        "Expected\n"
        "--------\n"
        "\n"
        "    mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20) = W+20\n"
        "\n"
        "and the layout `expected` below.\n"
        "\n"
        "Found\n"
        "-----\n"
        "\n"
        "    mremap(W+0, 4p, 4p, MREMAP_MAYMOVE|MREMAP_FIXED, W+20) = -1 EFAULT\n"
        "\n"
        "and the layout `found` below.\n"
        "\n"
        "Layout\n"
        "------\n"
        "\n"
        "                W+0   W+4   W+20  W+24\n"
        "                '  '  '     '  '  '\n"
        "      before    aa bb ..~.. .. ..\n"
        "      expected  .. .. ..~.. aa bb\n"
        "      found     aa bb ..~.. .. ..\n"
        "\n"
        "        a rw-p anonymous\n"
        "        b r--p anonymous\n"
        "\n"
        "    records that differ (- model only, + kernel only)\n"
        "      + W+0 .. W+2               2p rw-p anonymous\n"
        "      + W+2 .. W+4               2p r--p anonymous\n"
        "      - W+20 .. W+22             2p rw-p anonymous\n"
        "      - W+22 .. W+24             2p r--p anonymous\n"
        "\n"
        "Rule\n"
        "----\n"
        "\n"
        "  * mremap(2): a move keeps what it moves. mm/mremap.c: move_vma().\n"
        "\n"
        "Who is likely wrong\n"
        "-------------------\n"
        "\n"
        "The kernel: other kernels, to which the same rule applies, do what the model\n"
        "says.\n"
        "\n"
        "Stability\n"
        "---------\n"
        "\n"
        "  * 3 of 3 in fresh executors\n"
        "\n"
        "Since, until\n"
        "------------\n"
        "\n"
        "  * since 6.17.1\n"
        "\n"
        "Reproducer\n"
        "----------\n"
        "\n"
        "`repro.c` needs nothing but a C library; it exits with 1 if the kernel does\n"
        "this, with 0 if it does what is expected:\n"
        "\n"
        "    cc -o repro repro.c && ./repro\n"
        "\n"
        "`program` is the same for the fuzzer that found it, which shows both sides\n"
        "of every call:\n"
        "\n"
        "    vmadiff run program\n"
    )


def test_what_is_not_known_has_no_section() -> None:
    text = mail(MOVE, "7.3", Judged(rules=(), stability=()))
    assert "Rule" not in text
    assert "Since" not in text
    assert "Stability" not in text
    assert "Reproducer" not in text


@pytest.mark.parametrize(
    ("signature", "wanted"),
    [
        (
            "mremap[MAYMOVE,FIXED,shrink] result: model EFAULT, kernel EINVAL",
            "mm/mremap: mremap(MAYMOVE, FIXED, shrink) fails with EINVAL, not EFAULT",
        ),
        (
            "madvise[DOFORK] result: model EINVAL, kernel 0",
            "mm/madvise: madvise(DOFORK) succeeds, should be EINVAL",
        ),
        (
            "mmap[file] result: model address, kernel another address",
            "mm/mmap: mmap(file) returns another address than it should",
        ),
        (
            "touch[read] result: model ok, kernel ok+SIGBUS",
            "mm/memory: touch(read) returns ok+SIGBUS, not ok",
        ),
        ("mseal layout: kernel merged", "mm/mseal: after mseal(), mappings are merged that should not be"),
        ("mseal layout: perms, offset", "mm/mseal: after mseal(), mappings have another perms, offset"),
        ("fork counters: VmLck more in kernel", "mm/mmap: after fork(), VmLck too high"),
        ("mlock2[ONFAULT] flags: model only lf", "mm/mlock: after mlock2(ONFAULT), VmFlags: lack lf"),
        (
            "madvise[POPULATE_READ] pages: model none, kernel present zero",
            "mm/madvise: after madvise(POPULATE_READ), page tables: present zero, should be none",
        ),
        (
            "mremap[same] consistency: VmLck is not the sum of the locked VMAs",
            "mm/mremap: after mremap(same), VmLck is not the sum of the locked VMAs",
        ),
        ("setrlimit[AS] result: model 0, kernel EPERM", "mm: setrlimit(AS) fails with EPERM"),
        ("the model failed: KeyError: 3 (x.py)", "the model failed: KeyError: 3 (x.py)"),
    ],
)  # fmt: skip
def test_titles(signature: str, wanted: str) -> None:
    assert title(signature) == wanted


@pytest.mark.parametrize("path", sorted(WITNESSES.glob("*.prog")), ids=lambda path: path.stem)
def test_every_kind_of_divergence_can_be_mailed(path: object) -> None:
    replay = witnessed(path.stem)  # type: ignore[attr-defined]
    if replay.divergence is None:
        # It is the calls of a user, or of a kernel with other options, that show it.
        assert path.stem in ("process_madvise_own", "shared_memory_names")  # type: ignore[attr-defined]
        return
    text = mail(replay, "7.3", Judged())
    assert text.startswith(f"Subject: {subject(replay)}\n\n")
    assert replay.text in text
    for section in ("Program", "Expected", "Found", "Layout", "Rule"):
        assert f"\n{section}\n{'-' * len(section)}\n\n" in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_lines_are_short() -> None:
    for replay in (MOVE, diverging(CROWDED), witnessed("dontunmap_leaks_locked")):
        text = mail(replay, "7.3", Judged())
        drawn = text.index("Layout\n---")
        prose = text[:drawn] + text[text.index("\nRule\n") :]
        lines = [
            line for line in prose.splitlines() if not line.startswith(("Subject:", "    kind"))
        ]
        assert max(map(len, lines)) <= 80


def test_nothing_to_tell_is_a_mistake() -> None:
    agreeing: Replay = replace(MOVE, divergence=None)
    with pytest.raises(AssertionError):
        mail(agreeing, "7.3", Judged())
