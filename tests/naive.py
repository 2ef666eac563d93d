"""Another model, as simple as it can be: a dict from page to what is there, for a few calls within the window.

It knows no VMA, no fault and no merge, and was written from the manual pages, not from `model/`. What it and the
model both say of every page after every call is the same, or one of them is wrong.
"""

from dataclasses import dataclass, field, replace
from errno import EFAULT, EINVAL, ENOMEM

from abi.calls import Call, Madvise, Mmap, Mprotect, Mremap, Munmap, Touch
from abi.consts import MAP_ANONYMOUS, MAP_SHARED, MREMAP_DONTUNMAP, PAGE
from abi.trace import FIRST_NEW_IDENT, PERM_SHARED, Layout


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: protection, whether it is shared, object (0: anonymous memory), offset in bytes."""

    prot: int
    shared: bool
    ident: int = 0
    offset: int = 0


@dataclass
class Naive:
    """The pages that are mapped. `ident` is the memfd's in layouts."""

    ident: int
    pages: dict[int, Page] = field(default_factory=dict)
    objects: int = FIRST_NEW_IDENT

    def step(self, call: Call) -> int | None:
        """Make one call; its raw result, None where this model has no opinion."""
        match call:
            case Mmap():
                return self._mmap(call)
            case Munmap(addr, length):
                return self._munmap(addr, length)
            case Mprotect():
                return self._mprotect(call)
            case Mremap():
                return self._mremap(call)
            case Madvise() | Touch():
                return None
        raise TypeError(call)

    def _mmap(self, call: Mmap) -> int:
        shared = bool(call.flags & MAP_SHARED)
        ident = self.ident
        if call.flags & MAP_ANONYMOUS:
            ident = self.objects if shared else 0
            self.objects += shared
        start = 0 if call.flags & MAP_ANONYMOUS else call.offset
        for i in range(call.length // PAGE):
            offset = start + i * PAGE if ident else 0
            self.pages[call.addr + i * PAGE] = Page(call.prot, shared, ident, offset)
        return call.addr

    def _munmap(self, addr: int, length: int) -> int:
        for page in range(addr, addr + length, PAGE):
            self.pages.pop(page, None)
        return 0

    def _mprotect(self, call: Mprotect) -> int:
        for page in range(call.addr, call.addr + call.length, PAGE):
            if page not in self.pages:
                return -ENOMEM
            self.pages[page] = replace(self.pages[page], prot=call.prot)
        return 0

    def _mremap(self, call: Mremap) -> int:
        if call.new_len < call.old_len:
            if call.addr not in self.pages:
                return -EFAULT
            self._munmap(call.addr + call.new_len, call.old_len - call.new_len)
            return call.addr
        if abs(call.addr - call.new_addr) < call.old_len:
            return -EINVAL
        if call.addr not in self.pages:
            return -EFAULT
        moved = {p: self.pages[p] for p in range(call.addr, call.addr + call.old_len, PAGE)
                 if p in self.pages}  # fmt: skip
        for page, what in moved.items():
            if not call.flags & MREMAP_DONTUNMAP:
                del self.pages[page]
            self.pages[page - call.addr + call.new_addr] = what
        return call.new_addr


def expand(layout: Layout, low: int, high: int) -> dict[int, Page]:
    """The pages of a layout from `low` up to `high`."""
    pages = {}
    for mapping in layout:
        for page in range(max(mapping.start, low), min(mapping.end, high), PAGE):
            offset = mapping.offset + page - mapping.start if mapping.ident else 0
            shared = bool(mapping.perms & PERM_SHARED)
            pages[page] = Page(mapping.perms & 7, shared, mapping.ident, offset)
    return pages
