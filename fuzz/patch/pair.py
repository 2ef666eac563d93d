"""The two kernels of a comparison: built of a tree and a series, and kept for its next version, or given as images."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fuzz.output import read_json, write_json
from fuzz.patch.changed import Changed, changed
from kernels import KernelError
from kernels.archive import Say
from kernels.blocks import Block, blocks
from kernels.build import Progress, build, wanted
from kernels.cache import checksum, find, installed, remove
from kernels.commits import Commit
from kernels.workshop import Workshop

#: What kernels are built with for the search, and for looking at memory errors.
SEARCH: Final = ("kcov", "fault-injection", "debug-vm")
KASAN: Final = ("kasan", "debug-vm")
_BUILT: Final = "built.json"
#: Kernels of other series of the same tree that are kept.
_KEPT: Final = 6


@dataclass(frozen=True, slots=True)
class Pair:
    """base, patched: kernels, by the names that targets have; what: the tree and the series, in a line; changed: by the
    series, nothing where images were given; blocks: of the patched kernel, of changed files; key: the same for the same
    kernels."""

    base: str
    patched: str
    what: str
    key: str
    changed: Changed | None = None
    blocks: tuple[Block, ...] = ()

    @property
    def watched(self) -> list[Block]:
        """The blocks to aim at."""
        return self.changed.watched(self.blocks) if self.changed else []


@dataclass(frozen=True, slots=True)
class Series:
    """What is to be compared: files on top of `base`, or the commit `tip`."""

    base: str
    files: tuple[Path, ...] = ()
    tip: str = ""


class Builder:
    """Builds both kernels of a series in a workshop.

    Methods raise what `kernels.build` and `kernels.workshop` do.
    """

    def __init__(
        self,
        workshop: Workshop,
        series: Series,
        arch: str,
        say: Say,
        progress: Callable[[], Progress],
    ) -> None:
        self._workshop = workshop
        self._arch = arch
        self._say = say
        self._progress = progress
        self._facts = workshop.place / _BUILT
        self.base = workshop.commit(series.base)
        if series.tip:
            self.patched = workshop.commit(series.tip)
            workshop.check_out(self.base)
        else:
            self.patched = workshop.apply(self.base, series.files)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out of the workshop."""
        return self._workshop.locked()

    def pair(self) -> Pair:
        """Both kernels for the search."""
        w = self._workshop
        diff = w.diff(self.base, self.patched)
        what = changed(diff, lambda path: w.file(self.patched, path))
        # Blocks cost time. Of what a header changes, all files may be made.
        only_code = all(path.endswith(".c") for path in what.sources)
        base = self.build(self.base, "base", SEARCH, ())
        patched = self.build(self.patched, "patched", SEARCH, what.sources if only_code else None)
        self._say("looking up which blocks of the kernel the changed lines are")
        image = find(patched).image
        found = blocks(image, what.sources) if what.sources else []
        key = f"{self.base.id[:12]}-{self.patched.id[:12]}-{self._arch}"
        title = f"{w.name}: {self.base} and {self.patched}"
        return Pair(base, patched, title, key, what, tuple(found))

    def build(
        self,
        commit: Commit,
        role: str,
        features: Sequence[str],
        covered: Collection[str] | None = None,
    ) -> str:
        """The kernel of a commit, unless it is there already; its name."""
        w = self._workshop
        kind = "kasan" if "kasan" in features else self._arch
        name = f"patch-{w.key}-{kind}-{commit.id[:12]}"
        facts = {
            "options": sha256(wanted(self._arch, features).encode()).hexdigest(),
            "covered": None if covered is None else list(covered),
        }
        if self._is_built(name, facts):
            self._say(f"{role}: {commit} is built")
            return name
        self._say(f"{role}: building {commit}")
        w.check_out(commit)
        progress = self._progress()
        kernel = build(
            str(w.tree),
            self._arch,
            features,
            name,
            self._say,
            progress,
            out=f"patch-{w.key}-{kind}",
            covered=covered,
        )
        self._remember(name, {**facts, "sha256": checksum(kernel.image)})
        self._tidy(f"patch-{w.key}-{kind}-")
        return name

    def _tidy(self, prefix: str) -> None:
        """Forget the oldest kernels of the tree: none of this series."""
        ours = {self.base.id[:12], self.patched.id[:12]}
        others = [
            kernel
            for kernel in installed()
            if kernel.name.startswith(prefix) and kernel.name.removeprefix(prefix) not in ours
        ]
        others.sort(key=lambda kernel: kernel.image.stat().st_mtime)
        for kernel in others[:-_KEPT]:
            remove(kernel.name)

    def _is_built(self, name: str, facts: dict[str, Any]) -> bool:
        try:
            known = read_json(self._facts)[name]
            return bool(known == {**facts, "sha256": checksum(find(name).image)})
        except (KernelError, KeyError):
            return False

    def _remember(self, name: str, facts: dict[str, Any]) -> None:
        write_json(self._facts, {**read_json(self._facts), name: facts})
