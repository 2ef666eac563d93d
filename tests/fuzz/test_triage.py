"""Signatures: the same for what shows the same thing, different for what does not."""

import json
from pathlib import Path

import pytest

from abi.environment import Geometry
from abi.program import parse_call
from abi.trace import Child, Layout, Mapping, Step
from fuzz.compare import Divergence, Field
from fuzz.corpus import PACKAGED
from fuzz.triage import explanation, layout_difference, load_known, signature

PAGE = 4096


def call_signature(
    call: str, field: Field, ours: int, theirs: int, a: Layout = (), b: Layout = ()
) -> str:
    divergence = Divergence(0, field, (), Step(ours, a), Step(theirs, b))
    return signature(parse_call(call, Geometry()), divergence)


def vma(start: int, end: int, perms: int = 3, ident: int = 0, offset: int = 0) -> Mapping:
    return Mapping(start * PAGE, end * PAGE, offset * PAGE, ident, perms, 0)


def test_addresses_do_not_matter() -> None:
    texts = {
        call_signature(f"mremap(W+{at}, 2p, 2p, MREMAP_MAYMOVE, 0)", "result", 0x1000 * at, -14)
        for at in (1, 7, 900)
    }
    assert texts == {"mremap[MAYMOVE,same] result: model address, kernel EFAULT"}


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("mremap(W+0, 2p, 4p, 0, 0)", "mremap[grow]"),
        ("mlock2(W+0, 2p, MLOCK_ONFAULT)", "mlock2[ONFAULT]"),
        ("mlockall(MCL_CURRENT|MCL_FUTURE|8)", "mlockall[CURRENT,FUTURE,unknown]"),
        ("msync(W+0, 2p, MS_SYNC)", "msync[SYNC]"),
        ("set_vma_name(W+0, 2p, a)", "set_vma_name[a]"),
        ("prctl(PR_SET_MDWE, 1, 0)", "prctl[SET_MDWE]"),
        ("uffd_writeprotect(uffd0, W+0, 2p, 0)", "uffd_writeprotect"),
        ("setrlimit(RLIMIT_AS, 2p)", "setrlimit[AS]"),
        ("mbind(W+0, 2p, MPOL_BIND, 1, MPOL_MF_MOVE)", "mbind[BIND,MF_MOVE]"),
        ("shmat(0, W+0, SHM_RDONLY)", "shmat[RDONLY]"),
        ("munlockall()", "munlockall"),
        ("mremap(W+0, 4p, 2p, 0, 0)", "mremap[shrink]"),
        ("mremap(W+0, 0, 2p, 0, 0)", "mremap[old0]"),
        ("mremap(W+0, 2p, 0, 8, 0)", "mremap[unknown,new0]"),
        ("mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_STACK, -1, 0)", "mmap[ANONYMOUS]"),
        ("mmap(W+0, 1p, PROT_READ, MAP_SHARED, memfd, 0)", "mmap[memfd]"),
        ("madvise(W+0, 1p, MADV_FREE)", "madvise[FREE]"),
        ("madvise(W+0, 1p, 77)", "madvise[unknown]"),
        ("munmap(W+0, 1p)", "munmap"),
        ("uffd_register(uffd0, W+0, 1p, UFFDIO_REGISTER_MODE_WP)", "uffd_register[WP]"),
    ],
)
def test_shape_of_a_call(call: str, shape: str) -> None:
    text = call_signature(call, "result", 0, -22)
    assert text == f"{shape} result: model 0, kernel EINVAL"


def test_flags_that_last_matter_to_layouts() -> None:
    call = "mmap(W+0, 1p, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_LOCKED|MAP_STACK, -1, 0)"
    text = call_signature(call, "layout", 0, 0, (vma(0, 1),), ())
    assert text == "mmap[PRIVATE,ANONYMOUS,LOCKED] layout: extra mapping in model"


def test_two_addresses() -> None:
    text = call_signature("mmap(NULL, 1p, 1, 34, -1, 0)", "result", 0x1000, 0x2000)
    assert text == "mmap[ANONYMOUS] result: model address, kernel another address"


def test_touched_pages() -> None:
    text = call_signature("touch(W+0, 3, write)", "result", 0, 0b100101)
    assert text == "touch[write] result: model ok, kernel SIGSEGV+SIGBUS"


@pytest.mark.parametrize(
    ("field", "ours", "theirs", "text"),
    [
        ("counters", Step(0, (), 3, 1), Step(0, (), 5, 1), "VmSize more in kernel"),
        (
            "counters",
            Step(0, (), counters=(4, 1, 0, 0)),
            Step(0, (), counters=(2, 1, 0, 0)),
            "VmLck less in kernel",
        ),
        (
            "flags",
            Step(0, (), flags=(0b011,)),
            Step(0, (), flags=(0b101,)),
            "model only wr, kernel only ex",
        ),
        (
            "pages",
            Step(0, (), pages=()),
            Step(0, (), pages=((7, 1),)),
            "model none, kernel present zero",
        ),
        (
            "contents",
            Step(0, (), contents=((7, 5 << 8),)),
            Step(0, (), contents=((7, 6 << 8),)),
            "model written, kernel another written",
        ),
        (
            "contents",
            Step(0, (), contents=((7, 2),)),
            Step(0, (), contents=((7, 0xF << 60),)),
            "model SIGBUS, kernel file data",
        ),
        (
            "events",
            Step(0, ()),
            Step(0, (), events=((0x15, 18, 1, 2, 3),)),
            "model none, kernel REMOVE",
        ),
        (
            "child",
            Step(0, (), child=Child((vma(0, 1),), None, (0, 0, 0, 0), ())),
            Step(0, (), child=Child((), None, (0, 0, 0, 0), ())),
            "layout: extra mapping in model",
        ),
        (
            "child",
            Step(0, (), child=Child((vma(0, 1),), (1,), (0, 0, 0, 0), ())),
            Step(0, (), child=Child((vma(0, 1),), (3,), (0, 0, 0, 0), ())),
            "flags: kernel only wr",
        ),
        (
            "child",
            Step(0, (), child=Child((vma(0, 1),), (1,), (0, 0, 0, 0), ())),
            Step(0, (), child=Child((vma(0, 1),), (1,), (5, 0, 0, 0), ())),
            "counters: VmLck",
        ),
        (
            "consistency",
            Step(0, ()),
            Step(0, (), inconsistent=1 << 16),
            "VmSize is not the sum of the VMAs",
        ),
    ],
)
def test_what_else_differs(field: Field, ours: Step, theirs: Step, text: str) -> None:
    call = parse_call("munmap(W+0, 1p)", Geometry())
    divergence = Divergence(0, field, (), ours, theirs)
    assert signature(call, divergence) == f"munmap {field}: {text}"


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ((vma(0, 2), vma(2, 4)), (vma(0, 4),), "kernel merged"),
        ((vma(0, 4),), (vma(0, 2), vma(2, 4)), "model merged"),
        ((vma(0, 1), vma(1, 4)), (vma(0, 3), vma(3, 4)), "split elsewhere"),
        ((vma(0, 2),), (vma(0, 2), vma(5, 6)), "extra mapping in kernel"),
        ((vma(0, 3),), (vma(0, 2),), "extra mapping in model"),
        ((vma(0, 2), vma(4, 5, 1)), (vma(1, 3), vma(4, 5, 2)), "mapped elsewhere"),
        ((vma(0, 2),), (vma(0, 2, perms=1),), "perms"),
        ((vma(0, 2, ident=3),), (vma(0, 2, ident=3, offset=1),), "offset"),
        ((vma(0, 2, ident=3),), (vma(0, 2, ident=4, perms=1),), "object, perms"),
        ((vma(0, 2, ident=3),), (vma(0, 1, ident=3), vma(1, 2, ident=3, offset=1)), "model merged"),
    ],
)
def test_layout_difference(ours: Layout, theirs: Layout, difference: str) -> None:
    assert layout_difference(ours, theirs) == difference


def test_known_divergences_have_kernels_and_a_cause(tmp_path: Path) -> None:
    entry = {"signatures": ["a"], "kernels": ["6.18.*"], "cause": "mm/x.c: f()"}
    (tmp_path / "a.json").write_text(json.dumps(entry))
    known = load_known(tmp_path)
    assert explanation("a", "6.18.3", known) == known[0]
    assert explanation("a", "6.19.3", known) is None
    assert explanation("b", "6.18.3", known) is None


def test_broken_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"signatures": 1}')
    with pytest.raises(ValueError, match=r"a\.json"):
        load_known(tmp_path)


def test_a_kernels_report_is_not_known_without_evidence(tmp_path: Path) -> None:
    text = "the kernel reported: WARNING in move_vma < mremap_to < do_mremap"
    entry = {"signatures": [text], "kernels": ["6.18.*"], "cause": "mm/x.c: f()", "fixed": "6.18.9"}
    (tmp_path / "moved.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match=r"moved\.prog is missing"):
        load_known(tmp_path)
    (tmp_path / "moved.prog").write_text("munmap(W+0, 1p)\n")
    assert explanation(text, "6.18.3", load_known(tmp_path))
    assert not explanation(text, "6.19.3", load_known(tmp_path))
    del entry["fixed"]
    (tmp_path / "moved.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match="fixed"):
        load_known(tmp_path)


def test_packaged_entries_are_readable() -> None:
    for entry in load_known(PACKAGED / "divergences"):
        assert entry.cause
        assert entry.kernels
