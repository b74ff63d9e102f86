"""Checks of user input, made before any tracing, so that a mistake ends in one sentence.

Every message says what was wrong, which value it had and what would be right. The checks look at values of concrete
arrays only. Under `jit`, `grad` and `vmap` values are unknown, and only the checks of shapes and of static settings
remain.
"""

import math
import operator
from collections.abc import Callable
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = [
    "LARGEST_SIZE",
    "check_callable",
    "check_choice",
    "check_each",
    "check_fates",
    "check_key",
    "check_kind",
    "check_matrix",
    "check_number",
    "check_range",
    "check_real",
    "check_size",
    "check_unit_interval",
    "is_float",
    "is_traced",
    "working_range",
]


def is_traced(value) -> bool:
    return isinstance(value, jax.core.Tracer)


# JAX counts in 32 bits.
LARGEST_SIZE = 2**31 - 1


def check_size(name: str, value, minimum: int = 1) -> int:
    """A static whole number from `minimum` to 2^31 - 1, as an `int`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number >= {minimum}, got {value!r}") from None
    if size < minimum:
        raise ValueError(f"{name} must be >= {minimum}, got {size}")
    if size > LARGEST_SIZE:
        raise ValueError(f"{name} must be below 2^31, got {size}")
    return size


def check_each(name: str, values, check: Callable[[str, Any], Any], of: str) -> tuple:
    """A tuple of at least one value, of which each passes `check(name, value)`. An error says what it must be `of`."""
    if not isinstance(values, tuple | list) or not values:
        raise ValueError(f"{name} must be a tuple of {of}, got {values!r}")
    return tuple(check(f"{name}[{i}]", value) for i, value in enumerate(values))


def working_range() -> tuple[float, float]:
    """The range of numbers that settings may take: products of three of them neither vanish nor become infinite.

    From 1e-12 to 1e12 in single precision, from 1e-102 to 1e102 in double.
    """
    decades = 102 if jax.config.jax_enable_x64 else 12
    return 10.0**-decades, 10.0**decades


def check_number(
    name: str, value, *, above: float | None = None, minimum: float | None = None, maximum: float | None = None
):
    """A finite real scalar within its bounds and those of the working precision; an `int` becomes a `float`.

    A traced scalar passes unseen.
    """
    if is_traced(value):
        if value.shape != ():
            raise ValueError(f"{name} must be a single number, got an array of shape {value.shape}")
        return value
    try:
        number = np.asarray(float(value) if type(value) is int else value)
    except (TypeError, ValueError):
        number = np.asarray(None)
    except OverflowError:
        raise ValueError(f"{name} must be finite, got a whole number of {len(str(value))} digits") from None
    if number.shape != () or (number.dtype.kind not in "iuf" and number.dtype != jnp.bfloat16):
        what = f"an array of shape {number.shape}" if number.shape else repr(value)
        raise ValueError(f"{name} must be a single number, got {what}")
    number = float(number)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    if above is not None and not number > above:
        raise ValueError(f"{name} must be > {above:g}, got {number:g}")
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be >= {minimum:g}, got {number:g}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be <= {maximum:g}, got {number:g}")
    smallest, largest = working_range()
    if abs(number) > largest or (above == 0.0 and number < smallest):  # a number that may be 0 may as well vanish
        bound = f"at most {largest:g} in size" if abs(number) > largest else f">= {smallest:g}"
        precision = "double" if jax.config.jax_enable_x64 else "single"
        raise ValueError(f"{name} must be {bound} to be computed in {precision} precision, got {number:g}")
    return number if isinstance(value, Integral) else value


def check_range(name: str, value):
    """A pair (low, high) with 0 <= low <= high <= 1."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high) within [0, 1], got {value!r}") from None
    low = check_number(f"{name}[0]", low, minimum=0.0, maximum=1.0)
    high = check_number(f"{name}[1]", high, minimum=0.0, maximum=1.0)
    if not is_traced(low) and not is_traced(high) and low > high:
        raise ValueError(f"{name} must have low <= high, got ({low:g}, {high:g})")
    return low, high


def check_choice(name: str, value, choices):
    """One of a few strings or whole numbers."""
    if isinstance(value, bool) or not isinstance(value, (str, Integral)) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_kind(name: str, value, kind: type):
    """An object of one of our classes."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a lateral.{kind.__name__}, got {value!r}")
    return value


def check_key(key) -> jax.Array:
    """A single random key, `jax.random.key(seed)`; the older `jax.random.PRNGKey(seed)` is wrapped."""
    advice = "make one with jax.random.key(seed)"
    if not isinstance(key, jax.Array):
        raise ValueError(f"key must be a random key, got {key!r}: {advice}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or key.shape != (2,):
            raise ValueError(f"key must be a random key, got an array {key.dtype}{list(key.shape)}: {advice}")
        key = jax.random.wrap_key_data(key)
    if key.shape != ():
        raise ValueError(f"key must be a single random key, got an array of keys of shape {key.shape}: use jax.vmap")
    return key


def check_callable(name: str, f):
    if not callable(f):
        raise ValueError(f"{name} must be a function from neighbour averages to rates, got {f!r}")
    return f


def check_real(name: str, values: ArrayLike) -> jax.Array:
    """An array of any shape and any bool, int or float dtype."""
    try:
        array = jnp.asarray(values)
    except (TypeError, ValueError):
        short = " ".join(repr(values).split())[:80]
        raise ValueError(f"{name} must be a bool, integer or float array, got {short}") from None
    if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer) or is_float(array)):
        raise ValueError(f"{name} must be a bool, integer or float array, got dtype {array.dtype}")
    return array


def check_matrix(name: str, values: ArrayLike, axes: str = "(replicate, cell)") -> jax.Array:
    """A real matrix with at least one row and one column, of any bool, int or float dtype."""
    array = check_real(name, values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape {axes} with at least one of each, got shape {array.shape}")
    return array


def is_float(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def check_unit_interval(name: str, array: jax.Array, hint: str = "") -> jax.Array:
    """All entries within [0, 1]; NaN is refused too."""
    if not is_traced(array) and array.dtype != bool:
        values = np.asarray(array, dtype=np.float64)
        wrong = ~((values >= 0.0) & (values <= 1.0))
        if wrong.any():
            raise ValueError(f"{name} must lie in [0, 1], got {_first(values, wrong)}{hint}")
    return array


def check_fates(name: str, array: jax.Array, n_fates: int = 2) -> jax.Array:
    """All entries exactly 0 or 1, or whole numbers below `n_fates`."""
    if not is_traced(array) and array.dtype != bool:
        values = np.asarray(array, dtype=np.float64)
        wrong = ~((values >= 0.0) & (values < n_fates) & (values == np.floor(values)))
        if wrong.any():
            fates = "exactly 0 or 1" if n_fates == 2 else f"whole numbers from 0 to {n_fates - 1}"
            whole = np.isfinite(values).all() and (values == np.floor(values)).all() and (values >= 0.0).all()
            cure = (
                f"say n_fates={int(values.max()) + 1} if there are so many"
                if whole
                else "turn states into fates with lateral.apply_threshold first"
            )
            raise ValueError(f"{name} must hold fates, {fates}, got {_first(values, wrong)}: {cure}")
    return array


def _first(values: np.ndarray, wrong: np.ndarray) -> str:
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{values[index]:g} at index {index}"
