"""Entropies in bits whose value *and* gradient are finite at probability 0 and 1.

Every logarithm of a probability in the package goes through this file. The trap that it closes: in
`where(p > 0, p * log(p), 0)` the value is right and the gradient is NaN, since autodiff multiplies the
infinite slope of the branch not taken by 0.

| function | at p = 0 (and 1) | value | gradient |
|---|---|---|---|
| `plogp` | p = 0 | 0 | log2(SMALLEST) = -100, a finite stand-in for -infinity |
| `binary_entropy` | p = 0 or 1 | 0 | about +100 or -100: it points away from the absent fate |
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["SMALLEST", "binary_entropy", "entropy", "plogp", "worst_if_not_finite"]

# Below this number a logarithm is taken of it instead. It is far from the smallest float32, near which compiled
# logarithms return -infinity.
SMALLEST = 2.0**-100


def plogp(p: Float[Array, "..."]) -> Float[Array, "..."]:
    """`p * log2(p)` elementwise for p >= 0, with the limit 0 at p = 0 and a finite gradient there."""
    # The slope of p * log2(max(p, SMALLEST)) at 0 is log2(SMALLEST): finite, negative, large. The true slope
    # above is log2(p) + 1 / ln 2, which autodiff gives.
    return p * jnp.log2(jnp.maximum(p, SMALLEST))


def entropy(probabilities: Float[Array, "..."], axis: int = 0) -> Float[Array, "..."]:
    """Shannon entropy in bits of probabilities that sum to 1 along `axis`."""
    return -jnp.sum(plogp(probabilities), axis=axis)


def binary_entropy(p: Float[Array, "..."]) -> Float[Array, "..."]:
    """Shannon entropy in bits of a fate that is 1 with probability `p` in [0, 1], elementwise."""
    return -plogp(p) - plogp(1.0 - p)


def worst_if_not_finite(scores: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same with the lowest finite number for what is not finite: `argmax` takes NaN for the largest."""
    return jnp.where(jnp.isfinite(scores), scores, jnp.finfo(scores.dtype).min)
