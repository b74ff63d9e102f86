"""Regulatory functions: the rule f that every cell follows, from neighbour mean to rate (notebook 03).

All of them are callables `f(s̄) -> rate` of any shape, and pytrees, so that their numbers are traced: a new slope
or new weights never recompile a simulation.

A *network* is anything with `apply(params, s̄) -> rates`; `MLP` and `RBFNetwork` are ours.
`RegulatoryFunction(network, params)` joins it with its parameters to a complete f. A network may also have
`init(key) -> params`, which the training functions call when they are given no parameters.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.checks import check_callable, check_key, check_size
from lateral.fields import flag, number, settings, size, value
from lateral.rules import checked_rates
from lateral.static import register_settings

__all__ = [
    "HIDDEN_DIMS",
    "MLP",
    "N_KNOTS",
    "DeadBand",
    "RBFNetwork",
    "RegulatoryFunction",
    "Table",
    "TanhInhibition",
    "before_bound",
    "bounded",
    "check_network",
    "initial_parameters",
    "locate",
    "tabulate",
    "take",
    "tanh_as_network",
]

HIDDEN_DIMS = (8, 8)
N_KNOTS = 513


class TanhInhibition(NamedTuple):
    """Smooth lateral inhibition, `f(s̄) = -amplitude tanh(slope (s̄ - centre))`: the target of the notebooks.

    A cell among neighbours that are on turns off, and the other way round. Negative amplitude activates.
    """

    slope: ArrayLike = 5.0
    amplitude: ArrayLike = 1.0
    centre: ArrayLike = 0.5

    def __call__(self, neighbour_mean: ArrayLike) -> Array:
        return -self.amplitude * jnp.tanh(self.slope * (neighbour_mean - self.centre))


def tanh_as_network(target: TanhInhibition = TanhInhibition()) -> "RegulatoryFunction":
    """The same rule from an `MLP` of one unit, whose weights can be differentiated and trained."""
    network = MLP(hidden_dims=(1,), input_centre=target.centre, input_scale=target.slope)
    one, none = jnp.ones((1, 1)), jnp.zeros(1)
    out = {"weights": -target.amplitude * one, "biases": none}
    return RegulatoryFunction(network, ({"weights": one, "biases": none}, out))


class DeadBand(NamedTuple):
    """f = rate below 1/2 - width, -rate above 1/2 + width, 0 between: wait for the neighbours, then follow at once."""

    width: ArrayLike = 0.12
    rate: ArrayLike = 5.0

    def __call__(self, neighbour_mean: ArrayLike) -> Array:
        x = jnp.asarray(neighbour_mean, float)
        return self.rate * ((x < 0.5 - self.width).astype(x.dtype) - (x > 0.5 + self.width).astype(x.dtype))


class Table(NamedTuple):
    """f given by its values at equally spaced knots on [0, 1], with straight lines between them, constant beyond."""

    values: Float[Array, " knot"]

    def __repr__(self):
        return f"Table({jnp.size(self.values)} values)"

    def __call__(self, neighbour_mean: ArrayLike) -> Array:
        values = jnp.asarray(self.values)
        if values.ndim != 1 or values.shape[0] < 2:
            raise ValueError(f"a Table needs at least 2 values in one dimension, got shape {values.shape}")
        # Not jnp.clip, whose slope exactly at 0 and 1 is half: a tissue sits there, and one side of it is real.
        x = jnp.asarray(neighbour_mean)
        x = jnp.where(x < 0.0, 0.0, jnp.where(x > 1.0, 1.0, x))
        knot, weight = locate(values, x)
        return take(values, knot) + weight * take(values[1:] - values[:-1], knot)


def locate(values: Float[Array, " knot"], x: Float[Array, "*shape"]) -> tuple[Array, Float[Array, "*shape"]]:
    """The knot to the left of x in [0, 1], and how far x is on the way to the next, from 0 to 1."""
    position = x * (values.shape[0] - 1)
    knot = jnp.minimum(position.astype(jnp.int32), values.shape[0] - 2)
    return knot, position - knot.astype(position.dtype)


def take(values: Float[Array, " knot"], knot: Array) -> Array:
    """`values[knot]` without the checks of knots that are out of range or negative: `locate` gives none."""
    return values.at[knot].get(mode="promise_in_bounds", wrap_negative_indices=False)


def tabulate(f: Callable, n_knots: int = N_KNOTS) -> Table:
    """`f` as a table of `n_knots` values, whose evaluation costs the same however large the network was.

    The error is that of linear interpolation, at most `max |f''| / (8 (n_knots - 1)²)`.

    Raises:
        ValueError: for rates that are not finite, or that depend on what else is in the array (`lateral.rules`).
    """
    check_callable("f", f)
    return Table(checked_rates(f, jnp.linspace(0.0, 1.0, check_size("n_knots", n_knots, 2))))


def _hidden_dims(name: str, dims) -> tuple[int, ...]:
    if isinstance(dims, str) or not hasattr(dims, "__iter__"):
        raise ValueError(f"{name} must be a tuple of layer sizes such as (8, 8), got {dims!r}")
    dims = tuple(check_size(f"{name}[{i}]", units) for i, units in enumerate(dims))
    if not dims:
        raise ValueError(f"{name} must name at least one hidden layer such as (8,), got ()")
    return dims


@settings
class MLP:
    """Multilayer perceptron with tanh units, one number in, one out: `f(s̄)` from 97 weights at the default size.

    The neighbour mean moves mostly between 0.3 and 0.7, which is a poor input for tanh units. The network therefore
    sees `input_scale (s̄ - input_centre)`, about -4 to 4.
    """

    hidden_dims: tuple[int, ...] = value(
        HIDDEN_DIMS,
        "units of each hidden layer, at least one layer of at least one unit",
        _hidden_dims,
        static=True,
        option={"type": int, "nargs": "+", "metavar": "UNITS"},
    )
    input_centre: ArrayLike = number(0.5, "the network sees `input_scale (s̄ - input_centre)`")
    input_scale: ArrayLike = number(8.0, "see `input_centre`")
    max_rate: ArrayLike | None = number(
        None,
        "bound on |f|, smoothly by `max_rate tanh(output / max_rate)`; None leaves f unbounded. With |f| dt of order "
        "one an optimiser learns to exploit the time step instead of the tissue",
        above=0.0,
        optional=True,
    )

    def init(self, key: Array, bias_scale: float = 0.5) -> tuple[dict[str, Array], ...]:
        """Random parameters: weights of variance 1 / inputs, biases of standard deviation `bias_scale`.

        Nothing in them knows which rule is wanted. Biases other than zero spread the switching points of the units
        over [0, 1]; with zero biases all units of the first layer switch at the same neighbour mean.
        """
        dims = (1, *self.hidden_dims, 1)
        params = []
        for layer, layer_key in enumerate(jax.random.split(check_key(key), len(dims) - 1)):
            weight_key, bias_key = jax.random.split(layer_key)
            weights = jax.random.normal(weight_key, dims[layer : layer + 2]) / math.sqrt(dims[layer])
            biases = bias_scale * jax.random.normal(bias_key, dims[layer + 1 : layer + 2])
            params.append({"weights": weights, "biases": biases})
        return tuple(params)

    def apply(self, params: tuple[dict[str, Array], ...], neighbour_mean: ArrayLike) -> Array:
        """Rates of neighbour means of any shape."""
        activity = (self.input_scale * (neighbour_mean - self.input_centre))[..., None]
        for layer in params[:-1]:
            activity = jnp.tanh(_affine(layer, activity))
        return bounded(_affine(params[-1], activity)[..., 0], self.max_rate)


@settings
class RBFNetwork:
    """Radial basis functions: one layer of Gaussian bumps that tile [0, 1], one weight each.

    The best rule has steep flanks and a flat piece between them. Each bump covers its own stretch of s̄, so that a
    gradient for one stretch leaves the others alone; the units of an `MLP` all reach across. The bumps are normalised
    to add up to 1 at each s̄ (Moody & Darken 1989), so that f lies between the weights of the two or three nearest.

    With an odd rule on and off are exchangeable, as they are in a tissue with free or circular ends that starts around
    the threshold 1/2: half as many weights see twice as much signal each. Whether f inhibits or activates is still
    open. A rule that is not odd may prefer one fate, which a pinned row, or any other bias, asks for.
    """

    n_features: int = size(31, "bumps with equally spaced centres from 0 to 1", minimum=2)
    width: ArrayLike = number(
        0.45,
        "standard deviation of a bump in units of their spacing. Narrow bumps make steeper rules: the best are among "
        "them, and those that exploit the time step",
        above=0.0,
    )
    odd: bool = flag(True, "f(1 - s̄) = -f(s̄), with one weight for each pair of mirrored bumps")
    max_rate: ArrayLike | None = number(5.0, "bound on |f|, as in `MLP`", above=0.0, optional=True)

    def smoothed(self) -> "RBFNetwork":
        """The network to explore with: two thirds as many bumps (21 for 31), as wide as their spacing."""
        return dataclasses.replace(self, n_features=max(2, 2 * (self.n_features - 1) // 3 + 1), width=1.0)

    def converted(self, params: dict[str, Array], network: "RBFNetwork") -> dict[str, Array]:
        """Weights for another network of this class: what the bumps add up to here, at the centres of the bumps there.

        The bound is left out on both sides, so that a rate at the bound stays there.
        """
        centres = jnp.linspace(0.0, 1.0, network.n_features)[: network._n_weights]
        return {"weights": self._features(centres) @ params["weights"]}

    def fitted(self, f: Callable) -> dict[str, Array]:
        """Weights that come closest to the rule f, by least squares over 513 neighbour means, before the bound.

        A rate at or beyond the bound, which no weight reaches, is taken as 98 % of it.
        """
        features = self._features(jnp.linspace(0.0, 1.0, N_KNOTS))
        return {"weights": jnp.linalg.lstsq(features, before_bound(tabulate(f).values, self.max_rate, 0.98))[0]}

    def init(self, key: Array) -> dict[str, Array]:
        """Independent standard normal weights: a random wiggle of f around 0 that knows nothing of the answer."""
        return {"weights": jax.random.normal(check_key(key), (self._n_weights,))}

    def apply(self, params: dict[str, Array], neighbour_mean: ArrayLike) -> Array:
        """Rates of neighbour means of any shape."""
        return bounded(self._features(neighbour_mean) @ params["weights"], self.max_rate)

    @property
    def _n_weights(self) -> int:
        return self.n_features // 2 if self.odd else self.n_features

    def _features(self, neighbour_mean: ArrayLike) -> Array:
        """What each weight is multiplied by, on a last axis."""
        spacing = 1.0 / (self.n_features - 1)
        centres = jnp.linspace(0.0, 1.0, self.n_features)
        centres = centres.reshape((1,) * jnp.ndim(neighbour_mean) + (-1,))
        distances = (neighbour_mean[..., None] - centres) / (self.width * spacing)
        bumps = jax.nn.softmax(-0.5 * distances**2, axis=-1)
        if self.odd:
            bumps = (bumps - jnp.flip(bumps, axis=-1))[..., : self._n_weights]
        return bumps


def _affine(layer: dict[str, Array], activity: ArrayLike) -> Array:
    return activity @ layer["weights"] + layer["biases"][(None,) * (activity.ndim - 1)]


def bounded(output: Array, max_rate: ArrayLike | None) -> Array:
    """What `max_rate` of a network makes of its output."""
    return output if max_rate is None else max_rate * jnp.tanh(output / max_rate)


def before_bound(rate: Array, max_rate: ArrayLike | None, share: ArrayLike) -> Array:
    """What `bounded` makes this rate of; one beyond that share of the bound is taken as that share."""
    return rate if max_rate is None else max_rate * jnp.arctanh(jnp.clip(rate / max_rate, -share, share))


@register_settings()
@dataclass(frozen=True, eq=False)  # compared by identity, so that jax.jit takes it
class RegulatoryFunction:
    """A network with its parameters: the complete f, with all scaling and bounds.

    Call it with a number or an array (NumPy or JAX) of any shape; the result has the same shape.

    Attributes:
        network: anything with `apply(params, s̄) -> rates`.
        params: its parameters, any pytree of arrays.
    """

    network: Any
    params: Any

    def __repr__(self):
        return f"RegulatoryFunction({self.network!r}, {sum(map(jnp.size, jax.tree.leaves(self.params)))} parameters)"

    def __call__(self, neighbour_mean: ArrayLike) -> Array:
        return _rates(self, jnp.asarray(neighbour_mean, float))


# One compilation instead of one for each operation.
_rates = jax.jit(lambda f, neighbour_mean: f.network.apply(f.params, neighbour_mean), inline=True)


def check_network(network, name: str = "network"):
    if not callable(getattr(network, "apply", None)):
        raise ValueError(f"{name} must have a method apply(params, neighbour_mean), got {network!r}")
    return network


def initial_parameters(network, key: Array) -> Any:
    """`network.init(key)`, or a clear error where a network cannot draw its own parameters."""
    if not callable(getattr(network, "init", None)):
        raise ValueError(f"{type(network).__name__} has no init(key): pass initial_params")
    return network.init(key)
