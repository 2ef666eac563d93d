"""`python -m tests.made [DIRECTORY]`: digests of what the producer makes; DIRECTORY: that of the compiled model."""

import sys
from hashlib import sha256
from pathlib import Path
from random import Random

from fuzz import compiled

#: Programs a machine.
PROGRAMS = 60


def main() -> None:
    """A line a machine: how many programs the model followed to their end, and the digest of bytes and traces."""
    if len(sys.argv) > 1:
        compiled.use(Path(sys.argv[1]))
    from fuzz import reference
    from fuzz.produce import Producer
    from fuzz.statistics import Statistics
    from model.run import Model

    for number, (environment, profile) in enumerate(reference.machines()):
        model = Model(environment, profile)
        producer = Producer(model, environment, Random(number), Statistics(), set())
        digest, whole, base = sha256(), 0, b""
        for _ in range(PROGRAMS):
            prepared = producer.prepare(producer.edit(base, 4096, None))
            base = prepared.data
            whole += not prepared.unmodelled
            digest.update(prepared.data + prepared.expected)
        print(profile.name, whole, digest.hexdigest())


if __name__ == "__main__":
    main()
