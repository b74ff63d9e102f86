"""Rules as users write them: any function of a number, held to what a simulation takes for granted.

A simulation evaluates f at the knots of a table, a picture at other points, and `n_knots=None` at the states
themselves. All of them mean the same only if each rate depends on its own neighbour mean and on nothing else in the
array. Therefore `lateral` calls a function whose numbers are known outside of `jax.jit`, on an array and on parts of
it. Functions written in NumPy work, an object counts with what it holds now, and a mistake ends in one sentence.
`lateral` calls a pytree (a network with its parameters, a table, a `TanhInhibition`) inside of `jax.jit`, so that its
numbers are traced; a simulation gets its rates as a table, and does not care which kind of rule they are of.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lateral.checks import is_traced, working_range
from lateral.static import Static, combine, partition

__all__ = ["EvaluatedRule", "checked_rates", "holds_traced", "is_plain", "rates_of"]

# Of the largest rate: the same numbers computed side by side with others may be rounded differently.
TOLERANCE = 1e-3


class EvaluatedRule:
    """A plain function as a static argument of `jax.jit`: itself and the rates that it has now.

    An object of which an attribute has changed is another rule.
    """

    def __init__(self, f: Callable, rates: Float[Array, " knot"]):
        self.f, self._rates = f, np.asarray(rates).tobytes()

    def __call__(self, neighbours):
        return self.f(neighbours)

    def __eq__(self, other):
        return isinstance(other, EvaluatedRule) and self.f is other.f and self._rates == other._rates

    def __hash__(self):
        return hash((id(self.f), self._rates))


def is_plain(f: Callable) -> bool:
    """Whether f is no pytree: a function, a closure, or an object of a class that JAX does not know."""
    leaves = jax.tree.leaves(f)
    return len(leaves) == 1 and leaves[0] is f


def rates_of(f: Callable, neighbours: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f of an array of neighbour means; a constant rate may be a single number.

    Raises:
        ValueError: where f takes single numbers only, cannot be traced though it must be, or does not return one real
            rate for each neighbour mean.
    """
    try:
        rates = f(neighbours)
    except Exception as error:
        if (reason := _reason(f, error)) is None:
            raise
        raise ValueError(reason) from None
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is told where it is found
            array = None if rates is None else jnp.asarray(rates)
    except (TypeError, ValueError, OverflowError):
        array = None
    good = array is not None and array.shape in ((), neighbours.shape)
    if not good or jnp.issubdtype(array.dtype, jnp.complexfloating):
        what = f"{type(rates).__name__}" if array is None else f"{array.dtype}{list(array.shape)}"
        raise ValueError(
            "f must return one real rate for each neighbour average: "
            f"for an argument of shape {neighbours.shape} it returned {what}"
        )
    if array.dtype != neighbours.dtype:
        array = array.astype(neighbours.dtype)
    return array if array.shape else jnp.broadcast_to(array, neighbours.shape)


def checked_rates(f: Callable, neighbours: Float[Array, " point"]) -> Float[Array, " point"]:
    """`rates_of` at two points or more, in increasing order.

    A pytree is compiled once for all numbers that a rule of its kind may have.

    Raises:
        ValueError: as `rates_of`, and where the rates are known (under a transformation they are not): for rates that
            are not finite, or that depend on what else is in the array.
    """
    if not is_plain(f) and not holds_traced(f):
        good, rates, of_part = _evaluate(*partition(f), neighbours)
        if not is_traced(good) and not good:
            _judge(np.asarray(neighbours), rates, of_part)
        return rates
    rates = rates_of(f, neighbours)
    if not is_traced(rates):
        neighbours = np.asarray(neighbours)
        _judge(neighbours, rates, rates_of(f, jnp.asarray(_part(neighbours))))
    return rates


def holds_traced(f: Callable) -> bool:
    """Whether f is a pytree with numbers that JAX traces."""
    return any(map(is_traced, jax.tree.leaves(f)))


@partial(jax.jit, static_argnums=1)
def _evaluate(arrays, static: Static, neighbours):
    """Whether f is a rule, and what `_judge` takes to say why not."""
    f = combine(arrays, static)
    rates, of_part = (rates_of(f, x) for x in (neighbours, _part(neighbours)))
    return _sound(rates).all() & _alike(rates, of_part).all(), rates, of_part


def _sound(rates):
    return abs(rates) <= working_range()[1]  # NaN is not


def _alike(rates, of_part):
    return abs(of_part - _part(rates)) <= TOLERANCE * abs(rates).max()


def _part(values):
    """About half of an array, the other way round, without the smallest and the largest."""
    n = len(values)
    return values[n // 3 : n - max(1, n // 5)][::-1]


def _judge(neighbours, rates, of_part) -> None:
    """Rates of all neighbour means, and of a part of them."""
    neighbours, rates, of_part = map(np.asarray, (neighbours, rates, of_part))
    if not (good := _sound(rates)).all():
        first = np.argmin(good)
        raise ValueError(
            f"f must be finite, and at most {working_range()[1]:g} in size, for every neighbour average from 0 to 1, "
            f"got {rates[first]:g} at {neighbours[first]:g}"
        )
    if not (alike := _alike(rates, of_part)).all():
        worst = np.argmin(alike)
        raise ValueError(
            "f must give each neighbour average a rate of its own, whatever else is in the array: at "
            f"{_part(neighbours)[worst]:g} it gives {_part(rates)[worst]:g} among {len(rates)} and {of_part[worst]:g} "
            f"among {len(of_part)}"
        )


def _reason(f: Callable, error: Exception) -> str | None:
    """Why f failed on an array, in one sentence; None where it is f's own affair."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    of_arrays = isinstance(error, jax.errors.TracerArrayConversionError)  # NumPy's, which takes numbers too
    if isinstance(error, (TypeError, ValueError)) and not of_arrays and _takes_a_number(f):
        return (
            f"f must take an array of neighbour averages, and takes single numbers only ({said[:120]}): use jnp.where "
            "instead of if and jnp.tanh instead of math.tanh, or give np.vectorize(f, otypes=[float])"
        )
    if isinstance(error, (jax.errors.JAXTypeError, jax.errors.JAXIndexError)):
        return (
            f"f must be built from jax.numpy where JAX traces it, as with n_knots=None, in a network, or inside jit or "
            f"grad: it ended in a {type(error).__name__}"
        )
    return None


def _takes_a_number(f: Callable) -> bool:
    try:
        return np.ndim(f(0.5)) == 0
    except Exception:
        return False
