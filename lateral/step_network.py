"""Step rules: piecewise constant f, of which many can be drawn and a few are good."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import check_key
from lateral.fields import flag, number, settings, size
from lateral.network import N_KNOTS, before_bound, bounded, tabulate

__all__ = ["CUT_UNIT", "LEVELS", "SHARP", "SMOOTH", "StepNetwork", "stretches"]

LEVELS = (0.3, 1.0, 3.0)  # rates that a random rule draws from, besides 0 and its highest
CUT_UNIT = 0.02  # cuts are learned in these units of s̄, so that one learning rate suits them and the levels
SHARP = 0.001  # edges that no gradient goes through
SMOOTH = {"edge": 0.015, "highest": 8.0}  # of rules no steeper than bumps, or for finer time steps


@settings
class StepNetwork:
    """f constant between cuts, with smooth edges: the shape of good rules, where neither cuts nor levels are known.

    A random one has a few stretches of any rate, some of them narrow. Many of these scored on few tissues
    (`training.halving`) are a start that bumps and perceptrons, whose random rules are all smooth, do not have.
    """

    n_cuts: int = size(5, "cuts between 0 and 1; of an odd rule between 0 and 1/2, mirrored beyond")
    edge: ArrayLike = number(
        0.006,
        "width of the edge at a cut, of a logistic function of s̄. With edges of 0.005 a dead band of seven cells has a "
        "utility of 0.77, with 0.015 of 0.73, with 0.03 of 0.66",
        above=0.0,
    )
    odd: bool = flag(True, "f(1 - s̄) = -f(s̄), as in `RBFNetwork`")
    max_rate: ArrayLike | None = number(5.0, "bound on each level, as in `MLP`", above=0.0, optional=True)
    highest: ArrayLike = number(
        20.0, "highest level that a random rule draws; a bound of 5 makes 5.0 of 20, and 4.6 of 8", above=0.0
    )

    def init(self, key: Array) -> dict[str, Array]:
        """Each cut is anywhere, near 1/2 or near one end, by thirds; each level is 0 or one of `LEVELS` and `highest`.

        Levels have either sign.
        """
        anywhere_key, middle_key, end_key, flip_key, kind_key, level_key = jax.random.split(check_key(key), 6)
        shape = (self.n_cuts,)
        anywhere = jax.random.uniform(anywhere_key, shape)
        middle = 0.5 + 0.15 * jax.random.normal(middle_key, shape)
        near_0 = 0.08 * jax.random.exponential(end_key, shape)
        end = jnp.where(jax.random.bernoulli(flip_key), near_0, 1.0 - near_0)
        kind = jax.random.randint(kind_key, shape, 0, 3)
        cuts = jnp.select([kind == 0, kind == 1], [anywhere, middle], end)
        if self.odd:
            cuts = jnp.minimum(cuts, 1.0 - cuts)
        positive = jnp.array([*LEVELS, self.highest])
        rates = jnp.concatenate([-positive[::-1], jnp.zeros(1), positive])
        levels = jax.random.choice(level_key, rates, (self.n_cuts + 1,))
        return {"cuts": cuts / CUT_UNIT, "levels": levels}

    def fitted(self, f: Callable) -> dict[str, Array]:
        """The cuts and levels that come closest to the rule f, by least squares over 513 neighbour means.

        A rate at or beyond the bound, which no level reaches, becomes the highest that a random rule draws.
        """
        values, neighbours = np.asarray(tabulate(f).values, float), np.linspace(0.0, 1.0, N_KNOTS)
        if self.odd:
            values = 0.5 * (values - values[::-1])[: N_KNOTS // 2]
        starts = stretches(values, self.n_cuts + 1)
        cuts = 0.5 * (neighbours[starts[1:]] + neighbours[starts[1:] - 1])
        levels = jnp.array([stretch.mean() for stretch in np.split(values, starts[1:])])
        share = 1.0 if self.max_rate is None else jnp.tanh(self.highest / self.max_rate)
        return {"cuts": jnp.asarray(cuts / CUT_UNIT), "levels": before_bound(levels, self.max_rate, share)}

    def sharpened(self) -> "StepNetwork":
        """The network to finish with, by a search: gradients scatter the more, the steeper the edges are."""
        return dataclasses.replace(self, edge=min(self.edge, SHARP))

    def apply(self, params: dict[str, Array], neighbour_mean: ArrayLike) -> Array:
        """Rates of neighbour means of any shape."""
        cuts, levels = jnp.sort(CUT_UNIT * params["cuts"]), bounded(params["levels"], self.max_rate)
        if self.odd:
            cuts = jnp.concatenate([cuts, jnp.full(1, 0.5, cuts.dtype), 1.0 - cuts[::-1]])
            levels = jnp.concatenate([levels, -levels[::-1]])
        cuts = cuts.reshape((1,) * jnp.ndim(neighbour_mean) + (-1,))
        passed = jax.nn.sigmoid((jnp.asarray(neighbour_mean)[..., None] - cuts) / self.edge)
        return levels[0] + passed @ jnp.diff(levels)


def stretches(values: np.ndarray, n: int) -> np.ndarray:
    """Where `n` stretches start whose means come closest to `values`, by dynamic programming (Bellman 1961)."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(values**power)]) for power in (1, 2))
    start, end = np.ogrid[: values.size + 1, : values.size + 1]
    length = np.maximum(end - start, 1)
    errors = np.where(end > start, squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / length, np.inf)
    best, last_starts = errors[0], []
    for _ in range(n - 1):
        through = best[:, None] + errors
        last_starts.append(through.argmin(axis=0))
        best = through.min(axis=0)
    starts = [values.size]
    for last_start in reversed(last_starts):
        starts.append(last_start[starts[-1]])
    return np.array([0, *starts[:0:-1]])
