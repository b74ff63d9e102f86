"""Looks for tracers that outlive their trace, wherever JAX traces.

JAX's own `jax.checking_leaks` looks at each call and therefore caches nothing, so that every call is traced and
compiled anew: hours for this suite, and what a test says about compilations no longer holds. Here the same check runs
at the end of each trace and the caches stay: what is traced once is looked at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from jax._src import core


class _Looking:
    """JAX's settings as its traces see them, with one of them changed."""

    check_tracer_leaks = SimpleNamespace(value=True)

    def __init__(self, settings):
        self._settings = settings

    def __getattr__(self, name: str):
        return getattr(self._settings, name)


@contextmanager
def looked_for() -> Iterator[None]:
    settings = core.config
    core.config = _Looking(settings)
    try:
        yield
    finally:
        core.config = settings
