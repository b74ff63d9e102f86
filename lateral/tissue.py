"""The tissue that is simulated, as a value, and one step of it as plain as it can be written.

Cell i has a state `s_i` in [0, 1] and sees `s̄_i`, the mean state of its neighbours. All cells follow one rule,

    ds_i = f(s̄_i) dt + σ dW_i,     clipped to [0, 1].
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from lateral.fields import interval, number, part, settings, size
from lateral.geometry import Geometry, Row, RowWithEnds, check_geometry

__all__ = ["Tissue", "euler_maruyama_step"]


@settings
class Tissue:
    """Everything about a tissue but its rule; the defaults are those of `BACKPROP_GUIDE.md`.

    Time has no unit: it is measured in the time that a cell at unit rate needs from 0 to 1.
    """

    geometry: Geometry = part(
        Row,
        "which cells are neighbours: `Row`, `Ring`, `Pinned`, `Sheet`, `Graph`, or a `Geometry` of one's own",
        RowWithEnds,
        check_geometry,
    )
    n_steps: int = size(1000, "Euler–Maruyama steps; the duration is T = n_steps dt")
    dt: ArrayLike = number(0.01, "time step", above=0.0)
    noise_strength: ArrayLike = number(0.1, "σ, noise per square root of time; 0 is deterministic", minimum=0.0)
    start: tuple = interval((0.4, 0.6), "the initial states are drawn uniformly between these two")

    @property
    def noise_scale(self) -> Float[Array, ""]:
        """Standard deviation of the noise of one step."""
        return self.noise_strength * jnp.sqrt(self.dt)


def euler_maruyama_step(
    f: Callable,
    states: Float[Array, "cell replicate"],
    normals: Float[Array, "cell replicate"],
    tissue: Tissue,
) -> Float[Array, "cell replicate"]:
    """`s + f(s̄) dt + σ sqrt(dt) z`, clipped to [0, 1].

    `normals` are independent standard normal numbers z, one for each cell and replicate. Replicates lie next to each
    other in memory, so that a step of all of them is one loop.
    """
    rates = f(tissue.geometry.mean(states))
    return jnp.clip(states + rates * tissue.dt + tissue.noise_scale * normals, 0.0, 1.0)
