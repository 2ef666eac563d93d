"""`python -m fuzz.compiling OUT SCRATCH FILE...`: compiles files by mypyc, for `fuzz.compiled`."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class _InParallel(build_ext):  # type: ignore[misc]
    """Compiles the files of an extension on all processors: setuptools takes one after the other."""

    def build_extension(self, ext: Extension) -> None:
        def compiled(source: str) -> list[str]:
            made: list[str] = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=ext.extra_compile_args,
            )
            return made

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            ext.extra_objects = [file for made in pool.map(compiled, ext.sources) for file in made]
        ext.sources = []
        super().build_extension(ext)


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
        ],
        cmdclass={"build_ext": _InParallel},
    )


if __name__ == "__main__":
    main()
