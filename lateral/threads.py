"""What a thread of ours must take over from the one that starts it."""

from collections.abc import Callable
from functools import wraps

import jax

__all__ = ["at_this_precision"]


def at_this_precision(f: Callable) -> Callable:
    """`f` at the precision of now, in whatever thread it runs: `jax.enable_x64` as a context holds in one only."""
    x64 = jax.config.jax_enable_x64

    @wraps(f)
    def run(*args):
        with jax.enable_x64(x64):
            return f(*args)

    return run
