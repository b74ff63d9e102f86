"""Step rules: piecewise constant f, of which many can be drawn and a few are good."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from lateral.checks import check_key
from lateral.fields import flag, number, settings, size
from lateral.network import bounded

__all__ = ["CUT_UNIT", "LEVELS", "StepNetwork"]

LEVELS = (-8.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 8.0)  # rates that a random rule draws from
CUT_UNIT = 0.02  # cuts are learned in these units of s̄, so that one learning rate suits them and the levels


@settings
class StepNetwork:
    """f constant between cuts, with smooth edges: the shape of good rules, where neither cuts nor levels are known.

    A random one has a few stretches of any rate, some of them narrow. Many of these scored on few tissues
    (`training.halving`) are a start that bumps and perceptrons, whose random rules are all smooth, do not have.
    """

    n_cuts: int = size(5, "cuts between 0 and 1; of an odd rule between 0 and 1/2, mirrored beyond")
    edge: ArrayLike = number(0.015, "width of the edge at a cut, of a logistic function of s̄", above=0.0)
    odd: bool = flag(True, "f(1 - s̄) = -f(s̄), as in `RBFNetwork`")
    max_rate: ArrayLike | None = number(5.0, "bound on each level, as in `MLP`", above=0.0, optional=True)

    def init(self, key: Array) -> dict[str, Array]:
        """Each cut is anywhere, near 1/2 or near one end, by thirds; each level one of `LEVELS`, of either sign."""
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
        levels = jax.random.choice(level_key, jnp.array(LEVELS), (self.n_cuts + 1,))
        return {"cuts": cuts / CUT_UNIT, "levels": levels}

    def apply(self, params: dict[str, Array], neighbour_mean: ArrayLike) -> Array:
        """Rates of neighbour means of any shape."""
        cuts, levels = jnp.sort(CUT_UNIT * params["cuts"]), bounded(params["levels"], self.max_rate)
        if self.odd:
            cuts = jnp.concatenate([cuts, jnp.full(1, 0.5, cuts.dtype), 1.0 - cuts[::-1]])
            levels = jnp.concatenate([levels, -levels[::-1]])
        cuts = cuts.reshape((1,) * jnp.ndim(neighbour_mean) + (-1,))
        passed = jax.nn.sigmoid((jnp.asarray(neighbour_mean)[..., None] - cuts) / self.edge)
        return levels[0] + passed @ jnp.diff(levels)
