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
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral._checks import check_callable, check_key, check_number, check_size
from lateral._static import register_settings

__all__ = [
    "HIDDEN_DIMS",
    "MLP",
    "N_KNOTS",
    "DeadBand",
    "RBFNetwork",
    "RegulatoryFunction",
    "Table",
    "TanhInhibition",
    "fit_network",
    "tabulate",
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


class DeadBand(NamedTuple):
    """f = rate below 1/2 - width, -rate above 1/2 + width, 0 between: wait for the neighbours, then follow at once."""

    width: ArrayLike = 0.12
    rate: ArrayLike = 5.0

    def __call__(self, neighbour_mean: ArrayLike) -> Array:
        x = jnp.asarray(neighbour_mean, float)
        return self.rate * ((x < 0.5 - self.width).astype(x.dtype) - (x > 0.5 + self.width))


class Table(NamedTuple):
    """f given by its values at equally spaced knots on [0, 1], with straight lines between them, constant beyond."""

    values: Float[Array, " knot"]

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
    return knot, position - knot


def take(values: Float[Array, " knot"], knot: Array) -> Array:
    """`values[knot]` without the checks of knots that are out of range or negative: `locate` gives none."""
    return values.at[knot].get(mode="promise_in_bounds", wrap_negative_indices=False)


def tabulate(f: Callable, n_knots: int = N_KNOTS) -> Table:
    """`f` as a table of `n_knots` values, whose evaluation costs the same however large the network was.

    The error is that of linear interpolation, at most `max |f''| / (8 (n_knots - 1)²)`.
    """
    check_callable("f", f)
    return Table(checked_rate(f)(jnp.linspace(0.0, 1.0, check_size("n_knots", n_knots, 2))))


def checked_rate(f: Callable) -> Callable:
    """`f` with its result held to the shape of its argument; a constant rate may be a single number."""

    def rate(neighbours):
        rates = jnp.asarray(f(neighbours))
        if rates.shape not in ((), neighbours.shape) or jnp.issubdtype(rates.dtype, jnp.complexfloating):
            raise ValueError(
                "f must return one real rate for each neighbour average: "
                f"for an argument of shape {neighbours.shape} it returned {rates.dtype}{list(rates.shape)}"
            )
        return jnp.broadcast_to(rates.astype(neighbours.dtype), neighbours.shape)

    return rate


@register_settings("hidden_dims")
@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with tanh units, one number in, one out: `f(s̄)` from 97 weights at the default size.

    The neighbour mean moves mostly between 0.3 and 0.7, a poor input for tanh units; it is scaled to
    `input_scale (s̄ - input_centre)`, about -4 to 4.

    Attributes:
        hidden_dims: units of each hidden layer, at least one layer of at least one unit.
        input_centre, input_scale: the network sees `input_scale * (s̄ - input_centre)`.
        max_rate: bound on |f|, smoothly by `max_rate tanh(output / max_rate)`; None leaves f unbounded. With
            |f| dt of order one an optimiser learns to exploit the time step instead of the tissue.
    """

    hidden_dims: tuple[int, ...] = HIDDEN_DIMS
    input_centre: ArrayLike = 0.5
    input_scale: ArrayLike = 8.0
    max_rate: ArrayLike | None = None

    def __post_init__(self):
        if isinstance(self.hidden_dims, str) or not hasattr(self.hidden_dims, "__iter__"):
            raise ValueError(f"hidden_dims must be a tuple of layer sizes such as (8, 8), got {self.hidden_dims!r}")
        dims = tuple(check_size(f"hidden_dims[{i}]", units) for i, units in enumerate(self.hidden_dims))
        if not dims:
            raise ValueError("hidden_dims must name at least one hidden layer such as (8,), got ()")
        object.__setattr__(self, "hidden_dims", dims)
        check_number("input_centre", self.input_centre)
        check_number("input_scale", self.input_scale)
        if self.max_rate is not None:
            check_number("max_rate", self.max_rate, above=0.0)

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

    def apply(self, params: tuple[dict[str, Array], ...], neighbour_mean: Array) -> Array:
        """Rates of neighbour means of any shape."""
        activity = (self.input_scale * (neighbour_mean - self.input_centre))[..., None]
        for layer in params[:-1]:
            activity = jnp.tanh(activity @ layer["weights"] + layer["biases"])
        return _bounded((activity @ params[-1]["weights"] + params[-1]["biases"])[..., 0], self.max_rate)


@register_settings("n_features", "odd")
@dataclass(frozen=True)
class RBFNetwork:
    """Radial basis functions: one layer of Gaussian bumps that tile [0, 1], one weight each.

    The best rule has steep flanks and a flat piece between them. A bump is the same everywhere, so that a gradient
    for one stretch of s̄ leaves the others alone; the units of an `MLP` all reach across. The bumps are normalised to
    add up to 1 at each s̄ (Moody & Darken 1989), so that f lies between the weights of the two or three nearest.

    Attributes:
        n_features: bumps with equally spaced centres from 0 to 1, >= 2.
        width: standard deviation of a bump in units of their spacing, > 0. Narrow bumps make steeper rules: the best
            are among them, and those that exploit the time step.
        odd: f(1 - s̄) = -f(s̄), with one weight for each pair of mirrored bumps. On and off are then exchangeable, as
            they are in a tissue with free or circular ends that starts around the threshold 1/2: half as many
            weights see twice as much signal each. Whether f inhibits or activates is still open. False learns a
            rule that may prefer one fate, which a pinned row, or any other bias, asks for.
        max_rate: bound on |f|, as in `MLP`.
    """

    n_features: int = 31
    width: ArrayLike = 0.45
    odd: bool = True
    max_rate: ArrayLike | None = 5.0

    def __post_init__(self):
        check_size("n_features", self.n_features, 2)
        check_number("width", self.width, above=0.0)
        if not isinstance(self.odd, bool):
            raise ValueError(f"odd must be True or False, got {self.odd!r}")
        if self.max_rate is not None:
            check_number("max_rate", self.max_rate, above=0.0)

    def smoothed(self) -> "RBFNetwork":
        """The network to explore with: two thirds as many bumps (21 for 31), as wide as their spacing."""
        return dataclasses.replace(self, n_features=max(2, 2 * (self.n_features - 1) // 3 + 1), width=1.0)

    def converted(self, params: dict[str, Array], network: "RBFNetwork") -> dict[str, Array]:
        """Weights for another network of this class: what the bumps add up to here, at the centres of the bumps there.

        The bound is left out on both sides, so that a rate at the bound stays there.
        """
        centres = jnp.linspace(0.0, 1.0, network.n_features)[: network._n_weights]
        return {"weights": self._features(centres) @ params["weights"]}

    def init(self, key: Array) -> dict[str, Array]:
        """Independent standard normal weights: a random wiggle of f around 0 that knows nothing of the answer."""
        return {"weights": jax.random.normal(check_key(key), (self._n_weights,))}

    def apply(self, params: dict[str, Array], neighbour_mean: Array) -> Array:
        """Rates of neighbour means of any shape."""
        return _bounded(self._features(neighbour_mean) @ params["weights"], self.max_rate)

    @property
    def _n_weights(self) -> int:
        return self.n_features // 2 if self.odd else self.n_features

    def _features(self, neighbour_mean: Array) -> Array:
        """What each weight is multiplied by, on a last axis."""
        spacing = 1.0 / (self.n_features - 1)
        centres = jnp.linspace(0.0, 1.0, self.n_features)
        centres = centres.reshape((1,) * jnp.ndim(neighbour_mean) + (-1,))
        distances = (neighbour_mean[..., None] - centres) / (self.width * spacing)
        bumps = jax.nn.softmax(-0.5 * distances**2, axis=-1)
        if self.odd:
            bumps = (bumps - jnp.flip(bumps, axis=-1))[..., : self._n_weights]
        return bumps


def _bounded(output: Array, max_rate: ArrayLike | None) -> Array:
    return output if max_rate is None else max_rate * jnp.tanh(output / max_rate)


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

    def __call__(self, neighbour_mean: ArrayLike) -> Array:
        return self.network.apply(self.params, jnp.asarray(neighbour_mean, float))


def check_network(network):
    if not callable(getattr(network, "apply", None)):
        raise ValueError(f"network must have a method apply(params, neighbour_mean), got {network!r}")
    return network


def initial_parameters(network, key: Array) -> Any:
    """`network.init(key)`, or a clear error where a network cannot draw its own parameters."""
    if not callable(getattr(network, "init", None)):
        raise ValueError(f"{type(network).__name__} has no init(key): pass initial_params")
    return network.init(key)


def fit_network(network, f: Callable, *, key: Array, n_steps: int = 3000, learning_rate: float = 0.03) -> Any:
    """Parameters with which `network` comes close to the rule `f`: a warm start for the training functions.

    Least squares over 513 neighbour means from 0 to 1, by Adam with a rate that falls to 0, from `network.init(key)`.
    A network cannot be closer than its kind allows: an odd one takes the odd part of f about 1/2.

    Args:
        network: anything with `apply(params, s̄)` and `init(key)`.
        f: rule, `f(s̄) -> rate`.
        key: random key of the initial parameters.
        n_steps: steps of Adam, >= 1.
        learning_rate: its step at the start, > 0.

    Example:
        params = fit_network(MLP(max_rate=5.0), DeadBand(0.12), key=jax.random.key(0))
        run = train_evolution(model, key=key, initial_params=params)
    """
    n_steps = check_size("n_steps", n_steps)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(check_number("learning_rate", learning_rate, above=0.0), n_steps)
    )
    params = initial_parameters(check_network(network), check_key(key))
    target = tabulate(f).values
    neighbours = jnp.linspace(0.0, 1.0, target.size)
    if not (finite := jnp.isfinite(target)).all():
        first = jnp.argmin(finite)
        raise ValueError(
            f"f must be finite for every neighbour average from 0 to 1, got {target[first]:g} at {neighbours[first]:g}"
        )

    @jax.jit
    def fit(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: jnp.mean((network.apply(p, neighbours) - target) ** 2))(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=n_steps)[0][0]

    return fit(params)
