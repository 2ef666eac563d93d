"""The objects: described as they are, and as they were after every program."""

import pytest

from abi.consts import PAGE
from abi.environment import Object
from abi.program import parse
from abi.trace import Layout, Mapping, file_tag, unpack
from kernel_bridge import KernelExecutor

FILES = ("memfd", "file", "tmpfs", "ext4", "xfs", "btrfs", "overlay", "ramfs")
RW = "PROT_READ|PROT_WRITE"
CHANGES = {
    "written": "touch(W+0, 32, write); touch(W+32, 32, write)",
    "punched": "madvise(W+3, 50p, MADV_REMOVE)",
    "cut": "ftruncate({name}, 5p+0x3); touch(W+0, 2, write)",
    "grown": "ftruncate({name}, 200p); mremap(W+0, 64p, 200p, MREMAP_MAYMOVE, 0)",
    "empty": "ftruncate({name}, 0)",
    "reclaimed": "touch(W+40, 20, read); madvise(W+0, 64p, MADV_PAGEOUT)",
    "rearranged": "remap_file_pages(W+0, 8p, 0, 52, 0); touch(W+0, 8, write)",
}


def initial(kernel: KernelExecutor) -> Layout:
    return tuple(
        Mapping(v.start, v.end, v.offset, v.ident, v.perms, v.name)
        for v in kernel.environment.initial
    )


def contents(kernel: KernelExecutor, name: str) -> tuple[tuple[int, int], ...]:
    """What reading the file's pages gives: number of the page in the file, entry."""
    geometry = kernel.environment.geometry
    text = f"mmap(W+0, 65p, PROT_READ, MAP_PRIVATE|MAP_FIXED, {name}, 0)"
    (observation,) = kernel.run([parse(text, geometry)], full=True)
    (step,) = unpack(observation.data, initial(kernel))
    assert step.contents is not None
    return tuple((page - geometry.window // PAGE, entry) for page, entry in step.contents)


def described(kernel: KernelExecutor, name: str) -> Object:
    obj = next((o for o in kernel.environment.objects if o.name == name), None)
    if obj is None:
        pytest.skip(kernel.environment.missing[name])
    return obj


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", FILES)
def test_a_program_finds_the_files_as_every_other_does(
    name: str, change: str, kernel: KernelExecutor
) -> None:
    obj = described(kernel, name)
    before = contents(kernel, name)
    tags = [(i, file_tag(obj.ident, i) << 8 & (1 << 64) - 1) for i in range(obj.data // PAGE)]
    assert before[: len(tags)] == tuple(tags)
    assert [page for page, _ in before[len(tags) :]] == [64]
    text = f"mmap(W+0, 64p, {RW}, MAP_SHARED|MAP_FIXED, {name}, 0); {CHANGES[change]}"
    program = parse(text.format(name=name).replace(";", "\n"), kernel.environment.geometry)
    (observation,) = kernel.run([program])
    assert observation.loss is None
    assert contents(kernel, name) == before


@pytest.mark.parametrize("name", ["tmpfs", "ext4", "xfs", "btrfs", "overlay"])
def test_both_descriptors_of_a_file_are_one_object(name: str, kernel: KernelExecutor) -> None:
    both, readonly = described(kernel, name), described(kernel, f"{name}_ro")
    assert (both.ident, both.size, both.data) == (readonly.ident, readonly.size, readonly.data)
    assert both.writable and not readonly.writable
    assert contents(kernel, name) == contents(kernel, f"{name}_ro")
