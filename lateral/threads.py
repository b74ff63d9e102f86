"""Threads: how many there are to share work, and what one must take over from the thread that starts it."""

import contextvars
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import jax

__all__ = ["VARIABLE", "at_this_precision", "in_threads", "n_shares", "n_threads"]

VARIABLE = "LATERAL_THREADS"
LEAST_WORK = 1_000_000  # cell updates from which on a thread pays
# What a thread may use itself, where several run side by side.
_PART: contextvars.ContextVar[int | None] = contextvars.ContextVar("threads", default=None)


def n_threads() -> int:
    """Threads that share work: as `LATERAL_THREADS` says, otherwise one for each core that this process may use.

    A thread that runs beside others has its part of them.

    Raises:
        ValueError: if the variable holds no whole number >= 1.
    """
    if (part := _PART.get()) is not None:
        return part
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE} must be a whole number >= 1, got {text!r}")
    return int(text)


def n_shares(work: int) -> int:
    """How many threads pay for so many cell updates; one unless they are computed on the CPU."""
    return max(1, min(n_threads(), work // LEAST_WORK)) if jax.default_backend() == "cpu" else 1


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls return, in their order; `n_threads()` of them run at a time, each to its end in its thread."""
    at_once = min(n_threads(), len(calls))
    if at_once == 1:
        return [call() for call in calls]
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [lambda call=call: jax.block_until_ready(call()) for call in calls]
        running = [pool.submit(at_this_precision(call, at_once)) for call in waiting]
        return [future.result() for future in running]


def at_this_precision(f: Callable, at_once: int = 1) -> Callable:
    """`f` at the precision of now, in whatever thread it runs: `jax.enable_x64` as a context holds in one only.

    Where `at_once` of such threads run side by side, each has its part of `n_threads()`.
    """
    x64, part = jax.config.jax_enable_x64, max(1, n_threads() // at_once) if at_once > 1 else None

    @wraps(f)
    def run(*args):
        if part is not None:
            _PART.set(part)
        with jax.enable_x64(x64):
            return f(*args)

    return run
