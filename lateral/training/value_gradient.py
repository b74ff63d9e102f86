"""Value gradients: backpropagation through short windows of time, each valued by a critic at its end.

A gradient through the whole simulation vanishes, or explodes where a tissue sits between two patterns. Cut into
windows, it only has to reach the end of its window, where a critic says what the states there are worth (Heess et al.
2015, stochastic value gradients; Xu et al. 2022, short-horizon actor-critic). The critic is linear in features of the
states that treat all cells alike, so that each epoch can fit it by least squares, for any number of cells.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.engine import engine_of
from lateral.fields import number, settings, size
from lateral.geometry import Geometry
from lateral.model import Model, objective_of_fates, scores_of_fates
from lateral.static import as_floats
from lateral.training.score import equal_stretches, returns_of, table_of

__all__ = ["ValueGradient", "features_of", "fit_critic"]

STEEPNESS = 3.0  # of the soft fates that the critic sees beside the states


@settings
class ValueGradient:
    """Gradient through the dynamics in windows, by a critic that is fitted anew in each epoch.

    With V_k the critic at the end of window k, and the states at its start taken as given,

        dU/dθ = mean over replicates of the sum over windows of dV_k(s_k)/ds_k ds_k/dθ,

    where ds_k/dθ goes through the steps of that window only. For the true value V this is the gradient: what a rule
    changes in one window changes the states that the next one starts from, and V knows what these are worth. V_k is the
    regression of the return of a replicate, its influence on U (`objective.influence`), on features of its states
    (`features_of`). The bias is that of the critic, where its slope is not that of V.
    """

    n_windows: int = size(
        20, "windows of equal length; the largest divisor of the number of steps up to this number is taken"
    )
    ridge: ArrayLike = number(1e-3, "penalty of the regression, in units of the variance of a feature", above=0.0)

    method = "value-gradient"

    @property
    def n_simulations(self) -> int:
        """Work of one gradient in simulations: one to fit the critic, one once more and backwards, which counts two."""
        return 4

    def __call__(self, params: Any, model: Model, key: Array) -> tuple[Any, dict[str, Array]]:
        model.readout.refuse_many_fates("ValueGradient")
        n_windows = equal_stretches(model.n_steps, self.n_windows)
        table, pull_back = table_of(params, model)
        tissue = as_floats(model.tissue)
        engine, rounds, length = engine_of(model.numerics), model.rounds, tissue.n_steps // n_windows

        def states_after(table, start, window):
            end = engine.advance(table, start, tissue, rounds, window * jnp.uint32(length), length)
            return end, engine.states(end, model.n_replicates)

        def simulate(start, window):
            end, states = states_after(table, start, window)
            return end, (start, states)

        windows = jnp.arange(n_windows, dtype=jnp.uint32)
        start = engine.begin(key, tissue, rounds, model.n_replicates)
        _, (starts, ends) = jax.lax.scan(simulate, start, windows)
        final = model.readout.fates(ends[-1])
        returns = returns_of(final, table, model)

        def add(total, of_window):
            window, start, end = of_window
            weights, explained = fit_critic(features_of(end, model.geometry), returns, self.ridge)

            def loss(table):
                _, states = states_after(table, start, window)
                return -jnp.mean(features_of(states, model.geometry) @ weights)

            return jax.tree.map(jnp.add, total, jax.grad(loss)(table)), explained

        none = jax.tree.map(jnp.zeros_like, table)
        of_table, explained = jax.lax.scan(add, none, (windows, starts, ends))
        scores = {"loss": -objective_of_fates(final, model), "critic_r2": jnp.mean(explained)}
        return pull_back(of_table)[0], scores | scores_of_fates(final, model)


def fit_critic(
    features: Float[Array, "replicate feature"], returns: Float[Array, " replicate"], ridge: ArrayLike
) -> tuple[Float[Array, " feature"], Float[Array, ""]]:
    """Weights of the features in the expected return, without its constant, and the share of variance explained."""
    deviations = features - jnp.mean(features, axis=0)[None]
    spread = jnp.sqrt(jnp.mean(deviations**2, axis=0))
    factors = jnp.where(spread > 1e-6, 1.0 / jnp.maximum(spread, 1e-6), 0.0)  # what does not vary says nothing
    scaled = deviations * factors[None]
    of_returns = returns - jnp.mean(returns)
    n_replicates, n_features = features.shape
    gram = scaled.T @ scaled / n_replicates + jnp.asarray(ridge, scaled.dtype) * jnp.eye(n_features, dtype=scaled.dtype)
    weights = jnp.linalg.solve(gram, scaled.T @ of_returns / n_replicates)
    variance = jnp.mean(of_returns**2)
    left = jnp.mean((of_returns - scaled @ weights) ** 2)
    return factors * weights, 1.0 - left / jnp.maximum(variance, 1e-12)


def features_of(states: Float[Array, "replicate cell"], geometry: Geometry) -> Float[Array, "replicate feature"]:
    """What a critic sees of a tissue: averages over cells and over pairs of neighbours, alike for any of them.

    They are made of the states from -1 to 1 and of soft fates, and tell how far the cells have chosen, how unlike
    neighbours are and how alike the neighbours of neighbours, how these differ within a tissue, and whether all pairs
    differ.
    """
    seen = geometry.mean(states.T)
    beyond = geometry.mean(seen).T
    x, seen, beyond = 2.0 * states - 1.0, 2.0 * seen.T - 1.0, 2.0 * beyond - 1.0
    fate, fate_seen = jnp.tanh(STEEPNESS * x), jnp.tanh(STEEPNESS * seen)
    of_cells = [x, fate, x**2, fate**2, seen**2, x * seen, fate * seen, fate * fate_seen, (x * seen) ** 2]
    of_cells += [(fate * seen) ** 2, x * beyond, fate * beyond, x**2 * beyond**2]
    features = [jnp.mean(feature, axis=1) for feature in of_cells]
    first, second = geometry.pairs.T
    if len(first):
        linear, soft = x[:, first] * x[:, second], fate[:, first] * fate[:, second]
        alike, soft_alike, *squares = (jnp.mean(of_pairs, axis=1) for of_pairs in (linear, soft, linear**2, soft**2))
        features += [alike, soft_alike, *squares, alike**2, soft_alike**2, soft_alike**3]
        features += [jnp.prod(0.5 * (1.0 - of_pairs), axis=1) for of_pairs in (soft, linear)]
    features += [jnp.mean(fate, axis=1) ** 2]
    return jnp.stack(features, axis=1)
