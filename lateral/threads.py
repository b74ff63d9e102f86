"""Threads: how many there are to share work, and what one must take over from the thread that starts it."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import jax

__all__ = ["VARIABLE", "at_this_precision", "in_threads", "n_threads"]

VARIABLE = "LATERAL_THREADS"


def n_threads() -> int:
    """Threads that share work: as `LATERAL_THREADS` says, otherwise one for each core that this process may use.

    Raises:
        ValueError: if the variable holds no whole number >= 1.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE} must be a whole number >= 1, got {text!r}")
    return int(text)


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls return, in their order; `n_threads()` of them run at a time, each to its end in its thread."""
    at_once = min(n_threads(), len(calls))
    if at_once == 1:
        return [call() for call in calls]
    with ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(at_this_precision(lambda call=call: jax.block_until_ready(call()))) for call in calls]
        return [future.result() for future in running]


def at_this_precision(f: Callable) -> Callable:
    """`f` at the precision of now, in whatever thread it runs: `jax.enable_x64` as a context holds in one only."""
    x64 = jax.config.jax_enable_x64

    @wraps(f)
    def run(*args):
        with jax.enable_x64(x64):
            return f(*args)

    return run
