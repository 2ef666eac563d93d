"""`python -m kernel_bridge`: build the executor if need be and print its path."""

import sys

from kernel_bridge.build import BuildError, build


def main() -> int:
    """The command; returns its exit status."""
    try:
        print(build())
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
