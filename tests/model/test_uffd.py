"""UFFDIO_REGISTER and UFFDIO_UNREGISTER."""

from dataclasses import replace

import pytest

from abi.environment import Environment
from model.flags import VM_UFFD, VM_UFFD_MINOR, VM_UFFD_MISSING, VM_UFFD_WP
from model.profile import PROFILES
from tests.environments import ENVIRONMENT, IMAGE
from tests.pictures import Drawing, play, scenes

REGISTER = "uffd_register(uffd0, W+{}, {}p, UFFDIO_REGISTER_MODE_MISSING)".format
UNREGISTER = "uffd_unregister(uffd0, W+{}, {}p)".format

SCENES = {
    "part of a VMA is cut out": ("wwww", REGISTER(1, 2), "0", "wuuw"),
    "registering again changes nothing": ("uuuu", REGISTER(1, 2), "0", "uuuu"),
    "holes are ignored": ("w..r", REGISTER(0, 2), "0", "u..r"),
    "like neighbours merge": ("uuww", REGISTER(2, 2), "0", "uuuu"),
    "nothing mapped at all": ("..ww", REGISTER(0, 2), "EINVAL", "..ww"),
    "shared memory": ("mm", REGISTER(0, 2), "0", "vv"),
    "a file of a disk": ("ff", REGISTER(0, 2), "EINVAL", "ff"),
    "one VMA that cannot be registered: none is": ("wwff", REGISTER(0, 4), "EINVAL", "wwff"),
    "private /dev/zero is anonymous": ("zz", REGISTER(0, 2), "0", "??"),
    "a length of 0": ("ww", "uffd_register(uffd0, W+0, 0, 1)", "EINVAL", "ww"),
    "a length that is no multiple of a page": (
        "ww", "uffd_register(uffd0, W+0, 0x1001, 1)", "EINVAL", "ww",
    ),
    "an address inside a page": ("ww", "uffd_register(uffd0, W+0+0x10, 1p, 1)", "EINVAL", "ww"),
    "an address beyond TASK_SIZE": (
        "ww", "uffd_register(uffd0, 0x7ffffffff000, 1p, 1)", "EINVAL", "ww",
    ),
    "an end beyond TASK_SIZE": (
        "ww", "uffd_register(uffd0, W+0, 0x7fffffffe000, 1)", "EINVAL", "ww",
    ),
    "no mode": ("ww", "uffd_register(uffd0, W+0, 1p, 0)", "EINVAL", "ww"),
    "an unknown mode": ("ww", "uffd_register(uffd0, W+0, 1p, 9)", "EINVAL", "ww"),
    "minor faults are for shared memory": ("ww", "uffd_register(uffd0, W+0, 1p, 4)",
        "EINVAL", "ww"),
    "a bad descriptor": ("ww", "uffd_register(999, W+0, 1p, 1)", "EBADF", "ww"),
    "a descriptor that is none": ("ww", "uffd_register(memfd, W+0, 1p, 1)", "ENOTTY", "ww"),
    "what another descriptor has": ("uu", "uffd_register(uffd1, W+0, 1p, 1)", "EBUSY", "uu"),
    "a shared mapping of a read-only descriptor": (
        ".", "mmap(W+0, 1p, PROT_READ, MAP_SHARED|MAP_FIXED, memfd_ro, 0);" + REGISTER(0, 1),
        "W+0, EPERM", "?",
    ),
    "unregistering heals": ("wuuw", UNREGISTER(1, 2), "0", "wwww"),
    "unregistering part of it": ("uuuu", UNREGISTER(1, 2), "0", "uwwu"),
    "unregistering what is not registered": ("wwuu", UNREGISTER(0, 3), "0", "wwwu"),
    "unregistering over holes": ("u..u", UNREGISTER(0, 4), "0", "w..w"),
    "unregistering nothing": ("..uu", UNREGISTER(0, 2), "EINVAL", "..uu"),
    "unregistering what is another's": (
        "uu", "uffd_unregister(uffd1, W+0, 2p)", "EINVAL", "uu",
    ),
    "unregistering beside a file that cannot be registered": (
        "uuff", UNREGISTER(0, 4), "EINVAL", "uuff",
    ),
    "unregistering with a bad descriptor": (
        "uu", "uffd_unregister(-1, W+0, 2p)", "EBADF", "uu",
    ),
    "unregistering an invalid range": ("uu", "uffd_unregister(uffd0, W+0, 0)", "EINVAL", "uu"),
}  # fmt: skip


@scenes(SCENES)
def test_userfaultfd(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


@pytest.mark.parametrize(
    ("mode", "flag"),
    [(1, VM_UFFD_MISSING), (2, VM_UFFD_WP), (3, VM_UFFD_MISSING | VM_UFFD_WP), (4, VM_UFFD_MINOR)],
)
def test_modes_are_flags(mode: int, flag: int) -> None:
    drawing = Drawing("mm")
    assert drawing.do(f"uffd_register(uffd0, W+0, 2p, {mode})") == ["0"]
    assert drawing.vma(0).flags & VM_UFFD == flag


def test_other_modes_replace_those_before() -> None:
    drawing = Drawing("mm")
    drawing.do("uffd_register(uffd0, W+0, 2p, 1); uffd_register(uffd0, W+0, 2p, 4)")
    assert drawing.vma(0).flags & VM_UFFD == VM_UFFD_MINOR


def test_more_modes_than_asked_for_are_left_alone() -> None:
    drawing = Drawing("mm")
    drawing.do("uffd_register(uffd0, W+0, 2p, 3); uffd_register(uffd0, W+0, 1p, 1)")
    assert drawing.vma(0).flags & VM_UFFD == VM_UFFD_MISSING | VM_UFFD_WP


def test_write_protection_cannot_be_dropped_any_more() -> None:
    calls = "uffd_register(uffd0, W+0, 2p, 2); uffd_register(uffd0, W+0, 2p, 1)"
    play("ww", calls, "0, 0", "uu")
    play("ww", calls, "0, EBUSY", "??", profile=PROFILES["7.3"])


def test_droppable_memory_could_be_registered_once() -> None:
    play("dd", REGISTER(0, 2), "EINVAL", "dd")
    play("dd", REGISTER(0, 2), "0", "dd", profile=PROFILES["6.16"])


def test_anybody_could_unregister_once() -> None:
    calls = "uffd_unregister(uffd1, W+0, 2p)"
    play("uu", calls, "0", "ww", profile=PROFILES["6.16"])


def test_special_memory_cannot_be_registered() -> None:
    drawing = Drawing("ww")
    drawing.vma(0).flags |= 0x4000  # VM_IO
    assert drawing.do(REGISTER(0, 2)) == ["EINVAL"]


def test_the_executors_own_shared_memory_can_be_registered_and_is_left_as_it_is() -> None:
    drawing = Drawing(".")
    assert drawing.do(f"uffd_register(uffd0, {IMAGE.start}, 1p, 1)") == ["EINVAL"]


@pytest.mark.parametrize(
    "environment",
    [
        replace(ENVIRONMENT, max_map_count=3),
        replace(ENVIRONMENT, max_map_count=2),
    ],
)
def test_at_the_mapping_limit_what_would_be_cut_is_refused(environment: Environment) -> None:
    play("wwww", REGISTER(1, 2), "ENOMEM", "wwww", environment)


@pytest.mark.parametrize(("mode", "name"), [("WP", "UFFD_WP"), ("MINOR", "UFFD_MINOR")])
def test_a_mode_that_the_architecture_does_not_have_is_unknown(mode: str, name: str) -> None:
    without = replace(ENVIRONMENT, config=ENVIRONMENT.config - {name})
    call = (
        f"uffd_register(uffd0, W+0, 2p, UFFDIO_REGISTER_MODE_MISSING|UFFDIO_REGISTER_MODE_{mode})"
    )
    assert Drawing("ss").do(call) == ["0"]
    play("ss", call, "EINVAL", "ss", without)
    play("mm", REGISTER(0, 2), "0", "vv", without)
