"""The first that is imported: Ctrl-C ends the command `lateral` without a traceback while it still imports JAX."""

import signal
import sys
from pathlib import PurePath

__all__ = ["hear_interrupts"]


def hear_interrupts() -> None:
    """From now on Ctrl-C is a `KeyboardInterrupt` again, for whoever catches it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # so Python calls it while it imports the package that `-m` names
        return sys.orig_argv[-len(sys.argv)] in ("lateral", "-mlateral")
    return PurePath(program).stem == "lateral"


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
