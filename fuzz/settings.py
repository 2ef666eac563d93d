"""What a worker is told when it starts, and what it tells while it runs: lines of JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """One worker's task.

    worker: its number; session: the supervisor's process id; pipe: the descriptor its messages go to;
    runs: sequences to compare, None for no limit; deadline: on time.monotonic()'s clock, None for none;
    state, corpus: directories; profile, changes: the model's, by name; cpus: where it may run, empty for
    anywhere; batch: programs sent at once; seeds: begin with the programs that come with the project; unmask:
    known divergences are findings; reduce_known: they are made smaller then, as others are; shared: other workers add
    to the corpus;
    mistake: the planted mistake to fuzz with; until_found: stop at the first confirmed divergence that is not known;
    user: programs run as an ordinary user even if this is root; target: the kernel's name; also: those of
    further ones that run the same programs; compiled: the directory of the compiled model, "" to run what is written;
    watched: blocks that programs are to reach, by the kernel's name; like: the further
    ones are held to what this one is held to; blocks: programs that reach new blocks of the kernel are worth editing;
    enumerate: compare what `fuzz.progress` says is left, make up nothing.
    """

    worker: int
    session: int
    pipe: int
    seed: int
    state: str
    corpus: str
    profile: str
    changes: tuple[str, ...]
    runs: int | None = None
    deadline: float | None = None
    cpus: tuple[int, ...] = ()
    batch: int = 64
    guided: bool = True
    seeds: bool = True
    unmask: bool = False
    reduce_known: bool = True
    shared: bool = False
    mistake: str = ""
    until_found: bool = False
    user: bool = False
    target: str = "local"
    also: tuple[str, ...] = ()
    compiled: str = ""
    watched: dict[str, tuple[int, ...]] = field(default_factory=dict)
    like: bool = False
    blocks: bool = True
    enumerate: bool = False

    def encode(self) -> str:
        """As the worker's argument."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Settings":
        """The inverse of `encode`."""
        data = json.loads(text)
        for name in ("also", "changes", "cpus"):
            data[name] = tuple(data[name])
        data["watched"] = {name: tuple(each) for name, each in data["watched"].items()}
        return cls(**data)

    @property
    def watched_here(self) -> tuple[int, ...]:
        """The blocks of this kernel that programs are to reach."""
        return self.watched.get(self.target, ())

    @property
    def state_path(self) -> Path:
        return Path(self.state)

    @property
    def corpus_path(self) -> Path:
        return Path(self.corpus)


Message = dict[str, Any]


def encode_message(kind: str, **fields: Any) -> bytes:
    """One line of a worker's report."""
    return json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode() + b"\n"
