"""What a command owes the terminal, or the pipe, that it runs in: one line for each fault, and an answer to signals."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from lateral.threads import at_this_precision

__all__ = ["BrokenOutput", "Interrupted", "interruptible", "on_terminal", "print_result", "say"]

MOMENT = 0.05  # seconds between two looks
PATIENCE = 1.5  # seconds that an interrupted training may take to end by itself
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class BrokenOutput(Exception):
    """The result could not be written to stdout.

    Attributes:
        quiet: whoever reads it has simply left, as `head` does.
    """

    def __init__(self, reason: str, quiet: bool):
        super().__init__(reason, quiet)
        self.quiet = quiet

    def __str__(self):
        return self.args[0]


class Interrupted(Exception):
    """A signal ended the work.

    Attributes:
        status: the exit status that the shell expects, 128 and the number of the signal.
    """

    def __init__(self, message: str, status: int = 128 + signal.SIGINT):
        super().__init__(message, status)
        self.status = status

    def __str__(self):
        return self.args[0]


def say(text: str) -> None:
    """A line on stderr; where that is full, closed or not there at all, nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def on_terminal() -> bool:
    """Whether somebody reads stdout, and not a program."""
    return sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()


def print_result(text: str) -> None:
    """A line on stdout.

    Raises:
        BrokenOutput: if it could not be written; stdout is then left alone, when Python ends too.
    """
    try:
        if sys.stdout is None:
            raise OSError("stdout is closed")
        print(text, flush=True)
    except (OSError, ValueError) as error:
        sys.stdout = None
        raise BrokenOutput(f"the result could not be printed: {error}", isinstance(error, BrokenPipeError)) from None


def interruptible(work: Callable[[Callable[[], None]], Any], give_up: Callable[[], str]) -> Any:
    """What `work` returns, done in a thread of its own, so that Ctrl-C and SIGTERM are heard also while it compiles.

    Args:
        work: called with a function that it calls now and then: after a signal that raises `KeyboardInterrupt`.
        give_up: what to say when `work` does not end soon after a signal, as in a compilation; the process then exits.

    Raises:
        Interrupted: after a signal, with what the exception of `work` says.
    """
    interrupted, outcome = threading.Event(), {}

    def look() -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt

    def run() -> None:
        try:
            outcome["result"] = work(look)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=at_this_precision(run), name="lateral-training", daemon=True)
    with _heard() as heard:
        thread.start()
        while thread.is_alive() and not heard:
            thread.join(MOMENT)
        if heard:
            interrupted.set()
            thread.join(PATIENCE)
            if thread.is_alive():
                say(give_up())
                os._exit(128 + heard[0])
    if "error" in outcome:
        if heard and isinstance(outcome["error"], KeyboardInterrupt):
            raise Interrupted(str(outcome["error"]), 128 + heard[0]) from outcome["error"]
        raise outcome["error"]
    return outcome["result"]


@contextlib.contextmanager
def _heard() -> Iterator[list[int]]:
    """Collects the signals that arrive meanwhile."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    # Who started us may have one of them ignored, as a shell does for what runs in its background.
    listened = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, frame: heard.append(number)) for number in listened}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
