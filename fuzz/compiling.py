"""`python -m fuzz.compiling OUT SCRATCH FILE...`: compiles files by mypyc, for `fuzz.compiled`."""

import os
import sys
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup


def main() -> None:
    """Compile the files named, relative to the working directory, into OUT."""
    out, scratch, *files = sys.argv[1:]
    extensions = mypycify(
        [f"--cache-dir={scratch}/types", "--config-file=", *files],
        opt_level="1",
        debug_level="0",
        # One file of everything takes compilers a gigabyte and minutes.
        multi_file=True,
        target_dir=f"{scratch}/c",
    )
    setup(
        name=Path(out).name,
        packages=[],
        ext_modules=extensions,
        script_args=[
            "--quiet",
            "build_ext",
            f"--build-lib={out}",
            f"--build-temp={scratch}/o",
            f"--parallel={len(os.sched_getaffinity(0))}",
        ],
    )


if __name__ == "__main__":
    main()
