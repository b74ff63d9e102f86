"""The first that is imported: Ctrl-C ends the command `lateral` without a traceback while it still imports JAX.

And again when it has printed its result. In between `lateral.cli` catches it.
"""

import signal
import sys
from pathlib import PurePath

__all__ = ["IS_COMMAND", "hear_interrupts", "leave_at_interrupts"]


def hear_interrupts() -> None:
    """From now on Ctrl-C is a `KeyboardInterrupt` for whoever catches it, if this is the command."""
    if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_at_interrupts() -> None:
    """From now on Ctrl-C ends this process at once, if it is the command."""
    if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_command() -> bool:
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # so Python calls it while it imports the package that `-m` names
        return sys.orig_argv[-len(sys.argv)] in ("lateral", "-mlateral")
    return PurePath(program).stem == "lateral"


IS_COMMAND = _is_command()
leave_at_interrupts()
