"""The two kernels of a comparison: built of a tree and a series, and kept for its next version, or given as images."""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fuzz.output import read_json, write_json
from fuzz.patch.changed import Changed, changed, removed
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
#: Kernels of other series of the same tree that are kept: those without and with each of eight.
_KEPT: Final = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """base, patched: kernels, by the names that targets have; what: the tree and the series, in a line; key: the same
    for the same kernels; changed, removed: by the series, nothing where images were given; blocks, base_blocks: of
    changed files, of the patched kernel and of the base."""

    base: str
    patched: str
    what: str
    key: str
    changed: Changed | None = None
    removed: Changed | None = None
    blocks: tuple[Block, ...] = ()
    base_blocks: tuple[Block, ...] = ()

    @property
    def watched(self) -> list[Block]:
        """The blocks of the patched kernel to aim at."""
        return self.changed.watched(self.blocks) if self.changed else []

    @property
    def watched_on_base(self) -> list[Block]:
        """Those of the base: what only the base has."""
        return self.removed.own(self.base_blocks) if self.removed else []


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
        #: Kernels of this series, by name.
        self._ours: set[str] = set()
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
        what = changed(w.diff(self.base, self.patched), lambda path: w.file(self.patched, path))
        gone = removed(w.diff(self.patched, self.base), lambda path: w.file(self.base, path))
        base = self.build(self.base, "base", SEARCH, _covered({path for path, _ in gone.lines}))
        patched = self.build(self.patched, "patched", SEARCH, _covered(what.sources))
        self._say("looking up which blocks of the kernel the changed lines are")
        key = f"{self.base.id[:12]}-{self.patched.id[:12]}-{self._arch}"
        title = f"{w.name}: {self.base} and {self.patched}"
        of_patched = blocks(find(patched).image, what.sources) if what.sources else []
        of_base = blocks(find(base).image, gone.sources) if gone.lines else []
        return Pair(base, patched, title, key, what, gone, tuple(of_patched), tuple(of_base))

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
        facts = {
            "options": sha256(wanted(self._arch, features).encode()).hexdigest(),
            "covered": None if covered is None else sorted(covered),
        }
        # A base is built for each set of files that series change.
        parts = sha256(json.dumps(facts["covered"]).encode()).hexdigest()[:4]
        name = f"patch-{w.key}-{kind}-{commit.id[:12]}-{parts}"
        if self._is_built(name, facts):
            self._say(f"{role}: {commit} is built")
            self._ours.add(name)
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
        self._ours.add(name)
        self._tidy(f"patch-{w.key}-{kind}-")
        return name

    def _tidy(self, prefix: str) -> None:
        """Forget the oldest kernels of the tree: none of this series."""
        others = [
            kernel
            for kernel in installed()
            if kernel.name.startswith(prefix) and kernel.name not in self._ours
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


def _covered(sources: Collection[str]) -> Collection[str] | None:
    """The sources that KCOV is to tell of, for blocks cost time; None: all, as what a header has may be in any."""
    return sources if all(path.endswith(".c") for path in sources) else None
