"""The first that is imported: Ctrl-C ends `python -m lateral` without a traceback while it still imports JAX."""

import signal
import sys

__all__ = ["hear_interrupts"]


def hear_interrupts() -> None:
    """From now on Ctrl-C is a `KeyboardInterrupt` again, for whoever catches it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Python calls the program so while it imports the package that `-m` names.
if (
    sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)] in ("lateral", "-mlateral")
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
