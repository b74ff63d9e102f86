"""How the functions of `lateral` are held while the tests run: to their signatures, and to JAX's strict promotion."""

import functools
import inspect

import jax
from beartype import BeartypeConf, beartype

# A whole number is a real number, as everywhere in Python.
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    """Shapes and types as annotated; inside, no dtype and no rank is promoted without a word.

    What a test computes by itself is promoted as ever: its own arithmetic is not what it tests.
    """
    held = _checked(function)
    if not inspect.isfunction(function) or inspect.isgeneratorfunction(function):
        return held

    @functools.wraps(function)
    def strict(*args, **kwargs):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            return held(*args, **kwargs)

    return strict
