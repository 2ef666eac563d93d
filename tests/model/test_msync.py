"""msync(2): which of several things that are wrong it reports."""

from tests.pictures import Drawing, play, scenes

SCENES = {
    "memory that is mapped": ("fffqqss", "msync(W+0, 7p, MS_SYNC)", "0", "fffqqss"),
    "an unknown flag": ("ff", "msync(W+0, 1p, 0x8); msync(W+9, 1p, 0x8)", "EINVAL, EINVAL", "ff"),
    "an unaligned address": ("ff", "msync(W+0+0x1, 0, MS_SYNC)", "EINVAL", "ff"),
    "both ways of waiting": ("ff", "msync(W+0, 1p, MS_SYNC|MS_ASYNC)", "EINVAL", "ff"),
    "flags are an int": ("ff", "msync(W+0, 1p, 0x100000004)", "0", "ff"),
    "a range that wraps": ("ff", "msync(W+0, 0xfffffffffffff000, MS_SYNC)", "ENOMEM", "ff"),
    "a length that rounds to nothing": (
        "ff", "msync(W+0, 0, MS_SYNC); msync(W+9, 0xffffffffffffffff, MS_SYNC)", "0, 0", "ff",
    ),
    "nothing mapped": ("..ff", "msync(W+0, 1p, MS_SYNC)", "ENOMEM", "..ff"),
    "a hole at the end": ("ff", "msync(W+0, 3p, MS_SYNC)", "ENOMEM", "ff"),
    "a hole is reported at the end": ("ff.ff", "msync(W+0, 5p, MS_SYNC)", "ENOMEM", "ff.ff"),
    "what fails behind a hole goes first": (
        "ff.L", "msync(W+0, 4p, MS_SYNC|MS_INVALIDATE)", "EBUSY", "ff.L",
    ),
    "MS_ASYNC alone ends at a hole": ("ff.L", "msync(W+0, 4p, MS_ASYNC)", "ENOMEM", "ff.L"),
    "MS_INVALIDATE of locked memory": ("ffL", "msync(W+0, 3p, MS_INVALIDATE)", "EBUSY", "ffL"),
    "MS_SYNC of locked memory": ("ffL", "msync(W+0, 3p, MS_SYNC)", "0", "ffL"),
}  # fmt: skip


@scenes(SCENES)
def test_msync(before: str, calls: str, results: str, after: str) -> None:
    play(before, calls, results, after)


def test_a_shared_file_without_fsync_is_einval() -> None:
    drawing = Drawing("ff")
    drawing.vma(0).file.fsync = False  # type: ignore[union-attr]
    assert drawing.do("msync(W+0, 1p, MS_SYNC); msync(W+0, 1p, MS_ASYNC)") == ["EINVAL", "0"]
