"""The command `lateral`, or `python -m lateral`: see `lateral.cli`."""

import sys

from lateral.cli import main

__all__ = ["command"]


def command() -> None:
    """Run the command line and exit with its status."""
    sys.exit(main())


if __name__ == "__main__":
    command()
