"""A critic for any number of cells: the expected return, linear in features of states that treat all cells alike."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.geometry import Geometry

__all__ = ["RIDGE", "expected_by_others", "features_of", "fit_critic"]

RIDGE = 1e-3
STEEPNESS = 3.0  # of the soft fates that the critic sees beside the states


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


def expected_by_others(
    features: Float[Array, "stretch replicate feature"], returns: Float[Array, " replicate"]
) -> Float[Array, "stretch replicate"]:
    """The expected return of each replicate by a critic that is fitted to the other half of them, at each stretch."""

    def expected(seen):
        values = []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            weights, _ = fit_critic(seen[half], returns[half], RIDGE)
            values.append(jnp.mean(returns[half]) + (seen - jnp.mean(seen[half], axis=0)[None]) @ weights)
        return jnp.where(jnp.arange(len(returns)) % 2 == 0, values[1], values[0])

    # One after another: two programs at once that solve in batches wait for each other for ever, in XLA's one pool of
    # threads.
    return jax.lax.map(expected, features)
