"""One step of the whole model, as plain as it can be written: the reference that the engine is held against.

Arrays are `(cell, replicate)`: replicates lie next to each other in memory, so that a step of all of them is one loop.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

__all__ = ["euler_maruyama_step"]


def euler_maruyama_step(
    f: Callable,
    states: Float[Array, "cell replicate"],
    normals: Float[Array, "cell replicate"],
    dt: ArrayLike,
    noise_strength: ArrayLike,
    boundary: str = "free",
    edge_value: ArrayLike = 0.0,
) -> Float[Array, "cell replicate"]:
    """`s + f(s̄) dt + σ sqrt(dt) z`, clipped to [0, 1].

    `normals` are independent standard normal numbers z, one for each cell and replicate.
    """
    rates = f(mean_of_neighbours(states, boundary, edge_value))
    moved = states + rates * dt + noise_strength * jnp.sqrt(dt) * normals
    return jnp.clip(moved, 0.0, 1.0)


def mean_of_neighbours(states, boundary, edge_value):
    """`lateral.neighbour_mean` with cells on the *first* axis and no checks."""
    n_cells = states.shape[0]
    if boundary == "free":
        if n_cells == 1:
            return jnp.zeros_like(states)
        left = jnp.concatenate([states[1:2], states[:-1]])
        right = jnp.concatenate([states[1:], states[-2:-1]])
    elif boundary == "ring":
        left, right = jnp.roll(states, 1, axis=0), jnp.roll(states, -1, axis=0)
    else:
        ghost = jnp.full_like(states[:1], edge_value)
        left = jnp.concatenate([ghost, states[:-1]])
        right = jnp.concatenate([states[1:], ghost])
    return 0.5 * (left + right)


def mean_of_neighbours_transposed(cotangents, boundary):
    """The transpose of `mean_of_neighbours` as a linear map of the states.

    A free edge cell sees its one neighbour with weight 1 instead of 1/2; otherwise seeing is mutual.
    """
    if boundary == "ring":
        return mean_of_neighbours(cotangents, boundary, 0.0)
    if boundary == "free":
        n_cells = cotangents.shape[0]
        if n_cells == 1:
            return jnp.zeros_like(cotangents)
        weights = jnp.ones((n_cells, 1), cotangents.dtype).at[0].set(2.0).at[-1].set(2.0)
        cotangents = weights * cotangents
    return mean_of_neighbours(cotangents, "pinned", 0.0)
